-- People: users with a role, their sessions and refresh tokens, invitations, password resets, and messages that must go out.
-- Tokens are stored as keyed digests. What happens before a tenant is known (signing in, refreshing, accepting an invitation)
-- runs in functions as owner, which take a digest or an address and show nothing else.

CREATE TABLE weir.app_user (
    user_id text PRIMARY KEY,
    tenant_id text NOT NULL REFERENCES weir.tenant,
    email text NOT NULL CHECK (length(email) <= 254 AND email LIKE '%_@_%'),
    name text NOT NULL DEFAULT '',
    role text NOT NULL CHECK (role IN ('owner', 'manager', 'staff', 'viewer', 'inspector')),
    -- Argon2id; NULL until the user has set one.
    password_hash text,
    active boolean NOT NULL GENERATED ALWAYS AS (password_hash IS NOT NULL) STORED,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    last_login_at timestamptz
);
-- Signing in names an address only, so it is one user's in the whole installation, however it is written.
CREATE UNIQUE INDEX app_user_email ON weir.app_user (lower(email));
CREATE INDEX app_user_tenant ON weir.app_user (tenant_id, user_id);

CREATE TABLE weir.user_session (
    session_id text PRIMARY KEY,
    user_id text NOT NULL REFERENCES weir.app_user ON DELETE CASCADE,
    tenant_id text NOT NULL,
    -- Of its refresh tokens only those of this generation are good.
    generation integer NOT NULL DEFAULT 0,
    rotated_at timestamptz NOT NULL DEFAULT now(),
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    ended_at timestamptz,
    end_reason text CHECK (end_reason IN ('logout', 'token_reused', 'password_changed'))
);
CREATE INDEX user_session_user ON weir.user_session (user_id);
CREATE INDEX user_session_expiry ON weir.user_session (expires_at);

CREATE TABLE weir.refresh_token (
    digest bytea PRIMARY KEY,
    session_id text NOT NULL REFERENCES weir.user_session ON DELETE CASCADE,
    generation integer NOT NULL
);
CREATE INDEX refresh_token_session ON weir.refresh_token (session_id);

CREATE TABLE weir.invitation (
    invitation_id text PRIMARY KEY,
    tenant_id text NOT NULL REFERENCES weir.tenant,
    email text NOT NULL CHECK (length(email) <= 254 AND email LIKE '%_@_%'),
    name text NOT NULL DEFAULT '',
    role text NOT NULL CHECK (role IN ('owner', 'manager', 'staff', 'viewer', 'inspector')),
    digest bytea NOT NULL UNIQUE,
    invited_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    accepted_at timestamptz,
    revoked_at timestamptz
);
CREATE INDEX invitation_tenant ON weir.invitation (tenant_id, invitation_id);

CREATE TABLE weir.password_reset (
    digest bytea PRIMARY KEY,
    user_id text NOT NULL REFERENCES weir.app_user ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    used_at timestamptz
);
CREATE INDEX password_reset_user ON weir.password_reset (user_id);

-- What must be sent to somebody, sealed under WEIR_SECRET_KEY with the message's id: it holds the token in clear.
CREATE TABLE weir.outgoing_message (
    message_id text PRIMARY KEY,
    tenant_id text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('invitation', 'welcome', 'password_reset')),
    recipient text NOT NULL,
    sealed bytea NOT NULL,
    -- held: there is no transport to send it by.
    state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'held', 'sent')),
    created_at timestamptz NOT NULL DEFAULT now(),
    changed_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX outgoing_message_created ON weir.outgoing_message (created_at);

-- A tenant keeps an owner who can sign in; two who leave at the same time wait here for each other.
CREATE FUNCTION weir.keep_an_owner() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
BEGIN
    PERFORM 1 FROM weir.tenant t WHERE t.tenant_id = OLD.tenant_id FOR NO KEY UPDATE;
    IF NOT EXISTS (SELECT FROM weir.app_user u WHERE u.tenant_id = OLD.tenant_id AND u.role = 'owner' AND u.active
                   AND u.user_id <> OLD.user_id) THEN
        RAISE EXCEPTION 'the tenant would have no owner left' USING ERRCODE = 'WR001';
    END IF;
    RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $$;
CREATE TRIGGER keep_an_owner BEFORE UPDATE OF role ON weir.app_user
    FOR EACH ROW WHEN (OLD.role = 'owner' AND NEW.role <> 'owner') EXECUTE FUNCTION weir.keep_an_owner();
CREATE TRIGGER keep_an_owner_here BEFORE DELETE ON weir.app_user
    FOR EACH ROW WHEN (OLD.role = 'owner') EXECUTE FUNCTION weir.keep_an_owner();

-- Keeps a message for the current tenant and makes the job that sends it.
CREATE FUNCTION weir.post_message(p_message_id text, p_kind text, p_recipient text, p_sealed bytea) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
BEGIN
    INSERT INTO weir.outgoing_message (message_id, tenant_id, kind, recipient, sealed)
        VALUES (p_message_id, weir.current_tenant(), p_kind, p_recipient, p_sealed);
    PERFORM weir_jobs.procrastinate_defer_jobs_v1(ARRAY[
        ROW('messages', 'send_message', 0, NULL, NULL,
            jsonb_build_object('tenant_id', weir.current_tenant(), 'message_id', p_message_id), NULL)
        ]::weir_jobs.procrastinate_job_to_defer_v1[]);
END $$;

CREATE FUNCTION weir.find_login(p_email text) RETURNS TABLE (user_id text, password_hash text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog
AS $$ SELECT u.user_id, u.password_hash FROM weir.app_user u WHERE lower(u.email) = lower(p_email) $$;

-- Begins a session for a user whose password was checked against this hash; false if it is another by now.
CREATE FUNCTION weir.start_session(p_user_id text, p_password_hash text, p_session_id text, p_digest bytea, p_idle interval)
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    tenant text;
BEGIN
    PERFORM set_config('weir.actor', p_user_id, true);
    UPDATE weir.app_user u SET last_login_at = now()
        WHERE u.user_id = p_user_id AND u.password_hash = p_password_hash RETURNING u.tenant_id INTO tenant;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    INSERT INTO weir.user_session (session_id, user_id, tenant_id, expires_at)
        VALUES (p_session_id, p_user_id, tenant, now() + p_idle);
    INSERT INTO weir.refresh_token VALUES (p_digest, p_session_id, 0);
    RETURN true;
END $$;

-- The user of a session that goes on.
CREATE FUNCTION weir.find_session(p_session_id text) RETURNS TABLE (user_id text, tenant_id text, role text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog
AS $$
    SELECT u.user_id, u.tenant_id, u.role FROM weir.user_session s JOIN weir.app_user u USING (user_id)
    WHERE s.session_id = p_session_id AND s.ended_at IS NULL AND s.expires_at > now()
$$;

CREATE FUNCTION weir.end_session(p_session_id text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
BEGIN
    UPDATE weir.user_session s SET ended_at = now(), end_reason = 'logout'
        WHERE s.session_id = p_session_id AND s.ended_at IS NULL;
END $$;

-- Takes a refresh token and puts the next generation in its place. Two requests of one client may cross: for p_grace the
-- generation before is taken once more, for a token of the present one. Anything older was used twice, by its owner and by
-- somebody else: nobody can tell who is who, so the session ends.
CREATE FUNCTION weir.rotate_refresh_token(p_digest bytea, p_next_digest bytea, p_grace interval, p_idle interval, p_longest interval)
RETURNS TABLE (outcome text, session_id text, user_id text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    token weir.refresh_token;
    s weir.user_session;
    at timestamptz;
BEGIN
    SELECT t.* INTO token FROM weir.refresh_token t WHERE t.digest = p_digest;
    SELECT q.* INTO s FROM weir.user_session q WHERE q.session_id = token.session_id FOR UPDATE;
    at := clock_timestamp();
    IF s.session_id IS NULL OR s.ended_at IS NOT NULL OR s.expires_at <= at THEN
        RETURN;
    END IF;
    PERFORM set_config('weir.actor', s.user_id, true);
    IF token.generation = s.generation THEN
        UPDATE weir.user_session q SET generation = q.generation + 1, rotated_at = at,
            expires_at = least(at + p_idle, q.created_at + p_longest) WHERE q.session_id = s.session_id
            RETURNING q.* INTO s;
    ELSIF token.generation <> s.generation - 1 OR s.rotated_at <= at - p_grace THEN
        UPDATE weir.user_session q SET ended_at = at, end_reason = 'token_reused' WHERE q.session_id = s.session_id;
        RETURN QUERY SELECT 'reused', s.session_id, s.user_id;
        RETURN;
    END IF;
    INSERT INTO weir.refresh_token VALUES (p_next_digest, s.session_id, s.generation);
    RETURN QUERY SELECT 'rotated', s.session_id, s.user_id;
END $$;

-- Begins a password reset, if somebody has this address.
CREATE FUNCTION weir.request_password_reset(p_email text, p_digest bytea, p_valid interval, p_message_id text, p_sealed bytea)
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    u weir.app_user;
BEGIN
    SELECT q.* INTO u FROM weir.app_user q WHERE lower(q.email) = lower(p_email);
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM set_config('weir.tenant', u.tenant_id, true), set_config('weir.actor', u.user_id, true);
    INSERT INTO weir.password_reset (digest, user_id, expires_at) VALUES (p_digest, u.user_id, now() + p_valid);
    PERFORM weir.post_message(p_message_id, 'password_reset', u.email, p_sealed);
    RETURN true;
END $$;

CREATE FUNCTION weir.take_new_password(p_user_id text, p_password_hash text, p_kept_session text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
BEGIN
    PERFORM set_config('weir.actor', p_user_id, true);
    UPDATE weir.app_user u SET password_hash = p_password_hash, updated_at = now() WHERE u.user_id = p_user_id;
    UPDATE weir.password_reset r SET used_at = now() WHERE r.user_id = p_user_id AND r.used_at IS NULL;
    UPDATE weir.user_session s SET ended_at = now(), end_reason = 'password_changed'
        WHERE s.user_id = p_user_id AND s.ended_at IS NULL AND s.session_id IS DISTINCT FROM p_kept_session;
END $$;

-- Sets the password that a reset was asked for; every session of the user ends. False: unknown, used or expired.
CREATE FUNCTION weir.confirm_password_reset(p_digest bytea, p_password_hash text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    who text;
BEGIN
    UPDATE weir.password_reset r SET used_at = now()
        WHERE r.digest = p_digest AND r.used_at IS NULL AND r.expires_at > clock_timestamp() RETURNING r.user_id INTO who;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM weir.take_new_password(who, p_password_hash, NULL);
    RETURN true;
END $$;

-- A signed-in user's new password, if the old hash is still theirs; other sessions end.
CREATE FUNCTION weir.change_password(p_session_id text, p_old_hash text, p_new_hash text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    who text;
BEGIN
    SELECT u.user_id INTO who FROM weir.find_session(p_session_id) f JOIN weir.app_user u USING (user_id)
        WHERE u.password_hash = p_old_hash FOR UPDATE OF u;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM weir.take_new_password(who, p_new_hash, p_session_id);
    RETURN true;
END $$;

-- Makes the user that was invited. No row: unknown, used, revoked or expired.
CREATE FUNCTION weir.accept_invitation(p_digest bytea, p_user_id text, p_name text, p_password_hash text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    i weir.invitation;
BEGIN
    PERFORM set_config('weir.actor', p_user_id, true);
    UPDATE weir.invitation q SET accepted_at = now() WHERE q.digest = p_digest AND q.accepted_at IS NULL
        AND q.revoked_at IS NULL AND q.expires_at > clock_timestamp() RETURNING q.* INTO i;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    INSERT INTO weir.app_user (user_id, tenant_id, email, name, role, password_hash)
        VALUES (p_user_id, i.tenant_id, i.email, coalesce(p_name, i.name), i.role, p_password_hash);
    RETURN true;
END $$;

-- A reset for a user that somebody of the tenant made without a password.
CREATE FUNCTION weir.welcome_user(p_user_id text, p_digest bytea, p_valid interval, p_message_id text, p_sealed bytea)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    address text;
BEGIN
    SELECT u.email INTO STRICT address FROM weir.app_user u
        WHERE u.user_id = p_user_id AND u.tenant_id = weir.current_tenant() AND NOT u.active;
    INSERT INTO weir.password_reset (digest, user_id, expires_at) VALUES (p_digest, p_user_id, now() + p_valid);
    PERFORM weir.post_message(p_message_id, 'welcome', address, p_sealed);
END $$;

ALTER TABLE weir.app_user ENABLE ROW LEVEL SECURITY;
ALTER TABLE weir.user_session ENABLE ROW LEVEL SECURITY;
ALTER TABLE weir.refresh_token ENABLE ROW LEVEL SECURITY;
ALTER TABLE weir.invitation ENABLE ROW LEVEL SECURITY;
ALTER TABLE weir.password_reset ENABLE ROW LEVEL SECURITY;
ALTER TABLE weir.outgoing_message ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_users ON weir.app_user TO weir_reader
    USING (tenant_id = weir.current_tenant()) WITH CHECK (tenant_id = weir.current_tenant());
CREATE POLICY own_invitations ON weir.invitation TO weir_reader
    USING (tenant_id = weir.current_tenant()) WITH CHECK (tenant_id = weir.current_tenant());
CREATE POLICY every_session ON weir.user_session TO weir_writer USING (true);
CREATE POLICY every_reset ON weir.password_reset TO weir_writer USING (true);
CREATE POLICY every_message ON weir.outgoing_message TO weir_writer USING (true) WITH CHECK (true);

GRANT SELECT (user_id, tenant_id, email, name, role, active, created_at, updated_at, last_login_at) ON weir.app_user TO weir_reader;
GRANT INSERT (user_id, tenant_id, email, name, role, password_hash), UPDATE (name, role, updated_at), DELETE
    ON weir.app_user TO weir_reader;
GRANT SELECT (invitation_id, tenant_id, email, name, role, invited_by, created_at, expires_at, accepted_at, revoked_at)
    ON weir.invitation TO weir_reader;
GRANT INSERT (invitation_id, tenant_id, email, name, role, digest, invited_by, expires_at), UPDATE (revoked_at)
    ON weir.invitation TO weir_reader;
GRANT INSERT (api_key_id, tenant_id, name, digest, last_four, scopes, expires_at), UPDATE (name, scopes, expires_at, revoked_at)
    ON weir.api_key TO weir_reader;
GRANT SELECT, DELETE ON weir.user_session, weir.password_reset TO weir_writer;
GRANT SELECT, UPDATE (state, changed_at), DELETE ON weir.outgoing_message TO weir_writer;

REVOKE EXECUTE ON FUNCTION weir.keep_an_owner, weir.post_message, weir.find_login, weir.start_session, weir.find_session,
    weir.end_session, weir.rotate_refresh_token, weir.request_password_reset, weir.take_new_password,
    weir.confirm_password_reset, weir.change_password, weir.accept_invitation, weir.welcome_user FROM PUBLIC;
GRANT EXECUTE ON FUNCTION weir.post_message, weir.find_login, weir.start_session, weir.find_session, weir.end_session,
    weir.rotate_refresh_token, weir.request_password_reset, weir.confirm_password_reset, weir.change_password,
    weir.accept_invitation, weir.welcome_user TO weir_reader;

CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON weir.app_user
    FOR EACH ROW EXECUTE FUNCTION weir.audit_row('user', 'user_id');
CREATE TRIGGER audit AFTER INSERT OR UPDATE OF ended_at ON weir.user_session
    FOR EACH ROW EXECUTE FUNCTION weir.audit_row('session', 'session_id');
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON weir.invitation
    FOR EACH ROW EXECUTE FUNCTION weir.audit_row('invitation', 'invitation_id');
