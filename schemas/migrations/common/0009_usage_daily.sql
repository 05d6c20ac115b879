-- Usage by UTC day. Readings add up over the hours; other meters get their own rule with their issue.

CREATE VIEW public.usage_daily AS
    SELECT tenant_id, meter, date_trunc('day', bucket_start, 'UTC') AS bucket_start, sum(quantity)::bigint AS quantity,
           sum(revision)::bigint AS revision
    FROM weir.usage WHERE meter = 'readings' GROUP BY 1, 2, 3;
CREATE VIEW weir_tenant.usage_daily WITH (security_barrier) AS
    SELECT * FROM public.usage_daily WHERE tenant_id = weir.current_tenant();

GRANT SELECT ON public.usage_daily TO weir_operator;
GRANT SELECT ON weir_tenant.usage_daily TO weir_reader;
