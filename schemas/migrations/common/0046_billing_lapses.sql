-- Who cancels and subscribes again pays for neither plan in between. Usage of that time was taken for usage that was metered since we
-- know of the subscription: what was older than 34 days when the second one began came onto its invoice.

-- From the end of a subscription to the hour in which the tenant's next one began.
CREATE TABLE weir.billing_lapse (
    tenant_id text NOT NULL REFERENCES weir.billing_account,
    starts_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL CHECK (ends_at > starts_at),
    PRIMARY KEY (tenant_id, starts_at)
);

-- Whoever writes a subscription down need not know of lapses.
CREATE FUNCTION weir.subscribed_again() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog
AS $$
BEGIN
    INSERT INTO weir.billing_lapse (tenant_id, starts_at, ends_at)
        VALUES (NEW.tenant_id, OLD.ended_at, date_trunc('hour', NEW.subscribed_at, 'UTC')) ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
CREATE TRIGGER subscribed_again AFTER UPDATE OF subscription_id ON weir.billing_account
    FOR EACH ROW WHEN (NEW.subscription_id <> OLD.subscription_id AND OLD.ended_at < date_trunc('hour', NEW.subscribed_at, 'UTC'))
    EXECUTE FUNCTION weir.subscribed_again();

-- As before, but that nothing is due of a lapse.
CREATE OR REPLACE FUNCTION weir.usage_differences(p_tenant_ids text[], p_from timestamptz, p_to timestamptz)
RETURNS TABLE (tenant_id text, meter text, bucket_start timestamptz, stored bigint, metered bigint, pushed bigint,
               adjusted bigint, stripe bigint, difference bigint, explanation text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog
AS $$
    WITH counted AS (
        SELECT tenant_id, meter, bucket_start, coalesce(s.quantity, 0) AS stored, coalesce(u.quantity, 0) AS metered, u.changed_at
        FROM weir.stored_usage(p_tenant_ids, p_from, p_to) s
        FULL JOIN (SELECT * FROM weir.usage m WHERE m.bucket_start >= p_from AND m.bucket_start < p_to
                     AND (p_tenant_ids IS NULL OR m.tenant_id = ANY (p_tenant_ids))) u USING (tenant_id, meter, bucket_start)),
    uncharged AS (
        SELECT a.tenant_id, a.meter, a.bucket_start, sum(a.quantity)::bigint AS quantity,
               max(coalesce(c.state || coalesce(': ' || c.detail, ''), 'missing')) AS why
        FROM weir.usage_adjustment a LEFT JOIN weir.usage_charge c USING (charge_id)
        WHERE coalesce(c.state, 'missing') NOT IN ('acknowledged', 'free') AND a.created_at + interval '26 hours' < now()
          AND a.bucket_start >= p_from AND a.bucket_start < p_to AND (p_tenant_ids IS NULL OR a.tenant_id = ANY (p_tenant_ids))
        GROUP BY 1, 2, 3 HAVING sum(a.quantity) <> 0),
    billed AS (
        SELECT c.*, a.tenant_id IS NOT NULL AS is_billed,
               coalesce(p.acked_quantity, 0) AS pushed, coalesce(p.adjusted, 0) AS adjusted, p.state, p.detail,
               greatest(c.bucket_start + interval '1 hour', c.changed_at) + interval '5 minutes' < now() AS is_overdue,
               CASE WHEN v.read_at > p.settled_at OR p.settled_at IS NULL THEN v.quantity END AS stripe,
               x.quantity AS uncharged, x.why
        FROM counted c
        LEFT JOIN weir.billing_account a ON a.tenant_id = c.tenant_id
             AND (c.bucket_start >= date_trunc('hour', a.subscribed_at, 'UTC') OR c.changed_at >= a.activated_at)
             AND c.bucket_start < coalesce(a.ended_at, 'infinity')
             AND NOT EXISTS (SELECT FROM weir.billing_lapse l WHERE l.tenant_id = c.tenant_id
                             AND c.bucket_start >= l.starts_at AND c.bucket_start < l.ends_at)
        LEFT JOIN weir.usage_push p ON p.tenant_id = c.tenant_id AND p.meter = c.meter AND p.bucket_start = c.bucket_start
        LEFT JOIN weir.provider_usage v ON v.tenant_id = c.tenant_id AND v.meter = c.meter AND v.bucket_start = c.bucket_start
        LEFT JOIN uncharged x ON x.tenant_id = c.tenant_id AND x.meter = c.meter AND x.bucket_start = c.bucket_start)
    SELECT b.tenant_id, b.meter, b.bucket_start, b.stored, b.metered,
           CASE WHEN b.is_billed THEN b.pushed END, CASE WHEN b.is_billed THEN b.adjusted END, CASE WHEN b.is_billed THEN b.stripe END,
           CASE WHEN b.metered <> b.stored THEN b.metered - b.stored
                WHEN b.is_overdue AND b.pushed + b.adjusted <> b.metered THEN b.pushed + b.adjusted - b.metered
                WHEN b.stripe <> b.pushed THEN b.stripe - b.pushed
                ELSE -b.uncharged END,
           CASE WHEN b.metered < b.stored THEN 'stored rows were not metered'
                WHEN b.metered > b.stored THEN 'more was metered than is stored'
                WHEN b.is_overdue AND b.pushed + b.adjusted <> b.metered THEN
                    'the push is ' || coalesce(b.state || coalesce(': ' || b.detail, ''), 'missing')
                WHEN b.stripe < b.pushed THEN 'Stripe counts less than it has acknowledged'
                WHEN b.stripe > b.pushed THEN 'Stripe counts more than it was told'
                ELSE 'the charge of its adjustment is ' || b.why END
    FROM billed b
    WHERE b.metered <> b.stored
       OR b.is_billed AND (b.is_overdue AND b.pushed + b.adjusted <> b.metered OR b.stripe <> b.pushed OR b.uncharged IS NOT NULL)
$$;

CREATE VIEW public.billing_lapses AS SELECT * FROM weir.billing_lapse;
GRANT SELECT ON public.billing_lapses TO weir_operator;
ALTER TABLE weir.billing_lapse ENABLE ROW LEVEL SECURITY;
CREATE POLICY every_lapse ON weir.billing_lapse TO weir_writer USING (true) WITH CHECK (true);
GRANT SELECT, INSERT ON weir.billing_lapse TO weir_writer;
