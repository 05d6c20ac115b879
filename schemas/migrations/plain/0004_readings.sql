-- Readings on plain PostgreSQL: range partitions (days from `daily_from` on, months before it), stored roll-ups.

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
    IF to_regclass('weir.' || r.name) IS NOT NULL THEN
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

CREATE FUNCTION weir.frontier() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE
AS $$ SELECT frontier FROM weir.rollup_frontier $$;

-- The stored part of a roll-up for one sensor: every bucket that is neither open nor dirty.
-- The computed part comes from the raw rows of the open and dirty hours. Together: every reading that raw shows.

CREATE VIEW weir.live_hours AS
    -- (sensor, hour range) pairs whose roll-ups must be computed from raw rows.
    SELECT s.sensor_no, d.hour AS from_at, d.hour + interval '1 hour' AS to_at
    FROM weir.sensor s JOIN weir.rollup_dirty d USING (block)
    WHERE d.hour < (SELECT frontier FROM weir.rollup_frontier)
    UNION ALL
    SELECT s.sensor_no, f.frontier, 'infinity'::timestamptz
    FROM weir.sensor s, weir.rollup_frontier f;

CREATE VIEW weir.all_1m AS
    SELECT r.sensor_no, r.bucket_start, r.count, r.sum, r.min, r.max, r.first, r.last
    FROM weir.rollup_1m r
    WHERE r.bucket_start < (SELECT frontier FROM weir.rollup_frontier)
      AND NOT EXISTS (SELECT FROM weir.rollup_dirty d
                      WHERE d.block = r.sensor_no >> 6 AND d.hour = date_trunc('hour', r.bucket_start, 'UTC'))
    UNION ALL
    SELECT h.sensor_no, b.bucket_start, b.count, b.sum, b.min, b.max, b.first, b.last
    FROM weir.live_hours h CROSS JOIN LATERAL (
        SELECT date_trunc('minute', r.at, 'UTC') AS bucket_start, count(*) AS count, sum(r.value) AS sum, min(r.value) AS min, max(r.value) AS max,
               (array_agg(r.value ORDER BY r.at, r.seq))[1] AS first,
               (array_agg(r.value ORDER BY r.at DESC, r.seq DESC))[1] AS last
        FROM weir.reading r WHERE r.sensor_no = h.sensor_no AND r.at >= h.from_at AND r.at < h.to_at
        GROUP BY 1) b;

CREATE VIEW weir.all_1h AS
    SELECT r.sensor_no, r.bucket_start, r.count, r.sum, r.min, r.max, r.first, r.last
    FROM weir.rollup_1h r
    WHERE r.bucket_start < (SELECT frontier FROM weir.rollup_frontier)
      AND NOT EXISTS (SELECT FROM weir.rollup_dirty d
                      WHERE d.block = r.sensor_no >> 6 AND d.hour = r.bucket_start)
    UNION ALL
    SELECT h.sensor_no, b.bucket_start, b.count, b.sum, b.min, b.max, b.first, b.last
    FROM weir.live_hours h CROSS JOIN LATERAL (
        SELECT date_trunc('hour', r.at, 'UTC') AS bucket_start, count(*) AS count, sum(r.value) AS sum, min(r.value) AS min, max(r.value) AS max,
               (array_agg(r.value ORDER BY r.at, r.seq))[1] AS first,
               (array_agg(r.value ORDER BY r.at DESC, r.seq DESC))[1] AS last
        FROM weir.reading r WHERE r.sensor_no = h.sensor_no AND r.at >= h.from_at AND r.at < h.to_at
        GROUP BY 1) b;

-- A day is stored when it is closed and none of its hours is dirty; else it is put together from its hours.
CREATE VIEW weir.live_days AS
    SELECT DISTINCT s.sensor_no, date_trunc('day', d.hour, 'UTC') AS day
    FROM weir.sensor s JOIN weir.rollup_dirty d USING (block)
    WHERE d.hour < (SELECT date_trunc('day', frontier, 'UTC') FROM weir.rollup_frontier);

CREATE VIEW weir.all_1d AS
    SELECT r.sensor_no, r.bucket_start, r.count, r.sum, r.min, r.max, r.first, r.last
    FROM weir.rollup_1d r
    WHERE r.bucket_start < (SELECT date_trunc('day', frontier, 'UTC') FROM weir.rollup_frontier)
      AND NOT EXISTS (SELECT FROM weir.rollup_dirty d
                      WHERE d.block = r.sensor_no >> 6 AND d.hour >= r.bucket_start AND d.hour < r.bucket_start + interval '24 hours')
    UNION ALL
    SELECT h.sensor_no, b.bucket_start, b.count, b.sum, b.min, b.max, b.first, b.last
    FROM (SELECT sensor_no, day AS from_at, day + interval '24 hours' AS to_at FROM weir.live_days
          UNION ALL
          SELECT s.sensor_no, date_trunc('day', f.frontier, 'UTC'), 'infinity'::timestamptz FROM weir.sensor s, weir.rollup_frontier f) h
    CROSS JOIN LATERAL (
        SELECT date_trunc('day', r.bucket_start, 'UTC') AS bucket_start, sum(r.count)::bigint AS count, sum(r.sum) AS sum, min(r.min) AS min, max(r.max) AS max,
               (array_agg(r.first ORDER BY r.bucket_start))[1] AS first,
               (array_agg(r.last ORDER BY r.bucket_start DESC))[1] AS last
        FROM weir.all_1h r WHERE r.sensor_no = h.sensor_no AND r.bucket_start >= h.from_at AND r.bucket_start < h.to_at
        GROUP BY 1) b;

-- Recomputes the stored roll-ups of one block of sensors for one hour (1m, 1h) from the raw rows.
CREATE FUNCTION weir.refresh_hour(p_block integer, p_hour timestamptz) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
BEGIN
    INSERT INTO weir.rollup_1m
    SELECT r.sensor_no, date_trunc('minute', r.at, 'UTC'), count(*), sum(r.value), min(r.value), max(r.value),
           (array_agg(r.value ORDER BY r.at, r.seq))[1], (array_agg(r.value ORDER BY r.at DESC, r.seq DESC))[1]
    FROM weir.reading r
    WHERE r.sensor_no >= p_block * 64 AND r.sensor_no < (p_block + 1) * 64 AND r.at >= p_hour AND r.at < p_hour + interval '1 hour'
    GROUP BY 1, 2
    ON CONFLICT (sensor_no, bucket_start) DO UPDATE SET (count, sum, min, max, first, last) =
        (EXCLUDED.count, EXCLUDED.sum, EXCLUDED.min, EXCLUDED.max, EXCLUDED.first, EXCLUDED.last);
    INSERT INTO weir.rollup_1h
    SELECT m.sensor_no, p_hour, sum(m.count), sum(m.sum), min(m.min), max(m.max),
           (array_agg(m.first ORDER BY m.bucket_start))[1], (array_agg(m.last ORDER BY m.bucket_start DESC))[1]
    FROM weir.rollup_1m m
    WHERE m.sensor_no >= p_block * 64 AND m.sensor_no < (p_block + 1) * 64
      AND m.bucket_start >= p_hour AND m.bucket_start < p_hour + interval '1 hour'
    GROUP BY 1
    ON CONFLICT (sensor_no, bucket_start) DO UPDATE SET (count, sum, min, max, first, last) =
        (EXCLUDED.count, EXCLUDED.sum, EXCLUDED.min, EXCLUDED.max, EXCLUDED.first, EXCLUDED.last);
END $$;

-- Recomputes the stored days of one block from its stored hours.
CREATE FUNCTION weir.refresh_day(p_block integer, p_day timestamptz) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog
AS $$
    INSERT INTO weir.rollup_1d
    SELECT h.sensor_no, p_day, sum(h.count), sum(h.sum), min(h.min), max(h.max),
           (array_agg(h.first ORDER BY h.bucket_start))[1], (array_agg(h.last ORDER BY h.bucket_start DESC))[1]
    FROM weir.rollup_1h h
    WHERE h.sensor_no >= p_block * 64 AND h.sensor_no < (p_block + 1) * 64
      AND h.bucket_start >= p_day AND h.bucket_start < p_day + interval '24 hours'
    GROUP BY 1
    ON CONFLICT (sensor_no, bucket_start) DO UPDATE SET (count, sum, min, max, first, last) =
        (EXCLUDED.count, EXCLUDED.sum, EXCLUDED.min, EXCLUDED.max, EXCLUDED.first, EXCLUDED.last)
$$;

-- Drops whole partitions that end at or before the horizon of every tenant.
CREATE FUNCTION weir.drop_partitions(p_horizon timestamptz) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    child record;
    dropped integer := 0;
BEGIN
    FOR child IN
        SELECT c.relname, substring(pg_get_expr(c.relpartbound, c.oid) FROM $r$TO \('([^']+)'\)$r$)::timestamptz AS to_at
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'weir.reading'::regclass
    LOOP
        IF child.to_at <= p_horizon THEN
            EXECUTE format('DROP TABLE weir.%I', child.relname);
            dropped := dropped + 1;
        END IF;
    END LOOP;
    RETURN dropped;
END $$;

GRANT SELECT, INSERT, UPDATE, DELETE ON weir.reading TO weir_writer;
GRANT SELECT ON weir.partition_plan, weir.rollup_1m, weir.rollup_1h, weir.rollup_1d TO weir_writer;
REVOKE EXECUTE ON FUNCTION weir.ensure_partition, weir.ensure_partitions, weir.refresh_hour, weir.refresh_day, weir.drop_partitions FROM PUBLIC;
GRANT EXECUTE ON FUNCTION weir.ensure_partition, weir.ensure_partitions, weir.refresh_hour, weir.refresh_day, weir.drop_partitions TO weir_writer;
