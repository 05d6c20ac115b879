-- Who changed what: one row for each change that people, their keys or the command line make. Written by row triggers, so no
-- endpoint can forget it; nobody may change or delete it, the owner included.

CREATE TABLE weir.audit_entry (
    entry_no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- The setting `weir.actor` of the transaction: a user's or a key's id; `system` where none is set.
    actor text NOT NULL,
    action text NOT NULL CHECK (action IN ('created', 'changed', 'removed')),
    kind text NOT NULL,
    subject_id text NOT NULL,
    -- {"column": {"from": …, "to": …}}; of what is secret only that it changed.
    changes jsonb NOT NULL
);
CREATE INDEX audit_entry_tenant ON weir.audit_entry (tenant_id, entry_no DESC);

CREATE FUNCTION weir.refuse_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog
AS $$
BEGIN
    RAISE EXCEPTION '%.% only grows: nothing in it can be changed or deleted', TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER audit_entry_stays BEFORE UPDATE OR DELETE ON weir.audit_entry
    FOR EACH ROW EXECUTE FUNCTION weir.refuse_change();
CREATE TRIGGER audit_entry_stays_whole BEFORE TRUNCATE ON weir.audit_entry
    FOR EACH STATEMENT EXECUTE FUNCTION weir.refuse_change();

-- Arguments: what the row is called in the log, and its id's column. A table without a tenant is its transaction's tenant's.
CREATE FUNCTION weir.audit_row() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    before jsonb := CASE WHEN TG_OP = 'INSERT' THEN '{}' ELSE to_jsonb(OLD) END;
    after jsonb := CASE WHEN TG_OP = 'DELETE' THEN '{}' ELSE to_jsonb(NEW) END;
    one_row jsonb := before || after;
    changes jsonb;
    tenant text := coalesce(before ->> 'tenant_id', after ->> 'tenant_id', weir.current_tenant());
BEGIN
    SELECT jsonb_object_agg(c.name, CASE WHEN c.name IN ('password_hash', 'digest', 'sealed') THEN '"secret"'
                            ELSE jsonb_strip_nulls(jsonb_build_object('from', before -> c.name, 'to', after -> c.name)) END)
        INTO changes
        FROM jsonb_object_keys(one_row) AS c (name)
        WHERE before -> c.name IS DISTINCT FROM after -> c.name AND one_row -> c.name IS DISTINCT FROM 'null'
          AND c.name NOT IN ('tenant_id', 'created_at', 'updated_at', 'last_login_at', 'rotated_at', 'generation',
                             'changed_generation', TG_ARGV[1]);
    IF tenant IS NOT NULL AND (changes IS NOT NULL OR TG_OP <> 'UPDATE') THEN
        INSERT INTO weir.audit_entry (tenant_id, actor, action, kind, subject_id, changes) VALUES (
            tenant, coalesce(NULLIF(current_setting('weir.actor', true), ''), 'system'),
            CASE TG_OP WHEN 'INSERT' THEN 'created' WHEN 'UPDATE' THEN 'changed' ELSE 'removed' END,
            TG_ARGV[0], one_row ->> TG_ARGV[1], coalesce(changes, '{}'));
    END IF;
    RETURN NULL;
END $$;

ALTER TABLE weir.audit_entry ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_audit ON weir.audit_entry TO weir_reader USING (tenant_id = weir.current_tenant());
GRANT SELECT ON weir.audit_entry TO weir_reader;
CREATE VIEW public.audit_entries AS SELECT * FROM weir.audit_entry;
GRANT SELECT ON public.audit_entries TO weir_operator;
REVOKE EXECUTE ON FUNCTION weir.audit_row, weir.refuse_change FROM PUBLIC;

CREATE TRIGGER audit AFTER INSERT OR DELETE OR UPDATE OF name, plan, raw_retention ON weir.tenant
    FOR EACH ROW EXECUTE FUNCTION weir.audit_row('organization', 'tenant_id');
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON weir.api_key
    FOR EACH ROW EXECUTE FUNCTION weir.audit_row('api_key', 'api_key_id');
CREATE TRIGGER audit AFTER INSERT OR DELETE OR UPDATE OF name, tenant_id, revoked_at ON weir.device
    FOR EACH ROW EXECUTE FUNCTION weir.audit_row('device', 'device_id');
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON weir.device_secret
    FOR EACH ROW EXECUTE FUNCTION weir.audit_row('device_secret', 'device_id');
-- Workers register sensors as they see them; what people change of one is what counts here.
CREATE TRIGGER audit AFTER UPDATE OR DELETE ON weir.sensor
    FOR EACH ROW EXECUTE FUNCTION weir.audit_row('sensor', 'sensor_id');
CREATE TRIGGER audit AFTER INSERT ON weir.alert_note
    FOR EACH ROW EXECUTE FUNCTION weir.audit_row('alert_note', 'alert_id');

-- A rule is its versions: the first makes it, one without a document deletes it.
CREATE FUNCTION weir.audit_rule_version() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
BEGIN
    INSERT INTO weir.audit_entry (tenant_id, actor, action, kind, subject_id, changes)
        SELECT r.tenant_id, coalesce(NULLIF(current_setting('weir.actor', true), ''), NEW.recorded_by),
               CASE WHEN NEW.document IS NULL THEN 'removed' WHEN NEW.version = 1 THEN 'created' ELSE 'changed' END,
               'rule', r.rule_id, jsonb_build_object('document', jsonb_strip_nulls(jsonb_build_object(
                   'from', (SELECT v.document FROM weir.rule_version v
                            WHERE v.rule_no = NEW.rule_no AND v.version = NEW.version - 1),
                   'to', NEW.document)))
        FROM weir.rule r WHERE r.rule_no = NEW.rule_no;
    RETURN NULL;
END $$;
REVOKE EXECUTE ON FUNCTION weir.audit_rule_version FROM PUBLIC;
CREATE TRIGGER audit AFTER INSERT ON weir.rule_version FOR EACH ROW EXECUTE FUNCTION weir.audit_rule_version();
