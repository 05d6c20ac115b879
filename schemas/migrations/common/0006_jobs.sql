-- Jobs: every attempt with its error, what may be seen of the queue (procrastinate's tables in weir_jobs), replayed dead letters.
-- Functions, not views, look into weir_jobs: a view would stand in the way of procrastinate's own migrations.

CREATE TABLE weir.job_attempt (
    -- No foreign key: the queue's tables are procrastinate's and may outlive or predecease an attempt.
    job_id bigint NOT NULL,
    attempt integer NOT NULL CHECK (attempt >= 1),
    task text NOT NULL,
    queue text NOT NULL,
    started_at timestamptz NOT NULL,
    ended_at timestamptz,
    -- interrupted: the worker was told to stop; lost: it died; superseded: an equal job was waiting already.
    outcome text NOT NULL DEFAULT 'running'
        CHECK (outcome IN ('running', 'succeeded', 'retried', 'failed', 'interrupted', 'lost', 'superseded')),
    error_class text,
    error_text text,
    next_at timestamptz,
    PRIMARY KEY (job_id, attempt)
);
CREATE INDEX job_attempt_task ON weir.job_attempt (task, started_at DESC);
CREATE INDEX job_attempt_started ON weir.job_attempt (started_at);

GRANT SELECT, INSERT, UPDATE, DELETE ON weir.job_attempt TO weir_writer;

CREATE FUNCTION weir.job_states()
RETURNS TABLE (job_id bigint, tenant_id text, task text, queue text, status text, priority integer, attempts integer,
               lock text, enqueued_at timestamptz, scheduled_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog
AS $$
    SELECT j.id, j.args ->> 'tenant_id', j.task_name, j.queue_name, j.status::text, j.priority, j.attempts, j.lock,
           (SELECT min(e.at) FROM weir_jobs.procrastinate_events e WHERE e.job_id = j.id AND e.type = 'deferred'),
           j.scheduled_at
    FROM weir_jobs.procrastinate_jobs j
$$;

-- A tenant's jobs are those whose arguments name it; locks, arguments and error texts are the operator's.
CREATE FUNCTION weir_tenant.own_jobs()
RETURNS TABLE (job_id bigint, tenant_id text, task text, queue text, status text, attempts integer,
               enqueued_at timestamptz, scheduled_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog
AS $$
    SELECT s.job_id, s.tenant_id, s.task, s.queue, s.status, s.attempts, s.enqueued_at, s.scheduled_at
    FROM weir.job_states() s WHERE s.tenant_id = weir.current_tenant()
$$;

CREATE VIEW public.jobs AS SELECT * FROM weir.job_states();
CREATE VIEW public.job_attempts AS SELECT * FROM weir.job_attempt;
CREATE VIEW weir_tenant.jobs AS SELECT * FROM weir_tenant.own_jobs();

REVOKE EXECUTE ON FUNCTION weir.job_states, weir_tenant.own_jobs FROM PUBLIC;
GRANT EXECUTE ON FUNCTION weir.job_states TO weir_operator;
GRANT EXECUTE ON FUNCTION weir_tenant.own_jobs TO weir_reader;
GRANT SELECT ON public.jobs, public.job_attempts TO weir_operator;
GRANT SELECT ON weir_tenant.jobs TO weir_reader;

-- `weir dead-letters` works under either role: reads the operator's view, marks whole records.
CREATE FUNCTION public.mark_dead_letters_replayed(p_topics text[], p_identities text[], p_partitions integer[], p_offsets bigint[])
RETURNS integer
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog
AS $$
    WITH marked AS (
        UPDATE weir.dead_letter d SET replayed_at = now()
        FROM unnest(p_topics, p_identities, p_partitions, p_offsets) AS r (topic, topic_identity, partition, "offset")
        WHERE (d.topic, d.topic_identity, d.partition, d."offset") = (r.topic, r.topic_identity, r.partition, r."offset")
        RETURNING 1)
    SELECT count(*)::integer FROM marked
$$;
REVOKE EXECUTE ON FUNCTION public.mark_dead_letters_replayed FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.mark_dead_letters_replayed TO weir_operator, weir_writer;
GRANT SELECT ON public.dead_letters TO weir_writer;
