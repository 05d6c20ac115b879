-- Reads of the API beside raw pages and roll-ups: neighbours of a range, conflicts, refusals.
-- The functions run as owner, ask for the tenant themselves, and hide what is below its retention horizon.

-- Of these sensors the current tenant's, in the order given.
CREATE FUNCTION weir_tenant.own_sensors(p_sensor_nos integer[]) RETURNS integer[]
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog
AS $$
    SELECT coalesce(array_agg(a.no ORDER BY a.place), '{}')
    FROM unnest(p_sensor_nos) WITH ORDINALITY AS a (no, place) JOIN weir.sensor s ON s.sensor_no = a.no
    WHERE s.tenant_id = weir.current_tenant()
$$;

CREATE FUNCTION weir_tenant.own_horizon() RETURNS timestamptz
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog
AS $$ SELECT t.retention_horizon FROM weir.tenant t WHERE t.tenant_id = weir.current_tenant() $$;

-- Times of the readings of several sensors, sensor by sensor as they are named, until there are p_limit. One plan for all:
-- a call each would spend more time planning over the partitions than reading.
CREATE FUNCTION weir_tenant.reading_times(p_sensor_nos integer[], p_start timestamptz, p_end timestamptz, p_limit integer)
RETURNS TABLE (sensor_no integer, at timestamptz)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog SET plan_cache_mode = force_custom_plan
AS $$
DECLARE
    own integer[] := weir_tenant.own_sensors(p_sensor_nos);
    from_at timestamptz := greatest(p_start, weir_tenant.own_horizon());
BEGIN
    RETURN QUERY
        SELECT o.no, r.at FROM unnest(own) AS o (no) CROSS JOIN LATERAL (
            SELECT q.at FROM weir.reading q WHERE q.sensor_no = o.no AND q.at >= from_at AND q.at < p_end
            ORDER BY q.at, q.seq LIMIT p_limit) r
        LIMIT p_limit;
END $$;

-- The readings next to a range: the newest before p_before, the oldest from p_from on.
CREATE FUNCTION weir_tenant.reading_neighbours(p_sensor_nos integer[], p_before timestamptz, p_from timestamptz)
RETURNS TABLE (sensor_no integer, last_before timestamptz, first_from timestamptz)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog SET plan_cache_mode = force_custom_plan
AS $$
DECLARE
    own integer[] := weir_tenant.own_sensors(p_sensor_nos);
    horizon timestamptz := weir_tenant.own_horizon();
    from_at timestamptz := greatest(p_from, horizon);
BEGIN
    RETURN QUERY
        SELECT o.no,
               (SELECT q.at FROM weir.reading q WHERE q.sensor_no = o.no AND q.at >= horizon AND q.at < p_before
                ORDER BY q.at DESC LIMIT 1),
               (SELECT q.at FROM weir.reading q WHERE q.sensor_no = o.no AND q.at >= from_at ORDER BY q.at LIMIT 1)
        FROM unnest(own) AS o (no);
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

REVOKE EXECUTE ON FUNCTION weir_tenant.own_sensors, weir_tenant.own_horizon, weir_tenant.reading_times,
    weir_tenant.reading_neighbours, weir_tenant.sensor_conflicts FROM PUBLIC;
GRANT EXECUTE ON FUNCTION weir_tenant.reading_times, weir_tenant.reading_neighbours, weir_tenant.sensor_conflicts TO weir_reader;

-- Dead letters without their bytes, for counting: weir_tenant.dead_letters would join the records only to drop them.
CREATE VIEW weir_tenant.refused_readings WITH (security_barrier) AS
    SELECT tenant_id, device_id, sensor, reason, index, refused_at, replayed_at FROM weir.dead_letter
    WHERE tenant_id = weir.current_tenant();
GRANT SELECT ON weir_tenant.refused_readings TO weir_reader;

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
