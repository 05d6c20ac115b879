-- Finds the scan of an object by its key, whose third part is this hash (sinks/objects.py).
CREATE INDEX scan_folder ON weir.scan (left(encode(sha256(scan_id::bytea), 'hex'), 32));
