-- What is stored against what was metered, recounted from the rows themselves.

-- Recounts [p_from, p_to), whole UTC hours, of one tenant or (NULL) of all. Rows of frozen spans go, or are gone: there the
-- kept hours speak for them.
CREATE FUNCTION weir.stored_hours(p_tenant_id text, p_from timestamptz, p_to timestamptz)
RETURNS TABLE (tenant_id text, sensor_no integer, hour timestamptz, readings bigint)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog
AS $$
BEGIN
    RETURN QUERY EXECUTE format($q$
        SELECT w.tenant_id, q.sensor_no, q.hour, q.readings
        FROM (SELECT r.sensor_no, date_bin('1 hour', r.at, 'epoch') AS hour, count(*) AS readings
              FROM weir.reading r WHERE r.at >= $2 AND r.at < $3 %1$s GROUP BY 1, 2) q
        JOIN weir.sensor_window w USING (sensor_no) WHERE q.hour >= w.frozen_before
        UNION ALL
        SELECT z.tenant_id, r.sensor_no, r.bucket_start, r.count
        FROM weir.rollup_frozen z JOIN weir.sensor s USING (tenant_id)
        JOIN weir.kept_1h r ON r.sensor_no = s.sensor_no AND r.bucket_start < z.frozen_before
        WHERE r.bucket_start >= $2 AND r.bucket_start < $3 %2$s $q$,
        CASE WHEN p_tenant_id IS NOT NULL THEN
            'AND r.sensor_no = ANY (ARRAY(SELECT s.sensor_no FROM weir.sensor s WHERE s.tenant_id = $1))' END,
        CASE WHEN p_tenant_id IS NOT NULL THEN 'AND z.tenant_id = $1' END)
        USING p_tenant_id, p_from, p_to;
END $$;

-- What usage should say: readings as they are, and each sensor as active for 24 hours or until its next hour takes over.
CREATE FUNCTION weir.stored_usage(p_tenant_id text, p_from timestamptz, p_to timestamptz)
RETURNS TABLE (tenant_id text, meter text, bucket_start timestamptz, quantity bigint)
LANGUAGE sql STABLE SET search_path = pg_catalog
AS $$
    WITH hours AS MATERIALIZED (SELECT * FROM weir.stored_hours(p_tenant_id, p_from - interval '23 hours', p_to))
    SELECT h.tenant_id, 'readings', h.hour, sum(h.readings)::bigint FROM hours h WHERE h.hour >= p_from GROUP BY 1, 3
    UNION ALL
    SELECT a.tenant_id, 'active_sensors', a.hour, count(*)
    FROM (SELECT s.tenant_id, generate_series(s.hour, s.until - interval '1 hour', '1 hour') AS hour
          FROM (SELECT h.tenant_id, h.hour, least(h.hour + interval '24 hours',
                       lead(h.hour) OVER (PARTITION BY h.sensor_no ORDER BY h.hour)) AS until FROM hours h) s) a
    WHERE a.hour >= p_from AND a.hour < p_to GROUP BY 1, 3
$$;

-- Every difference (INTERFACES §7). `difference` is what is missing (-) or too much (+) where it is first seen.
CREATE FUNCTION weir.usage_differences(p_tenant_id text, p_from timestamptz, p_to timestamptz)
RETURNS TABLE (tenant_id text, meter text, bucket_start timestamptz, stored bigint, metered bigint, pushed bigint,
               adjusted bigint, stripe bigint, difference bigint, explanation text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog
AS $$
    SELECT tenant_id, meter, bucket_start, coalesce(s.quantity, 0), coalesce(u.quantity, 0), NULL::bigint, NULL::bigint, NULL::bigint,
           coalesce(u.quantity, 0) - coalesce(s.quantity, 0),
           CASE WHEN coalesce(u.quantity, 0) < coalesce(s.quantity, 0) THEN 'stored rows were not metered'
                ELSE 'more was metered than is stored' END
    FROM weir.stored_usage(p_tenant_id, p_from, p_to) s
    FULL JOIN (SELECT * FROM weir.usage m
               WHERE m.meter IN ('readings', 'active_sensors') AND m.bucket_start >= p_from AND m.bucket_start < p_to
                 AND (p_tenant_id IS NULL OR m.tenant_id = p_tenant_id)) u USING (tenant_id, meter, bucket_start)
    WHERE coalesce(s.quantity, 0) <> coalesce(u.quantity, 0)
$$;

CREATE VIEW public.usage_drift AS SELECT * FROM weir.usage_differences(NULL, '-infinity', 'infinity');

-- The same for a span of whole hours: only its rows are read.
CREATE FUNCTION public.usage_drift_between(p_from timestamptz, p_to timestamptz) RETURNS SETOF public.usage_drift
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog
AS $$ SELECT * FROM weir.usage_differences(NULL, p_from, p_to) $$;

CREATE FUNCTION weir_tenant.usage_drift(p_from timestamptz, p_to timestamptz) RETURNS SETOF public.usage_drift
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog
AS $$
    SELECT d.* FROM (SELECT weir.current_tenant() AS tenant_id) t
    CROSS JOIN LATERAL weir.usage_differences(t.tenant_id, p_from, p_to) d WHERE t.tenant_id IS NOT NULL
$$;

REVOKE EXECUTE ON FUNCTION weir.stored_hours, weir.stored_usage, weir.usage_differences, public.usage_drift_between,
    weir_tenant.usage_drift FROM PUBLIC;
GRANT EXECUTE ON FUNCTION weir.usage_differences, public.usage_drift_between TO weir_operator;
GRANT EXECUTE ON FUNCTION weir_tenant.usage_drift TO weir_reader;
GRANT SELECT ON public.usage_drift TO weir_operator;

-- Usage by month: other meters add up; of active sensors the last hour that has begun counts, and days are shown beside.
CREATE VIEW weir_tenant.usage_monthly WITH (security_barrier) AS
    SELECT tenant_id, meter, date_trunc('month', bucket_start, 'UTC') AS bucket_start, sum(quantity)::bigint AS quantity,
           sum(revision)::bigint AS revision, NULL::bigint AS sensor_days
    FROM public.usage_daily WHERE tenant_id = weir.current_tenant() AND meter <> 'active_sensors' GROUP BY 1, 2, 3
    UNION ALL
    SELECT l.tenant_id, l.meter, l.month, l.quantity, l.revision, coalesce(d.sensor_days, 0)
    FROM (SELECT DISTINCT ON (date_trunc('month', bucket_start, 'UTC'))
                 tenant_id, meter, date_trunc('month', bucket_start, 'UTC') AS month, quantity, revision
          FROM public.usage_hourly WHERE tenant_id = weir.current_tenant() AND meter = 'active_sensors'
          ORDER BY date_trunc('month', bucket_start, 'UTC'), bucket_start DESC) l
    LEFT JOIN (SELECT date_trunc('month', bucket_start, 'UTC') AS month, sum(quantity)::bigint AS sensor_days
               FROM public.usage_daily WHERE tenant_id = weir.current_tenant() AND meter = 'active_sensors' GROUP BY 1) d USING (month);
GRANT SELECT ON weir_tenant.usage_monthly TO weir_reader;
