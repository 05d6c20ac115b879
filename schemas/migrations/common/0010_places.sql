-- Where sensors measure: sites, the units in them (fridges, freezers, rooms), and which sensor was where when.
-- What rules read (assignments, attributes, time zones) is kept in versions and read as of a reading's time: the row with the
-- greatest effective_from ≤ at holds. Recording a version replaces those that were recorded for its moment or later ones.

-- Nothing was read before: the first version of a site or unit holds for all earlier readings too.
CREATE FUNCTION weir.first_moment() RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT timestamptz '2010-01-01T00:00:00Z' $$;

CREATE TABLE weir.site (
    site_id text PRIMARY KEY CHECK (site_id ~ '^[A-Za-z0-9_-]{1,64}$'),
    tenant_id text NOT NULL REFERENCES weir.tenant,
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 128),
    timezone text NOT NULL,
    attributes jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(attributes) = 'object'),
    -- Counts changes, so that nobody overwrites what they have not seen.
    revision integer NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    -- Out of sight, but what refers to it keeps working.
    archived_at timestamptz,
    UNIQUE (tenant_id, site_id)
);

CREATE TABLE weir.site_version (
    site_id text NOT NULL,
    effective_from timestamptz NOT NULL,
    tenant_id text NOT NULL,
    timezone text NOT NULL,
    attributes jsonb NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (site_id, effective_from),
    FOREIGN KEY (tenant_id, site_id) REFERENCES weir.site (tenant_id, site_id)
);

CREATE TABLE weir.unit (
    unit_id text PRIMARY KEY CHECK (unit_id ~ '^[A-Za-z0-9_-]{1,64}$'),
    tenant_id text NOT NULL REFERENCES weir.tenant,
    site_id text,
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 128),
    kind text NOT NULL,
    attributes jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(attributes) = 'object'),
    revision integer NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    archived_at timestamptz,
    UNIQUE (tenant_id, unit_id),
    -- The tenant is part of the key: no row of one tenant can ever refer to another's.
    FOREIGN KEY (tenant_id, site_id) REFERENCES weir.site (tenant_id, site_id)
);
CREATE INDEX unit_site ON weir.unit (tenant_id, site_id);

CREATE TABLE weir.unit_version (
    unit_id text NOT NULL,
    effective_from timestamptz NOT NULL,
    tenant_id text NOT NULL,
    site_id text,
    kind text NOT NULL,
    attributes jsonb NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (unit_id, effective_from),
    FOREIGN KEY (tenant_id, unit_id) REFERENCES weir.unit (tenant_id, unit_id),
    FOREIGN KEY (tenant_id, site_id) REFERENCES weir.site (tenant_id, site_id)
);

-- Where a sensor was from a moment on; before its first row it was nowhere. `site_id` is the unit's site where there is a unit:
-- a unit that moves moves its sensors, so this table alone tells both.
CREATE TABLE weir.sensor_assignment (
    sensor_no integer NOT NULL REFERENCES weir.sensor,
    effective_from timestamptz NOT NULL,
    tenant_id text NOT NULL,
    unit_id text,
    site_id text,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (sensor_no, effective_from),
    FOREIGN KEY (tenant_id, unit_id) REFERENCES weir.unit (tenant_id, unit_id),
    FOREIGN KEY (tenant_id, site_id) REFERENCES weir.site (tenant_id, site_id)
);
CREATE INDEX sensor_assignment_unit ON weir.sensor_assignment (unit_id);
CREATE INDEX sensor_assignment_site ON weir.sensor_assignment (site_id);

-- The sensor's own columns say where it is now.
ALTER TABLE weir.sensor ADD COLUMN archived_at timestamptz;
ALTER TABLE weir.sensor ADD FOREIGN KEY (tenant_id, unit_id) REFERENCES weir.unit (tenant_id, unit_id);
ALTER TABLE weir.sensor ADD FOREIGN KEY (tenant_id, site_id) REFERENCES weir.site (tenant_id, site_id);
CREATE INDEX sensor_unit ON weir.sensor (tenant_id, unit_id, sensor_id) WHERE unit_id IS NOT NULL;
CREATE INDEX sensor_site ON weir.sensor (tenant_id, site_id, sensor_id) WHERE site_id IS NOT NULL;
CREATE INDEX sensor_device ON weir.sensor (device_id, sensor_id);

-- Stored readings that a change of place, attributes, time zone or expected interval has judged again, sensor by sensor:
-- whoever judges takes open rows, all rules of the sensor from `from_at` on, and sets `done_at`.
CREATE TABLE weir.place_work (
    work_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id text NOT NULL,
    sensor_no integer NOT NULL REFERENCES weir.sensor,
    from_at timestamptz NOT NULL,
    requested_at timestamptz NOT NULL DEFAULT now(),
    done_at timestamptz
);
CREATE INDEX place_work_open ON weir.place_work (work_id) WHERE done_at IS NULL;

-- Workers hold these as they hold rules: every change moves the rules generation.
CREATE TRIGGER rules_changed AFTER INSERT OR UPDATE OR DELETE ON weir.site_version
    FOR EACH STATEMENT EXECUTE FUNCTION weir.rules_changed();
CREATE TRIGGER rules_changed AFTER INSERT OR UPDATE OR DELETE ON weir.unit_version
    FOR EACH STATEMENT EXECUTE FUNCTION weir.rules_changed();
CREATE TRIGGER rules_changed AFTER INSERT OR UPDATE OR DELETE ON weir.sensor_assignment
    FOR EACH STATEMENT EXECUTE FUNCTION weir.rules_changed();

-- The expected interval has no versions: what counts as a gap changes for all that is stored.
CREATE FUNCTION weir.interval_changed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
BEGIN
    INSERT INTO weir.place_work (tenant_id, sensor_no, from_at) VALUES (NEW.tenant_id, NEW.sensor_no, weir.first_moment());
    RETURN NULL;
END $$;
CREATE TRIGGER interval_changed AFTER UPDATE OF expected_interval_ms ON weir.sensor FOR EACH ROW
    WHEN (NEW.expected_interval_ms IS DISTINCT FROM OLD.expected_interval_ms) EXECUTE FUNCTION weir.interval_changed();

-- The moment from which a change holds: as asked for, by default now.
CREATE FUNCTION weir.effective_moment(p_wanted timestamptz) RETURNS timestamptz
LANGUAGE sql VOLATILE SET search_path = pg_catalog
AS $$ SELECT date_trunc('milliseconds', greatest(coalesce(p_wanted, clock_timestamp()), weir.first_moment())) $$;

-- Sensors that were in the unit, or at the site, at the moment or later.
CREATE FUNCTION weir.placed_since(p_unit_id text, p_site_id text, p_from timestamptz) RETURNS SETOF integer
LANGUAGE sql STABLE SET search_path = pg_catalog
AS $$
    SELECT DISTINCT a.sensor_no FROM weir.sensor_assignment a
    WHERE (a.unit_id = p_unit_id OR a.site_id = p_site_id) AND NOT EXISTS (
        SELECT FROM weir.sensor_assignment b
        WHERE b.sensor_no = a.sensor_no AND b.effective_from > a.effective_from AND b.effective_from <= p_from)
$$;

-- A site's next revision, for the current tenant; revision 1 makes it. NULL: there is no such site, or another revision came
-- first. The time zone and attributes hold from p_effective_from on (now), those of a new site for all time.
CREATE FUNCTION weir.record_site(p_site_id text, p_revision integer, p_name text, p_timezone text, p_attributes jsonb,
    p_archived boolean, p_effective_from timestamptz) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    tenant text := weir.current_tenant();
    old weir.site;
    moment timestamptz := weir.first_moment();
BEGIN
    IF p_revision = 1 THEN
        INSERT INTO weir.site (site_id, tenant_id, name, timezone, attributes)
            VALUES (p_site_id, tenant, p_name, p_timezone, p_attributes);
    ELSE
        SELECT s.* INTO old FROM weir.site s
            WHERE s.site_id = p_site_id AND s.tenant_id = tenant AND s.revision = p_revision - 1 FOR UPDATE;
        IF NOT FOUND THEN
            RETURN NULL;
        END IF;
        UPDATE weir.site s SET name = p_name, timezone = p_timezone, attributes = p_attributes, revision = p_revision,
            updated_at = now(), archived_at = CASE WHEN p_archived THEN coalesce(s.archived_at, now()) END
            WHERE s.site_id = p_site_id;
        IF p_effective_from IS NULL AND (old.timezone, old.attributes) IS NOT DISTINCT FROM (p_timezone, p_attributes) THEN
            RETURN p_revision;
        END IF;
        moment := weir.effective_moment(p_effective_from);
    END IF;
    DELETE FROM weir.site_version v WHERE v.site_id = p_site_id AND v.effective_from >= moment;
    INSERT INTO weir.site_version (site_id, effective_from, tenant_id, timezone, attributes)
        VALUES (p_site_id, moment, tenant, p_timezone, p_attributes);
    INSERT INTO weir.place_work (tenant_id, sensor_no, from_at)
        SELECT tenant, no, moment FROM weir.placed_since(NULL, p_site_id, moment) AS no ORDER BY no;
    RETURN p_revision;
END $$;

-- The same for a unit; one that moves to another site takes its sensors along.
CREATE FUNCTION weir.record_unit(p_unit_id text, p_revision integer, p_name text, p_kind text, p_site_id text,
    p_attributes jsonb, p_archived boolean, p_effective_from timestamptz) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    tenant text := weir.current_tenant();
    old weir.unit;
    moment timestamptz := weir.first_moment();
BEGIN
    IF p_revision = 1 THEN
        INSERT INTO weir.unit (unit_id, tenant_id, site_id, name, kind, attributes)
            VALUES (p_unit_id, tenant, p_site_id, p_name, p_kind, p_attributes);
    ELSE
        SELECT u.* INTO old FROM weir.unit u
            WHERE u.unit_id = p_unit_id AND u.tenant_id = tenant AND u.revision = p_revision - 1 FOR UPDATE;
        IF NOT FOUND THEN
            RETURN NULL;
        END IF;
        UPDATE weir.unit u SET name = p_name, kind = p_kind, site_id = p_site_id, attributes = p_attributes,
            revision = p_revision, updated_at = now(),
            archived_at = CASE WHEN p_archived THEN coalesce(u.archived_at, now()) END
            WHERE u.unit_id = p_unit_id;
        IF p_effective_from IS NULL
            AND (old.kind, old.site_id, old.attributes) IS NOT DISTINCT FROM (p_kind, p_site_id, p_attributes) THEN
            RETURN p_revision;
        END IF;
        moment := weir.effective_moment(p_effective_from);
    END IF;
    DELETE FROM weir.unit_version v WHERE v.unit_id = p_unit_id AND v.effective_from >= moment;
    INSERT INTO weir.unit_version (unit_id, effective_from, tenant_id, site_id, kind, attributes)
        VALUES (p_unit_id, moment, tenant, p_site_id, p_kind, p_attributes);
    PERFORM weir.move_sensors(p_unit_id, p_site_id, moment);
    INSERT INTO weir.place_work (tenant_id, sensor_no, from_at)
        SELECT tenant, no, moment FROM weir.placed_since(p_unit_id, NULL, moment) AS no ORDER BY no;
    RETURN p_revision;
END $$;

-- From the moment on, the sensors of a unit are at the unit's site.
CREATE FUNCTION weir.move_sensors(p_unit_id text, p_site_id text, p_from timestamptz) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog
AS $$
BEGIN
    PERFORM FROM weir.sensor s WHERE s.unit_id = p_unit_id ORDER BY s.sensor_no FOR UPDATE;
    UPDATE weir.sensor s SET site_id = p_site_id WHERE s.unit_id = p_unit_id AND s.site_id IS DISTINCT FROM p_site_id;
    UPDATE weir.sensor_assignment a SET site_id = p_site_id
        WHERE a.unit_id = p_unit_id AND a.effective_from >= p_from AND a.site_id IS DISTINCT FROM p_site_id;
    INSERT INTO weir.sensor_assignment (sensor_no, effective_from, tenant_id, unit_id, site_id)
        SELECT a.sensor_no, p_from, a.tenant_id, p_unit_id, p_site_id FROM weir.sensor_assignment a
        WHERE a.unit_id = p_unit_id AND a.effective_from < p_from AND a.site_id IS DISTINCT FROM p_site_id
          AND NOT EXISTS (SELECT FROM weir.sensor_assignment b WHERE b.sensor_no = a.sensor_no
                          AND b.effective_from > a.effective_from AND b.effective_from <= p_from);
END $$;

-- A sensor of the current tenant is in this unit from the moment on (now), or without a unit at this site, or nowhere.
-- False: there is no such sensor or unit.
CREATE FUNCTION weir.assign_sensor(p_sensor_id text, p_unit_id text, p_site_id text, p_effective_from timestamptz)
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    tenant text := weir.current_tenant();
    no integer;
    site text := p_site_id;
    moment timestamptz;
BEGIN
    IF p_unit_id IS NOT NULL THEN
        -- A unit that is just being moved is waited for.
        SELECT u.site_id INTO site FROM weir.unit u WHERE u.unit_id = p_unit_id AND u.tenant_id = tenant FOR SHARE;
        IF NOT FOUND THEN
            RETURN false;
        END IF;
    END IF;
    UPDATE weir.sensor s SET unit_id = p_unit_id, site_id = site
        WHERE s.sensor_id = p_sensor_id AND s.tenant_id = tenant RETURNING s.sensor_no INTO no;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    moment := weir.effective_moment(p_effective_from);
    DELETE FROM weir.sensor_assignment a WHERE a.sensor_no = no AND a.effective_from >= moment;
    -- The site that the unit was at then, and those it moved to since.
    INSERT INTO weir.sensor_assignment (sensor_no, effective_from, tenant_id, unit_id, site_id)
        SELECT no, greatest(v.effective_from, moment), tenant, p_unit_id, v.site_id FROM (
            SELECT w.effective_from, w.site_id, lag(w.site_id) OVER past AS site_before, lag(true) OVER past AS has_before,
                   lead(w.effective_from) OVER past AS effective_to
            FROM weir.unit_version w WHERE w.unit_id = p_unit_id WINDOW past AS (ORDER BY w.effective_from)) v
        WHERE coalesce(v.effective_to > moment, true)
          AND (v.effective_from <= moment OR v.has_before IS NULL OR v.site_id IS DISTINCT FROM v.site_before)
        UNION ALL
        SELECT no, moment, tenant, NULL, site WHERE p_unit_id IS NULL;
    INSERT INTO weir.place_work (tenant_id, sensor_no, from_at) VALUES (tenant, no, moment);
    RETURN true;
END $$;

CREATE VIEW public.sites AS
    SELECT site_id, tenant_id, name, timezone, attributes, created_at, updated_at, archived_at FROM weir.site;
CREATE VIEW public.units AS
    SELECT unit_id, tenant_id, site_id, name, kind, attributes, created_at, updated_at, archived_at FROM weir.unit;
CREATE VIEW public.sensors AS
    SELECT sensor_id, tenant_id, device_id, name, unit, expected_interval_ms, site_id, unit_id, created_at, archived_at
    FROM weir.sensor;
-- Where a sensor was in [effective_from, effective_to).
CREATE VIEW public.sensor_assignments AS
    SELECT a.tenant_id, s.sensor_id, a.effective_from,
           lead(a.effective_from) OVER (PARTITION BY a.sensor_no ORDER BY a.effective_from) AS effective_to, a.unit_id, a.site_id
    FROM weir.sensor_assignment a JOIN weir.sensor s USING (sensor_no);
CREATE VIEW weir_tenant.sites WITH (security_barrier) AS
    SELECT * FROM public.sites WHERE tenant_id = weir.current_tenant();
CREATE VIEW weir_tenant.units WITH (security_barrier) AS
    SELECT * FROM public.units WHERE tenant_id = weir.current_tenant();
CREATE VIEW weir_tenant.sensors WITH (security_barrier) AS
    SELECT * FROM public.sensors WHERE tenant_id = weir.current_tenant();
CREATE VIEW weir_tenant.sensor_assignments WITH (security_barrier) AS
    SELECT * FROM public.sensor_assignments WHERE tenant_id = weir.current_tenant();

ALTER TABLE weir.site ENABLE ROW LEVEL SECURITY;
ALTER TABLE weir.site_version ENABLE ROW LEVEL SECURITY;
ALTER TABLE weir.unit ENABLE ROW LEVEL SECURITY;
ALTER TABLE weir.unit_version ENABLE ROW LEVEL SECURITY;
ALTER TABLE weir.sensor_assignment ENABLE ROW LEVEL SECURITY;
ALTER TABLE weir.place_work ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_sites ON weir.site TO weir_reader USING (tenant_id = weir.current_tenant());
CREATE POLICY own_site_versions ON weir.site_version TO weir_reader USING (tenant_id = weir.current_tenant());
CREATE POLICY own_units ON weir.unit TO weir_reader USING (tenant_id = weir.current_tenant());
CREATE POLICY own_unit_versions ON weir.unit_version TO weir_reader USING (tenant_id = weir.current_tenant());
CREATE POLICY own_assignments ON weir.sensor_assignment TO weir_reader USING (tenant_id = weir.current_tenant());
CREATE POLICY own_place_work ON weir.place_work TO weir_reader USING (tenant_id = weir.current_tenant());
CREATE POLICY every_site ON weir.site TO weir_writer USING (true);
CREATE POLICY every_site_version ON weir.site_version TO weir_writer USING (true);
CREATE POLICY every_unit ON weir.unit TO weir_writer USING (true);
CREATE POLICY every_unit_version ON weir.unit_version TO weir_writer USING (true);
CREATE POLICY every_assignment ON weir.sensor_assignment TO weir_writer USING (true);
CREATE POLICY all_place_work ON weir.place_work TO weir_writer USING (true) WITH CHECK (true);

GRANT SELECT ON weir.site, weir.site_version, weir.unit, weir.unit_version, weir.sensor_assignment TO weir_reader, weir_writer;
GRANT SELECT ON weir.place_work TO weir_reader;
GRANT SELECT, INSERT, UPDATE, DELETE ON weir.place_work TO weir_writer;
-- What has no versions and no rules of its own, the reader changes by itself, within its tenant.
GRANT UPDATE (name) ON weir.tenant TO weir_reader;
GRANT UPDATE (unit, expected_interval_ms, archived_at) ON weir.sensor TO weir_reader;
REVOKE EXECUTE ON FUNCTION weir.placed_since, weir.move_sensors, weir.record_site, weir.record_unit, weir.assign_sensor
    FROM PUBLIC;
GRANT EXECUTE ON FUNCTION weir.record_site, weir.record_unit, weir.assign_sensor TO weir_reader;
GRANT SELECT ON public.sites, public.units, public.sensors, public.sensor_assignments TO weir_operator;
GRANT SELECT ON weir_tenant.sites, weir_tenant.units, weir_tenant.sensors, weir_tenant.sensor_assignments
    TO weir_reader;
