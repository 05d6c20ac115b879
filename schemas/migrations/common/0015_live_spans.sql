-- What is computed on read, span by span: a back-fill of a year marks thousands of hours, and asking for each hour of each
-- sensor by itself took minutes. Rows and columns of the views are those of 0005.

-- Starts of steps (hours, days), those at most p_apart from the one before taken together. Whoever reads the views may call it.
CREATE FUNCTION weir.spans(p_starts timestamptz[], p_step interval, p_apart interval) RETURNS TABLE (from_at timestamptz, to_at timestamptz)
LANGUAGE sql IMMUTABLE
AS $$
    SELECT min(s.at), max(s.at) + p_step
    FROM (SELECT b.at, count(*) FILTER (WHERE b.begins) OVER (ORDER BY b.at) AS span
          FROM (SELECT a.at, (a.at - lag(a.at) OVER (ORDER BY a.at) > p_apart) IS NOT FALSE AS begins FROM unnest(p_starts) AS a (at)) b) s
    GROUP BY s.span
$$;

-- Marked hours of each block, and days of them. Reading up to five hours too many costs less than asking again.
CREATE VIEW weir.marked_spans AS
    SELECT m.block, s.from_at, s.to_at
    FROM (SELECT d.block, array_agg(d.hour) AS hours FROM weir.rollup_dirty d JOIN weir.rollup_settled f ON d.hour < f.settled GROUP BY 1) m
    CROSS JOIN LATERAL weir.spans(m.hours, '1 hour', '6 hours') s;
CREATE VIEW weir.marked_day_spans AS
    SELECT m.block, s.from_at, s.to_at
    FROM (SELECT d.block, array_agg(DISTINCT date_bin('1 day', d.hour, 'epoch')) AS days
          FROM weir.rollup_dirty d JOIN weir.rollup_settled f ON d.hour < date_bin('1 day', f.settled, 'epoch') GROUP BY 1) m
    CROSS JOIN LATERAL weir.spans(m.days, '24 hours', '24 hours') s;

-- Buckets from the raw rows of marked and open hours. A span's hours that are not marked are stored, and left out again.
CREATE VIEW weir.live_1m AS
    SELECT w.sensor_no, b.*
    FROM weir.sensor_window w JOIN weir.marked_spans h ON h.block = w.block AND h.to_at > w.frozen_before CROSS JOIN LATERAL (
        SELECT date_bin('1 minute', r.at, 'epoch') AS bucket_start, count(*) AS count,
               weir.total(sum(r.value) FILTER (WHERE abs(r.value) < 1e290), array_agg(r.value) FILTER (WHERE abs(r.value) >= 1e290)) AS sum,
               min(r.value) AS min, max(r.value) AS max, (array_agg(r.value ORDER BY r.at, r.seq))[1] AS first,
               (array_agg(r.value ORDER BY r.at, r.seq))[count(*)::integer] AS last
        FROM weir.reading r WHERE r.sensor_no = w.sensor_no AND r.at >= greatest(h.from_at, w.frozen_before) AND r.at < h.to_at GROUP BY 1) b
    WHERE EXISTS (SELECT FROM weir.rollup_dirty d WHERE d.block = w.block AND d.hour = date_bin('1 hour', b.bucket_start, 'epoch'))
    UNION ALL
    SELECT w.sensor_no, b.* FROM weir.sensor_window w CROSS JOIN LATERAL (
        SELECT date_bin('1 minute', r.at, 'epoch') AS bucket_start, count(*) AS count,
               weir.total(sum(r.value) FILTER (WHERE abs(r.value) < 1e290), array_agg(r.value) FILTER (WHERE abs(r.value) >= 1e290)) AS sum,
               min(r.value) AS min, max(r.value) AS max, (array_agg(r.value ORDER BY r.at, r.seq))[1] AS first,
               (array_agg(r.value ORDER BY r.at, r.seq))[count(*)::integer] AS last
        FROM weir.reading r WHERE r.sensor_no = w.sensor_no AND r.at >= w.settled GROUP BY 1) b;

CREATE VIEW weir.live_1h AS
    SELECT w.sensor_no, b.*
    FROM weir.sensor_window w JOIN weir.marked_spans h ON h.block = w.block AND h.to_at > w.frozen_before CROSS JOIN LATERAL (
        SELECT date_bin('1 hour', r.at, 'epoch') AS bucket_start, count(*) AS count,
               weir.total(sum(r.value) FILTER (WHERE abs(r.value) < 1e290), array_agg(r.value) FILTER (WHERE abs(r.value) >= 1e290)) AS sum,
               min(r.value) AS min, max(r.value) AS max, (array_agg(r.value ORDER BY r.at, r.seq))[1] AS first,
               (array_agg(r.value ORDER BY r.at, r.seq))[count(*)::integer] AS last
        FROM weir.reading r WHERE r.sensor_no = w.sensor_no AND r.at >= greatest(h.from_at, w.frozen_before) AND r.at < h.to_at GROUP BY 1) b
    WHERE EXISTS (SELECT FROM weir.rollup_dirty d WHERE d.block = w.block AND d.hour = b.bucket_start)
    UNION ALL
    SELECT w.sensor_no, b.* FROM weir.sensor_window w CROSS JOIN LATERAL (
        SELECT date_bin('1 hour', r.at, 'epoch') AS bucket_start, count(*) AS count,
               weir.total(sum(r.value) FILTER (WHERE abs(r.value) < 1e290), array_agg(r.value) FILTER (WHERE abs(r.value) >= 1e290)) AS sum,
               min(r.value) AS min, max(r.value) AS max, (array_agg(r.value ORDER BY r.at, r.seq))[1] AS first,
               (array_agg(r.value ORDER BY r.at, r.seq))[count(*)::integer] AS last
        FROM weir.reading r WHERE r.sensor_no = w.sensor_no AND r.at >= w.settled GROUP BY 1) b;

-- Stored hours of days that are put together from their hours.
CREATE VIEW weir.live_day_hours AS
    SELECT r.sensor_no, r.bucket_start, r.count, r.sum, r.min, r.max, r.first, r.last
    FROM (SELECT w.sensor_no, w.block, greatest(h.from_at, w.frozen_before) AS from_at, h.to_at
          FROM weir.sensor_window w JOIN weir.marked_day_spans h ON h.block = w.block AND h.to_at > w.frozen_before
          UNION ALL
          SELECT w.sensor_no, w.block, date_bin('1 day', w.settled, 'epoch'), w.settled FROM weir.sensor_window w) h
    CROSS JOIN LATERAL (
        SELECT * FROM weir.stored_1h k WHERE k.sensor_no = h.sensor_no AND k.bucket_start >= h.from_at AND k.bucket_start < h.to_at OFFSET 0) r
    WHERE NOT EXISTS (SELECT FROM weir.rollup_dirty d WHERE d.block = h.block AND d.hour = r.bucket_start);

CREATE OR REPLACE VIEW weir.all_1m AS
    SELECT r.sensor_no, r.bucket_start, r.count, r.sum, r.min, r.max, r.first, r.last
    FROM weir.stored_1m r JOIN weir.sensor_window w USING (sensor_no)
    WHERE r.bucket_start < w.settled
      AND NOT EXISTS (SELECT FROM weir.rollup_dirty d WHERE d.block = w.block AND d.hour >= w.frozen_before
                      AND d.hour = date_bin('1 hour', r.bucket_start, 'epoch'))
    UNION ALL
    SELECT l.sensor_no, l.bucket_start, l.count, l.sum, l.min, l.max, l.first, l.last FROM weir.live_1m l;

CREATE OR REPLACE VIEW weir.all_1h AS
    SELECT r.sensor_no, r.bucket_start, r.count, r.sum, r.min, r.max, r.first, r.last
    FROM weir.stored_1h r JOIN weir.sensor_window w USING (sensor_no)
    WHERE r.bucket_start < w.settled
      AND NOT EXISTS (SELECT FROM weir.rollup_dirty d WHERE d.block = w.block AND d.hour >= w.frozen_before AND d.hour = r.bucket_start)
    UNION ALL
    SELECT l.sensor_no, l.bucket_start, l.count, l.sum, l.min, l.max, l.first, l.last FROM weir.live_1h l;

-- Every marked or open hour lies in a marked day or in the day that is open.
CREATE OR REPLACE VIEW weir.all_1d AS
    SELECT r.sensor_no, r.bucket_start, r.count, r.sum, r.min, r.max, r.first, r.last
    FROM weir.stored_1d r JOIN weir.sensor_window w USING (sensor_no)
    WHERE r.bucket_start < date_bin('1 day', w.settled, 'epoch')
      AND NOT EXISTS (SELECT FROM weir.rollup_dirty d WHERE d.block = w.block AND d.hour >= w.frozen_before
                      AND date_bin('1 day', d.hour, 'epoch') = r.bucket_start)
    UNION ALL
    SELECT w.sensor_no, b.* FROM weir.sensor w CROSS JOIN LATERAL (
        SELECT date_bin('1 day', r.bucket_start, 'epoch') AS bucket_start, sum(r.count)::bigint AS count,
               weir.total(sum(r.sum) FILTER (WHERE abs(r.sum) < 1e290), array_agg(r.sum) FILTER (WHERE abs(r.sum) >= 1e290)) AS sum,
               min(r.min) AS min, max(r.max) AS max, (array_agg(r.first ORDER BY r.bucket_start))[1] AS first,
               (array_agg(r.last ORDER BY r.bucket_start))[count(*)::integer] AS last
        FROM (SELECT * FROM weir.live_day_hours k WHERE k.sensor_no = w.sensor_no
              UNION ALL SELECT * FROM weir.live_1h l WHERE l.sensor_no = w.sensor_no) r
        GROUP BY 1) b;

DROP VIEW weir.live_hours, weir.live_days;

-- As in 0005, its marked hours taken together.
CREATE OR REPLACE FUNCTION weir.sensor_buckets(p_sensor_no integer, p_resolution text, p_start timestamptz, p_end timestamptz, p_limit integer)
RETURNS SETOF weir.all_1h
LANGUAGE plpgsql STABLE SET search_path = pg_catalog SET plan_cache_mode = force_custom_plan
AS $$
DECLARE
    step interval := CASE p_resolution WHEN '1m' THEN interval '1 minute' WHEN '1h' THEN interval '1 hour' END;
    start timestamptz := date_bin(step, p_start + step - interval '1 microsecond', 'epoch');
    until timestamptz := date_bin(step, p_end + step - interval '1 microsecond', 'epoch');
    w record;
    marked timestamptz[];
BEGIN
    SELECT * INTO STRICT w FROM weir.sensor_window s WHERE s.sensor_no = p_sensor_no;
    marked := ARRAY(
        SELECT d.hour FROM weir.rollup_dirty d
        WHERE d.block = w.block AND d.hour >= greatest(date_bin('1 hour', start, 'epoch'), w.frozen_before) AND d.hour < least(until, w.settled)
        ORDER BY 1);
    RETURN QUERY EXECUTE format($q$
        (SELECT k.* FROM weir.kept_%1$s k
         WHERE k.sensor_no = ANY (ARRAY[$1]) AND k.bucket_start >= $2 AND k.bucket_start < least($3, $9)
         ORDER BY k.sensor_no, k.bucket_start LIMIT $6)
        UNION ALL
        (SELECT r.* FROM weir.rollup_%1$s r
         WHERE r.sensor_no = ANY (ARRAY[$1]) AND r.bucket_start >= greatest($2, $9) AND r.bucket_start < least($3, $4)
           AND date_bin('1 hour', r.bucket_start, 'epoch') <> ALL ($5)
         ORDER BY r.sensor_no, r.bucket_start LIMIT $6)
        UNION ALL
        (SELECT $1, b.* FROM
            (SELECT greatest(s.from_at, $2) AS from_at, least(s.to_at, $3) AS to_at FROM weir.spans($5, '1 hour', '6 hours') s
             UNION ALL SELECT greatest($4, $2), $3) live
         CROSS JOIN LATERAL (
            SELECT date_bin($7, r.at, 'epoch') AS bucket_start, count(*) AS count,
                   weir.total(sum(r.value) FILTER (WHERE abs(r.value) < 1e290), array_agg(r.value) FILTER (WHERE abs(r.value) >= 1e290)) AS sum,
                   min(r.value) AS min, max(r.value) AS max, (array_agg(r.value ORDER BY r.at, r.seq))[1] AS first,
                   (array_agg(r.value ORDER BY r.at, r.seq))[count(*)::integer] AS last
            FROM weir.reading r
            WHERE r.sensor_no = $1 AND r.at >= live.from_at AND r.at < live.to_at AND r.at >= $8 AND r.at < $3
            GROUP BY 1) b
         WHERE b.bucket_start >= $4 OR date_bin('1 hour', b.bucket_start, 'epoch') = ANY ($5)
         ORDER BY 1, b.bucket_start LIMIT $6)
        ORDER BY 1, 2 LIMIT $6 $q$, p_resolution)
        USING p_sensor_no, start, until, w.settled, marked, p_limit, step,
              coalesce(marked[1], w.settled), -- nothing before is computed: the planner leaves those partitions out
              w.frozen_before;
END $$;

CREATE OR REPLACE FUNCTION weir.sensor_days(p_sensor_no integer, p_start timestamptz, p_end timestamptz, p_limit integer)
RETURNS SETOF weir.all_1d
LANGUAGE plpgsql STABLE SET search_path = pg_catalog SET plan_cache_mode = force_custom_plan
AS $$
DECLARE
    start timestamptz := date_bin('1 day', p_start + interval '24 hours' - interval '1 microsecond', 'epoch');
    until timestamptz := date_bin('1 day', p_end + interval '24 hours' - interval '1 microsecond', 'epoch');
    w record;
    today timestamptz;
    marked timestamptz[];
BEGIN
    SELECT * INTO STRICT w FROM weir.sensor_window s WHERE s.sensor_no = p_sensor_no;
    today := date_bin('1 day', w.settled, 'epoch');
    marked := ARRAY(
        SELECT DISTINCT date_bin('1 day', d.hour, 'epoch') FROM weir.rollup_dirty d
        WHERE d.block = w.block AND d.hour >= greatest(start, w.frozen_before) AND d.hour < least(until, today));
    RETURN QUERY
        (SELECT r.* FROM weir.stored_1d r
         WHERE r.sensor_no = p_sensor_no AND r.bucket_start >= start AND r.bucket_start < least(until, today) AND r.bucket_start <> ALL (marked)
         ORDER BY r.bucket_start LIMIT p_limit)
        UNION ALL
        (SELECT p_sensor_no, date_bin('1 day', b.bucket_start, 'epoch'), sum(b.count)::bigint,
                weir.total(sum(b.sum) FILTER (WHERE abs(b.sum) < 1e290), array_agg(b.sum) FILTER (WHERE abs(b.sum) >= 1e290)),
                min(b.min), max(b.max), (array_agg(b.first ORDER BY b.bucket_start))[1],
                (array_agg(b.last ORDER BY b.bucket_start))[count(*)::integer]
         -- A week apart: each call plans anew, reading the stored hours of days between costs less.
         FROM (SELECT s.from_at, s.to_at FROM weir.spans(marked, '24 hours', '7 days') s
               UNION ALL SELECT greatest(today, start), until) live
         CROSS JOIN LATERAL weir.sensor_buckets(p_sensor_no, '1h', live.from_at, live.to_at, NULL) b
         WHERE b.bucket_start >= today OR date_bin('1 day', b.bucket_start, 'epoch') = ANY (marked)
         GROUP BY 2 ORDER BY 2 LIMIT p_limit)
        ORDER BY 2 LIMIT p_limit;
END $$;
