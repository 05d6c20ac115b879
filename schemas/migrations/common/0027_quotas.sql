-- What of a plan's quota is taken, who was told that it runs out, and how long a plan keeps raw readings.

-- What was granted ahead of its metering: a scan is metered when it is complete, but may begin only while there is quota.
CREATE TABLE weir.quota_use (
    tenant_id text NOT NULL REFERENCES weir.tenant,
    meter text NOT NULL,
    -- The UTC month's first moment.
    month timestamptz NOT NULL,
    used bigint NOT NULL CHECK (used >= 0),
    PRIMARY KEY (tenant_id, meter, month)
) WITH (fillfactor = 50);

-- Takes some of a quota, or nothing when that much is not left. One update: however many ask at once, the limit is exact.
CREATE FUNCTION weir.take_quota(p_tenant_id text, p_meter text, p_month timestamptz, p_amount bigint, p_limit bigint) RETURNS boolean
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog
AS $$
    WITH taken AS (
        INSERT INTO weir.quota_use AS q (tenant_id, meter, month, used)
        SELECT p_tenant_id, p_meter, p_month, p_amount WHERE p_amount <= p_limit
        ON CONFLICT (tenant_id, meter, month) DO UPDATE SET used = q.used + EXCLUDED.used WHERE q.used + EXCLUDED.used <= p_limit
        RETURNING 1)
    SELECT EXISTS (SELECT FROM taken)
$$;
CREATE FUNCTION weir.give_back_quota(p_tenant_id text, p_meter text, p_month timestamptz, p_amount bigint) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog
AS $$
    UPDATE weir.quota_use q SET used = greatest(0, q.used - p_amount)
    WHERE (q.tenant_id, q.meter, q.month) = (p_tenant_id, p_meter, p_month)
$$;
-- For the API, whose tenant is that of its transaction.
CREATE FUNCTION weir_tenant.take_quota(p_meter text, p_month timestamptz, p_amount bigint, p_limit bigint) RETURNS boolean
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog
AS $$ SELECT weir.current_tenant() IS NOT NULL AND weir.take_quota(weir.current_tenant(), p_meter, p_month, p_amount, p_limit) $$;

-- Each warning of a month once.
CREATE TABLE weir.quota_notice (
    tenant_id text NOT NULL REFERENCES weir.tenant,
    meter text NOT NULL,
    month timestamptz NOT NULL,
    percent integer NOT NULL CHECK (percent IN (80, 100)),
    used bigint NOT NULL,
    included bigint NOT NULL,
    noticed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, meter, month, percent)
);

-- Notes which tenants of a plan have reached 80 or 100 percent of what it includes, and tells each once, live. Two arrays of one
-- length: meters and what of them is included. Returns how many were told.
CREATE FUNCTION weir.notice_quotas(p_plan text, p_meters text[], p_included bigint[], p_now timestamptz) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    this_month timestamptz := date_trunc('month', p_now, 'UTC');
    tenants text[];
    items jsonb[];
BEGIN
    WITH used AS (
        SELECT u.tenant_id, u.meter, CASE u.meter WHEN 'active_sensors' THEN (array_agg(u.quantity ORDER BY u.bucket_start DESC))[1]
                                     ELSE sum(u.quantity)::bigint END AS used
        FROM weir.tenant t JOIN weir.usage u USING (tenant_id)
        WHERE t.plan = p_plan AND u.meter = ANY (p_meters) AND u.bucket_start >= this_month AND u.bucket_start <= p_now
        GROUP BY 1, 2
        UNION ALL
        SELECT q.tenant_id, q.meter, q.used FROM weir.tenant t JOIN weir.quota_use q USING (tenant_id)
        WHERE t.plan = p_plan AND q.month = this_month
    ), told AS (
        INSERT INTO weir.quota_notice AS n (tenant_id, meter, month, percent, used, included)
        SELECT u.tenant_id, u.meter, this_month, p.percent, max(u.used), i.included
        FROM used u JOIN unnest(p_meters, p_included) AS i (meter, included) USING (meter)
        JOIN (VALUES (80), (100)) AS p (percent) ON u.used * 100 >= i.included * p.percent
        GROUP BY u.tenant_id, u.meter, p.percent, i.included
        ON CONFLICT DO NOTHING RETURNING n.*
    )
    SELECT array_agg(d.tenant_id ORDER BY d.tenant_id, d.meter, d.percent),
           array_agg(jsonb_build_object('kind', 'quota', 'meter', d.meter, 'month', to_char(d.month AT TIME ZONE 'UTC', 'YYYY-MM'),
                                        'percent', d.percent, 'used', d.used, 'included', d.included,
                                        'noticed_at', weir.shown_time(d.noticed_at)) ORDER BY d.tenant_id, d.meter, d.percent)
    INTO tenants, items FROM told d;
    IF tenants IS NULL THEN
        RETURN 0;
    END IF;
    PERFORM weir.emit_live(tenants, array_fill('notifications'::text, ARRAY[cardinality(tenants)]), items);
    RETURN cardinality(tenants);
END $$;

-- How long the plan keeps raw readings (NULL: for ever); the shorter of the two counts. Written by a job, which gives a tenant
-- time before a smaller plan shortens it.
ALTER TABLE weir.tenant ADD COLUMN plan_retention interval CHECK (plan_retention >= interval '1 day');
ALTER TABLE weir.tenant ADD COLUMN plan_since timestamptz NOT NULL DEFAULT now();
CREATE FUNCTION weir.plan_changed() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog
AS $$
BEGIN
    NEW.plan_since := now();
    RETURN NEW;
END $$;
CREATE TRIGGER plan_changed BEFORE UPDATE OF plan ON weir.tenant
    FOR EACH ROW WHEN (OLD.plan <> NEW.plan) EXECUTE FUNCTION weir.plan_changed();

-- What a tenant sees of its bill.
CREATE VIEW weir_tenant.usage_pushes WITH (security_barrier) AS SELECT * FROM weir.usage_push WHERE tenant_id = weir.current_tenant();
CREATE VIEW weir_tenant.usage_adjustments WITH (security_barrier) AS
    SELECT * FROM weir.usage_adjustment WHERE tenant_id = weir.current_tenant();
CREATE VIEW weir_tenant.provider_usage WITH (security_barrier) AS
    SELECT * FROM weir.provider_usage WHERE tenant_id = weir.current_tenant();
CREATE VIEW weir_tenant.quota_uses WITH (security_barrier) AS SELECT * FROM weir.quota_use WHERE tenant_id = weir.current_tenant();
CREATE VIEW weir_tenant.quota_notices WITH (security_barrier) AS SELECT * FROM weir.quota_notice WHERE tenant_id = weir.current_tenant();
CREATE VIEW public.quota_notices AS SELECT * FROM weir.quota_notice;

ALTER TABLE weir.quota_use ENABLE ROW LEVEL SECURITY;
ALTER TABLE weir.quota_notice ENABLE ROW LEVEL SECURITY;
REVOKE EXECUTE ON FUNCTION weir.take_quota, weir.give_back_quota, weir_tenant.take_quota, weir.notice_quotas FROM PUBLIC;
GRANT EXECUTE ON FUNCTION weir.take_quota, weir.give_back_quota, weir.notice_quotas TO weir_writer;
GRANT EXECUTE ON FUNCTION weir_tenant.take_quota TO weir_reader;
GRANT SELECT ON weir_tenant.usage_pushes, weir_tenant.usage_adjustments, weir_tenant.provider_usage, weir_tenant.quota_uses,
    weir_tenant.quota_notices TO weir_reader;
GRANT SELECT ON public.quota_notices TO weir_operator;
GRANT UPDATE (plan_retention) ON weir.tenant TO weir_writer;
