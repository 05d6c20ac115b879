-- Readings on TimescaleDB: a hypertable with columnstore, roll-ups as continuous aggregates 1m → 1h → 1d.
-- Its outside (tables, stored_* views, functions, grants) is that of plain/0004; 0005 builds on it what people read.
-- No policies: the owner may not log in, so TimescaleDB's scheduler cannot work for it, and a refresh policy knows nothing of
-- markers. sinks/timescale/rollups.py and retention.py do their work, at the times of jobs/schedule.py.

CREATE TABLE weir.reading (
    sensor_no integer NOT NULL,
    seq integer NOT NULL,
    at timestamptz NOT NULL,
    value double precision NOT NULL,
    received_at timestamptz NOT NULL,
    PRIMARY KEY (sensor_no, at, seq)
);
SELECT create_hypertable('weir.reading', by_range('at', interval '1 day'), create_default_indexes => false);
ALTER TABLE weir.reading SET (timescaledb.enable_columnstore, timescaledb.segmentby = 'sensor_no', timescaledb.orderby = 'at, seq');

-- Refreshing reads a span of time of all sensors. Rows arrive nearly in order of time, so a few kilobytes of index find it.
CREATE INDEX reading_at ON weir.reading USING brin (at) WITH (pages_per_range = 32, autosummarize = on);

-- A chunk would make itself with its first row, but whoever inserts that row keeps every other writer of the day waiting until
-- it commits. So it is made beforehand, by a row of no sensor that comes and goes.
CREATE FUNCTION weir.ensure_partition(p_at timestamptz) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    day timestamptz := date_bin('1 day', p_at, 'epoch');
BEGIN
    IF p_at < '2009-12-31T00:00:00Z' OR p_at > now() + interval '40 days' THEN
        RAISE EXCEPTION 'no partition is made for %: readings lie between 2010 and now', p_at;
    END IF;
    IF EXISTS (SELECT FROM public.show_chunks('weir.reading', newer_than => day, older_than => day + interval '24 hours')) THEN
        RETURN false;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('weir.ensure_partition', 0));
    IF EXISTS (SELECT FROM public.show_chunks('weir.reading', newer_than => day, older_than => day + interval '24 hours')) THEN
        RETURN false;
    END IF;
    INSERT INTO weir.reading VALUES (0, 0, day, 0, now());
    DELETE FROM weir.reading WHERE sensor_no = 0 AND at = day;
    RETURN true;
END $$;

CREATE FUNCTION weir.ensure_partitions(p_ats timestamptz[]) RETURNS integer
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog
AS $$ SELECT count(*) FILTER (WHERE weir.ensure_partition(a))::integer FROM unnest(p_ats) AS a $$;

-- Hours at or after `settled` are computed from raw rows on read. It follows rollup_frontier, below which writers mark what
-- they touch, as soon as the hours between the two are marked: finding those needs no lock, no unmarked row can come for them.
CREATE TABLE weir.rollup_settled (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    settled timestamptz NOT NULL
);
INSERT INTO weir.rollup_settled (settled) SELECT frontier FROM weir.rollup_frontier;

-- Below `frozen_before` (a UTC day) a tenant's roll-ups are as stored, whatever is marked: its raw rows go, or are gone.
-- Below `erased_before` they are gone. Neighbours in a block may keep the same hours longer, and mark them.
CREATE TABLE weir.rollup_frozen (
    tenant_id text PRIMARY KEY REFERENCES weir.tenant,
    frozen_before timestamptz NOT NULL,
    erased_before timestamptz NOT NULL DEFAULT '-infinity'
);

-- Where a sensor's buckets come from:  as stored | stored unless marked | computed
--                                         frozen_before              settled
CREATE VIEW weir.sensor_window AS
    SELECT s.sensor_no, s.block, s.tenant_id, coalesce(z.frozen_before, '-infinity') AS frozen_before, f.settled
    FROM weir.sensor s CROSS JOIN weir.rollup_settled f LEFT JOIN weir.rollup_frozen z USING (tenant_id);

-- A sum that becomes ±Infinity where PostgreSQL's own would raise: one tenant's 1e308 must not spoil its neighbours' roll-ups.
CREATE FUNCTION weir.huge_sum(p_sum double precision, p_huge double precision[]) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog
AS $$
    SELECT CASE WHEN t = 'NaN' THEN 'NaN' WHEN t > 1.797e308 THEN 'Infinity' WHEN t < -1.797e308 THEN '-Infinity' ELSE t::float8 END
    FROM (SELECT coalesce(p_sum, 0)::numeric + sum(h::numeric) AS t FROM unnest(p_huge) AS h) s
$$;
CREATE FUNCTION weir.total(p_sum double precision, p_huge double precision[]) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE
-- A bound body, not a string: views show sums to roles that may not look into the schema.
RETURN CASE WHEN p_huge IS NULL THEN p_sum ELSE weir.huge_sum(p_sum, p_huge) END;

-- Orders readings within their minute: microseconds, then seq.
CREATE FUNCTION weir.minute_order(p_in_minute interval, p_seq integer) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT (date_part('epoch', p_in_minute) * 1000000)::bigint << 31 | p_seq $$;

CREATE MATERIALIZED VIEW weir.rollup_1m WITH (timescaledb.continuous, timescaledb.materialized_only = true, timescaledb.create_group_indexes = false) AS
    SELECT sensor_no, time_bucket(interval '1 minute', at) AS bucket_start, count(*) AS count,
           weir.total(sum(value) FILTER (WHERE abs(value) < 1e290), array_agg(value) FILTER (WHERE abs(value) >= 1e290)) AS sum,
           min(value) AS min, max(value) AS max,
           first(value, weir.minute_order(at - time_bucket(interval '1 minute', at), seq)) AS first,
           last(value, weir.minute_order(at - time_bucket(interval '1 minute', at), seq)) AS last
    FROM weir.reading GROUP BY 1, 2 WITH NO DATA;
CREATE MATERIALIZED VIEW weir.rollup_1h WITH (timescaledb.continuous, timescaledb.materialized_only = true, timescaledb.create_group_indexes = false) AS
    SELECT sensor_no, time_bucket(interval '1 hour', bucket_start) AS bucket_start, sum(count)::bigint AS count,
           weir.total(sum(sum) FILTER (WHERE abs(sum) < 1e290), array_agg(sum) FILTER (WHERE abs(sum) >= 1e290)) AS sum,
           min(min) AS min, max(max) AS max, first(first, bucket_start) AS first, last(last, bucket_start) AS last
    FROM weir.rollup_1m GROUP BY 1, 2 WITH NO DATA;
CREATE MATERIALIZED VIEW weir.rollup_1d WITH (timescaledb.continuous, timescaledb.materialized_only = true, timescaledb.create_group_indexes = false) AS
    SELECT sensor_no, time_bucket(interval '1 day', bucket_start) AS bucket_start, sum(count)::bigint AS count,
           weir.total(sum(sum) FILTER (WHERE abs(sum) < 1e290), array_agg(sum) FILTER (WHERE abs(sum) >= 1e290)) AS sum,
           min(min) AS min, max(max) AS max, first(first, bucket_start) AS first, last(last, bucket_start) AS last
    FROM weir.rollup_1h GROUP BY 1, 2 WITH NO DATA;
-- Ascending in both, so that 0005 can ask for an order that only these give (the aggregates' own index is by time, of all sensors).
CREATE INDEX rollup_1m_sensor ON weir.rollup_1m (sensor_no, bucket_start);
CREATE INDEX rollup_1h_sensor ON weir.rollup_1h (sensor_no, bucket_start);
CREATE INDEX rollup_1d_sensor ON weir.rollup_1d (sensor_no, bucket_start);

-- Roll-ups of frozen spans: refreshing an aggregate takes away buckets whose raw rows are gone, these copies stay.
CREATE TABLE weir.kept_1m (
    sensor_no integer NOT NULL,
    bucket_start timestamptz NOT NULL,
    count bigint NOT NULL,
    sum double precision NOT NULL,
    min double precision NOT NULL,
    max double precision NOT NULL,
    first double precision NOT NULL,
    last double precision NOT NULL,
    PRIMARY KEY (sensor_no, bucket_start)
);
CREATE TABLE weir.kept_1h (LIKE weir.kept_1m INCLUDING ALL);
CREATE TABLE weir.kept_1d (LIKE weir.kept_1m INCLUDING ALL);
SELECT create_hypertable('weir.kept_1m', by_range('bucket_start', interval '30 days'), create_default_indexes => false),
       create_hypertable('weir.kept_1h', by_range('bucket_start', interval '360 days'), create_default_indexes => false);
ALTER TABLE weir.kept_1m SET (timescaledb.enable_columnstore, timescaledb.segmentby = 'sensor_no', timescaledb.orderby = 'bucket_start');
ALTER TABLE weir.kept_1h SET (timescaledb.enable_columnstore, timescaledb.segmentby = 'sensor_no', timescaledb.orderby = 'bucket_start');

CREATE VIEW weir.stored_1m AS
    SELECT r.sensor_no, r.bucket_start, r.count, r.sum, r.min, r.max, r.first, r.last
    FROM weir.rollup_1m r JOIN weir.sensor_window w USING (sensor_no) WHERE r.bucket_start >= w.frozen_before
    UNION ALL
    SELECT k.* FROM weir.kept_1m k JOIN weir.sensor_window w USING (sensor_no) WHERE k.bucket_start < w.frozen_before;
CREATE VIEW weir.stored_1h AS
    SELECT r.sensor_no, r.bucket_start, r.count, r.sum, r.min, r.max, r.first, r.last
    FROM weir.rollup_1h r JOIN weir.sensor_window w USING (sensor_no) WHERE r.bucket_start >= w.frozen_before
    UNION ALL
    SELECT k.* FROM weir.kept_1h k JOIN weir.sensor_window w USING (sensor_no) WHERE k.bucket_start < w.frozen_before;
CREATE VIEW weir.stored_1d AS
    SELECT r.sensor_no, r.bucket_start, r.count, r.sum, r.min, r.max, r.first, r.last
    FROM weir.rollup_1d r JOIN weir.sensor_window w USING (sensor_no) WHERE r.bucket_start >= w.frozen_before
    UNION ALL
    SELECT k.* FROM weir.kept_1d k JOIN weir.sensor_window w USING (sensor_no) WHERE k.bucket_start < w.frozen_before;

-- Copies the roll-ups of these sensors in [p_from, p_to) to where no refresh reaches them; repeating it changes nothing.
CREATE FUNCTION weir.keep_rollups(p_sensors integer[], p_from timestamptz, p_to timestamptz) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog SET plan_cache_mode = force_custom_plan
AS $$
DECLARE
    level text;
BEGIN
    FOREACH level IN ARRAY ARRAY['1m', '1h', '1d'] LOOP
        EXECUTE format($q$
            INSERT INTO weir.kept_%1$s SELECT r.sensor_no, r.bucket_start, r.count, r.sum, r.min, r.max, r.first, r.last
            FROM weir.rollup_%1$s r WHERE r.sensor_no = ANY ($1) AND r.bucket_start >= $2 AND r.bucket_start < $3
            ON CONFLICT (sensor_no, bucket_start) DO UPDATE SET (count, sum, min, max, first, last) =
                (EXCLUDED.count, EXCLUDED.sum, EXCLUDED.min, EXCLUDED.max, EXCLUDED.first, EXCLUDED.last)
            $q$, level) USING p_sensors, p_from, p_to;
    END LOOP;
END $$;

-- The hypertables that roll-ups are read from.
CREATE FUNCTION weir.rollup_stores() RETURNS regclass[]
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog
AS $$
    SELECT array_agg(format('%I.%I', a.materialization_hypertable_schema, a.materialization_hypertable_name)::regclass)
           || ARRAY['weir.kept_1m', 'weir.kept_1h']::regclass[]
    FROM timescaledb_information.continuous_aggregates a WHERE a.view_schema = 'weir'
$$;

CREATE FUNCTION weir.partitions() RETURNS TABLE (name text, from_at timestamptz, to_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog
AS $$
    SELECT c.chunk_name::text, c.range_start, c.range_end FROM timescaledb_information.chunks c
    WHERE c.hypertable_schema = 'weir' AND c.hypertable_name = 'reading'
$$;

-- Drops the oldest chunk that every tenant's frozen span covers, and the aggregates' chunks that are not read any more;
-- one a call, as it locks the whole table for a moment.
CREATE FUNCTION weir.drop_oldest_partition() RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog SET lock_timeout = '2s'
AS $$
DECLARE
    least_frozen timestamptz := (SELECT min(coalesce(z.frozen_before, '-infinity')) FROM weir.tenant t LEFT JOIN weir.rollup_frozen z USING (tenant_id));
    victim record;
BEGIN
    SELECT * INTO victim FROM weir.partitions() WHERE to_at <= least_frozen ORDER BY to_at LIMIT 1;
    IF victim IS NULL THEN
        RETURN NULL;
    END IF;
    PERFORM public.drop_chunks('weir.reading', older_than => victim.to_at);
    PERFORM public.drop_chunks('weir.rollup_1m', older_than => least_frozen),
            public.drop_chunks('weir.rollup_1h', older_than => least_frozen),
            public.drop_chunks('weir.rollup_1d', older_than => least_frozen);
    RETURN victim.name;
END $$;

-- Turns the oldest chunk that ended before p_before and has rows outside the columns into columns; NULL when there is none.
CREATE FUNCTION weir.compress_oldest_chunk(p_before timestamptz) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog SET lock_timeout = '2s'
AS $$
DECLARE
    chunk regclass := (
        SELECT c.chunk FROM (
            SELECT format('%I.%I', chunk_schema, chunk_name)::regclass AS chunk, range_end FROM timescaledb_information.chunks
            WHERE hypertable_schema = 'weir' AND hypertable_name IN ('reading', 'kept_1m', 'kept_1h') AND range_end <= p_before) c
        CROSS JOIN _timescaledb_functions.chunk_status(c.chunk) AS status
        WHERE status & 1 = 0 OR status & 8 = 8 -- not compressed, or written to since
        ORDER BY c.range_end LIMIT 1);
BEGIN
    IF chunk IS NOT NULL THEN
        PERFORM public.compress_chunk(chunk);
    END IF;
    RETURN chunk;
END $$;

GRANT SELECT, INSERT, UPDATE, DELETE ON weir.reading TO weir_writer;
GRANT SELECT, INSERT, UPDATE ON weir.rollup_frozen TO weir_writer;
GRANT SELECT, UPDATE ON weir.rollup_settled TO weir_writer;
GRANT SELECT ON weir.sensor_window, weir.rollup_1m, weir.rollup_1h, weir.rollup_1d TO weir_writer;
REVOKE EXECUTE ON FUNCTION weir.ensure_partition, weir.ensure_partitions, weir.keep_rollups, weir.rollup_stores,
    weir.partitions, weir.drop_oldest_partition, weir.compress_oldest_chunk FROM PUBLIC;
GRANT EXECUTE ON FUNCTION weir.ensure_partition, weir.ensure_partitions, weir.keep_rollups, weir.rollup_stores,
    weir.partitions, weir.drop_oldest_partition, weir.compress_oldest_chunk TO weir_writer;
