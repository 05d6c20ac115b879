-- Devices as a tenant's people handle them. The reader sees that secrets exist, never what they are, and makes and revokes them
-- by these functions. The triggers of 0001 let workers forget what is revoked.

CREATE FUNCTION weir.register_device(p_device_id text, p_name text, p_sealed bytea) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
BEGIN
    INSERT INTO weir.device (device_id, tenant_id, name) VALUES (p_device_id, weir.current_tenant(), p_name);
    INSERT INTO weir.device_secret (device_id, sealed) VALUES (p_device_id, p_sealed);
END $$;

-- One more secret of a device; those before it hold for the overlap yet. NULL: no such device, or it is revoked; 0: so many
-- hold already that every record would be checked against all of them.
CREATE FUNCTION weir.rotate_device_secret(p_device_id text, p_sealed bytea, p_overlap interval) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    made bigint;
BEGIN
    PERFORM FROM weir.device d WHERE d.device_id = p_device_id AND d.tenant_id = weir.current_tenant()
        AND d.revoked_at IS NULL FOR UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    UPDATE weir.device_secret s SET
        revoked_at = CASE WHEN p_overlap <= interval '0' THEN now() END,
        expires_at = least(s.expires_at, now() + p_overlap)
        WHERE s.device_id = p_device_id AND s.revoked_at IS NULL AND (s.expires_at IS NULL OR s.expires_at > now());
    IF (SELECT count(*) FROM weir.device_secret s WHERE s.device_id = p_device_id AND s.revoked_at IS NULL
        AND s.expires_at > now()) >= 5 THEN
        RETURN 0;
    END IF;
    INSERT INTO weir.device_secret (device_id, sealed) VALUES (p_device_id, p_sealed) RETURNING secret_id INTO made;
    RETURN made;
END $$;

-- Nothing that one secret signs is believed from now on. False: no such usable secret.
CREATE FUNCTION weir.revoke_device_secret(p_device_id text, p_secret_id bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
BEGIN
    UPDATE weir.device_secret s SET revoked_at = now() FROM weir.device d
        WHERE s.device_id = p_device_id AND s.secret_id = p_secret_id AND s.revoked_at IS NULL
          AND d.device_id = s.device_id AND d.tenant_id = weir.current_tenant();
    RETURN FOUND;
END $$;

-- Nothing that a device signs is believed from now on. False: no such device, or it was revoked before.
CREATE FUNCTION weir.revoke_device(p_device_id text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
BEGIN
    UPDATE weir.device d SET revoked_at = now()
        WHERE d.device_id = p_device_id AND d.tenant_id = weir.current_tenant() AND d.revoked_at IS NULL;
    RETURN FOUND;
END $$;

CREATE VIEW public.devices AS SELECT device_id, tenant_id, name, created_at, revoked_at FROM weir.device;
CREATE VIEW weir_tenant.devices WITH (security_barrier) AS
    SELECT * FROM public.devices WHERE tenant_id = weir.current_tenant();

ALTER TABLE weir.device_secret ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_device_secrets ON weir.device_secret TO weir_reader
    USING (device_id IN (SELECT d.device_id FROM weir.device d));

GRANT SELECT (secret_id, device_id, created_at, expires_at, revoked_at) ON weir.device_secret TO weir_reader;
GRANT UPDATE (name) ON weir.device TO weir_reader;
REVOKE EXECUTE ON FUNCTION weir.register_device, weir.rotate_device_secret, weir.revoke_device_secret, weir.revoke_device
    FROM PUBLIC;
GRANT EXECUTE ON FUNCTION weir.register_device, weir.rotate_device_secret, weir.revoke_device_secret, weir.revoke_device
    TO weir_reader;
GRANT SELECT ON public.devices TO weir_operator;
GRANT SELECT ON weir_tenant.devices TO weir_reader;
