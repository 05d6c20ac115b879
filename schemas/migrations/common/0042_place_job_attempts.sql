-- As in 0039, but a job whose sensors are judged in several goes, or by another worker where one left off, was begun once:
-- nothing of it is done again.
CREATE OR REPLACE FUNCTION weir.begin_place_jobs(p_work_ids bigint[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    job bigint;
BEGIN
    -- Heads are locked in the order of the tenants.
    FOR job IN
        SELECT j.job_no FROM weir.tenant_job j
        WHERE j.status = 'queued' AND j.job_no IN (SELECT w.job_no FROM weir.place_work w WHERE w.work_id = ANY (p_work_ids))
        ORDER BY j.tenant_id, j.job_no
    LOOP
        UPDATE weir.tenant_job j SET status = 'running', attempts = 1, started_at = clock_timestamp() WHERE j.job_no = job;
    END LOOP;
END $$;
