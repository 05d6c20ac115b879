-- Which hours billing has to look at again, so that nobody reads all usage to find the few that changed.

-- Hours that begin within the last hours are looked at in any case; of older ones each change leaves a mark here, in its own
-- transaction. Marks are only ever added and taken away, so writers never wait for the one who takes them.
CREATE TABLE weir.usage_touched (
    touched_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id text NOT NULL,
    meter text NOT NULL,
    bucket_start timestamptz NOT NULL
);
-- Bucket starts never change, so updates of usage stay within their page.
CREATE INDEX usage_bucket ON weir.usage (bucket_start);

CREATE OR REPLACE FUNCTION weir.usage_changed() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog
AS $$
BEGIN
    -- The statement's clock, not the transaction's: a batch that began earlier must not hide behind one that is already seen.
    NEW.changed_at := clock_timestamp();
    IF NEW.bucket_start < NEW.changed_at - interval '2 hours' THEN
        INSERT INTO weir.usage_touched (tenant_id, meter, bucket_start) VALUES (NEW.tenant_id, NEW.meter, NEW.bucket_start);
    END IF;
    RETURN NEW;
END $$;

-- Up to when hours were looked at; whoever plans holds the row.
CREATE TABLE weir.push_plan (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    planned_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO weir.push_plan DEFAULT VALUES;

-- All of an account's hours are looked at once its subscription begins, changes or ends.
ALTER TABLE weir.billing_account ADD COLUMN replan boolean NOT NULL DEFAULT true;
CREATE FUNCTION weir.account_changed() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog
AS $$
BEGIN
    NEW.replan := true;
    RETURN NEW;
END $$;
CREATE TRIGGER account_changed BEFORE UPDATE OF subscription_id, subscribed_at, activated_at, ended_at ON weir.billing_account
    FOR EACH ROW WHEN ((OLD.subscription_id, OLD.subscribed_at, OLD.activated_at, OLD.ended_at)
        IS DISTINCT FROM (NEW.subscription_id, NEW.subscribed_at, NEW.activated_at, NEW.ended_at))
    EXECUTE FUNCTION weir.account_changed();

GRANT SELECT, INSERT, DELETE ON weir.usage_touched TO weir_writer;
GRANT SELECT, UPDATE ON weir.push_plan TO weir_writer;

-- The same recounts as before, of some tenants (NULL: all).
CREATE FUNCTION weir.stored_hours(p_tenant_ids text[], p_from timestamptz, p_to timestamptz)
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
        CASE WHEN p_tenant_ids IS NOT NULL THEN
            'AND r.sensor_no = ANY (ARRAY(SELECT s.sensor_no FROM weir.sensor s WHERE s.tenant_id = ANY ($1)))' END,
        CASE WHEN p_tenant_ids IS NOT NULL THEN 'AND z.tenant_id = ANY ($1)' END)
        USING p_tenant_ids, p_from, p_to;
END $$;

CREATE FUNCTION weir.stored_usage(p_tenant_ids text[], p_from timestamptz, p_to timestamptz)
RETURNS TABLE (tenant_id text, meter text, bucket_start timestamptz, quantity bigint)
LANGUAGE sql STABLE SET search_path = pg_catalog
AS $$
    WITH hours AS MATERIALIZED (SELECT * FROM weir.stored_hours(p_tenant_ids, p_from - interval '23 hours', p_to))
    SELECT h.tenant_id, 'readings', h.hour, sum(h.readings)::bigint FROM hours h WHERE h.hour >= p_from GROUP BY 1, 3
    UNION ALL
    SELECT a.tenant_id, 'active_sensors', a.hour, count(*)
    FROM (SELECT s.tenant_id, generate_series(s.hour, s.until - interval '1 hour', '1 hour') AS hour
          FROM (SELECT h.tenant_id, h.hour, least(h.hour + interval '24 hours',
                       lead(h.hour) OVER (PARTITION BY h.sensor_no ORDER BY h.hour)) AS until FROM hours h) s) a
    WHERE a.hour >= p_from AND a.hour < p_to GROUP BY 1, 3
$$;

CREATE FUNCTION weir.usage_differences(p_tenant_ids text[], p_from timestamptz, p_to timestamptz)
RETURNS TABLE (tenant_id text, meter text, bucket_start timestamptz, stored bigint, metered bigint, pushed bigint,
               adjusted bigint, stripe bigint, difference bigint, explanation text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog
AS $$
    WITH counted AS (
        SELECT tenant_id, meter, bucket_start, coalesce(s.quantity, 0) AS stored, coalesce(u.quantity, 0) AS metered, u.changed_at
        FROM weir.stored_usage(p_tenant_ids, p_from, p_to) s
        FULL JOIN (SELECT * FROM weir.usage m
                   WHERE m.meter IN ('readings', 'active_sensors') AND m.bucket_start >= p_from AND m.bucket_start < p_to
                     AND (p_tenant_ids IS NULL OR m.tenant_id = ANY (p_tenant_ids))) u USING (tenant_id, meter, bucket_start)
        UNION ALL
        SELECT m.tenant_id, m.meter, m.bucket_start, m.quantity, m.quantity, m.changed_at FROM weir.usage m
        WHERE m.meter NOT IN ('readings', 'active_sensors') AND m.bucket_start >= p_from AND m.bucket_start < p_to
          AND (p_tenant_ids IS NULL OR m.tenant_id = ANY (p_tenant_ids))),
    billed AS (
        SELECT c.*, a.tenant_id IS NOT NULL AS is_billed,
               coalesce(p.acked_quantity, 0) AS pushed, coalesce(p.adjusted, 0) AS adjusted, p.state, p.detail,
               greatest(c.bucket_start + interval '1 hour', c.changed_at) + interval '5 minutes' < now() AS is_overdue,
               CASE WHEN v.read_at > p.settled_at OR p.settled_at IS NULL THEN v.quantity END AS stripe
        FROM counted c
        LEFT JOIN weir.billing_account a ON a.tenant_id = c.tenant_id
             AND (c.bucket_start >= date_trunc('hour', a.subscribed_at, 'UTC') OR c.changed_at >= a.activated_at)
             AND c.bucket_start < coalesce(a.ended_at, 'infinity')
        LEFT JOIN weir.usage_push p ON p.tenant_id = c.tenant_id AND p.meter = c.meter AND p.bucket_start = c.bucket_start
        LEFT JOIN weir.provider_usage v ON v.tenant_id = c.tenant_id AND v.meter = c.meter AND v.bucket_start = c.bucket_start)
    SELECT b.tenant_id, b.meter, b.bucket_start, b.stored, b.metered,
           CASE WHEN b.is_billed THEN b.pushed END, CASE WHEN b.is_billed THEN b.adjusted END, CASE WHEN b.is_billed THEN b.stripe END,
           CASE WHEN b.metered <> b.stored THEN b.metered - b.stored
                WHEN b.is_overdue AND b.pushed + b.adjusted <> b.metered THEN b.pushed + b.adjusted - b.metered
                ELSE b.stripe - b.pushed END,
           CASE WHEN b.metered < b.stored THEN 'stored rows were not metered'
                WHEN b.metered > b.stored THEN 'more was metered than is stored'
                WHEN b.is_overdue AND b.pushed + b.adjusted <> b.metered THEN
                    'the push is ' || coalesce(b.state || coalesce(': ' || b.detail, ''), 'missing')
                WHEN b.stripe < b.pushed THEN 'Stripe counts less than it has acknowledged'
                ELSE 'Stripe counts more than it was told' END
    FROM billed b
    WHERE b.metered <> b.stored
       OR b.is_billed AND (b.is_overdue AND b.pushed + b.adjusted <> b.metered OR b.stripe <> b.pushed)
$$;
CREATE OR REPLACE FUNCTION weir.usage_differences(p_tenant_id text, p_from timestamptz, p_to timestamptz)
RETURNS TABLE (tenant_id text, meter text, bucket_start timestamptz, stored bigint, metered bigint, pushed bigint,
               adjusted bigint, stripe bigint, difference bigint, explanation text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog
AS $$
    SELECT * FROM weir.usage_differences(CASE WHEN p_tenant_id IS NOT NULL THEN ARRAY[p_tenant_id] END, p_from, p_to)
$$;
DROP FUNCTION weir.stored_usage(text, timestamptz, timestamptz);
DROP FUNCTION weir.stored_hours(text, timestamptz, timestamptz);

-- Up to when every change was compared, and the days on which something did not agree then.
CREATE TABLE weir.usage_proof (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    proved_at timestamptz NOT NULL DEFAULT '-infinity'
);
INSERT INTO weir.usage_proof DEFAULT VALUES;
CREATE TABLE weir.usage_unproved (
    tenant_id text NOT NULL,
    day timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, day)
);

-- Days with an hour that changed, was pushed or was read back since the last proof, or did not agree then. A quarter of an
-- hour earlier: what was not overdue then may be now.
CREATE FUNCTION weir.touched_days() RETURNS TABLE (day timestamptz, tenant_ids text[])
LANGUAGE sql STABLE SET search_path = pg_catalog
AS $$
    WITH since AS MATERIALIZED (SELECT proved_at - interval '15 minutes' AS at FROM weir.usage_proof)
    SELECT t.day, array_agg(DISTINCT t.tenant_id) FROM (
        SELECT u.tenant_id, date_bin('1 day', u.bucket_start, 'epoch') AS day FROM weir.usage u
        WHERE greatest(u.changed_at, u.bucket_start + interval '1 hour') >= (SELECT at FROM since)
        UNION ALL
        SELECT p.tenant_id, date_bin('1 day', p.bucket_start, 'epoch') FROM weir.usage_push p
        WHERE p.settled_at >= (SELECT at FROM since) OR p.state NOT IN ('acknowledged', 'adjusted')
        UNION ALL
        SELECT v.tenant_id, date_bin('1 day', v.bucket_start, 'epoch') FROM weir.provider_usage v WHERE v.read_at >= (SELECT at FROM since)
        UNION ALL
        SELECT n.tenant_id, n.day FROM weir.usage_unproved n) t
    GROUP BY 1
$$;

-- Every difference on those days; rows that were changed behind the meters' back show in usage_drift, which recounts all.
CREATE FUNCTION public.usage_drift_touched() RETURNS SETOF public.usage_drift
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    half bigint := (SELECT count(*) / 2 FROM weir.tenant);
    one record;
BEGIN
    FOR one IN SELECT * FROM weir.touched_days() ORDER BY day LOOP
        RETURN QUERY SELECT * FROM weir.usage_differences(
            CASE WHEN cardinality(one.tenant_ids) <= half OR half = 0 THEN one.tenant_ids END, one.day, one.day + interval '24 hours');
    END LOOP;
END $$;

REVOKE EXECUTE ON FUNCTION weir.stored_hours(text[], timestamptz, timestamptz), weir.stored_usage(text[], timestamptz, timestamptz),
    weir.usage_differences(text[], timestamptz, timestamptz), weir.touched_days, public.usage_drift_touched FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.usage_drift_touched TO weir_operator, weir_writer;
GRANT SELECT, UPDATE ON weir.usage_proof TO weir_writer;
GRANT SELECT, INSERT, DELETE ON weir.usage_unproved TO weir_writer;
CREATE VIEW public.usage_proof AS SELECT proved_at FROM weir.usage_proof;
GRANT SELECT ON public.usage_proof TO weir_operator;
