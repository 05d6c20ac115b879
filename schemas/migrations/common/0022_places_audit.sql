-- Who said what of places, and since when it was to hold: versions that a correction replaces are removed, here they stay.

CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON weir.site
    FOR EACH ROW EXECUTE FUNCTION weir.audit_row('site', 'site_id');
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON weir.unit
    FOR EACH ROW EXECUTE FUNCTION weir.audit_row('unit', 'unit_id');
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON weir.site_version
    FOR EACH ROW EXECUTE FUNCTION weir.audit_row('site_version', 'site_id');
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON weir.unit_version
    FOR EACH ROW EXECUTE FUNCTION weir.audit_row('unit_version', 'unit_id');

-- People know a sensor by its id, not by its number.
CREATE FUNCTION weir.audit_assignment() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    one weir.sensor_assignment := CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
    place jsonb := jsonb_build_object('effective_from', one.effective_from, 'unit_id', one.unit_id, 'site_id', one.site_id);
BEGIN
    INSERT INTO weir.audit_entry (tenant_id, actor, action, kind, subject_id, changes)
        SELECT one.tenant_id, coalesce(NULLIF(current_setting('weir.actor', true), ''), 'system'),
               CASE TG_OP WHEN 'INSERT' THEN 'created' WHEN 'UPDATE' THEN 'changed' ELSE 'removed' END, 'assignment', s.sensor_id,
               jsonb_build_object('place', jsonb_build_object(CASE TG_OP WHEN 'DELETE' THEN 'from' ELSE 'to' END, place))
        FROM weir.sensor s WHERE s.sensor_no = one.sensor_no;
    RETURN NULL;
END $$;
REVOKE EXECUTE ON FUNCTION weir.audit_assignment FROM PUBLIC;
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON weir.sensor_assignment
    FOR EACH ROW EXECUTE FUNCTION weir.audit_assignment();
