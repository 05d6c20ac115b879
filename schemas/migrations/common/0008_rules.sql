-- Rules as versioned data, and the episodes that the readings prove. Final episodes depend on readings and versions alone;
-- open and pending ones live here too, so any worker can judge any interval again from stored readings.

CREATE TABLE weir.rule (
    rule_no integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    rule_id text NOT NULL UNIQUE,
    tenant_id text NOT NULL REFERENCES weir.tenant,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX rule_tenant ON weir.rule (tenant_id, rule_id);

-- A version judges readings from `effective_from` on, until a later recorded version takes over; NULL document: deleted.
CREATE TABLE weir.rule_version (
    rule_no integer NOT NULL REFERENCES weir.rule,
    version integer NOT NULL,
    effective_from timestamptz NOT NULL,
    document jsonb,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    recorded_by text NOT NULL,
    PRIMARY KEY (rule_no, version)
);

CREATE TABLE weir.alert_episode (
    episode_no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    alert_id text NOT NULL UNIQUE DEFAULT 'alt_' || replace(gen_random_uuid()::text, '-', ''),
    tenant_id text NOT NULL,
    sensor_no integer NOT NULL REFERENCES weir.sensor,
    rule_no integer NOT NULL REFERENCES weir.rule,
    severity text NOT NULL,
    status text NOT NULL CHECK (status IN ('pending', 'firing', 'resolved', 'retracted')),
    acknowledged_by text,
    acknowledged_at timestamptz,
    assigned_to text,
    started_at timestamptz NOT NULL,
    fired_at timestamptz,
    resolved_at timestamptz,
    peak_at timestamptz NOT NULL,
    -- NULL for a silence, which has no worst reading.
    peak_value double precision,
    proven_ms bigint NOT NULL,
    possible_ms bigint NOT NULL,
    -- Found from a back-fill, long after it happened: shown as such, and nobody is woken for it.
    historical boolean NOT NULL,
    merged_into text,
    reason text,
    version integer NOT NULL DEFAULT 1,
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX alert_episode_pair ON weir.alert_episode (sensor_no, rule_no, started_at);
CREATE INDEX alert_episode_tenant ON weir.alert_episode (tenant_id, started_at DESC, episode_no DESC);
CREATE INDEX alert_episode_open ON weir.alert_episode (sensor_no, rule_no) WHERE status IN ('pending', 'firing');

-- Every version of every episode as it was shown, for /history and `as_of`.
CREATE TABLE weir.alert_history (
    alert_id text NOT NULL,
    version integer NOT NULL,
    recorded_at timestamptz NOT NULL,
    episode jsonb NOT NULL,
    PRIMARY KEY (alert_id, version)
);

CREATE TABLE weir.alert_note (
    note_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    alert_id text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('acknowledge', 'comment', 'assign')),
    author text NOT NULL,
    note text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX alert_note_alert ON weir.alert_note (alert_id, note_id);

-- What somebody must be told; delivery reads these rows.
CREATE TABLE weir.notification (
    notification_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id text NOT NULL,
    alert_id text NOT NULL,
    alert_version integer NOT NULL,
    kind text NOT NULL CHECK (kind IN ('fired', 'resolved', 'historical')),
    episode jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (alert_id, kind)
);

CREATE FUNCTION weir.shown_time(t timestamptz) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT to_char(t AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') $$;

-- The episode as the outside sees it (INTERFACES §6).
CREATE FUNCTION weir.episode_document(e weir.alert_episode) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog
AS $$
    SELECT jsonb_build_object(
        'alert_id', e.alert_id, 'tenant_id', e.tenant_id, 'sensor_id', s.sensor_id, 'rule_id', r.rule_id,
        'severity', e.severity, 'status', e.status, 'acknowledged_by', e.acknowledged_by,
        'acknowledged_at', weir.shown_time(e.acknowledged_at), 'assigned_to', e.assigned_to,
        'started_at', weir.shown_time(e.started_at), 'fired_at', weir.shown_time(e.fired_at),
        'resolved_at', weir.shown_time(e.resolved_at),
        'peak', jsonb_build_object('at', weir.shown_time(e.peak_at), 'value', e.peak_value),
        'proven_seconds', e.proven_ms / 1000.0, 'possible_seconds', e.possible_ms / 1000.0,
        'historical', e.historical, 'merged_into', e.merged_into, 'reason', e.reason, 'version', e.version,
        'updated_at', weir.shown_time(e.updated_at))
    FROM weir.sensor s, weir.rule r WHERE s.sensor_no = e.sensor_no AND r.rule_no = e.rule_no
$$;

-- Rules belong to what workers cache: every change moves the generation.
ALTER TABLE weir.catalog_generation ADD COLUMN rules_generation bigint NOT NULL DEFAULT 1;
CREATE FUNCTION weir.rules_changed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
BEGIN
    UPDATE weir.catalog_generation SET generation = generation + 1, rules_generation = rules_generation + 1;
    RETURN NULL;
END $$;
CREATE TRIGGER rules_changed AFTER INSERT OR UPDATE OR DELETE ON weir.rule_version
    FOR EACH STATEMENT EXECUTE FUNCTION weir.rules_changed();
CREATE TRIGGER assignments_changed AFTER UPDATE OF site_id, unit_id, expected_interval_ms ON weir.sensor
    FOR EACH STATEMENT EXECUTE FUNCTION weir.rules_changed();

-- What somebody says about an episode of the current tenant: the episode's next version with its history, the note, and the
-- record for the topic, in one go. Runs as owner: the reader may not write episodes, history or outbox by any other way, and
-- what it has published is the episode as it stands here, to a topic of alerts. NULL: no such episode.
CREATE FUNCTION weir.handle_alert(p_alert_id text, p_kind text, p_author text, p_note text, p_topic text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    e weir.alert_episode;
    document jsonb;
BEGIN
    IF p_topic !~ '^[A-Za-z0-9._-]{0,240}alerts$' THEN
        RAISE EXCEPTION 'topic % is none of alerts; expected a prefix and the word alerts', p_topic
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- Who acknowledged first stays; the notes tell of everybody.
    UPDATE weir.alert_episode a SET
        acknowledged_by = CASE WHEN p_kind = 'acknowledge' THEN coalesce(a.acknowledged_by, p_author) ELSE a.acknowledged_by END,
        acknowledged_at = CASE WHEN p_kind = 'acknowledge' THEN coalesce(a.acknowledged_at, clock_timestamp()) ELSE a.acknowledged_at END,
        assigned_to = CASE WHEN p_kind = 'assign' THEN p_note ELSE a.assigned_to END,
        version = a.version + 1,
        updated_at = greatest(a.updated_at, date_trunc('milliseconds', clock_timestamp()))
    WHERE a.alert_id = p_alert_id AND a.tenant_id = weir.current_tenant()
    RETURNING a.* INTO e;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    document := weir.episode_document(e);
    INSERT INTO weir.alert_note (alert_id, kind, author, note) VALUES (p_alert_id, p_kind, p_author, p_note);
    INSERT INTO weir.alert_history (alert_id, version, recorded_at, episode)
        VALUES (p_alert_id, e.version, e.updated_at, document);
    INSERT INTO weir.topic_outbox (topic, key, value, headers) VALUES (
        p_topic, convert_to(document ->> 'sensor_id', 'UTF8'), convert_to(document::text, 'UTF8'),
        jsonb_build_array(jsonb_build_array('content-type', encode(convert_to('application/json', 'UTF8'), 'base64'))));
    RETURN document;
END $$;

CREATE VIEW public.alert_episodes AS
    SELECT e.alert_id, e.tenant_id, s.sensor_id, r.rule_id, e.severity, e.status, e.acknowledged_by, e.acknowledged_at,
           e.assigned_to, e.started_at, e.fired_at, e.resolved_at, e.peak_at, e.peak_value,
           e.proven_ms / 1000.0 AS proven_seconds, e.possible_ms / 1000.0 AS possible_seconds, e.historical, e.merged_into,
           e.reason, e.version, e.updated_at
    FROM weir.alert_episode e JOIN weir.sensor s USING (sensor_no) JOIN weir.rule r USING (rule_no);
CREATE VIEW weir_tenant.alert_episodes WITH (security_barrier) AS
    SELECT * FROM public.alert_episodes WHERE tenant_id = weir.current_tenant();

ALTER TABLE weir.rule ENABLE ROW LEVEL SECURITY;
ALTER TABLE weir.rule_version ENABLE ROW LEVEL SECURITY;
ALTER TABLE weir.alert_episode ENABLE ROW LEVEL SECURITY;
ALTER TABLE weir.alert_history ENABLE ROW LEVEL SECURITY;
ALTER TABLE weir.alert_note ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_rules ON weir.rule TO weir_reader USING (tenant_id = weir.current_tenant());
CREATE POLICY own_rule_versions ON weir.rule_version TO weir_reader
    USING (rule_no IN (SELECT r.rule_no FROM weir.rule r));
CREATE POLICY own_episodes ON weir.alert_episode TO weir_reader USING (tenant_id = weir.current_tenant());
CREATE POLICY own_history ON weir.alert_history TO weir_reader
    USING (alert_id IN (SELECT e.alert_id FROM weir.alert_episode e));
CREATE POLICY own_notes ON weir.alert_note TO weir_reader
    USING (alert_id IN (SELECT e.alert_id FROM weir.alert_episode e));
CREATE POLICY every_rule ON weir.rule TO weir_writer USING (true);
CREATE POLICY every_rule_version ON weir.rule_version TO weir_writer USING (true);
CREATE POLICY every_episode ON weir.alert_episode TO weir_writer USING (true) WITH CHECK (true);
CREATE POLICY every_history ON weir.alert_history TO weir_writer USING (true) WITH CHECK (true);
CREATE POLICY every_note ON weir.alert_note TO weir_writer USING (true) WITH CHECK (true);

GRANT SELECT ON weir.rule, weir.rule_version TO weir_writer;
GRANT SELECT, INSERT, UPDATE ON weir.alert_episode, weir.notification TO weir_writer;
GRANT SELECT, INSERT ON weir.alert_history TO weir_writer;
GRANT SELECT, UPDATE ON weir.alert_note TO weir_writer;
GRANT SELECT ON weir.rule, weir.rule_version, weir.alert_episode, weir.alert_note, weir.alert_history TO weir_reader;
REVOKE EXECUTE ON FUNCTION weir.handle_alert FROM PUBLIC;
GRANT EXECUTE ON FUNCTION weir.handle_alert TO weir_reader;
GRANT SELECT ON public.alert_episodes TO weir_operator;
GRANT SELECT ON weir_tenant.alert_episodes TO weir_reader;

-- Stored readings that a changed rule must judge again; workers take these one by one and show how far they are.
CREATE TABLE weir.rule_work (
    work_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    rule_no integer NOT NULL REFERENCES weir.rule,
    tenant_id text NOT NULL,
    from_at timestamptz NOT NULL,
    requested_at timestamptz NOT NULL DEFAULT now(),
    sensors_total integer,
    sensors_done integer NOT NULL DEFAULT 0,
    done_at timestamptz
);
CREATE INDEX rule_work_open ON weir.rule_work (work_id) WHERE done_at IS NULL;
ALTER TABLE weir.rule_work ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_work ON weir.rule_work TO weir_reader USING (tenant_id = weir.current_tenant());
CREATE POLICY all_work ON weir.rule_work TO weir_writer USING (true) WITH CHECK (true);
GRANT SELECT ON weir.rule_work TO weir_reader;
GRANT SELECT, INSERT, UPDATE, DELETE ON weir.rule_work TO weir_writer;

-- A rule's next version and the work that it makes, for the current tenant; version 1 makes the rule, a document of NULL deletes
-- it. Runs as owner: the reader writes nothing by itself. False: there is no such rule, or the version is not the next one.
CREATE FUNCTION weir.record_rule(p_rule_id text, p_version integer, p_effective_from timestamptz, p_document jsonb, p_author text)
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    no integer;
    effective timestamptz;
BEGIN
    IF p_version = 1 AND p_document IS NOT NULL THEN
        INSERT INTO weir.rule (rule_id, tenant_id) VALUES (p_rule_id, weir.current_tenant()) RETURNING rule_no INTO no;
    ELSE
        -- Whoever comes second waits here, and then sees the first one's version.
        SELECT r.rule_no INTO no FROM weir.rule r
            WHERE r.rule_id = p_rule_id AND r.tenant_id = weir.current_tenant() FOR UPDATE;
        PERFORM 1 FROM weir.rule_version v WHERE v.rule_no = no
            HAVING max(v.version) = p_version - 1 AND bool_and(v.document IS NOT NULL);
        IF NOT FOUND THEN
            RETURN false;
        END IF;
    END IF;
    effective := date_trunc('milliseconds', coalesce(p_effective_from, clock_timestamp()));
    INSERT INTO weir.rule_version (rule_no, version, effective_from, document, recorded_by)
        VALUES (no, p_version, effective, p_document, p_author);
    INSERT INTO weir.rule_work (rule_no, tenant_id, from_at) VALUES (no, weir.current_tenant(), effective);
    RETURN true;
END $$;
REVOKE EXECUTE ON FUNCTION weir.record_rule FROM PUBLIC;
GRANT EXECUTE ON FUNCTION weir.record_rule TO weir_reader;
