-- A webhook's event is acted on at once, not at the next second's look for events that wait.

CREATE OR REPLACE FUNCTION weir.receive_billing_event(p_event_id text, p_type text, p_body jsonb) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    is_new boolean;
BEGIN
    INSERT INTO weir.billing_event (event_id, type, body) VALUES (p_event_id, p_type, p_body) ON CONFLICT DO NOTHING;
    is_new := FOUND;
    IF is_new THEN
        PERFORM weir_jobs.procrastinate_defer_jobs_v1(ARRAY[
            ROW('billing', 'take_billing_events', 0, NULL, NULL, '{}', NULL)]::weir_jobs.procrastinate_job_to_defer_v1[]);
    END IF;
    RETURN is_new;
END $$;
