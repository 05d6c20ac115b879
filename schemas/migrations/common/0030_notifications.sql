-- Notifications as people and their programs see them, in lists and live: what they are told about alerts and about quotas.

CREATE INDEX notification_recent ON weir.notification (tenant_id, created_at);

CREATE FUNCTION weir.notification_document(n weir.notification) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog
AS $$
    SELECT jsonb_build_object('kind', n.kind, 'noticed_at', weir.shown_time(n.created_at), 'alert_id', n.alert_id,
                              'sensor_id', n.episode ->> 'sensor_id', 'alert', n.episode)
$$;
REVOKE EXECUTE ON FUNCTION weir.notification_document FROM PUBLIC;
GRANT EXECUTE ON FUNCTION weir.notification_document TO weir_writer, weir_reader;

-- `place` orders what was noticed at one moment.
CREATE VIEW weir_tenant.notifications WITH (security_barrier) AS
    SELECT n.kind, n.created_at AS noticed_at, 'alert ' || lpad(n.notification_id::text, 19, '0') AS place,
           weir.notification_document(n) AS document
    FROM weir.notification n WHERE n.tenant_id = weir.current_tenant()
    UNION ALL
    -- As `weir.notice_quotas` tells it live.
    SELECT 'quota', q.noticed_at, concat_ws(' ', 'quota', q.meter, q.month, q.percent),
           jsonb_build_object('kind', 'quota', 'meter', q.meter, 'month', to_char(q.month AT TIME ZONE 'UTC', 'YYYY-MM'),
                              'percent', q.percent, 'used', q.used, 'included', q.included,
                              'noticed_at', weir.shown_time(q.noticed_at))
    FROM weir.quota_notice q WHERE q.tenant_id = weir.current_tenant();
GRANT SELECT ON weir_tenant.notifications TO weir_reader;
