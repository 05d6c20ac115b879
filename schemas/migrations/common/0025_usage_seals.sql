-- Sealed hours: what was stored, in a form that outlives the rows (DESIGN §7). Each seal names the one before it of its tenant,
-- so none can be changed, left out or put in between without changing all that follow; whoever kept a receipt sees it.

CREATE TABLE weir.usage_seal (
    tenant_id text NOT NULL REFERENCES weir.tenant,
    -- 1, 2, 3, … of the tenant.
    seal_no bigint NOT NULL,
    bucket_start timestamptz NOT NULL,
    -- 1, and one more for each time that late rows came after it.
    version integer NOT NULL,
    readings bigint NOT NULL,
    sensors bigint NOT NULL,
    -- Over the hour's sensors, and of each over its rows: see weir.hour_digests.
    rows_sha256 bytea NOT NULL CHECK (length(rows_sha256) = 32),
    previous bytea NOT NULL CHECK (length(previous) = 32),
    seal bytea NOT NULL CHECK (length(seal) = 32),
    sealed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, seal_no),
    UNIQUE (tenant_id, bucket_start, version)
);
-- The end of each chain; who seals holds it.
CREATE TABLE weir.usage_seal_head (
    tenant_id text PRIMARY KEY REFERENCES weir.tenant,
    seal_no bigint NOT NULL,
    seal bytea NOT NULL
) WITH (fillfactor = 50);

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON weir.usage_seal
    FOR EACH STATEMENT EXECUTE FUNCTION weir.refuse_change();

-- Of each hour with rows: their number, their sensors', and SHA-256 over lines `sensor id, rows, digest` in the sensors' order;
-- a sensor's digest is SHA-256 over `time in epoch milliseconds, seq` of its rows in their order.
CREATE FUNCTION weir.hour_digests(p_tenant_id text, p_from timestamptz, p_to timestamptz)
RETURNS TABLE (bucket_start timestamptz, readings bigint, sensors bigint, rows_sha256 bytea)
LANGUAGE sql STABLE SET search_path = pg_catalog SET plan_cache_mode = force_custom_plan
AS $$
    SELECT q.hour, sum(q.readings)::bigint, count(*),
           sha256(convert_to(string_agg(q.sensor_id || ' ' || q.readings || ' ' || encode(q.digest, 'hex') || E'\n', ''
                                        ORDER BY q.sensor_id COLLATE "C"), 'UTF8'))
    FROM (SELECT s.sensor_id, date_bin('1 hour', r.at, 'epoch') AS hour, count(*) AS readings,
                 sha256(convert_to(string_agg((extract(epoch FROM r.at) * 1000)::bigint || ' ' || r.seq || E'\n', ''
                                              ORDER BY r.at, r.seq), 'UTF8')) AS digest
          FROM weir.reading r JOIN weir.sensor s USING (sensor_no)
          WHERE r.sensor_no = ANY (ARRAY(SELECT o.sensor_no FROM weir.sensor o WHERE o.tenant_id = p_tenant_id))
            AND r.at >= p_from AND r.at < p_to
          GROUP BY 1, 2) q
    GROUP BY 1
$$;

-- What a seal is made over; `processors.seals` makes the same.
CREATE FUNCTION weir.seal_of(p_tenant_id text, p_seal_no bigint, p_bucket_start timestamptz, p_version integer, p_readings bigint,
                             p_sensors bigint, p_rows bytea, p_previous bytea) RETURNS bytea
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog
AS $$
    SELECT sha256(convert_to(concat_ws(E'\n', 'weir-seal-1', p_tenant_id, p_seal_no,
        to_char(p_bucket_start AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), p_version, p_readings, p_sensors,
        encode(p_rows, 'hex'), encode(p_previous, 'hex')), 'UTF8'))
$$;

CREATE VIEW weir.current_seal AS
    SELECT DISTINCT ON (tenant_id, bucket_start) * FROM weir.usage_seal ORDER BY tenant_id, bucket_start, version DESC;

-- Seals the hours of [p_from, p_to) that are over, have rows and are not sealed as they are; returns how many it sealed. Reads
-- all rows of the span, or only those of days with an hour whose usage is not what was sealed.
CREATE FUNCTION weir.seal_hours(p_tenant_id text, p_from timestamptz, p_to timestamptz, p_all boolean) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    head weir.usage_seal_head;
    -- Below, rows go or are gone.
    from_at timestamptz := greatest(p_from, (SELECT z.frozen_before FROM weir.rollup_frozen z WHERE z.tenant_id = p_tenant_id));
    to_at timestamptz := least(p_to, date_bin('1 hour', clock_timestamp(), 'epoch'));
    one record;
    sealed integer := 0;
BEGIN
    INSERT INTO weir.usage_seal_head AS h VALUES (p_tenant_id, 0, decode(repeat('00', 32), 'hex'))
        ON CONFLICT (tenant_id) DO UPDATE SET seal_no = h.seal_no RETURNING h.* INTO head;
    FOR one IN
        SELECT d.*, coalesce(c.version, 0) + 1 AS version
        FROM (SELECT from_at AS from_at, to_at AS to_at WHERE p_all
              UNION ALL
              SELECT DISTINCT greatest(from_at, date_bin('1 day', u.bucket_start, 'epoch')),
                     least(to_at, date_bin('1 day', u.bucket_start, 'epoch') + interval '24 hours')
              FROM weir.usage u LEFT JOIN weir.current_seal c USING (tenant_id, bucket_start)
              WHERE NOT p_all AND u.tenant_id = p_tenant_id AND u.meter = 'readings' AND u.bucket_start >= from_at
                AND u.bucket_start < to_at AND c.readings IS DISTINCT FROM u.quantity) span
        CROSS JOIN LATERAL weir.hour_digests(p_tenant_id, span.from_at, span.to_at) d
        LEFT JOIN weir.current_seal c ON c.tenant_id = p_tenant_id AND c.bucket_start = d.bucket_start
        WHERE (c.readings, c.rows_sha256) IS DISTINCT FROM (d.readings, d.rows_sha256) ORDER BY d.bucket_start
    LOOP
        INSERT INTO weir.usage_seal (tenant_id, seal_no, bucket_start, version, readings, sensors, rows_sha256, previous, seal)
        VALUES (p_tenant_id, head.seal_no + 1, one.bucket_start, one.version, one.readings, one.sensors, one.rows_sha256, head.seal,
                weir.seal_of(p_tenant_id, head.seal_no + 1, one.bucket_start, one.version, one.readings, one.sensors,
                             one.rows_sha256, head.seal))
        RETURNING seal_no, seal INTO head.seal_no, head.seal;
        sealed := sealed + 1;
    END LOOP;
    UPDATE weir.usage_seal_head h SET seal_no = head.seal_no, seal = head.seal WHERE h.tenant_id = p_tenant_id;
    RETURN sealed;
END $$;

-- Rows may go only below `frozen_before`: it does not pass an hour that is not sealed with all of its rows.
CREATE FUNCTION weir.require_seals() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    unsealed timestamptz;
BEGIN
    SELECT k.hour INTO unsealed
    FROM (SELECT r.bucket_start AS hour, sum(r.count) AS readings
          FROM weir.sensor s JOIN weir.kept_1h r USING (sensor_no)
          WHERE s.tenant_id = NEW.tenant_id AND r.bucket_start < NEW.frozen_before
            AND r.bucket_start >= CASE WHEN TG_OP = 'UPDATE' THEN OLD.frozen_before ELSE '-infinity' END
          GROUP BY 1) k
    LEFT JOIN weir.current_seal c ON c.tenant_id = NEW.tenant_id AND c.bucket_start = k.hour
    WHERE c.readings IS DISTINCT FROM k.readings ORDER BY 1 LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'the hour % of tenant % is not sealed: its rows must stay', unsealed, NEW.tenant_id
            USING HINT = 'weir.seal_hours seals it';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER require_seals BEFORE INSERT OR UPDATE OF frozen_before ON weir.rollup_frozen
    FOR EACH ROW EXECUTE FUNCTION weir.require_seals();

-- Where rows are gone, seals speak for their number; the kept hours still say whose they were.
CREATE OR REPLACE FUNCTION weir.stored_usage(p_tenant_ids text[], p_from timestamptz, p_to timestamptz)
RETURNS TABLE (tenant_id text, meter text, bucket_start timestamptz, quantity bigint)
LANGUAGE sql STABLE SET search_path = pg_catalog
AS $$
    WITH hours AS MATERIALIZED (SELECT * FROM weir.stored_hours(p_tenant_ids, p_from - interval '23 hours', p_to)),
    seals AS MATERIALIZED (
        SELECT c.tenant_id, c.bucket_start, c.readings FROM weir.rollup_frozen z JOIN weir.current_seal c USING (tenant_id)
        WHERE c.bucket_start < z.frozen_before AND c.bucket_start >= p_from AND c.bucket_start < p_to
          AND (p_tenant_ids IS NULL OR c.tenant_id = ANY (p_tenant_ids)))
    SELECT h.tenant_id, 'readings', h.hour, sum(h.readings)::bigint FROM hours h
    WHERE h.hour >= p_from AND NOT EXISTS (SELECT FROM seals e WHERE e.tenant_id = h.tenant_id AND e.bucket_start = h.hour)
    GROUP BY 1, 3
    UNION ALL
    SELECT e.tenant_id, 'readings', e.bucket_start, e.readings FROM seals e
    UNION ALL
    SELECT a.tenant_id, 'active_sensors', a.hour, count(*)
    FROM (SELECT s.tenant_id, generate_series(s.hour, s.until - interval '1 hour', '1 hour') AS hour
          FROM (SELECT h.tenant_id, h.hour, least(h.hour + interval '24 hours',
                       lead(h.hour) OVER (PARTITION BY h.sensor_no ORDER BY h.hour)) AS until FROM hours h) s) a
    WHERE a.hour >= p_from AND a.hour < p_to GROUP BY 1, 3
$$;

-- For receipts: seals what is over of a span.
CREATE FUNCTION public.seal_usage(p_tenant_id text, p_from timestamptz, p_to timestamptz) RETURNS integer
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog
AS $$ SELECT weir.seal_hours(p_tenant_id, p_from, p_to, false) $$;
CREATE VIEW public.usage_seals AS SELECT * FROM weir.usage_seal;

ALTER TABLE weir.usage_seal ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_seals ON weir.usage_seal TO weir_reader USING (tenant_id = weir.current_tenant());
CREATE POLICY every_seal ON weir.usage_seal TO weir_writer USING (true);
ALTER TABLE weir.usage_seal_head ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON weir.usage_seal TO weir_reader, weir_writer;
REVOKE EXECUTE ON FUNCTION weir.hour_digests, weir.seal_hours, weir.require_seals, public.seal_usage FROM PUBLIC;
GRANT EXECUTE ON FUNCTION weir.seal_hours TO weir_writer;
GRANT EXECUTE ON FUNCTION public.seal_usage TO weir_operator;
GRANT SELECT ON public.usage_seals TO weir_operator;
