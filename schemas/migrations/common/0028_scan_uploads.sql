-- Files of scans on their way over HTTP (tus 1.0), in pieces of a few megabytes; once whole they become rows of weir.scan_file.
-- A piece's object is stored before its row is, so what a row says is there.

CREATE TABLE weir.scan_upload (
    file_id text PRIMARY KEY DEFAULT 'fil_' || replace(gen_random_uuid()::text, '-', ''),
    tenant_id text NOT NULL,
    scan_no bigint NOT NULL,
    name text NOT NULL CHECK (length(name) <= 200),
    kind text NOT NULL,
    bytes bigint NOT NULL CHECK (bytes > 0),
    received bigint NOT NULL DEFAULT 0 CHECK (received BETWEEN 0 AND bytes),
    pieces integer NOT NULL DEFAULT 0 CHECK (pieces <= 20000),
    created_at timestamptz NOT NULL DEFAULT now(),
    -- It is forgotten then, unless more comes.
    expires_at timestamptz NOT NULL,
    FOREIGN KEY (scan_no, tenant_id) REFERENCES weir.scan (scan_no, tenant_id)
);
CREATE INDEX scan_upload_scan ON weir.scan_upload (scan_no);
CREATE INDEX scan_upload_expiry ON weir.scan_upload (expires_at);

CREATE TABLE weir.scan_upload_piece (
    file_id text NOT NULL REFERENCES weir.scan_upload ON DELETE CASCADE,
    tenant_id text NOT NULL,
    at_byte bigint NOT NULL CHECK (at_byte >= 0),
    bytes integer NOT NULL CHECK (bytes > 0),
    object_key text NOT NULL,
    PRIMARY KEY (file_id, at_byte)
);

-- A scan whose file still comes is not one that fell silent.
CREATE FUNCTION weir.scan_heard(p_scan_no bigint) RETURNS void
LANGUAGE sql SET search_path = pg_catalog
AS $$
    UPDATE weir.scan SET last_frame_at = clock_timestamp() WHERE scan_no = p_scan_no AND status = 'receiving'
$$;

-- NULL: the scan takes no files (any more).
CREATE FUNCTION weir_tenant.begin_scan_upload(p_scan_id text, p_name text, p_kind text, p_bytes bigint, p_patience interval)
RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    number bigint;
    made text;
BEGIN
    SELECT s.scan_no INTO number FROM weir.scan s
        WHERE s.scan_id = p_scan_id AND s.tenant_id = weir.current_tenant() AND s.status = 'receiving' FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    INSERT INTO weir.scan_upload (tenant_id, scan_no, name, kind, bytes, expires_at)
        VALUES (weir.current_tenant(), number, p_name, p_kind, p_bytes, now() + p_patience) RETURNING file_id INTO made;
    PERFORM weir.scan_heard(number);
    RETURN made;
END $$;

-- Pieces that follow one another from an offset. False: the upload is somewhere else by now, or gone.
CREATE FUNCTION weir_tenant.append_scan_upload(p_file_id text, p_offset bigint, p_bytes integer[], p_keys text[],
                                               p_patience interval) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    size bigint := (SELECT sum(b) FROM unnest(p_bytes) AS b);
    number bigint;
BEGIN
    UPDATE weir.scan_upload u SET received = received + size, pieces = pieces + cardinality(p_bytes), expires_at = now() + p_patience
        WHERE u.file_id = p_file_id AND u.tenant_id = weir.current_tenant() AND u.received = p_offset AND u.received + size <= u.bytes
        RETURNING u.scan_no INTO number;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    INSERT INTO weir.scan_upload_piece (file_id, tenant_id, at_byte, bytes, object_key)
        SELECT p_file_id, weir.current_tenant(), p_offset + sum(p.bytes) OVER (ORDER BY p.n) - p.bytes, p.bytes, p.key
        FROM unnest(p_bytes, p_keys) WITH ORDINALITY AS p (bytes, key, n);
    PERFORM weir.scan_heard(number);
    RETURN true;
END $$;

-- The whole file is one object now: it joins its scan, which goes on by what it has. False: another was faster.
CREATE FUNCTION weir_tenant.finish_scan_upload(p_file_id text, p_sha256 bytea, p_object_key text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    u weir.scan_upload;
BEGIN
    DELETE FROM weir.scan_upload d WHERE d.file_id = p_file_id AND d.tenant_id = weir.current_tenant() AND d.received = d.bytes
        RETURNING d.* INTO u;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    INSERT INTO weir.scan_file (scan_no, tenant_id, file_id, name, kind, bytes, received, sha256, object_key, complete, created_at)
        VALUES (u.scan_no, u.tenant_id, u.file_id, u.name, u.kind, u.bytes, u.bytes, p_sha256, p_object_key, true, u.created_at);
    PERFORM weir.scan_heard(u.scan_no);
    PERFORM weir.settle_scan(u.scan_no);
    PERFORM weir.tell_scan(ARRAY[u.scan_no]);
    RETURN true;
END $$;

ALTER TABLE weir.scan_upload ENABLE ROW LEVEL SECURITY;
ALTER TABLE weir.scan_upload_piece ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_uploads ON weir.scan_upload TO weir_reader USING (tenant_id = weir.current_tenant());
CREATE POLICY own_pieces ON weir.scan_upload_piece TO weir_reader USING (tenant_id = weir.current_tenant());
CREATE POLICY every_upload ON weir.scan_upload TO weir_writer USING (true);
CREATE POLICY every_piece ON weir.scan_upload_piece TO weir_writer USING (true);
GRANT SELECT, DELETE ON weir.scan_upload TO weir_reader, weir_writer;
GRANT SELECT ON weir.scan_upload_piece TO weir_reader, weir_writer;
REVOKE EXECUTE ON FUNCTION weir.scan_heard, weir_tenant.begin_scan_upload, weir_tenant.append_scan_upload,
    weir_tenant.finish_scan_upload FROM PUBLIC;
GRANT EXECUTE ON FUNCTION weir_tenant.begin_scan_upload, weir_tenant.append_scan_upload, weir_tenant.finish_scan_upload
    TO weir_reader;

CREATE TRIGGER audit AFTER INSERT ON weir.scan_upload FOR EACH ROW EXECUTE FUNCTION weir.audit_row('scan_file', 'file_id');
