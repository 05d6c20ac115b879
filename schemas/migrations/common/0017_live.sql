-- What dashboards see as it happens (DESIGN §9). Log channels: one row an event, numbered without gaps per tenant in the
-- order of the commits, since the tenant's head row is locked from its numbering to the commit. Latest channels need no rows.

CREATE TABLE weir.live_head (
    tenant_id text PRIMARY KEY,
    seq bigint NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE weir.live_event (
    tenant_id text NOT NULL,
    seq bigint NOT NULL,
    channel text NOT NULL CHECK (channel IN ('alerts', 'scans', 'jobs', 'notifications')),
    -- What filters ask for, as of the event.
    sensor_id text,
    site_id text,
    unit_id text,
    item jsonb NOT NULL,
    -- A cursor names an event by number and time: after a restored backup the same number has another time.
    at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, seq)
);
CREATE INDEX live_event_at ON weir.live_event (at);

-- Write events of log channels: the last statement of the transaction that causes them, so that heads are held briefly. Three
-- arrays of one length; the events of a tenant are numbered in their order. Sites and units are those of the item's sensor,
-- unless the item itself names them. Wakes the bridges at the commit.
CREATE FUNCTION weir.emit_live(p_tenant_ids text[], p_channels text[], p_items jsonb[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
BEGIN
    IF cardinality(p_items) = 0 THEN
        RETURN;
    END IF;
    WITH given AS (
        SELECT e.tenant_id, e.channel, e.item, row_number() OVER (PARTITION BY e.tenant_id ORDER BY e.n) AS place
        FROM unnest(p_tenant_ids, p_channels, p_items) WITH ORDINALITY AS e (tenant_id, channel, item, n)
    ), counted AS (
        SELECT g.tenant_id, count(*) AS events FROM given g GROUP BY g.tenant_id
    ), head AS (
        INSERT INTO weir.live_head AS h (tenant_id, seq) SELECT c.tenant_id, c.events FROM counted c ORDER BY c.tenant_id
        ON CONFLICT (tenant_id) DO UPDATE SET seq = h.seq + EXCLUDED.seq
        RETURNING h.tenant_id, h.seq
    )
    INSERT INTO weir.live_event (tenant_id, seq, channel, sensor_id, site_id, unit_id, item, at)
    SELECT g.tenant_id, h.seq - c.events + g.place, g.channel, g.item ->> 'sensor_id',
           coalesce(g.item ->> 'site_id', s.site_id), coalesce(g.item ->> 'unit_id', s.unit_id), g.item, clock_timestamp()
    FROM given g JOIN counted c USING (tenant_id) JOIN head h USING (tenant_id)
    LEFT JOIN weir.sensor s ON s.sensor_id = g.item ->> 'sensor_id' AND s.tenant_id = g.tenant_id;
    PERFORM pg_notify('weir_live', h.tenant_id || ' ' || h.seq) FROM weir.live_head h WHERE h.tenant_id = ANY (p_tenant_ids);
END $$;

-- For API transactions of the current tenant: one event of its own.
CREATE FUNCTION weir.emit_own_live(p_channel text, p_item jsonb) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog
AS $$ SELECT weir.emit_live(ARRAY[weir.current_tenant()], ARRAY[p_channel], ARRAY[p_item]) $$;

-- Numbers only, for a bridge that asks whether it missed a wake-up of the tenants it follows.
CREATE FUNCTION weir.live_heads(p_tenant_ids text[]) RETURNS TABLE (tenant_id text, seq bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog
AS $$ SELECT h.tenant_id, h.seq FROM weir.live_head h WHERE h.tenant_id = ANY (p_tenant_ids) $$;

-- Which tenants' readings some bridge wants: workers publish no others. Lost in a crash, and renewed within seconds.
CREATE UNLOGGED TABLE weir.live_interest (
    bridge_id text NOT NULL,
    tenant_id text NOT NULL,
    until timestamptz NOT NULL,
    PRIMARY KEY (bridge_id, tenant_id)
);
CREATE FUNCTION weir.want_live(p_bridge_id text, p_tenant_ids text[], p_seconds integer) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog
AS $$
    DELETE FROM weir.live_interest i WHERE (i.bridge_id = p_bridge_id AND i.tenant_id <> ALL (p_tenant_ids))
        OR i.until < now() - interval '1 minute';
    INSERT INTO weir.live_interest (bridge_id, tenant_id, until)
        SELECT p_bridge_id, t, now() + make_interval(secs => p_seconds) FROM unnest(p_tenant_ids) AS t
        ON CONFLICT (bridge_id, tenant_id) DO UPDATE SET until = EXCLUDED.until;
$$;

-- A sensor that moves to another site changes which filters it passes.
CREATE FUNCTION weir.sensors_moved() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
BEGIN
    PERFORM pg_notify('weir_live', moved.tenant_id || ' sensors') FROM (
        SELECT DISTINCT n.tenant_id FROM new_rows n JOIN old_rows o USING (sensor_no)
        WHERE (n.site_id, n.unit_id) IS DISTINCT FROM (o.site_id, o.unit_id)) moved;
    RETURN NULL;
END $$;
CREATE TRIGGER sensors_moved AFTER UPDATE ON weir.sensor REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION weir.sensors_moved();

-- When a usage row last changed: viewers are sent what changed since they looked.
ALTER TABLE weir.usage ADD COLUMN changed_at timestamptz NOT NULL DEFAULT now();
CREATE FUNCTION weir.usage_changed() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog
AS $$
BEGIN
    NEW.changed_at := clock_timestamp();
    RETURN NEW;
END $$;
CREATE TRIGGER usage_changed BEFORE INSERT OR UPDATE ON weir.usage FOR EACH ROW EXECUTE FUNCTION weir.usage_changed();
-- An active sensor is counted for hours that are still to come: they change when they begin.
CREATE VIEW weir_tenant.usage_changes WITH (security_barrier) AS
    SELECT tenant_id, meter, bucket_start, quantity, revision,
           CASE WHEN meter = 'active_sensors' THEN greatest(changed_at, bucket_start) ELSE changed_at END AS changed_at
    FROM weir.usage WHERE tenant_id = weir.current_tenant() AND (meter <> 'active_sensors' OR bucket_start <= now());

-- What needs attention, for the snapshot of the alerts channel.
CREATE INDEX alert_episode_attention ON weir.alert_episode (tenant_id, started_at DESC, episode_no DESC)
    WHERE status IN ('pending', 'firing') OR (status = 'resolved' AND acknowledged_at IS NULL);

ALTER TABLE weir.live_head ENABLE ROW LEVEL SECURITY;
ALTER TABLE weir.live_event ENABLE ROW LEVEL SECURITY;
ALTER TABLE weir.live_interest ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_head ON weir.live_head TO weir_reader USING (tenant_id = weir.current_tenant());
CREATE POLICY own_events ON weir.live_event TO weir_reader USING (tenant_id = weir.current_tenant());
CREATE POLICY every_head ON weir.live_head TO weir_writer USING (true);
CREATE POLICY every_event ON weir.live_event TO weir_writer USING (true);
CREATE POLICY every_interest ON weir.live_interest TO weir_writer USING (true);

GRANT SELECT ON weir.live_head, weir.live_event TO weir_reader;
GRANT SELECT ON weir_tenant.usage_changes TO weir_reader;
GRANT SELECT ON weir.live_head, weir.live_interest TO weir_writer;
GRANT SELECT, DELETE ON weir.live_event TO weir_writer;
REVOKE EXECUTE ON FUNCTION weir.emit_live, weir.emit_own_live, weir.live_heads, weir.want_live FROM PUBLIC;
GRANT EXECUTE ON FUNCTION weir.emit_live TO weir_writer;
GRANT EXECUTE ON FUNCTION weir.live_heads, weir.want_live TO weir_reader;

-- As in 0008; it shows all growth (0012), and the episode's new version goes to the alerts channel, last.
CREATE OR REPLACE FUNCTION weir.handle_alert(p_alert_id text, p_kind text, p_author text, p_note text, p_topic text) RETURNS jsonb
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
        show_at = NULL,
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
    PERFORM weir.emit_live(ARRAY[e.tenant_id], ARRAY['alerts'], ARRAY[document]);
    RETURN document;
END $$;
