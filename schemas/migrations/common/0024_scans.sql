-- Room scans: whose they are, the index of their records, files, results and exports. Payloads are in the object store.
-- Frames and conflicts belong to their scan's tenant: they are read through barrier views, as readings are.

CREATE TABLE weir.scan (
    scan_no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    scan_id text NOT NULL UNIQUE DEFAULT 'scan_' || replace(gen_random_uuid()::text, '-', '')
        CHECK (scan_id ~ '^[A-Za-z0-9][A-Za-z0-9._:~-]{0,127}$'),
    tenant_id text NOT NULL REFERENCES weir.tenant,
    -- Of its first frame, unless the API named one; NULL until then.
    device_id text REFERENCES weir.device,
    name text NOT NULL DEFAULT '' CHECK (length(name) <= 200),
    status text NOT NULL DEFAULT 'receiving'
        CHECK (status IN ('receiving', 'queued', 'processing', 'completed', 'incomplete', 'failed', 'cancelled')),
    -- Higher goes first.
    priority integer NOT NULL DEFAULT 0 CHECK (priority BETWEEN -100 AND 100),
    progress integer NOT NULL DEFAULT 0 CHECK (progress BETWEEN 0 AND 100),
    -- Records stored, `end` not counted; of them by type; those that processing rejected; other bytes for a stored seq.
    received integer NOT NULL DEFAULT 0,
    types jsonb NOT NULL DEFAULT '{}',
    rejected integer NOT NULL DEFAULT 0,
    conflicts integer NOT NULL DEFAULT 0,
    highest_seq integer NOT NULL DEFAULT -1,
    -- How many records come before the end; NULL while nobody has said.
    end_frames integer CHECK (end_frames >= 0),
    -- Whether the records before the end are all there; NULL while more are waited for.
    all_arrived boolean,
    -- Moves with everything that a result depends on: a result of an older version does not complete the scan.
    version bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    last_frame_at timestamptz,
    completed_at timestamptz,
    cancelled_at timestamptz,
    error text,
    preview_at timestamptz NOT NULL DEFAULT '-infinity',
    told_at timestamptz NOT NULL DEFAULT '-infinity',
    -- What usage counts of it: an hour (UTC) and points; NULL until there is a final result.
    metered_hour timestamptz,
    metered_points bigint NOT NULL DEFAULT 0,
    UNIQUE (scan_no, tenant_id)
) WITH (fillfactor = 70);
CREATE INDEX scan_tenant ON weir.scan (tenant_id, created_at DESC, scan_no DESC);
CREATE INDEX scan_waiting ON weir.scan (coalesce(last_frame_at, created_at)) WHERE status = 'receiving';
CREATE INDEX scan_metered ON weir.scan (metered_hour, tenant_id) WHERE metered_hour IS NOT NULL;

CREATE TABLE weir.scan_frame (
    scan_no bigint NOT NULL REFERENCES weir.scan,
    seq integer NOT NULL CHECK (seq >= 0),
    type text NOT NULL CHECK (type IN ('depth', 'points', 'rgb', 'motion', 'location', 'audio', 'part', 'end')),
    captured_at timestamptz,
    -- x, y, z, qx, qy, qz, qw
    pose double precision[],
    -- Of the record's value, which is the object.
    bytes integer NOT NULL,
    sha256 bytea NOT NULL,
    object_key text NOT NULL,
    received_at timestamptz NOT NULL,
    -- Pieces of a file.
    file_id text,
    part_index integer,
    part_total integer,
    file_sha256 bytea,
    -- By the last final result; of bytes that changed since, still those of the bytes before.
    points bigint,
    verdict text CHECK (verdict IN ('accepted', 'rejected')),
    reason text,
    PRIMARY KEY (scan_no, seq)
);
CREATE INDEX scan_frame_file ON weir.scan_frame (scan_no, file_id, part_index, seq) WHERE file_id IS NOT NULL;

-- A scan lies in one chunk, however its clocks go: chunks are by number of the scan.
DO $$
BEGIN
    IF (SELECT engine FROM weir.schema_migration ORDER BY number LIMIT 1) = 'timescale' THEN
        PERFORM public.create_hypertable('weir.scan_frame', public.by_range('scan_no', 10000), create_default_indexes => false);
    END IF;
END $$;

-- Bytes that lost: of several records with one seq the one with the greatest SHA-256 is the frame, in whatever order they came.
CREATE TABLE weir.scan_conflict (
    scan_no bigint NOT NULL REFERENCES weir.scan,
    seq integer NOT NULL,
    sha256 bytea NOT NULL,
    type text NOT NULL,
    bytes integer NOT NULL,
    object_key text NOT NULL,
    received_at timestamptz NOT NULL,
    PRIMARY KEY (scan_no, seq, sha256)
);

CREATE TABLE weir.scan_file (
    scan_no bigint NOT NULL,
    tenant_id text NOT NULL,
    file_id text NOT NULL,
    name text NOT NULL DEFAULT '',
    kind text NOT NULL DEFAULT 'other' CHECK (kind IN ('ply', 'pcd', 'jpeg', 'json', 'other')),
    -- Whole size, if known; how much of it is there.
    bytes bigint CHECK (bytes >= 0),
    received bigint NOT NULL DEFAULT 0,
    sha256 bytea,
    object_key text,
    complete boolean NOT NULL DEFAULT false,
    error text,
    -- By the last final result.
    points bigint,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (scan_no, file_id),
    FOREIGN KEY (scan_no, tenant_id) REFERENCES weir.scan (scan_no, tenant_id)
);

-- The newest row holds; at most one provisional row is kept.
CREATE TABLE weir.scan_result (
    scan_no bigint NOT NULL,
    tenant_id text NOT NULL,
    version integer NOT NULL CHECK (version >= 1),
    document jsonb NOT NULL,
    provisional boolean NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (scan_no, version),
    FOREIGN KEY (scan_no, tenant_id) REFERENCES weir.scan (scan_no, tenant_id)
);

CREATE TABLE weir.scan_export (
    scan_no bigint NOT NULL,
    tenant_id text NOT NULL,
    format text NOT NULL,
    bytes bigint NOT NULL,
    sha256 bytea NOT NULL,
    object_key text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (scan_no, format),
    FOREIGN KEY (scan_no, tenant_id) REFERENCES weir.scan (scan_no, tenant_id)
);

-- Numbers below the end (below the highest, while the end is unknown) that have not come: the first 10 000.
CREATE FUNCTION weir.scan_missing(p_scan_no bigint, p_end integer) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog
AS $$
    SELECT coalesce(jsonb_agg(m.seq ORDER BY m.seq), '[]') FROM (
        SELECT generate_series(g.before + 1, least(g.next - 1, g.before + 10000)) AS seq FROM (
            SELECT q.seq AS before, lead(q.seq, 1, p_end) OVER (ORDER BY q.seq) AS next FROM (
                SELECT -1 AS seq UNION ALL
                SELECT f.seq FROM weir.scan_frame f WHERE f.scan_no = p_scan_no AND f.seq < p_end) q) g
        WHERE g.next > g.before + 1 ORDER BY 1 LIMIT 10000) m
$$;

CREATE FUNCTION weir.scan_rejections(p_scan_no bigint) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog
AS $$
    SELECT coalesce(jsonb_agg(jsonb_build_object('seq', r.seq, 'reason', r.reason) ORDER BY r.seq), '[]') FROM (
        SELECT f.seq, f.reason FROM weir.scan_frame f WHERE f.scan_no = p_scan_no AND f.verdict = 'rejected'
        ORDER BY f.seq LIMIT 10000) r
$$;

CREATE FUNCTION weir.scan_conflicts_of(p_scan_no bigint) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog
AS $$
    SELECT coalesce(jsonb_agg(jsonb_build_object('seq', c.seq, 'sha256', encode(c.sha256, 'hex'), 'bytes', c.bytes)
                    ORDER BY c.seq, c.sha256), '[]')
    FROM (SELECT * FROM weir.scan_conflict WHERE scan_no = p_scan_no ORDER BY seq, sha256 LIMIT 1000) c
$$;

-- The scan as the outside sees it (SCAN_FRAMES): what processing found, under what is known of the scan itself.
CREATE FUNCTION weir.scan_document(s weir.scan) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog
AS $$
    SELECT jsonb_build_object('room_dimensions', NULL, 'uncertainty', NULL, 'verdict', NULL, 'confidence', NULL, 'completeness', NULL,
               'missing_parts', '[]'::jsonb, 'floor_polygon', '[]'::jsonb, 'openings', '[]'::jsonb, 'objects', '[]'::jsonb,
               'processing', NULL)
        || coalesce(r.document, '{}') - 'rejected'
        || jsonb_build_object(
            'scan_id', s.scan_id, 'tenant_id', s.tenant_id, 'device_id', s.device_id, 'name', s.name, 'status', s.status,
            'priority', s.priority, 'progress', CASE WHEN s.status IN ('completed', 'incomplete') THEN 100 ELSE s.progress END,
            'provisional', coalesce(r.provisional, false),
            'frames', jsonb_build_object(
                'received', s.received, 'accepted', s.received - s.rejected, 'expected', s.end_frames, 'types', s.types,
                'rejected', CASE WHEN s.rejected = 0 THEN '[]' ELSE weir.scan_rejections(s.scan_no) END,
                'conflicts', CASE WHEN s.conflicts = 0 THEN '[]' ELSE weir.scan_conflicts_of(s.scan_no) END,
                'missing', CASE WHEN s.all_arrived OR s.end_frames IS NULL AND s.received = s.highest_seq + 1 THEN '[]'
                           ELSE weir.scan_missing(s.scan_no, coalesce(s.end_frames, s.highest_seq + 1)) END),
            'model', '{"vertices": 0, "triangles": 0}'::jsonb || coalesce(r.document -> 'model', '{}') || jsonb_build_object(
                'formats', (SELECT coalesce(jsonb_agg(e.format ORDER BY e.format), '[]') FROM weir.scan_export e
                            WHERE e.scan_no = s.scan_no)),
            'files', (SELECT coalesce(jsonb_agg(jsonb_build_object(
                          'file_id', f.file_id, 'name', f.name, 'kind', f.kind, 'bytes', f.bytes, 'received', f.received,
                          'complete', f.complete, 'error', f.error) ORDER BY f.created_at, f.file_id), '[]')
                      FROM weir.scan_file f WHERE f.scan_no = s.scan_no),
            'error', s.error, 'created_at', weir.shown_time(s.created_at), 'last_frame_at', weir.shown_time(s.last_frame_at),
            'completed_at', weir.shown_time(s.completed_at), 'cancelled_at', weir.shown_time(s.cancelled_at))
    FROM (SELECT) AS one
    LEFT JOIN LATERAL (SELECT t.document, t.provisional FROM weir.scan_result t WHERE t.scan_no = s.scan_no
                       ORDER BY t.version DESC LIMIT 1) r ON true
$$;

CREATE FUNCTION weir.scan_by_id(p_scan_id text) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog
AS $$ SELECT weir.scan_document(s) FROM weir.scan s WHERE s.scan_id = p_scan_id $$;

-- The same for the current tenant; the API finds it under the same name.
CREATE FUNCTION weir_tenant.scan_by_id(p_scan_id text) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog
AS $$ SELECT weir.scan_document(s) FROM weir.scan s WHERE s.scan_id = p_scan_id AND s.tenant_id = weir.current_tenant() $$;

-- Newest first, after the scan with this time and number.
CREATE FUNCTION weir_tenant.scan_page(p_statuses text[], p_device_id text, p_start timestamptz, p_end timestamptz,
                                      p_after_at timestamptz, p_after_no bigint, p_limit integer)
RETURNS TABLE (created_at timestamptz, scan_no bigint, document jsonb)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog
AS $$
    SELECT s.created_at, s.scan_no, weir.scan_document(s) FROM weir.scan s
    WHERE s.tenant_id = weir.current_tenant()
      AND (p_statuses IS NULL OR s.status = ANY (p_statuses)) AND (p_device_id IS NULL OR s.device_id = p_device_id)
      AND s.created_at >= coalesce(p_start, '-infinity') AND s.created_at < coalesce(p_end, 'infinity')
      AND (p_after_at IS NULL OR (s.created_at, s.scan_no) < (p_after_at, p_after_no))
    ORDER BY s.created_at DESC, s.scan_no DESC LIMIT p_limit
$$;

-- Puts a job of a scan into its queue: one at a time runs, one of a kind waits. `scans.preview` comes at most once a second.
CREATE FUNCTION weir.enqueue_scan_job(p_scan_no bigint, p_task text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    s weir.scan;
    due timestamptz;
BEGIN
    SELECT * INTO s FROM weir.scan WHERE scan_no = p_scan_no FOR NO KEY UPDATE;
    IF p_task = 'scans.preview' THEN
        due := greatest(clock_timestamp(), s.preview_at + interval '1 second');
        UPDATE weir.scan SET preview_at = due WHERE scan_no = p_scan_no AND preview_at <= clock_timestamp();
        IF NOT FOUND THEN
            RETURN; -- one waits
        END IF;
    END IF;
    PERFORM weir_jobs.procrastinate_defer_jobs_v1(ARRAY[
        ROW('scans', p_task, s.priority, 'scan:' || s.scan_no, p_task || ':' || s.scan_no,
            jsonb_build_object('tenant_id', s.tenant_id, 'scan_id', s.scan_id), due)
        ]::weir_jobs.procrastinate_job_to_defer_v1[]);
EXCEPTION WHEN unique_violation THEN
    NULL; -- one waits
END $$;

-- The live row of a scan; the last thing that its transaction does.
CREATE FUNCTION weir.tell_scan(p_scan_nos bigint[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
BEGIN
    UPDATE weir.scan SET told_at = clock_timestamp() WHERE scan_no = ANY (p_scan_nos);
    PERFORM weir.emit_live(array_agg(s.tenant_id ORDER BY s.scan_no), array_agg('scans'::text),
                           array_agg(weir.scan_document(s) ORDER BY s.scan_no))
    FROM weir.scan s WHERE s.scan_no = ANY (p_scan_nos) HAVING count(*) > 0;
END $$;

-- Whether everything before the end is there decides how the scan goes on. After a change of its records or its end.
CREATE FUNCTION weir.settle_scan(p_scan_no bigint, p_timed_out boolean DEFAULT false) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    s weir.scan;
    arrived boolean;
BEGIN
    SELECT * INTO s FROM weir.scan WHERE scan_no = p_scan_no FOR NO KEY UPDATE;
    IF s.status = 'cancelled' THEN
        RETURN s.status;
    END IF;
    arrived := s.end_frames IS NOT NULL AND s.received >= s.end_frames
        AND (SELECT count(*) FROM weir.scan_frame f WHERE f.scan_no = p_scan_no AND f.seq < s.end_frames) = s.end_frames;
    UPDATE weir.scan SET
        all_arrived = CASE WHEN arrived THEN true WHEN p_timed_out THEN false END,
        status = CASE WHEN arrived OR p_timed_out THEN 'queued' ELSE 'receiving' END,
        progress = 0, error = NULL, completed_at = NULL, version = s.version + 1
    WHERE scan_no = p_scan_no;
    PERFORM weir.enqueue_scan_job(p_scan_no, CASE WHEN arrived OR p_timed_out THEN 'scans.process' ELSE 'scans.preview' END);
    RETURN CASE WHEN arrived OR p_timed_out THEN 'queued' ELSE 'receiving' END;
END $$;

-- What usage shows of a scan becomes what its last final result says; what changed is published.
CREATE FUNCTION weir.meter_scan(p_scan_no bigint, p_topic text, p_headers jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    s weir.scan;
    hour timestamptz;
    points bigint;
    change record;
BEGIN
    SELECT * INTO s FROM weir.scan WHERE scan_no = p_scan_no FOR NO KEY UPDATE;
    SELECT date_trunc('hour', coalesce(min(f.captured_at), s.created_at), 'UTC'), coalesce(sum(f.points), 0)
           + (SELECT coalesce(sum(u.points), 0) FROM weir.scan_file u WHERE u.scan_no = p_scan_no)
        INTO hour, points FROM weir.scan_frame f WHERE f.scan_no = p_scan_no AND f.verdict = 'accepted';
    FOR change IN
        SELECT c.meter, c.bucket_start, sum(c.quantity)::bigint AS quantity FROM (VALUES
            ('scans', hour, 1::bigint), ('scan_points', hour, points),
            ('scans', s.metered_hour, -1), ('scan_points', s.metered_hour, -s.metered_points)) AS c (meter, bucket_start, quantity)
        WHERE c.bucket_start IS NOT NULL GROUP BY 1, 2 HAVING sum(c.quantity) <> 0 ORDER BY 1, 2
    LOOP
        INSERT INTO weir.usage (tenant_id, meter, bucket_start, quantity, revision)
            VALUES (s.tenant_id, change.meter, change.bucket_start, 0, 0) ON CONFLICT DO NOTHING;
        WITH changed AS (
            UPDATE weir.usage u SET quantity = u.quantity + change.quantity, revision = u.revision + 1
            WHERE u.tenant_id = s.tenant_id AND u.meter = change.meter AND u.bucket_start = change.bucket_start RETURNING u.*)
        INSERT INTO weir.topic_outbox (topic, key, value, headers)
            SELECT p_topic, convert_to(c.tenant_id, 'UTF8'), convert_to(
                weir.usage_document(c.tenant_id, c.meter, c.bucket_start, c.quantity, c.revision)::text, 'UTF8'), p_headers
            FROM changed c;
    END LOOP;
    UPDATE weir.scan SET metered_hour = hour, metered_points = points WHERE scan_no = p_scan_no;
END $$;

-- For the API, under the current tenant. NULL: there is no such scan, or no such device.
CREATE FUNCTION weir_tenant.create_scan(p_name text, p_device_id text, p_priority integer) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    number bigint;
BEGIN
    IF p_device_id IS NOT NULL AND NOT EXISTS (
        SELECT FROM weir.device d WHERE d.device_id = p_device_id AND d.tenant_id = weir.current_tenant() AND d.revoked_at IS NULL) THEN
        RETURN NULL;
    END IF;
    INSERT INTO weir.scan (tenant_id, device_id, name, priority)
        VALUES (weir.current_tenant(), p_device_id, coalesce(p_name, ''), coalesce(p_priority, 0)) RETURNING scan_no INTO number;
    PERFORM weir.tell_scan(ARRAY[number]);
    RETURN (SELECT weir.scan_document(s) FROM weir.scan s WHERE s.scan_no = number);
END $$;

-- As the `end` record does: p_frames records in all, or (NULL) those up to the highest that is there. Of a scan that has ended
-- it changes nothing.
CREATE FUNCTION weir_tenant.complete_scan(p_scan_id text, p_frames integer) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    number bigint;
BEGIN
    UPDATE weir.scan s SET end_frames = coalesce(s.end_frames, p_frames, s.highest_seq + 1)
        WHERE s.scan_id = p_scan_id AND s.tenant_id = weir.current_tenant() AND s.status = 'receiving'
        RETURNING s.scan_no INTO number;
    IF FOUND THEN
        PERFORM weir.settle_scan(number);
        PERFORM weir.tell_scan(ARRAY[number]);
    END IF;
    RETURN weir_tenant.scan_by_id(p_scan_id);
END $$;

-- A scan that has its result stays as it is.
CREATE FUNCTION weir_tenant.cancel_scan(p_scan_id text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    number bigint;
BEGIN
    UPDATE weir.scan s SET status = 'cancelled', cancelled_at = now(), version = s.version + 1
        WHERE s.scan_id = p_scan_id AND s.tenant_id = weir.current_tenant()
          AND s.status IN ('receiving', 'queued', 'processing', 'failed')
        RETURNING s.scan_no INTO number;
    IF FOUND THEN
        PERFORM weir.tell_scan(ARRAY[number]);
    END IF;
    RETURN weir_tenant.scan_by_id(p_scan_id);
END $$;

-- Another try for a scan that failed.
CREATE FUNCTION weir_tenant.retry_scan(p_scan_id text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    number bigint;
    arrived boolean;
BEGIN
    SELECT s.scan_no, s.all_arrived INTO number, arrived FROM weir.scan s
        WHERE s.scan_id = p_scan_id AND s.tenant_id = weir.current_tenant() AND s.status = 'failed' FOR NO KEY UPDATE;
    IF FOUND THEN
        PERFORM weir.settle_scan(number, arrived IS NOT TRUE);
        PERFORM weir.tell_scan(ARRAY[number]);
    END IF;
    RETURN weir_tenant.scan_by_id(p_scan_id);
END $$;

CREATE VIEW public.scans AS
    SELECT s.tenant_id, s.scan_id, s.device_id, s.name, s.status, s.priority, s.progress, s.received AS frames_received,
           s.received - s.rejected AS frames_accepted, s.end_frames AS frames_expected, s.conflicts AS frame_conflicts,
           r.document ->> 'verdict' AS verdict, (r.document ->> 'confidence')::float8 AS confidence,
           (r.document ->> 'completeness')::float8 AS completeness,
           (d.m ->> 'length')::float8 AS length, (d.m ->> 'width')::float8 AS width, (d.m ->> 'height')::float8 AS height,
           (d.m ->> 'area')::float8 AS area, (d.m ->> 'volume')::float8 AS volume, (d.m ->> 'perimeter')::float8 AS perimeter,
           s.metered_points AS points, s.metered_hour AS bucket_start, s.created_at, s.last_frame_at, s.completed_at,
           s.cancelled_at, s.error, s.scan_no
    FROM weir.scan s
    LEFT JOIN LATERAL (SELECT t.document FROM weir.scan_result t WHERE t.scan_no = s.scan_no AND NOT t.provisional
                       ORDER BY t.version DESC LIMIT 1) r ON true
    LEFT JOIN LATERAL (SELECT r.document -> 'room_dimensions' AS m) d ON true;
CREATE VIEW public.scan_frames AS
    SELECT s.tenant_id, s.scan_id, s.device_id, f.seq, f.type, f.captured_at, f.pose, f.bytes, encode(f.sha256, 'hex') AS sha256,
           f.points, f.verdict, f.reason, f.received_at, f.file_id, f.part_index, f.part_total, f.object_key, f.scan_no
    FROM weir.scan_frame f JOIN weir.scan s USING (scan_no);
CREATE VIEW public.scan_conflicts AS
    SELECT s.tenant_id, s.scan_id, s.device_id, c.seq, c.type, c.bytes, encode(c.sha256, 'hex') AS sha256, c.received_at,
           c.object_key, c.scan_no
    FROM weir.scan_conflict c JOIN weir.scan s USING (scan_no);
CREATE VIEW public.scan_files AS SELECT s.scan_id, f.* FROM weir.scan_file f JOIN weir.scan s USING (scan_no);
CREATE VIEW public.scan_results AS SELECT s.scan_id, r.* FROM weir.scan_result r JOIN weir.scan s USING (scan_no);
CREATE VIEW public.scan_exports AS SELECT s.scan_id, e.* FROM weir.scan_export e JOIN weir.scan s USING (scan_no);
CREATE VIEW weir_tenant.scans WITH (security_barrier) AS SELECT * FROM public.scans WHERE tenant_id = weir.current_tenant();
CREATE VIEW weir_tenant.scan_frames WITH (security_barrier) AS
    SELECT * FROM public.scan_frames WHERE tenant_id = weir.current_tenant();
CREATE VIEW weir_tenant.scan_conflicts WITH (security_barrier) AS
    SELECT * FROM public.scan_conflicts WHERE tenant_id = weir.current_tenant();
CREATE VIEW weir_tenant.scan_files WITH (security_barrier) AS
    SELECT * FROM public.scan_files WHERE tenant_id = weir.current_tenant();
CREATE VIEW weir_tenant.scan_results WITH (security_barrier) AS
    SELECT * FROM public.scan_results WHERE tenant_id = weir.current_tenant();
CREATE VIEW weir_tenant.scan_exports WITH (security_barrier) AS
    SELECT * FROM public.scan_exports WHERE tenant_id = weir.current_tenant();

ALTER TABLE weir.scan ENABLE ROW LEVEL SECURITY;
ALTER TABLE weir.scan_file ENABLE ROW LEVEL SECURITY;
ALTER TABLE weir.scan_result ENABLE ROW LEVEL SECURITY;
ALTER TABLE weir.scan_export ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_scans ON weir.scan TO weir_reader USING (tenant_id = weir.current_tenant()) WITH CHECK (tenant_id = weir.current_tenant());
CREATE POLICY own_files ON weir.scan_file TO weir_reader USING (tenant_id = weir.current_tenant());
CREATE POLICY own_results ON weir.scan_result TO weir_reader USING (tenant_id = weir.current_tenant());
CREATE POLICY own_exports ON weir.scan_export TO weir_reader USING (tenant_id = weir.current_tenant());
CREATE POLICY every_scan ON weir.scan TO weir_writer USING (true) WITH CHECK (true);
CREATE POLICY every_file ON weir.scan_file TO weir_writer USING (true) WITH CHECK (true);
CREATE POLICY every_result ON weir.scan_result TO weir_writer USING (true) WITH CHECK (true);
CREATE POLICY every_export ON weir.scan_export TO weir_writer USING (true) WITH CHECK (true);

GRANT SELECT ON weir.scan, weir.scan_file, weir.scan_result, weir.scan_export TO weir_reader;
GRANT UPDATE (name, priority) ON weir.scan TO weir_reader;
GRANT SELECT, INSERT, UPDATE, DELETE ON weir.scan, weir.scan_frame, weir.scan_conflict, weir.scan_file, weir.scan_result,
    weir.scan_export TO weir_writer;
GRANT SELECT ON public.scans, public.scan_frames, public.scan_conflicts, public.scan_files, public.scan_results,
    public.scan_exports TO weir_operator;
GRANT SELECT ON weir_tenant.scans, weir_tenant.scan_frames, weir_tenant.scan_conflicts, weir_tenant.scan_files,
    weir_tenant.scan_results, weir_tenant.scan_exports TO weir_reader;
REVOKE EXECUTE ON FUNCTION weir.scan_missing, weir.scan_rejections, weir.scan_conflicts_of, weir.scan_document, weir.scan_by_id,
    weir.enqueue_scan_job, weir.tell_scan, weir.settle_scan, weir.meter_scan, weir_tenant.scan_by_id, weir_tenant.scan_page,
    weir_tenant.create_scan, weir_tenant.complete_scan, weir_tenant.cancel_scan, weir_tenant.retry_scan FROM PUBLIC;
GRANT EXECUTE ON FUNCTION weir.scan_missing, weir.scan_rejections, weir.scan_conflicts_of, weir.scan_document, weir.scan_by_id,
    weir.enqueue_scan_job, weir.tell_scan, weir.settle_scan, weir.meter_scan TO weir_writer;
GRANT EXECUTE ON FUNCTION weir_tenant.scan_by_id, weir_tenant.scan_page, weir_tenant.create_scan, weir_tenant.complete_scan,
    weir_tenant.cancel_scan, weir_tenant.retry_scan TO weir_reader;

-- What people do to scans; workers make and move them as records come.
CREATE TRIGGER audit AFTER UPDATE OF name, priority, cancelled_at ON weir.scan
    FOR EACH ROW EXECUTE FUNCTION weir.audit_row('scan', 'scan_id');
CREATE TRIGGER audit_made AFTER INSERT ON weir.scan
    FOR EACH ROW WHEN (weir.current_tenant() IS NOT NULL) EXECUTE FUNCTION weir.audit_row('scan', 'scan_id');

-- The API's transactions tell of scans through their functions; nothing called this.
DROP FUNCTION weir.emit_own_live;
