-- What people and the API read: one row per identity, roll-ups that include every reading that raw shows.
-- A reading below its tenant's retention horizon is gone for readers at once, whenever its row is really dropped.

CREATE VIEW public.readings AS
    SELECT s.tenant_id, s.sensor_id, r.at, r.value, r.seq, r.received_at
    FROM weir.reading r JOIN weir.sensor s USING (sensor_no) JOIN weir.tenant t USING (tenant_id)
    WHERE r.at >= t.retention_horizon;

CREATE VIEW public.readings_1m AS
    SELECT s.tenant_id, s.sensor_id, b.bucket_start, b.count, b.sum, b.min, b.max, b.first, b.last
    FROM weir.all_1m b JOIN weir.sensor s USING (sensor_no);
CREATE VIEW public.readings_1h AS
    SELECT s.tenant_id, s.sensor_id, b.bucket_start, b.count, b.sum, b.min, b.max, b.first, b.last
    FROM weir.all_1h b JOIN weir.sensor s USING (sensor_no);
CREATE VIEW public.readings_1d AS
    SELECT s.tenant_id, s.sensor_id, b.bucket_start, b.count, b.sum, b.min, b.max, b.first, b.last
    FROM weir.all_1d b JOIN weir.sensor s USING (sensor_no);

CREATE VIEW weir_tenant.readings WITH (security_barrier) AS
    SELECT s.tenant_id, s.sensor_id, r.at, r.value, r.seq, r.received_at
    FROM weir.reading r JOIN weir.sensor s USING (sensor_no) JOIN weir.tenant t USING (tenant_id)
    WHERE s.tenant_id = weir.current_tenant() AND r.at >= t.retention_horizon;
CREATE VIEW weir_tenant.readings_1m WITH (security_barrier) AS
    SELECT * FROM public.readings_1m WHERE tenant_id = weir.current_tenant();
CREATE VIEW weir_tenant.readings_1h WITH (security_barrier) AS
    SELECT * FROM public.readings_1h WHERE tenant_id = weir.current_tenant();
CREATE VIEW weir_tenant.readings_1d WITH (security_barrier) AS
    SELECT * FROM public.readings_1d WHERE tenant_id = weir.current_tenant();

GRANT SELECT ON public.readings, public.readings_1m, public.readings_1h, public.readings_1d TO weir_operator;
GRANT SELECT ON weir_tenant.readings, weir_tenant.readings_1m, weir_tenant.readings_1h, weir_tenant.readings_1d TO weir_reader;

-- Keyset pages for the API. A barrier view cannot hand an ORDER BY … LIMIT down to the index; a function can, and checks the tenant itself.
CREATE FUNCTION weir_tenant.own_sensor(p_sensor_no integer) RETURNS timestamptz
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog
AS $$
    -- The tenant's retention horizon when the sensor is the current tenant's, else NULL: no row compares with it.
    SELECT t.retention_horizon FROM weir.sensor s JOIN weir.tenant t USING (tenant_id)
    WHERE s.sensor_no = p_sensor_no AND s.tenant_id = weir.current_tenant()
$$;

CREATE FUNCTION weir_tenant.sensor_raw(p_sensor_no integer, p_start timestamptz, p_end timestamptz,
                                       p_after_at timestamptz, p_after_seq integer, p_limit integer)
RETURNS TABLE (at timestamptz, value double precision, seq integer, received_at timestamptz)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog SET plan_cache_mode = force_custom_plan
AS $$
DECLARE
    horizon timestamptz := weir_tenant.own_sensor(p_sensor_no);
    from_at timestamptz := greatest(p_start, horizon, p_after_at);
BEGIN
    IF horizon IS NULL THEN
        RETURN;
    END IF;
    RETURN QUERY
        SELECT r.at, r.value, r.seq, r.received_at FROM weir.reading r
        WHERE r.sensor_no = p_sensor_no AND r.at >= from_at AND r.at < p_end
          AND (p_after_at IS NULL OR (r.at, r.seq) > (p_after_at, p_after_seq))
        ORDER BY r.at, r.seq LIMIT p_limit;
END $$;

CREATE FUNCTION weir_tenant.sensor_rollup(p_sensor_no integer, p_resolution text, p_start timestamptz, p_end timestamptz, p_limit integer)
RETURNS TABLE (bucket_start timestamptz, count bigint, sum double precision, min double precision, max double precision,
               first double precision, last double precision)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog SET plan_cache_mode = force_custom_plan
AS $$
BEGIN
    IF weir_tenant.own_sensor(p_sensor_no) IS NULL THEN
        RETURN;
    END IF;
    CASE p_resolution
        WHEN '1m' THEN
            RETURN QUERY SELECT b.bucket_start, b.count, b.sum, b.min, b.max, b.first, b.last FROM weir.all_1m b
                WHERE b.sensor_no = p_sensor_no AND b.bucket_start >= p_start AND b.bucket_start < p_end ORDER BY 1 LIMIT p_limit;
        WHEN '1h' THEN
            RETURN QUERY SELECT b.bucket_start, b.count, b.sum, b.min, b.max, b.first, b.last FROM weir.all_1h b
                WHERE b.sensor_no = p_sensor_no AND b.bucket_start >= p_start AND b.bucket_start < p_end ORDER BY 1 LIMIT p_limit;
        WHEN '1d' THEN
            RETURN QUERY SELECT b.bucket_start, b.count, b.sum, b.min, b.max, b.first, b.last FROM weir.all_1d b
                WHERE b.sensor_no = p_sensor_no AND b.bucket_start >= p_start AND b.bucket_start < p_end ORDER BY 1 LIMIT p_limit;
    END CASE;
END $$;

REVOKE EXECUTE ON FUNCTION weir_tenant.own_sensor, weir_tenant.sensor_raw, weir_tenant.sensor_rollup FROM PUBLIC;
GRANT EXECUTE ON FUNCTION weir_tenant.own_sensor, weir_tenant.sensor_raw, weir_tenant.sensor_rollup TO weir_reader;
