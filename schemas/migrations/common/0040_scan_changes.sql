-- Scans that people rename, move up, erase or try again. An erased scan leaves its number, its owner and what was metered of it:
-- erasure never lowers usage, and its id is not given out again.

ALTER TABLE weir.scan ADD COLUMN erased_at timestamptz;
-- Its place in the month's quota was given back when it failed; whoever tries it again takes it again.
ALTER TABLE weir.scan ADD COLUMN quota_given_back boolean NOT NULL DEFAULT false;
UPDATE weir.scan SET quota_given_back = true WHERE status = 'failed';

-- As before, saying that it is erased.
CREATE OR REPLACE FUNCTION weir.scan_document(s weir.scan) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog
AS $$
    SELECT jsonb_build_object('room_dimensions', NULL, 'uncertainty', NULL, 'verdict', NULL, 'confidence', NULL, 'completeness', NULL,
               'missing_parts', '[]'::jsonb, 'floor_polygon', '[]'::jsonb, 'openings', '[]'::jsonb, 'objects', '[]'::jsonb,
               'processing', NULL)
        || coalesce(r.document, '{}') - 'rejected'
        || jsonb_build_object(
            'scan_id', s.scan_id, 'tenant_id', s.tenant_id, 'device_id', s.device_id, 'name', s.name,
            'status', CASE WHEN s.erased_at IS NULL THEN s.status ELSE 'erased' END,
            'priority', s.priority, 'progress', CASE WHEN s.status IN ('completed', 'incomplete') THEN 100 ELSE s.progress END,
            'provisional', coalesce(r.provisional, false),
            'frames', jsonb_build_object(
                'received', s.received, 'accepted', s.received - s.rejected, 'expected', s.end_frames, 'types', s.types,
                'rejected', CASE WHEN s.rejected = 0 THEN '[]' ELSE weir.scan_rejections(s.scan_no) END,
                'conflicts', CASE WHEN s.conflicts = 0 THEN '[]' ELSE weir.scan_conflicts_of(s.scan_no) END,
                'missing', CASE WHEN s.all_arrived OR s.end_frames IS NULL AND s.received = s.highest_seq + 1 THEN '[]'
                           ELSE weir.scan_missing(s.scan_no, coalesce(s.end_frames, s.highest_seq + 1)) END),
            'model', '{"vertices": 0, "triangles": 0}'::jsonb || coalesce(r.document -> 'model', '{}') || jsonb_build_object(
                'formats', (SELECT coalesce(jsonb_agg(e.format ORDER BY e.format), '[]') FROM weir.scan_export e
                            WHERE e.scan_no = s.scan_no)),
            'files', (SELECT coalesce(jsonb_agg(jsonb_build_object(
                          'file_id', f.file_id, 'name', f.name, 'kind', f.kind, 'bytes', f.bytes, 'received', f.received,
                          'complete', f.complete, 'error', f.error) ORDER BY f.created_at, f.file_id), '[]')
                      FROM weir.scan_file f WHERE f.scan_no = s.scan_no),
            'error', s.error, 'created_at', weir.shown_time(s.created_at), 'last_frame_at', weir.shown_time(s.last_frame_at),
            'completed_at', weir.shown_time(s.completed_at), 'cancelled_at', weir.shown_time(s.cancelled_at))
    FROM (SELECT) AS one
    LEFT JOIN LATERAL (SELECT t.document, t.provisional FROM weir.scan_result t WHERE t.scan_no = s.scan_no
                       ORDER BY t.version DESC LIMIT 1) r ON true
$$;

-- As before; to its tenant an erased scan is not there.
CREATE OR REPLACE FUNCTION weir_tenant.scan_by_id(p_scan_id text) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog
AS $$
    SELECT weir.scan_document(s) FROM weir.scan s
    WHERE s.scan_id = p_scan_id AND s.tenant_id = weir.current_tenant() AND s.erased_at IS NULL
$$;
CREATE OR REPLACE FUNCTION weir_tenant.scan_page(p_statuses text[], p_device_id text, p_start timestamptz, p_end timestamptz,
                                      p_after_at timestamptz, p_after_no bigint, p_limit integer)
RETURNS TABLE (created_at timestamptz, scan_no bigint, document jsonb)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog
AS $$
    SELECT s.created_at, s.scan_no, weir.scan_document(s) FROM weir.scan s
    WHERE s.tenant_id = weir.current_tenant() AND s.erased_at IS NULL
      AND (p_statuses IS NULL OR s.status = ANY (p_statuses)) AND (p_device_id IS NULL OR s.device_id = p_device_id)
      AND s.created_at >= coalesce(p_start, '-infinity') AND s.created_at < coalesce(p_end, 'infinity')
      AND (p_after_at IS NULL OR (s.created_at, s.scan_no) < (p_after_at, p_after_no))
    ORDER BY s.created_at DESC, s.scan_no DESC LIMIT p_limit
$$;

-- As before; erased ones stay in an operator's view, since they were billed.
CREATE OR REPLACE VIEW public.scans AS
    SELECT s.tenant_id, s.scan_id, s.device_id, s.name, CASE WHEN s.erased_at IS NULL THEN s.status ELSE 'erased' END AS status,
           s.priority, s.progress, s.received AS frames_received,
           s.received - s.rejected AS frames_accepted, s.end_frames AS frames_expected, s.conflicts AS frame_conflicts,
           r.document ->> 'verdict' AS verdict, (r.document ->> 'confidence')::float8 AS confidence,
           (r.document ->> 'completeness')::float8 AS completeness,
           (d.m ->> 'length')::float8 AS length, (d.m ->> 'width')::float8 AS width, (d.m ->> 'height')::float8 AS height,
           (d.m ->> 'area')::float8 AS area, (d.m ->> 'volume')::float8 AS volume, (d.m ->> 'perimeter')::float8 AS perimeter,
           s.metered_points AS points, s.metered_hour AS bucket_start, s.created_at, s.last_frame_at, s.completed_at,
           s.cancelled_at, s.error, s.scan_no, s.erased_at
    FROM weir.scan s
    LEFT JOIN LATERAL (SELECT t.document FROM weir.scan_result t WHERE t.scan_no = s.scan_no AND NOT t.provisional
                       ORDER BY t.version DESC LIMIT 1) r ON true
    LEFT JOIN LATERAL (SELECT r.document -> 'room_dimensions' AS m) d ON true;
CREATE OR REPLACE VIEW weir_tenant.scans WITH (security_barrier) AS
    SELECT * FROM public.scans WHERE tenant_id = weir.current_tenant() AND erased_at IS NULL;

-- A new name, a new place among the tenant's scans; NULL leaves one as it is. One that waits for its turn gets another one.
CREATE FUNCTION weir_tenant.change_scan(p_scan_id text, p_name text, p_priority integer) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    s weir.scan;
BEGIN
    SELECT o.* INTO s FROM weir.scan o
        WHERE o.scan_id = p_scan_id AND o.tenant_id = weir.current_tenant() AND o.erased_at IS NULL FOR NO KEY UPDATE;
    IF s.name IS DISTINCT FROM coalesce(p_name, s.name) OR s.priority IS DISTINCT FROM coalesce(p_priority, s.priority) THEN
        UPDATE weir.scan SET name = coalesce(p_name, s.name), priority = coalesce(p_priority, s.priority) WHERE scan_no = s.scan_no;
        IF s.priority <> coalesce(p_priority, s.priority) THEN
            DELETE FROM weir_jobs.procrastinate_jobs WHERE status = 'todo' AND queueing_lock = 'scans.process:' || s.scan_no;
            IF FOUND THEN
                PERFORM weir.enqueue_scan_job(s.scan_no, 'scans.process');
            END IF;
        END IF;
        PERFORM weir.tell_scan(ARRAY[s.scan_no]);
    END IF;
    RETURN weir_tenant.scan_by_id(p_scan_id);
END $$;

-- Forgets all that was sent and found, at once; a job removes the objects. What was metered stays. False: there is no such scan.
CREATE FUNCTION weir_tenant.erase_scan(p_scan_id text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    s weir.scan;
BEGIN
    SELECT o.* INTO s FROM weir.scan o
        WHERE o.scan_id = p_scan_id AND o.tenant_id = weir.current_tenant() AND o.erased_at IS NULL FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    -- A cancelled scan takes neither frames nor results, so whatever works on it stops.
    UPDATE weir.scan SET erased_at = now(), status = 'cancelled', cancelled_at = coalesce(cancelled_at, now()), name = '',
        error = NULL, received = 0, rejected = 0, conflicts = 0, types = '{}', highest_seq = -1, end_frames = NULL,
        all_arrived = NULL, version = version + 1 WHERE scan_no = s.scan_no;
    DELETE FROM weir.scan_upload WHERE scan_no = s.scan_no;
    DELETE FROM weir.scan_export WHERE scan_no = s.scan_no;
    DELETE FROM weir.scan_result WHERE scan_no = s.scan_no;
    DELETE FROM weir.scan_file WHERE scan_no = s.scan_no;
    DELETE FROM weir.scan_conflict WHERE scan_no = s.scan_no;
    DELETE FROM weir.scan_frame WHERE scan_no = s.scan_no;
    DELETE FROM weir_jobs.procrastinate_jobs WHERE status = 'todo' AND lock = 'scan:' || s.scan_no;
    PERFORM weir_jobs.procrastinate_defer_jobs_v1(ARRAY[
        ROW('maintenance', 'erase_scan_objects', 0, 'scan:' || s.scan_no, 'erase_scan_objects:' || s.scan_no,
            jsonb_build_object('tenant_id', s.tenant_id, 'scan_id', s.scan_id), NULL)
        ]::weir_jobs.procrastinate_job_to_defer_v1[]);
    INSERT INTO weir.audit_entry (tenant_id, actor, action, kind, subject_id, changes) VALUES (
        s.tenant_id, coalesce(NULLIF(current_setting('weir.actor', true), ''), 'system'), 'removed', 'scan', s.scan_id, '{}');
    -- Whoever resumes hears that it is erased, and nothing of what it was.
    UPDATE weir.live_event e SET item = (SELECT weir.scan_document(o) FROM weir.scan o WHERE o.scan_no = s.scan_no)
        WHERE e.tenant_id = s.tenant_id AND e.channel = 'scans' AND e.item ->> 'scan_id' = s.scan_id;
    PERFORM weir.tell_scan(ARRAY[s.scan_no]);
    RETURN true;
END $$;
-- Its own entry says who erased it.
DROP TRIGGER audit ON weir.scan;
CREATE TRIGGER audit AFTER UPDATE OF name, priority, cancelled_at ON weir.scan
    FOR EACH ROW WHEN (NEW.erased_at IS NULL) EXECUTE FUNCTION weir.audit_row('scan', 'scan_id');

-- Gives back the quota of a scan that failed, once.
CREATE FUNCTION weir.give_back_scan(p_scan_no bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    s weir.scan;
BEGIN
    UPDATE weir.scan SET quota_given_back = true WHERE scan_no = p_scan_no AND NOT quota_given_back RETURNING * INTO s;
    IF FOUND THEN
        PERFORM weir.give_back_quota(s.tenant_id, 'scans', date_trunc('month', s.created_at, 'UTC'), 1);
    END IF;
END $$;

-- Takes it again, of the month in which the scan began, if that much is left. p_limit NULL: whatever is left; a tenant whose plan
-- has no limit has no count either.
CREATE FUNCTION weir.take_again(s weir.scan, p_limit bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    begun timestamptz := date_trunc('month', s.created_at, 'UTC');
BEGIN
    IF NOT s.quota_given_back THEN
        RETURN true;
    ELSIF p_limit IS NULL THEN
        UPDATE weir.quota_use q SET used = q.used + 1 WHERE (q.tenant_id, q.meter, q.month) = (s.tenant_id, 'scans', begun);
    ELSIF NOT weir.take_quota(s.tenant_id, 'scans', begun, 1, p_limit) THEN
        RETURN false;
    END IF;
    UPDATE weir.scan SET quota_given_back = false WHERE scan_no = s.scan_no;
    RETURN true;
END $$;
-- For the API, of a scan that failed; true of any other.
CREATE FUNCTION weir_tenant.take_scan_again(p_scan_id text, p_limit bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    s weir.scan;
BEGIN
    SELECT o.* INTO s FROM weir.scan o
        WHERE o.scan_id = p_scan_id AND o.tenant_id = weir.current_tenant() AND o.status = 'failed' FOR NO KEY UPDATE;
    RETURN NOT FOUND OR weir.take_again(s, p_limit);
END $$;

-- As before; a failed scan of which more comes goes on, whatever is left of the quota that it takes again.
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
    PERFORM weir.take_again(s, NULL);
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

-- As before; a scan that is given up gives its quota back.
CREATE OR REPLACE FUNCTION weir.look_after_scans() RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    number bigint;
    found_scans integer := 0;
BEGIN
    FOR number IN
        SELECT s.scan_no FROM weir.scan s WHERE s.status IN ('queued', 'processing') AND NOT EXISTS (
            SELECT FROM weir_jobs.procrastinate_jobs j
            WHERE j.lock = 'scan:' || s.scan_no AND j.task_name = 'scans.process' AND j.status IN ('todo', 'doing'))
        ORDER BY s.scan_no FOR NO KEY UPDATE SKIP LOCKED
    LOOP
        found_scans := found_scans + 1;
        IF 'failed' = (SELECT j.status::text FROM weir_jobs.procrastinate_jobs j
                       WHERE j.lock = 'scan:' || number AND j.task_name = 'scans.process' ORDER BY j.id DESC LIMIT 1) THEN
            UPDATE weir.scan SET status = 'failed', error = 'processing failed: it was interrupted too often' WHERE scan_no = number;
            PERFORM weir.give_back_scan(number);
            PERFORM weir.tell_scan(ARRAY[number]);
        ELSE
            PERFORM weir.enqueue_scan_job(number, 'scans.process');
        END IF;
    END LOOP;
    RETURN found_scans;
END $$;

-- As before; of an erased scan what was metered is all that is left to count.
CREATE OR REPLACE FUNCTION weir.stored_scans(p_tenant_ids text[], p_from timestamptz, p_to timestamptz)
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
          AND EXISTS (SELECT FROM weir.scan_result r WHERE r.scan_no = s.scan_no AND NOT r.provisional)
        UNION ALL
        SELECT s.tenant_id, s.metered_hour, s.metered_points FROM weir.scan s
        WHERE s.erased_at IS NOT NULL AND s.metered_hour >= p_from AND s.metered_hour < p_to
          AND (p_tenant_ids IS NULL OR s.tenant_id = ANY (p_tenant_ids)))
    SELECT m.tenant_id, q.meter, m.hour, sum(CASE q.meter WHEN 'scans' THEN 1 ELSE m.points END)::bigint
    FROM measured m CROSS JOIN (VALUES ('scans'), ('scan_points')) AS q (meter)
    WHERE m.hour >= p_from AND m.hour < p_to GROUP BY 1, 2, 3
$$;

-- Changes go through the function, which tells viewers of them.
REVOKE UPDATE (name, priority) ON weir.scan FROM weir_reader;
REVOKE EXECUTE ON FUNCTION weir_tenant.change_scan, weir_tenant.erase_scan, weir.give_back_scan, weir.take_again,
    weir_tenant.take_scan_again FROM PUBLIC;
GRANT EXECUTE ON FUNCTION weir_tenant.change_scan, weir_tenant.erase_scan, weir_tenant.take_scan_again TO weir_reader;
GRANT EXECUTE ON FUNCTION weir.give_back_scan TO weir_writer;
