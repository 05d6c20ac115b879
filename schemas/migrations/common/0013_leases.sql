-- Turns at work that one process at a time does (core/leases.py): the outbox relay, changed rules, silence, stalled jobs.

CREATE TABLE weir.lease (
    name text PRIMARY KEY,
    -- A number of one turn, not of a process: who comes back from standing still has lost it.
    holder text NOT NULL,
    expires_at timestamptz NOT NULL
) WITH (fillfactor = 20);

GRANT SELECT, INSERT, UPDATE, DELETE ON weir.lease TO weir_writer;
