-- Records of a device that were refused but can be placed in their scan: they came, so nobody waits for them. And what usage
-- should say of scans, recounted from their rows.

ALTER TABLE weir.scan_frame ADD COLUMN refused boolean NOT NULL DEFAULT false;
ALTER TABLE weir.scan_frame DROP CONSTRAINT scan_frame_type_check;
ALTER TABLE weir.scan_frame ADD CONSTRAINT scan_frame_type_check
    CHECK (type IN ('depth', 'points', 'rgb', 'motion', 'location', 'audio', 'part', 'end') OR refused);

-- As before, for scans of which several records say that they are the end: the last one holds, the others count like any.
CREATE OR REPLACE FUNCTION weir.settle_scan(p_scan_no bigint, p_timed_out boolean DEFAULT false) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    s weir.scan;
    arrived boolean;
    is_over boolean;
BEGIN
    SELECT * INTO s FROM weir.scan WHERE scan_no = p_scan_no FOR NO KEY UPDATE;
    IF s.status = 'cancelled' THEN
        RETURN s.status;
    END IF;
    arrived := coalesce(
        s.end_frames = (SELECT count(*) FROM weir.scan_frame f WHERE f.scan_no = p_scan_no AND f.seq < s.end_frames), false);
    is_over := arrived OR p_timed_out;
    UPDATE weir.scan SET
        all_arrived = CASE WHEN arrived THEN true WHEN p_timed_out THEN false END,
        status = CASE WHEN is_over THEN 'queued' ELSE 'receiving' END,
        progress = 0, error = NULL, completed_at = NULL, version = s.version + 1
    WHERE scan_no = p_scan_no;
    PERFORM weir.enqueue_scan_job(p_scan_no, CASE WHEN is_over THEN 'scans.process' ELSE 'scans.preview' END);
    RETURN CASE WHEN is_over THEN 'queued' ELSE 'receiving' END;
END $$;

-- Scans with a final result, by the hour of their earliest accepted frame (that of their making, where no frame has a time).
CREATE FUNCTION weir.stored_scans(p_tenant_ids text[], p_from timestamptz, p_to timestamptz)
RETURNS TABLE (tenant_id text, meter text, bucket_start timestamptz, quantity bigint)
LANGUAGE sql STABLE SET search_path = pg_catalog
AS $$
    WITH measured AS (
        SELECT s.tenant_id, date_trunc('hour', coalesce(f.first_at, s.created_at), 'UTC') AS hour, f.points + u.points AS points
        FROM weir.scan s
        CROSS JOIN LATERAL (SELECT min(q.captured_at) AS first_at, coalesce(sum(q.points), 0) AS points
                            FROM weir.scan_frame q WHERE q.scan_no = s.scan_no AND q.verdict = 'accepted') f
        CROSS JOIN LATERAL (SELECT coalesce(sum(q.points), 0) AS points FROM weir.scan_file q WHERE q.scan_no = s.scan_no) u
        WHERE (s.metered_hour IS NULL OR s.metered_hour >= p_from AND s.metered_hour < p_to)
          AND (p_tenant_ids IS NULL OR s.tenant_id = ANY (p_tenant_ids))
          AND EXISTS (SELECT FROM weir.scan_result r WHERE r.scan_no = s.scan_no AND NOT r.provisional))
    SELECT m.tenant_id, q.meter, m.hour, sum(CASE q.meter WHEN 'scans' THEN 1 ELSE m.points END)::bigint
    FROM measured m CROSS JOIN (VALUES ('scans'), ('scan_points')) AS q (meter)
    WHERE m.hour >= p_from AND m.hour < p_to GROUP BY 1, 2, 3
$$;

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
    UNION ALL
    SELECT * FROM weir.stored_scans(p_tenant_ids, p_from, p_to)
$$;

-- As before, with every meter compared to its rows.
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

CREATE OR REPLACE VIEW public.scan_frames AS
    SELECT s.tenant_id, s.scan_id, s.device_id, f.seq, f.type, f.captured_at, f.pose, f.bytes, encode(f.sha256, 'hex') AS sha256,
           f.points, f.verdict, f.reason, f.received_at, f.file_id, f.part_index, f.part_total, f.object_key, f.scan_no, f.refused
    FROM weir.scan_frame f JOIN weir.scan s USING (scan_no);
CREATE OR REPLACE VIEW weir_tenant.scan_frames WITH (security_barrier) AS
    SELECT * FROM public.scan_frames WHERE tenant_id = weir.current_tenant();

REVOKE EXECUTE ON FUNCTION weir.stored_scans FROM PUBLIC;
