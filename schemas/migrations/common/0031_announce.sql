-- Telling what changed of episodes takes one statement: its history, the record for the `alerts` topic, what somebody must be
-- told and the viewers' events, in the order given. The caller's transaction has written the episodes.

CREATE FUNCTION weir.announce_episodes(p_alert_ids text[], p_topic text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog
AS $$
DECLARE
    tenant_ids text[];
    channels text[];
    items jsonb[];
BEGIN
    WITH shown AS (
        UPDATE weir.alert_episode SET show_at = NULL WHERE alert_id = ANY (p_alert_ids) AND show_at IS NOT NULL
    ), kept AS (
        INSERT INTO weir.alert_history (alert_id, version, recorded_at, episode)
        SELECT e.alert_id, e.version, e.updated_at, weir.episode_document(e)
        FROM weir.alert_episode e WHERE e.alert_id = ANY (p_alert_ids)
        RETURNING alert_id, version, episode
    ), changed AS (
        SELECT k.*, k.episode ->> 'tenant_id' AS tenant_id, k.episode ->> 'status' AS status, q.n
        FROM unnest(p_alert_ids) WITH ORDINALITY AS q (alert_id, n) JOIN kept k USING (alert_id)
    ), published AS (
        INSERT INTO weir.topic_outbox (topic, key, value, headers)
        SELECT p_topic, convert_to(c.episode ->> 'sensor_id', 'UTF8'), convert_to(c.episode::text, 'UTF8'),
            jsonb_build_array(jsonb_build_array('content-type', encode(convert_to('application/json', 'UTF8'), 'base64')))
        FROM changed c ORDER BY c.n
    ), told AS (
        -- Nothing while pending or retracted; once in all when it is history.
        INSERT INTO weir.notification AS m (tenant_id, alert_id, alert_version, kind, episode)
        SELECT c.tenant_id, c.alert_id, c.version,
            CASE WHEN (c.episode ->> 'historical')::boolean THEN 'historical' WHEN c.status = 'firing' THEN 'fired' ELSE 'resolved' END,
            c.episode
        FROM changed c WHERE c.status IN ('firing', 'resolved') ORDER BY c.n
        ON CONFLICT DO NOTHING
        RETURNING m.notification_id, m.tenant_id, weir.notification_document(m) AS document
    ), live AS (
        SELECT c.tenant_id, 'alerts' AS channel, c.episode AS item, 1 AS part, c.n FROM changed c
        UNION ALL SELECT t.tenant_id, 'notifications', t.document, 2, t.notification_id FROM told t
    )
    SELECT array_agg(l.tenant_id ORDER BY l.part, l.n), array_agg(l.channel ORDER BY l.part, l.n), array_agg(l.item ORDER BY l.part, l.n)
        INTO tenant_ids, channels, items FROM live l;
    -- Last: it locks the tenants' heads until the commit.
    PERFORM weir.emit_live(tenant_ids, channels, items);
END $$;
REVOKE EXECUTE ON FUNCTION weir.announce_episodes FROM PUBLIC;
GRANT EXECUTE ON FUNCTION weir.announce_episodes TO weir_writer;
