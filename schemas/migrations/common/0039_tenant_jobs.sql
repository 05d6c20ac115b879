-- Jobs as a tenant sees them: what is worked on for it in the background, how far that is and what came of it. A job follows
-- the work that it is about by triggers, in the same transactions, and its live row is written at their commit: no change of a
-- job is without one, and none is told that did not happen. How the queue runs them (attempts, locks, workers) is the operator's.

CREATE TABLE weir.tenant_job (
    job_no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id text NOT NULL UNIQUE DEFAULT 'job_' || replace(gen_random_uuid()::text, '-', ''),
    tenant_id text NOT NULL REFERENCES weir.tenant,
    kind text NOT NULL CHECK (kind IN ('rule_evaluation', 'place_evaluation', 'scan_processing')),
    -- What it is about, one of them, and what that was called when the job began.
    rule_id text,
    scan_id text,
    sensor_id text,
    unit_id text,
    site_id text,
    name text NOT NULL,
    status text NOT NULL DEFAULT 'queued' CHECK (status IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
    progress integer NOT NULL DEFAULT 0 CHECK (progress BETWEEN 0 AND 100),
    -- Sensors to judge again, and those that are; NULL where progress is told otherwise.
    sensors_total integer,
    sensors_done integer,
    attempts integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    finished_at timestamptz,
    error text,
    CHECK ((finished_at IS NULL) = (status IN ('queued', 'running')))
) WITH (fillfactor = 70);
CREATE INDEX tenant_job_newest ON weir.tenant_job (tenant_id, created_at DESC, job_no DESC);
CREATE INDEX tenant_job_finished ON weir.tenant_job (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX tenant_job_unfinished ON weir.tenant_job (tenant_id, job_no) WHERE finished_at IS NULL;
-- A scan is processed by one job at a time.
CREATE UNIQUE INDEX tenant_job_scan ON weir.tenant_job (scan_id) WHERE finished_at IS NULL AND scan_id IS NOT NULL;

-- No foreign keys: jobs are forgotten after a while.
ALTER TABLE weir.rule_work ADD COLUMN job_no bigint;
ALTER TABLE weir.place_work ADD COLUMN job_no bigint;

CREATE FUNCTION weir.job_document(j weir.tenant_job) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog
AS $$
    SELECT jsonb_build_object(
        'job_id', j.job_id, 'tenant_id', j.tenant_id, 'kind', j.kind, 'rule_id', j.rule_id, 'scan_id', j.scan_id,
        'sensor_id', j.sensor_id, 'unit_id', j.unit_id, 'site_id', j.site_id, 'name', j.name, 'status', j.status,
        'progress', j.progress, 'attempts', j.attempts, 'created_at', weir.shown_time(j.created_at),
        'started_at', weir.shown_time(j.started_at), 'finished_at', weir.shown_time(j.finished_at), 'error', j.error)
$$;

-- Deferred to the commit, so that the tenant's head is locked last whatever else the transaction does.
CREATE FUNCTION weir.tell_job() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
BEGIN
    PERFORM weir.emit_live(ARRAY[NEW.tenant_id], ARRAY['jobs'], ARRAY[weir.job_document(NEW)]);
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER tell_new_job AFTER INSERT ON weir.tenant_job DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION weir.tell_job();
CREATE CONSTRAINT TRIGGER tell_job AFTER UPDATE ON weir.tenant_job DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN ((OLD.status, OLD.progress, OLD.attempts) IS DISTINCT FROM (NEW.status, NEW.progress, NEW.attempts))
    EXECUTE FUNCTION weir.tell_job();

-- Rules: a version makes work, its sensors are judged again one by one.
CREATE FUNCTION weir.rule_job_made() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
BEGIN
    INSERT INTO weir.tenant_job (tenant_id, kind, rule_id, name)
    SELECT NEW.tenant_id, 'rule_evaluation', r.rule_id, coalesce(
        (SELECT v.document ->> 'name' FROM weir.rule_version v WHERE v.rule_no = r.rule_no AND v.document IS NOT NULL
         ORDER BY v.version DESC LIMIT 1), '')
    FROM weir.rule r WHERE r.rule_no = NEW.rule_no RETURNING job_no INTO NEW.job_no;
    RETURN NEW;
END $$;
CREATE TRIGGER job_made BEFORE INSERT ON weir.rule_work FOR EACH ROW EXECUTE FUNCTION weir.rule_job_made();

-- Whoever does the work counts its sensors first: each time is an attempt.
CREATE FUNCTION weir.rule_job_begun() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
BEGIN
    UPDATE weir.tenant_job j SET status = 'running', progress = 0, attempts = j.attempts + 1, sensors_total = NEW.sensors_total,
        sensors_done = 0, started_at = coalesce(j.started_at, clock_timestamp())
    WHERE j.job_no = NEW.job_no AND j.finished_at IS NULL;
    RETURN NULL;
END $$;
CREATE TRIGGER job_begun AFTER UPDATE OF sensors_total ON weir.rule_work FOR EACH ROW EXECUTE FUNCTION weir.rule_job_begun();

CREATE FUNCTION weir.rule_job_moved() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    percent integer := least(99, NEW.sensors_done * 100 / greatest(NEW.sensors_total, 1));
BEGIN
    -- A row of a job changes at most a hundred times, however many sensors there are.
    UPDATE weir.tenant_job j SET sensors_done = NEW.sensors_done, progress = percent
        WHERE j.job_no = NEW.job_no AND j.finished_at IS NULL AND j.progress <> percent AND NEW.done_at IS NULL;
    UPDATE weir.tenant_job j
        SET status = 'succeeded', progress = 100, sensors_done = NEW.sensors_done, finished_at = clock_timestamp()
        WHERE j.job_no = NEW.job_no AND j.finished_at IS NULL AND NEW.done_at IS NOT NULL;
    RETURN NULL;
END $$;
CREATE TRIGGER job_moved AFTER UPDATE OF sensors_done, done_at ON weir.rule_work
    FOR EACH ROW EXECUTE FUNCTION weir.rule_job_moved();

-- Places: one change is one job, with a row of work a sensor. Says what changed by one of the last three.
CREATE FUNCTION weir.have_judged(p_tenant_id text, p_sensor_nos integer[], p_from timestamptz, p_name text,
    p_sensor_id text DEFAULT NULL, p_unit_id text DEFAULT NULL, p_site_id text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog
AS $$
DECLARE
    job bigint;
BEGIN
    IF cardinality(p_sensor_nos) = 0 THEN
        RETURN;
    END IF;
    INSERT INTO weir.tenant_job (tenant_id, kind, sensor_id, unit_id, site_id, name, sensors_total, sensors_done)
        VALUES (p_tenant_id, 'place_evaluation', p_sensor_id, p_unit_id, p_site_id, p_name, cardinality(p_sensor_nos), 0)
        RETURNING job_no INTO job;
    INSERT INTO weir.place_work (tenant_id, sensor_no, from_at, job_no)
        SELECT p_tenant_id, s.no, p_from, job FROM unnest(p_sensor_nos) WITH ORDINALITY AS s (no, n) ORDER BY s.n;
END $$;

-- For the worker, before it judges these rows.
CREATE FUNCTION weir.begin_place_jobs(p_work_ids bigint[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    job bigint;
BEGIN
    -- Heads are locked in the order of the tenants.
    FOR job IN
        SELECT j.job_no FROM weir.tenant_job j
        WHERE j.finished_at IS NULL AND j.job_no IN (SELECT w.job_no FROM weir.place_work w WHERE w.work_id = ANY (p_work_ids))
        ORDER BY j.tenant_id, j.job_no
    LOOP
        UPDATE weir.tenant_job j
            SET status = 'running', attempts = j.attempts + 1, started_at = coalesce(j.started_at, clock_timestamp())
            WHERE j.job_no = job;
    END LOOP;
END $$;

CREATE FUNCTION weir.place_jobs_moved() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
BEGIN
    UPDATE weir.tenant_job j SET sensors_done = j.sensors_done + d.sensors,
        status = CASE WHEN j.sensors_done + d.sensors >= j.sensors_total THEN 'succeeded' ELSE 'running' END,
        progress = least(100, (j.sensors_done + d.sensors) * 100 / j.sensors_total),
        attempts = greatest(j.attempts, 1), started_at = coalesce(j.started_at, clock_timestamp()),
        finished_at = CASE WHEN j.sensors_done + d.sensors >= j.sensors_total THEN clock_timestamp() END
    FROM (SELECT n.job_no, count(*)::integer AS sensors FROM new_rows n JOIN old_rows o USING (work_id)
          WHERE n.done_at IS NOT NULL AND o.done_at IS NULL GROUP BY 1) d
    WHERE j.job_no = d.job_no AND j.finished_at IS NULL;
    RETURN NULL;
END $$;
CREATE TRIGGER jobs_moved AFTER UPDATE ON weir.place_work REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION weir.place_jobs_moved();

-- As in 0010; what they have judged again is a job.
CREATE OR REPLACE FUNCTION weir.record_site(p_site_id text, p_revision integer, p_name text, p_timezone text, p_attributes jsonb,
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
    PERFORM weir.have_judged(tenant, ARRAY(SELECT * FROM weir.placed_since(NULL, p_site_id, moment) AS no ORDER BY no), moment,
                             p_name, p_site_id => p_site_id);
    RETURN p_revision;
END $$;
CREATE OR REPLACE FUNCTION weir.record_unit(p_unit_id text, p_revision integer, p_name text, p_kind text, p_site_id text,
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
    PERFORM weir.have_judged(tenant, ARRAY(SELECT * FROM weir.placed_since(p_unit_id, NULL, moment) AS no ORDER BY no), moment,
                             p_name, p_unit_id => p_unit_id);
    RETURN p_revision;
END $$;
CREATE OR REPLACE FUNCTION weir.assign_sensor(p_sensor_id text, p_unit_id text, p_site_id text, p_effective_from timestamptz)
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
    PERFORM weir.have_judged(tenant, ARRAY[no], moment, s.name, p_sensor_id => s.sensor_id)
        FROM weir.sensor s WHERE s.sensor_no = no;
    RETURN true;
END $$;
CREATE OR REPLACE FUNCTION weir.interval_changed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
BEGIN
    PERFORM weir.have_judged(NEW.tenant_id, ARRAY[NEW.sensor_no], weir.first_moment(), NEW.name, p_sensor_id => NEW.sensor_id);
    RETURN NULL;
END $$;

-- Scans: from its end to its result. More records begin it anew.
CREATE FUNCTION weir.scan_job_moved() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    is_running boolean := NEW.status = 'processing';
BEGIN
    IF NEW.status IN ('queued', 'processing') THEN
        -- An attempt begins by saying that nothing is done yet.
        UPDATE weir.tenant_job j SET status = CASE WHEN is_running THEN 'running' ELSE 'queued' END, progress = NEW.progress,
            attempts = j.attempts + (is_running AND NEW.progress = 0)::integer,
            started_at = CASE WHEN is_running THEN coalesce(j.started_at, clock_timestamp()) ELSE j.started_at END
        WHERE j.scan_id = NEW.scan_id AND j.finished_at IS NULL;
        IF NOT FOUND THEN
            INSERT INTO weir.tenant_job (tenant_id, kind, scan_id, name, status, progress, attempts, started_at)
                VALUES (NEW.tenant_id, 'scan_processing', NEW.scan_id, NEW.name, CASE WHEN is_running THEN 'running' ELSE 'queued' END,
                        NEW.progress, is_running::integer, CASE WHEN is_running THEN clock_timestamp() END);
        END IF;
    ELSE
        UPDATE weir.tenant_job j SET finished_at = clock_timestamp(), error = NEW.error,
            status = CASE WHEN NEW.status = 'failed' THEN 'failed' WHEN NEW.status IN ('completed', 'incomplete') THEN 'succeeded'
                     ELSE 'cancelled' END,
            progress = CASE WHEN NEW.status IN ('completed', 'incomplete') THEN 100 ELSE j.progress END
        WHERE j.scan_id = NEW.scan_id AND j.finished_at IS NULL;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER job_moved AFTER UPDATE OF status ON weir.scan
    FOR EACH ROW WHEN (NEW.status <> 'receiving' OR OLD.status <> 'receiving') EXECUTE FUNCTION weir.scan_job_moved();

-- The queue's rows said nothing that a tenant can use.
DROP VIEW weir_tenant.jobs;
DROP FUNCTION weir_tenant.own_jobs;
CREATE VIEW public.tenant_jobs AS SELECT * FROM weir.tenant_job;
CREATE VIEW weir_tenant.jobs WITH (security_barrier) AS
    SELECT j.job_no, j.job_id, j.tenant_id, j.kind, j.status, j.created_at, j.finished_at, weir.job_document(j) AS document
    FROM weir.tenant_job j WHERE j.tenant_id = weir.current_tenant();

ALTER TABLE weir.tenant_job ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_jobs ON weir.tenant_job TO weir_reader USING (tenant_id = weir.current_tenant());
CREATE POLICY every_job ON weir.tenant_job TO weir_writer USING (true);
GRANT SELECT ON weir.tenant_job TO weir_reader;
GRANT SELECT, DELETE ON weir.tenant_job TO weir_writer;
GRANT SELECT ON public.tenant_jobs TO weir_operator;
GRANT SELECT ON weir_tenant.jobs TO weir_reader;
REVOKE EXECUTE ON FUNCTION weir.job_document, weir.tell_job, weir.rule_job_made, weir.rule_job_begun, weir.rule_job_moved,
    weir.have_judged, weir.begin_place_jobs, weir.place_jobs_moved, weir.scan_job_moved FROM PUBLIC;
GRANT EXECUTE ON FUNCTION weir.job_document TO weir_reader, weir_writer;
GRANT EXECUTE ON FUNCTION weir.begin_place_jobs TO weir_writer;
