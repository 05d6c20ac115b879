-- What people and the API read: one row per identity, roll-ups that include every reading that raw shows.
-- A reading below its tenant's retention horizon is gone for readers at once, whenever its row is really dropped.

CREATE VIEW public.readings AS
    SELECT s.tenant_id, s.sensor_id, r.at, r.value, r.seq, r.received_at
    FROM weir.reading r JOIN weir.sensor s USING (sensor_no) JOIN weir.tenant t USING (tenant_id)
    WHERE r.at >= t.retention_horizon;

-- Each level: the stored buckets that are neither marked nor open, and those from the raw rows of marked and open hours.
-- Markers below a tenant's frozen span are its neighbours' and mean nothing to it.

CREATE VIEW weir.live_hours AS
    SELECT w.sensor_no, d.hour AS from_at, d.hour + interval '1 hour' AS to_at
    FROM weir.sensor_window w JOIN weir.rollup_dirty d ON d.block = w.block AND d.hour >= w.frozen_before AND d.hour < w.settled
    UNION ALL
    SELECT w.sensor_no, w.settled, 'infinity'::timestamptz FROM weir.sensor_window w;

CREATE VIEW weir.all_1m AS
    SELECT r.sensor_no, r.bucket_start, r.count, r.sum, r.min, r.max, r.first, r.last
    FROM weir.stored_1m r JOIN weir.sensor_window w USING (sensor_no)
    WHERE r.bucket_start < w.settled
      AND NOT EXISTS (SELECT FROM weir.rollup_dirty d WHERE d.block = w.block AND d.hour >= w.frozen_before
                      AND d.hour = date_bin('1 hour', r.bucket_start, 'epoch'))
    UNION ALL
    SELECT h.sensor_no, b.* FROM weir.live_hours h CROSS JOIN LATERAL (
        SELECT date_bin('1 minute', r.at, 'epoch') AS bucket_start, count(*) AS count,
               weir.total(sum(r.value) FILTER (WHERE abs(r.value) < 1e290), array_agg(r.value) FILTER (WHERE abs(r.value) >= 1e290)) AS sum,
               min(r.value) AS min, max(r.value) AS max, (array_agg(r.value ORDER BY r.at, r.seq))[1] AS first,
               (array_agg(r.value ORDER BY r.at, r.seq))[count(*)::integer] AS last
        FROM weir.reading r WHERE r.sensor_no = h.sensor_no AND r.at >= h.from_at AND r.at < h.to_at GROUP BY 1) b;

CREATE VIEW weir.all_1h AS
    SELECT r.sensor_no, r.bucket_start, r.count, r.sum, r.min, r.max, r.first, r.last
    FROM weir.stored_1h r JOIN weir.sensor_window w USING (sensor_no)
    WHERE r.bucket_start < w.settled
      AND NOT EXISTS (SELECT FROM weir.rollup_dirty d WHERE d.block = w.block AND d.hour >= w.frozen_before AND d.hour = r.bucket_start)
    UNION ALL
    SELECT h.sensor_no, b.* FROM weir.live_hours h CROSS JOIN LATERAL (
        SELECT date_bin('1 hour', r.at, 'epoch') AS bucket_start, count(*) AS count,
               weir.total(sum(r.value) FILTER (WHERE abs(r.value) < 1e290), array_agg(r.value) FILTER (WHERE abs(r.value) >= 1e290)) AS sum,
               min(r.value) AS min, max(r.value) AS max, (array_agg(r.value ORDER BY r.at, r.seq))[1] AS first,
               (array_agg(r.value ORDER BY r.at, r.seq))[count(*)::integer] AS last
        FROM weir.reading r WHERE r.sensor_no = h.sensor_no AND r.at >= h.from_at AND r.at < h.to_at GROUP BY 1) b;

-- A day is stored when it is over and no hour of it is marked; else it is put together from its hours.
CREATE VIEW weir.live_days AS
    SELECT w.sensor_no, d.day AS from_at, d.day + interval '24 hours' AS to_at
    FROM (SELECT DISTINCT block, date_bin('1 day', hour, 'epoch') AS day FROM weir.rollup_dirty) d
    JOIN weir.sensor_window w ON d.block = w.block AND d.day >= w.frozen_before AND d.day < date_bin('1 day', w.settled, 'epoch')
    UNION ALL
    SELECT w.sensor_no, date_bin('1 day', w.settled, 'epoch'), 'infinity'::timestamptz FROM weir.sensor_window w;

CREATE VIEW weir.all_1d AS
    SELECT r.sensor_no, r.bucket_start, r.count, r.sum, r.min, r.max, r.first, r.last
    FROM weir.stored_1d r JOIN weir.sensor_window w USING (sensor_no)
    WHERE r.bucket_start < date_bin('1 day', w.settled, 'epoch')
      AND NOT EXISTS (SELECT FROM weir.rollup_dirty d WHERE d.block = w.block AND d.hour >= w.frozen_before
                      AND date_bin('1 day', d.hour, 'epoch') = r.bucket_start)
    UNION ALL
    SELECT h.sensor_no, b.* FROM weir.live_days h CROSS JOIN LATERAL (
        SELECT date_bin('1 day', r.bucket_start, 'epoch') AS bucket_start, sum(r.count)::bigint AS count,
               weir.total(sum(r.sum) FILTER (WHERE abs(r.sum) < 1e290), array_agg(r.sum) FILTER (WHERE abs(r.sum) >= 1e290)) AS sum,
               min(r.min) AS min, max(r.max) AS max, (array_agg(r.first ORDER BY r.bucket_start))[1] AS first,
               (array_agg(r.last ORDER BY r.bucket_start))[count(*)::integer] AS last
        FROM weir.all_1h r WHERE r.sensor_no = h.sensor_no AND r.bucket_start >= h.from_at AND r.bucket_start < h.to_at GROUP BY 1) b;

CREATE VIEW public.readings_1m AS
    SELECT s.tenant_id, s.sensor_id, b.bucket_start, b.count, b.sum, b.min, b.max, b.first, b.last
    FROM weir.all_1m b JOIN weir.sensor s USING (sensor_no);
CREATE VIEW public.readings_1h AS
    SELECT s.tenant_id, s.sensor_id, b.bucket_start, b.count, b.sum, b.min, b.max, b.first, b.last
    FROM weir.all_1h b JOIN weir.sensor s USING (sensor_no);
CREATE VIEW public.readings_1d AS
    SELECT s.tenant_id, s.sensor_id, b.bucket_start, b.count, b.sum, b.min, b.max, b.first, b.last
    FROM weir.all_1d b JOIN weir.sensor s USING (sensor_no);

CREATE VIEW weir_tenant.readings WITH (security_barrier) AS
    SELECT s.tenant_id, s.sensor_id, r.at, r.value, r.seq, r.received_at
    FROM weir.reading r JOIN weir.sensor s USING (sensor_no) JOIN weir.tenant t USING (tenant_id)
    WHERE s.tenant_id = weir.current_tenant() AND r.at >= t.retention_horizon;
CREATE VIEW weir_tenant.readings_1m WITH (security_barrier) AS
    SELECT * FROM public.readings_1m WHERE tenant_id = weir.current_tenant();
CREATE VIEW weir_tenant.readings_1h WITH (security_barrier) AS
    SELECT * FROM public.readings_1h WHERE tenant_id = weir.current_tenant();
CREATE VIEW weir_tenant.readings_1d WITH (security_barrier) AS
    SELECT * FROM public.readings_1d WHERE tenant_id = weir.current_tenant();

GRANT SELECT ON public.readings, public.readings_1m, public.readings_1h, public.readings_1d TO weir_operator;
GRANT SELECT ON weir_tenant.readings, weir_tenant.readings_1m, weir_tenant.readings_1h, weir_tenant.readings_1d TO weir_reader;

-- Keyset pages for the API. A barrier view cannot hand an ORDER BY … LIMIT down to the index; a function can, and checks the
-- tenant itself. STABLE: all its statements see what the calling statement sees.
CREATE FUNCTION weir_tenant.own_sensor(p_sensor_no integer) RETURNS timestamptz
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog
AS $$
    -- The tenant's retention horizon when the sensor is the current tenant's, else NULL: no row compares with it.
    SELECT t.retention_horizon FROM weir.sensor s JOIN weir.tenant t USING (tenant_id)
    WHERE s.sensor_no = p_sensor_no AND s.tenant_id = weir.current_tenant()
$$;

CREATE FUNCTION weir_tenant.sensor_raw(p_sensor_no integer, p_start timestamptz, p_end timestamptz,
                                       p_after_at timestamptz, p_after_seq integer, p_limit integer)
RETURNS TABLE (at timestamptz, value double precision, seq integer, received_at timestamptz)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog SET plan_cache_mode = force_custom_plan
AS $$
DECLARE
    horizon timestamptz := weir_tenant.own_sensor(p_sensor_no);
    from_at timestamptz := greatest(p_start, horizon, p_after_at);
BEGIN
    IF horizon IS NULL THEN
        RETURN;
    END IF;
    RETURN QUERY
        SELECT r.at, r.value, r.seq, r.received_at FROM weir.reading r
        WHERE r.sensor_no = p_sensor_no AND r.at >= from_at AND r.at < p_end
          AND (p_after_at IS NULL OR (r.at, r.seq) > (p_after_at, p_after_seq))
        ORDER BY r.at, r.seq LIMIT p_limit;
END $$;

-- Buckets of a minute or an hour of one sensor, in order; no tenant is asked for, so only functions that ask may call it.
-- The same rows as all_1m and all_1h, but each part is bounded by constants: one range of one index. `= ANY (ARRAY[…])` and the
-- order by sensor and time keep the planner from reading TimescaleDB's index by time, in which the sensor is a filter.
CREATE FUNCTION weir.sensor_buckets(p_sensor_no integer, p_resolution text, p_start timestamptz, p_end timestamptz, p_limit integer)
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
            (SELECT greatest(h, $2) AS from_at, least(h + interval '1 hour', $3) AS to_at FROM unnest($5) AS h
             UNION ALL SELECT greatest($4, $2), $3) live
         CROSS JOIN LATERAL (
            SELECT date_bin($7, r.at, 'epoch') AS bucket_start, count(*) AS count,
                   weir.total(sum(r.value) FILTER (WHERE abs(r.value) < 1e290), array_agg(r.value) FILTER (WHERE abs(r.value) >= 1e290)) AS sum,
                   min(r.value) AS min, max(r.value) AS max, (array_agg(r.value ORDER BY r.at, r.seq))[1] AS first,
                   (array_agg(r.value ORDER BY r.at, r.seq))[count(*)::integer] AS last
            FROM weir.reading r
            WHERE r.sensor_no = $1 AND r.at >= live.from_at AND r.at < live.to_at AND r.at >= $8 AND r.at < $3
            GROUP BY 1) b
         ORDER BY 1, b.bucket_start LIMIT $6)
        ORDER BY 1, 2 LIMIT $6 $q$, p_resolution)
        USING p_sensor_no, start, until, w.settled, marked, p_limit, step,
              coalesce(marked[1], w.settled), -- nothing before is computed: the planner leaves those partitions out
              w.frozen_before;
END $$;

CREATE FUNCTION weir.sensor_days(p_sensor_no integer, p_start timestamptz, p_end timestamptz, p_limit integer)
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
         FROM (SELECT d AS from_at, d + interval '24 hours' AS to_at FROM unnest(marked) AS d
               UNION ALL SELECT greatest(today, start), until) live
         CROSS JOIN LATERAL weir.sensor_buckets(p_sensor_no, '1h', live.from_at, live.to_at, NULL) b
         GROUP BY 2 ORDER BY 2 LIMIT p_limit)
        ORDER BY 2 LIMIT p_limit;
END $$;

CREATE FUNCTION weir_tenant.sensor_rollup(p_sensor_no integer, p_resolution text, p_start timestamptz, p_end timestamptz, p_limit integer)
RETURNS TABLE (bucket_start timestamptz, count bigint, sum double precision, min double precision, max double precision,
               first double precision, last double precision)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog
AS $$
BEGIN
    IF weir_tenant.own_sensor(p_sensor_no) IS NULL THEN
        RETURN;
    END IF;
    CASE p_resolution
        WHEN '1m', '1h' THEN
            RETURN QUERY SELECT b.bucket_start, b.count, b.sum, b.min, b.max, b.first, b.last
                FROM weir.sensor_buckets(p_sensor_no, p_resolution, p_start, p_end, p_limit) b;
        WHEN '1d' THEN
            RETURN QUERY SELECT b.bucket_start, b.count, b.sum, b.min, b.max, b.first, b.last
                FROM weir.sensor_days(p_sensor_no, p_start, p_end, p_limit) b;
    END CASE;
END $$;

REVOKE EXECUTE ON FUNCTION weir.sensor_buckets, weir.sensor_days,
    weir_tenant.own_sensor, weir_tenant.sensor_raw, weir_tenant.sensor_rollup FROM PUBLIC;
GRANT EXECUTE ON FUNCTION weir_tenant.own_sensor, weir_tenant.sensor_raw, weir_tenant.sensor_rollup TO weir_reader;

-- What the API may see of the operators' books names no tenant, device or sensor.
REVOKE SELECT ON weir.operator_alarm, weir.rollup_frontier, weir.rollup_dirty FROM weir_reader;
GRANT SELECT (alarm_id, kind, opened_at, last_seen_at, closed_at) ON weir.operator_alarm TO weir_reader;
