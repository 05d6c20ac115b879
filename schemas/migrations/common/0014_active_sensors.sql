-- Active sensors: which hours of which sensor have readings, and what usage shows of it.

CREATE TABLE weir.sensor_day (
    sensor_no integer NOT NULL REFERENCES weir.sensor,
    -- A UTC day; bit n of `hours` is set when the sensor has a stored reading in its hour n. Only ever grows: what was
    -- counted stays counted when retention lets the readings go.
    day timestamptz NOT NULL,
    hours integer NOT NULL CHECK (hours BETWEEN 1 AND (1 << 24) - 1),
    PRIMARY KEY (sensor_no, day)
) WITH (fillfactor = 70);
GRANT SELECT, INSERT, UPDATE ON weir.sensor_day TO weir_writer;

-- Usage as the outside sees it (INTERFACES §7).
CREATE FUNCTION weir.usage_document(p_tenant_id text, p_meter text, p_bucket_start timestamptz, p_quantity bigint, p_revision bigint)
RETURNS json LANGUAGE sql STABLE PARALLEL SAFE
RETURN json_build_object('tenant_id', p_tenant_id, 'meter', p_meter, 'bucket_start', weir.shown_time(p_bucket_start),
                         'quantity', p_quantity, 'revision', p_revision);

-- Readings that were stored before their hours were noted.
INSERT INTO weir.sensor_day (sensor_no, day, hours)
    SELECT sensor_no, date_bin('1 day', bucket_start, 'epoch'),
           bit_or(1 << extract(hour FROM bucket_start AT TIME ZONE 'UTC')::integer)
    FROM weir.all_1h GROUP BY 1, 2;

-- From each hour with readings its sensor counts for 24 hours, or until its next one takes over.
INSERT INTO weir.usage (tenant_id, meter, bucket_start, quantity)
    SELECT a.tenant_id, 'active_sensors', h, count(*)
    FROM (SELECT s.tenant_id, p.hour AS from_at,
                 least(p.hour + interval '24 hours', lead(p.hour) OVER (PARTITION BY d.sensor_no ORDER BY p.hour)) AS to_at
          FROM weir.sensor_day d JOIN weir.sensor s USING (sensor_no)
          CROSS JOIN LATERAL (SELECT d.day + n * interval '1 hour' AS hour FROM generate_series(0, 23) n WHERE d.hours >> n & 1 = 1) p) a
    CROSS JOIN generate_series(a.from_at, a.to_at - interval '1 hour', '1 hour') h GROUP BY 1, 3;

-- A reading counts its sensor as active in hours that are still to come; they show once they have begun.
CREATE OR REPLACE VIEW public.usage_hourly AS
    SELECT tenant_id, meter, bucket_start, quantity, revision FROM weir.usage
    WHERE meter <> 'active_sensors' OR bucket_start <= now();

-- Other meters add up. A day's active sensors are those with a reading on that day: what its last hour counts.
CREATE OR REPLACE VIEW public.usage_daily AS
    SELECT tenant_id, meter, date_trunc('day', bucket_start, 'UTC') AS bucket_start, sum(quantity)::bigint AS quantity,
           sum(revision)::bigint AS revision
    FROM weir.usage WHERE meter <> 'active_sensors' GROUP BY 1, 2, 3
    UNION ALL
    SELECT tenant_id, meter, bucket_start - interval '23 hours', quantity, revision
    FROM weir.usage
    WHERE meter = 'active_sensors' AND extract(hour FROM bucket_start AT TIME ZONE 'UTC') = 23
      AND bucket_start - interval '23 hours' <= now();
