-- Reads of the API beside raw pages and roll-ups: neighbours of a range, conflicts, refusals.
-- The functions run as owner, ask for the tenant themselves, and hide what is below its retention horizon.

-- The newest reading before a moment: the earlier neighbour of the first one after it.
CREATE FUNCTION weir_tenant.sensor_before(p_sensor_no integer, p_before timestamptz) RETURNS timestamptz
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog SET plan_cache_mode = force_custom_plan
AS $$
DECLARE
    horizon timestamptz := weir_tenant.own_sensor(p_sensor_no);
BEGIN
    RETURN (SELECT r.at FROM weir.reading r WHERE r.sensor_no = p_sensor_no AND r.at >= horizon AND r.at < p_before
            ORDER BY r.at DESC LIMIT 1);
END $$;

-- Identities for which several values came: the reading as it stands, and the values that lost to it.
CREATE FUNCTION weir_tenant.sensor_conflicts(p_sensor_no integer, p_start timestamptz, p_end timestamptz, p_limit integer)
RETURNS TABLE (at timestamptz, seq integer, value double precision, others double precision[])
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog SET plan_cache_mode = force_custom_plan
AS $$
DECLARE
    from_at timestamptz := greatest(p_start, weir_tenant.own_sensor(p_sensor_no));
BEGIN
    IF weir_tenant.own_sensor(p_sensor_no) IS NULL THEN
        RETURN;
    END IF;
    RETURN QUERY
        SELECT c.at, c.seq, r.value, c.others FROM (
            SELECT q.at, q.seq, array_agg(q.value ORDER BY q.value DESC) AS others FROM weir.reading_conflict q
            WHERE q.sensor_no = p_sensor_no AND q.at >= from_at AND q.at < p_end
            GROUP BY q.at, q.seq ORDER BY q.at, q.seq LIMIT p_limit) c
        JOIN weir.reading r ON r.sensor_no = p_sensor_no AND r.at = c.at AND r.seq = c.seq AND r.at >= from_at AND r.at < p_end
        ORDER BY c.at, c.seq;
END $$;

REVOKE EXECUTE ON FUNCTION weir_tenant.sensor_before, weir_tenant.sensor_conflicts FROM PUBLIC;
GRANT EXECUTE ON FUNCTION weir_tenant.sensor_before, weir_tenant.sensor_conflicts TO weir_reader;

-- Refusals of a tenant's devices: every one counted, also those whose bytes a flood did not keep.
CREATE INDEX refusal_count_tenant ON weir.refusal_count (tenant_id, minute);
CREATE VIEW weir_tenant.refusal_counts WITH (security_barrier) AS
    SELECT tenant_id, device_id, minute, reason, refused, kept FROM weir.refusal_count
    WHERE tenant_id = weir.current_tenant();
GRANT SELECT ON weir_tenant.refusal_counts TO weir_reader;

-- For /metrics, which belongs to no tenant: sums only.
CREATE FUNCTION weir.refusals_by_reason() RETURNS TABLE (reason text, refused bigint, kept bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog
AS $$ SELECT c.reason, sum(c.refused)::bigint, sum(c.kept)::bigint FROM weir.refusal_count c GROUP BY c.reason $$;
REVOKE EXECUTE ON FUNCTION weir.refusals_by_reason FROM PUBLIC;
GRANT EXECUTE ON FUNCTION weir.refusals_by_reason TO weir_reader;
