-- How the lives of workers end: a worker that keeps failing must not look ready while it is up.

ALTER TABLE weir.worker_heartbeat
    -- The life that wrote this row is over.
    ADD COLUMN ended boolean NOT NULL DEFAULT false,
    -- When a life under this name last ended otherwise than in order.
    ADD COLUMN failed_at timestamptz;
