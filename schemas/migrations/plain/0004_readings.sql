-- Readings on plain PostgreSQL: range partitions (days from `daily_from` on, months before it), stored roll-ups.
-- Its outside (tables, stored_* views, functions, grants) is that of timescale/0004; 0005 builds on it what people read.

CREATE TABLE weir.reading (
    sensor_no integer NOT NULL,
    seq integer NOT NULL,
    at timestamptz NOT NULL,
    value double precision NOT NULL,
    received_at timestamptz NOT NULL,
    PRIMARY KEY (sensor_no, at, seq)
) PARTITION BY RANGE (at);

-- Fixed once: the width of a partition depends only on its own time, so ranges can never overlap.
CREATE TABLE weir.partition_plan (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    daily_from timestamptz NOT NULL
);
INSERT INTO weir.partition_plan VALUES (true, date_trunc('month', now() - interval '35 days', 'UTC'));

CREATE FUNCTION weir.partition_range(p_at timestamptz) RETURNS TABLE (from_at timestamptz, to_at timestamptz, name text)
LANGUAGE sql STABLE SET search_path = pg_catalog
AS $$
    SELECT date_trunc(step, p_at, 'UTC'),
           (date_trunc(step, p_at AT TIME ZONE 'UTC') + ('1 ' || step)::interval) AT TIME ZONE 'UTC',
           'reading_' || to_char(p_at AT TIME ZONE 'UTC', CASE step WHEN 'day' THEN 'YYYYMMDD' ELSE 'YYYYMM' END)
    FROM (SELECT CASE WHEN p_at >= daily_from THEN 'day' ELSE 'month' END AS step FROM weir.partition_plan) s
$$;

-- Builds the table apart and attaches it, which does not block readers or writers of the parent.
CREATE FUNCTION weir.ensure_partition(p_at timestamptz) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    r record;
BEGIN
    IF p_at < '2009-12-31T00:00:00Z' OR p_at > now() + interval '40 days' THEN
        RAISE EXCEPTION 'no partition is made for %: readings lie between 2010 and now', p_at;
    END IF;
    SELECT * INTO r FROM weir.partition_range(p_at);
    IF to_regclass('weir.' || r.name) IS NOT NULL THEN
        RETURN false;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('weir.ensure_partition', 0));
    -- Asked of the catalogue itself: to_regclass would answer from a cache that waiting for the lock does not renew.
    IF EXISTS (SELECT FROM pg_class WHERE relnamespace = 'weir'::regnamespace AND relname = r.name) THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE weir.%I (LIKE weir.reading INCLUDING ALL, CHECK (at >= %L AND at < %L))', r.name, r.from_at, r.to_at);
    EXECUTE format('ALTER TABLE weir.reading ATTACH PARTITION weir.%I FOR VALUES FROM (%L) TO (%L)', r.name, r.from_at, r.to_at);
    EXECUTE format('ALTER TABLE weir.%I DROP CONSTRAINT %I', r.name, r.name || '_at_check');
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

CREATE TABLE weir.rollup_1m (
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
CREATE TABLE weir.rollup_1h (LIKE weir.rollup_1m INCLUDING ALL);
CREATE TABLE weir.rollup_1d (LIKE weir.rollup_1m INCLUDING ALL);

-- Buckets of frozen spans (kept_*) and all of them (stored_*): the same tables here, as nothing but a refresh changes a bucket.
CREATE VIEW weir.kept_1m AS SELECT * FROM weir.rollup_1m;
CREATE VIEW weir.kept_1h AS SELECT * FROM weir.rollup_1h;
CREATE VIEW weir.stored_1m AS SELECT * FROM weir.rollup_1m;
CREATE VIEW weir.stored_1h AS SELECT * FROM weir.rollup_1h;
CREATE VIEW weir.stored_1d AS SELECT * FROM weir.rollup_1d;

-- What the roll-ups of these sensors should be in hours of one day: minutes from the raw rows, each level from the one below.
-- [p_from, p_to) holds the hours; the planner knows it and leaves other partitions out.
CREATE FUNCTION weir.fresh_1m(p_sensors integer[], p_hours timestamptz[], p_from timestamptz, p_to timestamptz) RETURNS SETOF weir.rollup_1m
LANGUAGE sql STABLE
AS $$
    SELECT s.sensor_no, b.* FROM unnest(p_sensors) AS s (sensor_no) CROSS JOIN unnest(p_hours) AS h (hour) CROSS JOIN LATERAL (
        SELECT date_bin('1 minute', r.at, 'epoch'), count(*),
               weir.total(sum(r.value) FILTER (WHERE abs(r.value) < 1e290), array_agg(r.value) FILTER (WHERE abs(r.value) >= 1e290)),
               min(r.value), max(r.value),
               (array_agg(r.value ORDER BY r.at, r.seq))[1], (array_agg(r.value ORDER BY r.at, r.seq))[count(*)::integer]
        FROM weir.reading r
        WHERE r.sensor_no = s.sensor_no AND r.at >= h.hour AND r.at < h.hour + interval '1 hour' AND r.at >= p_from AND r.at < p_to
        GROUP BY 1) b
$$;
CREATE FUNCTION weir.fresh_1h(p_sensors integer[], p_hours timestamptz[], p_from timestamptz, p_to timestamptz) RETURNS SETOF weir.rollup_1h
LANGUAGE sql STABLE
AS $$
    SELECT m.sensor_no, date_bin('1 hour', m.bucket_start, 'epoch'), sum(m.count)::bigint,
           weir.total(sum(m.sum) FILTER (WHERE abs(m.sum) < 1e290), array_agg(m.sum) FILTER (WHERE abs(m.sum) >= 1e290)),
           min(m.min), max(m.max),
           (array_agg(m.first ORDER BY m.bucket_start))[1], (array_agg(m.last ORDER BY m.bucket_start))[count(*)::integer]
    FROM weir.rollup_1m m
    WHERE m.sensor_no = ANY (p_sensors) AND m.bucket_start >= p_from AND m.bucket_start < p_to
      AND date_bin('1 hour', m.bucket_start, 'epoch') = ANY (p_hours)
    GROUP BY 1, 2
$$;
CREATE FUNCTION weir.fresh_1d(p_sensors integer[], p_days timestamptz[], p_from timestamptz, p_to timestamptz) RETURNS SETOF weir.rollup_1d
LANGUAGE sql STABLE
AS $$
    SELECT h.sensor_no, date_bin('1 day', h.bucket_start, 'epoch'), sum(h.count)::bigint,
           weir.total(sum(h.sum) FILTER (WHERE abs(h.sum) < 1e290), array_agg(h.sum) FILTER (WHERE abs(h.sum) >= 1e290)),
           min(h.min), max(h.max),
           (array_agg(h.first ORDER BY h.bucket_start))[1], (array_agg(h.last ORDER BY h.bucket_start))[count(*)::integer]
    FROM weir.rollup_1h h
    WHERE h.sensor_no = ANY (p_sensors) AND h.bucket_start >= p_from AND h.bucket_start < p_to
    GROUP BY 1, 2
$$;

-- Brings hours of one UTC day of one block up to date at every level, writing only what differs. The day is stored even while
-- it goes on: once it is over, nothing may be left that would make anyone come back to it.
CREATE FUNCTION weir.refresh_block(p_block integer, p_hours timestamptz[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog SET plan_cache_mode = force_custom_plan
AS $$
DECLARE
    from_at timestamptz := (SELECT min(h) FROM unnest(p_hours) AS h);
    to_at timestamptz := (SELECT max(h) + interval '1 hour' FROM unnest(p_hours) AS h);
    day timestamptz := date_bin('1 day', from_at, 'epoch');
    sensors integer[] := ARRAY(SELECT sensor_no FROM weir.sensor_window WHERE block = p_block AND frozen_before <= day);
    level record;
BEGIN
    FOR level IN VALUES ('1m', '1 hour', p_hours, from_at, to_at), ('1h', '1 hour', p_hours, from_at, to_at),
                        ('1d', '1 day', ARRAY[day], day, day + interval '24 hours') LOOP
        EXECUTE format($q$
            WITH fresh AS MATERIALIZED (SELECT * FROM weir.fresh_%1$s($1, $2, $3, $4)),
            changed AS MATERIALIZED (
                SELECT sensor_no, bucket_start, f.count, f.sum, f.min, f.max, f.first, f.last
                FROM fresh f FULL JOIN (
                    SELECT * FROM weir.rollup_%1$s
                    WHERE sensor_no = ANY ($1) AND bucket_start >= $3 AND bucket_start < $4
                      AND date_bin('%2$s', bucket_start, 'epoch') = ANY ($2)) m USING (sensor_no, bucket_start)
                WHERE (f.count, f.sum, f.min, f.max, f.first, f.last) IS DISTINCT FROM (m.count, m.sum, m.min, m.max, m.first, m.last)),
            gone AS (
                DELETE FROM weir.rollup_%1$s m USING changed c
                WHERE c.count IS NULL AND m.sensor_no = c.sensor_no AND m.bucket_start = c.bucket_start)
            INSERT INTO weir.rollup_%1$s SELECT * FROM changed WHERE count IS NOT NULL
            ON CONFLICT (sensor_no, bucket_start) DO UPDATE SET (count, sum, min, max, first, last) =
                (EXCLUDED.count, EXCLUDED.sum, EXCLUDED.min, EXCLUDED.max, EXCLUDED.first, EXCLUDED.last)
            $q$, level.column1, level.column2) USING sensors, level.column3, level.column4, level.column5;
    END LOOP;
END $$;

-- Nothing to do here; TimescaleDB must copy what is to outlive its raw rows.
CREATE FUNCTION weir.keep_rollups(p_sensors integer[], p_from timestamptz, p_to timestamptz) RETURNS void
LANGUAGE sql AS $$ SELECT $$;

CREATE FUNCTION weir.partitions() RETURNS TABLE (name text, from_at timestamptz, to_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog SET timezone = 'UTC' SET datestyle = 'ISO'
AS $$
    SELECT c.relname, (m.bounds)[1]::timestamptz, (m.bounds)[2]::timestamptz
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid,
         regexp_match(pg_get_expr(c.relpartbound, c.oid), $r$FROM \('([^']+)'\) TO \('([^']+)'\)$r$) AS m (bounds)
    WHERE i.inhparent = 'weir.reading'::regclass
$$;

-- Drops the oldest partition that every tenant's frozen span covers; one a call, as it locks the whole table for a moment.
CREATE FUNCTION weir.drop_oldest_partition() RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog SET lock_timeout = '2s'
AS $$
DECLARE
    victim text := (
        SELECT name FROM weir.partitions()
        WHERE to_at <= (SELECT min(coalesce(z.frozen_before, '-infinity')) FROM weir.tenant t LEFT JOIN weir.rollup_frozen z USING (tenant_id))
        ORDER BY to_at LIMIT 1);
BEGIN
    IF victim IS NOT NULL THEN
        EXECUTE format('DROP TABLE weir.%I', victim);
    END IF;
    RETURN victim;
END $$;

GRANT SELECT, INSERT, UPDATE, DELETE ON weir.reading TO weir_writer;
GRANT SELECT, INSERT, UPDATE ON weir.rollup_frozen TO weir_writer;
GRANT SELECT, UPDATE ON weir.rollup_settled TO weir_writer;
GRANT SELECT ON weir.sensor_window, weir.rollup_1m, weir.rollup_1h, weir.rollup_1d TO weir_writer;
GRANT SELECT ON weir.partition_plan TO weir_writer;
REVOKE EXECUTE ON FUNCTION weir.ensure_partition, weir.ensure_partitions, weir.refresh_block, weir.keep_rollups, weir.partitions,
    weir.drop_oldest_partition FROM PUBLIC;
GRANT EXECUTE ON FUNCTION weir.ensure_partition, weir.ensure_partitions, weir.refresh_block, weir.keep_rollups, weir.partitions,
    weir.drop_oldest_partition TO weir_writer;
