-- The jobs of an erased scan stay, as work that was done; what the scan was called goes.
CREATE FUNCTION weir.forget_scan_name() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
BEGIN
    UPDATE weir.tenant_job j SET name = '' WHERE j.scan_id = NEW.scan_id AND j.name <> '';
    UPDATE weir.live_event e SET item = e.item || '{"name": ""}'
        WHERE e.tenant_id = NEW.tenant_id AND e.channel = 'jobs' AND e.item ->> 'scan_id' = NEW.scan_id;
    RETURN NULL;
END $$;
CREATE TRIGGER forget_name AFTER UPDATE OF erased_at ON weir.scan
    FOR EACH ROW WHEN (NEW.erased_at IS NOT NULL) EXECUTE FUNCTION weir.forget_scan_name();
REVOKE EXECUTE ON FUNCTION weir.forget_scan_name FROM PUBLIC;
