-- Who publishes: tenants, devices and their secrets, API keys, sensors.
-- Relational tables carry row-level security: the writer sees every tenant, the reader only the one in `weir.tenant`.

CREATE FUNCTION weir.current_tenant() RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
AS $$ SELECT NULLIF(current_setting('weir.tenant', true), '') $$;

CREATE TABLE weir.tenant (
    tenant_id text PRIMARY KEY CHECK (tenant_id ~ '^[A-Za-z0-9_-]{1,64}$'),
    name text NOT NULL,
    plan text NOT NULL DEFAULT 'enterprise',
    -- How long raw readings are kept; NULL keeps them for ever.
    raw_retention interval CHECK (raw_retention >= interval '1 day'),
    -- Readings before this moment are gone and refused (DESIGN §5); it only moves forward, in whole UTC days.
    retention_horizon timestamptz NOT NULL DEFAULT '-infinity',
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE weir.device (
    device_id text PRIMARY KEY CHECK (device_id ~ '^[A-Za-z0-9_-]{1,64}$'),
    tenant_id text NOT NULL REFERENCES weir.tenant,
    name text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz,
    -- Catalogue generation of the last change to the device or its secrets: workers drop what is newer from their caches.
    changed_generation bigint NOT NULL DEFAULT 0
);
CREATE INDEX device_tenant ON weir.device (tenant_id, device_id);
CREATE INDEX device_changed ON weir.device (changed_generation);

CREATE TABLE weir.device_secret (
    secret_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    device_id text NOT NULL REFERENCES weir.device,
    sealed bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    revoked_at timestamptz
);
CREATE INDEX device_secret_device ON weir.device_secret (device_id);

CREATE TABLE weir.api_key (
    api_key_id text PRIMARY KEY,
    tenant_id text NOT NULL REFERENCES weir.tenant,
    name text NOT NULL,
    digest bytea NOT NULL UNIQUE,
    last_four text NOT NULL CHECK (length(last_four) = 4),
    scopes text[] NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    revoked_at timestamptz
);
CREATE INDEX api_key_tenant ON weir.api_key (tenant_id);

CREATE TABLE weir.sensor (
    -- Small key of the time series; blocks of 64 neighbours share roll-up markers (docs/decisions).
    sensor_no integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    block integer GENERATED ALWAYS AS (sensor_no >> 6) STORED,
    sensor_id text NOT NULL UNIQUE DEFAULT 'sen_' || replace(gen_random_uuid()::text, '-', ''),
    tenant_id text NOT NULL REFERENCES weir.tenant,
    device_id text NOT NULL REFERENCES weir.device,
    name text NOT NULL,
    unit text NOT NULL DEFAULT 'celsius',
    expected_interval_ms bigint CHECK (expected_interval_ms > 0),
    site_id text,
    unit_id text,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (device_id, name)
);
CREATE INDEX sensor_tenant ON weir.sensor (tenant_id, sensor_id);
CREATE INDEX sensor_block ON weir.sensor (block);

-- One row: moves whenever something changes that workers cache (credentials, retention horizons).
CREATE TABLE weir.catalog_generation (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    generation bigint NOT NULL DEFAULT 1
);
INSERT INTO weir.catalog_generation DEFAULT VALUES;

CREATE FUNCTION weir.next_generation() RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog
AS $$ UPDATE weir.catalog_generation SET generation = generation + 1 RETURNING generation $$;

CREATE FUNCTION weir.device_changed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
BEGIN
    NEW.changed_generation := weir.next_generation();
    RETURN NEW;
END $$;
CREATE TRIGGER device_changed BEFORE UPDATE OF tenant_id, revoked_at ON weir.device
    FOR EACH ROW EXECUTE FUNCTION weir.device_changed();

CREATE FUNCTION weir.device_secret_changed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
BEGIN
    UPDATE weir.device SET changed_generation = weir.next_generation()
    WHERE device_id = coalesce(NEW.device_id, OLD.device_id);
    RETURN NULL;
END $$;
CREATE TRIGGER device_secret_changed AFTER INSERT OR UPDATE OR DELETE ON weir.device_secret
    FOR EACH ROW EXECUTE FUNCTION weir.device_secret_changed();

CREATE FUNCTION weir.horizon_changed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
BEGIN
    PERFORM weir.next_generation();
    RETURN NULL;
END $$;
CREATE TRIGGER horizon_changed AFTER UPDATE OF retention_horizon ON weir.tenant
    FOR EACH STATEMENT EXECUTE FUNCTION weir.horizon_changed();

-- The key is looked up before any tenant is known, so this runs as owner and takes only the digest.
CREATE FUNCTION weir.find_api_key(p_digest bytea)
RETURNS TABLE (api_key_id text, tenant_id text, scopes text[])
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog
AS $$
    SELECT k.api_key_id, k.tenant_id, k.scopes FROM weir.api_key k
    WHERE k.digest = p_digest AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now())
$$;

-- Usable secrets of the devices asked for; a revoked device comes with none.
CREATE FUNCTION weir.device_credentials(p_device_ids text[])
RETURNS TABLE (device_id text, tenant_id text, revoked boolean, sealed bytea[], expires_at timestamptz, generation bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog
AS $$
    SELECT d.device_id, d.tenant_id, d.revoked_at IS NOT NULL,
           coalesce(array_agg(s.sealed) FILTER (WHERE s.sealed IS NOT NULL AND d.revoked_at IS NULL), '{}'),
           min(s.expires_at), d.changed_generation
    FROM weir.device d
    LEFT JOIN weir.device_secret s ON s.device_id = d.device_id AND s.revoked_at IS NULL
         AND (s.expires_at IS NULL OR s.expires_at > now())
    WHERE d.device_id = ANY (p_device_ids)
    GROUP BY d.device_id
$$;

ALTER TABLE weir.tenant ENABLE ROW LEVEL SECURITY;
ALTER TABLE weir.device ENABLE ROW LEVEL SECURITY;
ALTER TABLE weir.sensor ENABLE ROW LEVEL SECURITY;
ALTER TABLE weir.api_key ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON weir.tenant TO weir_reader USING (tenant_id = weir.current_tenant());
CREATE POLICY own_devices ON weir.device TO weir_reader USING (tenant_id = weir.current_tenant());
CREATE POLICY own_sensors ON weir.sensor TO weir_reader USING (tenant_id = weir.current_tenant());
CREATE POLICY own_keys ON weir.api_key TO weir_reader USING (tenant_id = weir.current_tenant());
CREATE POLICY every_tenant ON weir.tenant TO weir_writer USING (true) WITH CHECK (true);
CREATE POLICY every_device ON weir.device TO weir_writer USING (true) WITH CHECK (true);
CREATE POLICY every_sensor ON weir.sensor TO weir_writer USING (true) WITH CHECK (true);

GRANT SELECT ON weir.tenant, weir.device, weir.sensor TO weir_reader, weir_writer;
GRANT SELECT (api_key_id, tenant_id, name, last_four, scopes, created_at, expires_at, revoked_at) ON weir.api_key TO weir_reader;
GRANT INSERT ON weir.sensor TO weir_writer;
GRANT UPDATE (retention_horizon) ON weir.tenant TO weir_writer;
GRANT SELECT ON weir.catalog_generation TO weir_writer, weir_reader;
REVOKE EXECUTE ON FUNCTION weir.find_api_key, weir.device_credentials, weir.next_generation FROM PUBLIC;
GRANT EXECUTE ON FUNCTION weir.find_api_key TO weir_reader;
GRANT EXECUTE ON FUNCTION weir.device_credentials TO weir_writer, weir_reader;
