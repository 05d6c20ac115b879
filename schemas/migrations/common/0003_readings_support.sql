-- What surrounds the readings table on either engine: conflicts, sensor state, quality counters, usage, roll-up books.

CREATE TABLE weir.reading_conflict (
    sensor_no integer NOT NULL REFERENCES weir.sensor,
    at timestamptz NOT NULL,
    seq integer NOT NULL,
    -- A value that lost to a greater one with the same identity.
    value double precision NOT NULL,
    received_at timestamptz NOT NULL,
    PRIMARY KEY (sensor_no, at, seq, value)
);

-- The newest reading of each sensor; `version` is the compare-and-set of whoever evaluates it.
CREATE TABLE weir.sensor_state (
    sensor_no integer PRIMARY KEY REFERENCES weir.sensor,
    last_at timestamptz NOT NULL,
    last_seq integer NOT NULL,
    last_value double precision NOT NULL,
    last_received_at timestamptz NOT NULL,
    version bigint NOT NULL DEFAULT 1
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);

CREATE TABLE weir.quality_hourly (
    sensor_no integer NOT NULL REFERENCES weir.sensor,
    -- The hour of the readings' own time.
    hour timestamptz NOT NULL,
    duplicates bigint NOT NULL DEFAULT 0,
    late bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (sensor_no, hour)
);

CREATE TABLE weir.usage (
    tenant_id text NOT NULL REFERENCES weir.tenant,
    meter text NOT NULL CHECK (meter IN ('readings', 'active_sensors', 'scans', 'scan_points')),
    bucket_start timestamptz NOT NULL,
    quantity bigint NOT NULL CHECK (quantity >= 0),
    revision bigint NOT NULL DEFAULT 1,
    PRIMARY KEY (tenant_id, meter, bucket_start)
) WITH (fillfactor = 50);

-- Hours at or after the frontier are always computed from raw rows on read; older ones are stored unless marked dirty.
-- Writers hold the shared advisory lock of weir.begin_batch while they rely on the frontier, so moving it waits for them.
CREATE TABLE weir.rollup_frontier (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    frontier timestamptz NOT NULL
);
-- No reading exists yet, so everything before this hour counts as stored; whatever comes for it is marked.
INSERT INTO weir.rollup_frontier VALUES (true, date_trunc('hour', now() - interval '2 hours', 'UTC'));

CREATE TABLE weir.rollup_dirty (
    block integer NOT NULL,
    hour timestamptz NOT NULL,
    version bigint NOT NULL DEFAULT 1,
    touched_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (block, hour)
) WITH (fillfactor = 50);

CREATE FUNCTION weir.frontier_lock() RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT 5931870402::bigint $$;

-- First statement of every batch: fence, move the position, and tell what the batch may rely on until it commits.
-- Returns no row when another worker moved the position (the caller is fenced).
CREATE FUNCTION weir.begin_batch(p_topic text, p_partition integer, p_identity text, p_expected bigint, p_next bigint)
RETURNS TABLE (frontier timestamptz, generation bigint)
LANGUAGE plpgsql SECURITY INVOKER SET search_path = pg_catalog
AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(weir.frontier_lock());
    UPDATE weir.stream_position p SET next_offset = p_next, updated_at = now()
    WHERE p.topic = p_topic AND p.partition = p_partition AND p.topic_identity = p_identity AND p.next_offset = p_expected;
    IF FOUND THEN
        RETURN QUERY SELECT f.frontier, g.generation FROM weir.rollup_frontier f, weir.catalog_generation g;
    END IF;
END $$;

GRANT SELECT, INSERT, UPDATE, DELETE ON weir.reading_conflict, weir.sensor_state, weir.quality_hourly, weir.usage,
    weir.rollup_dirty TO weir_writer;
GRANT SELECT, UPDATE ON weir.rollup_frontier TO weir_writer;
GRANT SELECT ON weir.rollup_frontier, weir.rollup_dirty TO weir_reader;

CREATE VIEW public.reading_conflicts AS
    SELECT s.tenant_id, s.sensor_id, c.at, c.seq, c.value, c.received_at
    FROM weir.reading_conflict c JOIN weir.sensor s USING (sensor_no);
CREATE VIEW weir_tenant.reading_conflicts WITH (security_barrier) AS
    SELECT s.tenant_id, s.sensor_id, c.at, c.seq, c.value, c.received_at, s.sensor_no
    FROM weir.reading_conflict c JOIN weir.sensor s USING (sensor_no) WHERE s.tenant_id = weir.current_tenant();

CREATE VIEW weir_tenant.sensor_states WITH (security_barrier) AS
    SELECT s.tenant_id, s.sensor_id, s.sensor_no, t.last_at, t.last_seq, t.last_value, t.last_received_at
    FROM weir.sensor_state t JOIN weir.sensor s USING (sensor_no) WHERE s.tenant_id = weir.current_tenant();
CREATE VIEW weir_tenant.quality_hourly WITH (security_barrier) AS
    SELECT s.tenant_id, s.sensor_id, s.sensor_no, q.hour, q.duplicates, q.late
    FROM weir.quality_hourly q JOIN weir.sensor s USING (sensor_no) WHERE s.tenant_id = weir.current_tenant();

CREATE VIEW public.usage_hourly AS SELECT tenant_id, meter, bucket_start, quantity, revision FROM weir.usage;
CREATE VIEW weir_tenant.usage_hourly WITH (security_barrier) AS
    SELECT * FROM public.usage_hourly WHERE tenant_id = weir.current_tenant();

GRANT SELECT ON public.reading_conflicts, public.usage_hourly TO weir_operator;
GRANT SELECT ON weir_tenant.reading_conflicts, weir_tenant.sensor_states, weir_tenant.quality_hourly, weir_tenant.usage_hourly TO weir_reader;
