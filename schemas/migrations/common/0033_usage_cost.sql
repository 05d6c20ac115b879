-- Metering writes a row per tenant, meter and hour of a batch: what is done for each of them counts.

-- Set by the statement that writes, as the trigger below did; conditions of triggers are checked without calling anything.
ALTER TABLE weir.usage ALTER COLUMN changed_at SET DEFAULT clock_timestamp();
DROP TRIGGER usage_changed ON weir.usage;
DROP FUNCTION weir.usage_changed();

CREATE FUNCTION weir.usage_moved() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog
AS $$
BEGIN
    NEW.changed_at := clock_timestamp();
    RETURN NEW;
END $$;
-- Whoever changes usage without saying when.
CREATE TRIGGER usage_moved BEFORE UPDATE ON weir.usage
    FOR EACH ROW WHEN (NEW.changed_at = OLD.changed_at) EXECUTE FUNCTION weir.usage_moved();

CREATE FUNCTION weir.usage_touch() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog
AS $$
BEGIN
    INSERT INTO weir.usage_touched (tenant_id, meter, bucket_start) VALUES (NEW.tenant_id, NEW.meter, NEW.bucket_start);
    RETURN NULL;
END $$;
CREATE TRIGGER usage_touched AFTER INSERT OR UPDATE ON weir.usage
    FOR EACH ROW WHEN (NEW.bucket_start < clock_timestamp() - interval '2 hours') EXECUTE FUNCTION weir.usage_touch();

-- The same document as weir.usage_document makes, put together from text: no part of it can need escaping.
CREATE FUNCTION weir.usage_text(p_tenant_id text, p_meter text, p_bucket_start timestamptz, p_quantity bigint, p_revision bigint)
RETURNS text LANGUAGE sql STABLE PARALLEL SAFE
RETURN '{"tenant_id": "' || p_tenant_id || '", "meter": "' || p_meter || '", "bucket_start": "'
    || to_char(p_bucket_start AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:00:00.000"Z"') || '", "quantity": ' || p_quantity
    || ', "revision": ' || p_revision || '}';
