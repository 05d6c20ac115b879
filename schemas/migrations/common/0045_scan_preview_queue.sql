-- As before, but previews wait in a queue of their own, so that a worker can keep a place free for them: results may take minutes.
-- Turns are still given over both queues together.
CREATE OR REPLACE FUNCTION weir.enqueue_scan_job(p_scan_no bigint, p_task text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    s weir.scan;
    due timestamptz;
    place bigint;
BEGIN
    SELECT * INTO s FROM weir.scan WHERE scan_no = p_scan_no FOR NO KEY UPDATE;
    IF p_task = 'scans.preview' THEN
        PERFORM FROM weir_jobs.procrastinate_jobs j
            WHERE j.status = 'todo' AND j.queueing_lock = 'scans.preview:' || s.scan_no FOR NO KEY UPDATE;
        IF FOUND THEN
            RETURN;
        END IF;
        due := greatest(clock_timestamp(), s.preview_at + interval '1 second');
        UPDATE weir.scan SET preview_at = due WHERE scan_no = p_scan_no AND preview_at <= clock_timestamp();
        IF NOT FOUND THEN
            RETURN; -- one waits
        END IF;
    ELSIF p_task = 'scans.process' THEN
        -- The whole result makes a preview needless, and one that waits would hold it up: they share a lock.
        DELETE FROM weir_jobs.procrastinate_jobs WHERE status = 'todo' AND queueing_lock = 'scans.preview:' || s.scan_no;
    END IF;
    SELECT coalesce(min(-j.priority), 0) + coalesce(sum(CASE j.task_name WHEN 'scans.process' THEN 10 ELSE 1 END)
               FILTER (WHERE o.tenant_id = s.tenant_id AND o.priority >= s.priority), 0) INTO place
        FROM weir_jobs.procrastinate_jobs j LEFT JOIN weir.scan o ON o.scan_id = j.args ->> 'scan_id'
        WHERE j.queue_name IN ('scans', 'scan-previews') AND j.status = 'todo';
    PERFORM weir_jobs.procrastinate_defer_jobs_v1(ARRAY[
        ROW(CASE p_task WHEN 'scans.preview' THEN 'scan-previews' ELSE 'scans' END, p_task, -place, 'scan:' || s.scan_no, p_task || ':' || s.scan_no,
            jsonb_build_object('tenant_id', s.tenant_id, 'scan_id', s.scan_id), due)
        ]::weir_jobs.procrastinate_job_to_defer_v1[]);
EXCEPTION WHEN unique_violation THEN
    NULL; -- one waits
END $$;
