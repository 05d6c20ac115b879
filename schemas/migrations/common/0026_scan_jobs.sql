-- Jobs of scans: whose turn it is, how long it will take, and what becomes of a scan whose job got lost.

CREATE INDEX scan_in_work ON weir.scan (scan_no) WHERE status IN ('queued', 'processing');

-- Fair by tenant. A job's place is the turn of the next job that waits, plus what the same tenant's waiting jobs cost (those of
-- scans that matter as much to it): the lower, the earlier; a job's priority is its place, negated. A tenant with two hundred
-- scans delays another's by one job, and nobody waits for ever, because turns only move on.
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
        WHERE j.queue_name = 'scans' AND j.status = 'todo';
    PERFORM weir_jobs.procrastinate_defer_jobs_v1(ARRAY[
        ROW('scans', p_task, -place, 'scan:' || s.scan_no, p_task || ':' || s.scan_no,
            jsonb_build_object('tenant_id', s.tenant_id, 'scan_id', s.scan_id), due)
        ]::weir_jobs.procrastinate_job_to_defer_v1[]);
EXCEPTION WHEN unique_violation THEN
    NULL; -- one waits
END $$;

-- How many scans go before, the own one included (0: it is being processed), and about how many seconds its result will take.
-- Nothing for a scan that is not waiting for its result.
CREATE FUNCTION weir_tenant.scan_queue_position(p_scan_id text) RETURNS TABLE ("position" integer, estimate_s real)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog
AS $$
    WITH own AS (
        SELECT s.progress, j.id, j.priority, j.status FROM weir.scan s JOIN weir_jobs.procrastinate_jobs j
            ON j.lock = 'scan:' || s.scan_no AND j.task_name = 'scans.process' AND j.status IN ('todo', 'doing')
        WHERE s.scan_id = p_scan_id AND s.tenant_id = weir.current_tenant() ORDER BY j.status = 'doing' DESC LIMIT 1),
    others AS (
        SELECT count(*) FILTER (WHERE j.status = 'todo' AND (-j.priority, j.id) < (-own.priority, own.id)) AS ahead,
               greatest(count(*) FILTER (WHERE j.status = 'doing'), 1) AS running
        FROM own, weir_jobs.procrastinate_jobs j
        WHERE j.queue_name = 'scans' AND j.task_name = 'scans.process' AND j.status IN ('todo', 'doing')),
    one AS (
        SELECT coalesce(avg(extract(epoch FROM t.ended_at - t.started_at)), 10) AS seconds FROM (
            SELECT a.started_at, a.ended_at FROM weir.job_attempt a WHERE a.task = 'scans.process' AND a.outcome = 'succeeded'
            ORDER BY a.started_at DESC LIMIT 20) t)
    SELECT CASE own.status WHEN 'doing' THEN 0 ELSE others.ahead + 1 END::integer,
           (one.seconds * CASE own.status WHEN 'doing' THEN 1 - own.progress / 100.0 ELSE 1.0 + (others.ahead + 1.0) / others.running END)::real
    FROM own, others, one
$$;

-- Scans that wait for a job that is not there: one whose job took its workers down with it too often has failed, another's was
-- lost and is made again. Returns how many there were.
CREATE FUNCTION weir.look_after_scans() RETURNS integer
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
            PERFORM weir.tell_scan(ARRAY[number]);
        ELSE
            PERFORM weir.enqueue_scan_job(number, 'scans.process');
        END IF;
    END LOOP;
    RETURN found_scans;
END $$;

REVOKE EXECUTE ON FUNCTION weir_tenant.scan_queue_position, weir.look_after_scans FROM PUBLIC;
GRANT EXECUTE ON FUNCTION weir_tenant.scan_queue_position TO weir_reader;
GRANT EXECUTE ON FUNCTION weir.look_after_scans TO weir_writer;
