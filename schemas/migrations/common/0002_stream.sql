-- The stream's own books: positions, lost ranges, what was refused, what waits to be published, who works.

CREATE TABLE weir.stream_position (
    topic text NOT NULL,
    partition integer NOT NULL,
    -- A topic that was deleted and made again starts at offset 0 under another identity.
    topic_identity text NOT NULL,
    next_offset bigint NOT NULL CHECK (next_offset >= 0),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, partition)
) WITH (fillfactor = 20);

-- Offsets that the log no longer had when a worker came for them: lost data, never glided over.
CREATE TABLE weir.stream_gap (
    topic text NOT NULL,
    partition integer NOT NULL,
    topic_identity text NOT NULL,
    from_offset bigint NOT NULL,
    to_offset bigint NOT NULL CHECK (to_offset > from_offset),
    detected_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, topic_identity, partition, from_offset)
);

-- The original bytes, once per record, however many of its readings were refused.
CREATE TABLE weir.dead_letter_record (
    topic text NOT NULL,
    topic_identity text NOT NULL,
    partition integer NOT NULL,
    "offset" bigint NOT NULL,
    key bytea,
    value bytea,
    headers jsonb NOT NULL,
    broker_timestamp_ms bigint,
    PRIMARY KEY (topic, topic_identity, partition, "offset")
);

CREATE TABLE weir.dead_letter (
    dead_letter_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id text,
    device_id text,
    sensor text,
    reason text NOT NULL,
    detail text NOT NULL,
    topic text NOT NULL,
    topic_identity text NOT NULL,
    partition integer NOT NULL,
    "offset" bigint NOT NULL,
    index integer,
    refused_at timestamptz NOT NULL,
    replayed_at timestamptz,
    UNIQUE NULLS NOT DISTINCT (topic, topic_identity, partition, "offset", index),
    FOREIGN KEY (topic, topic_identity, partition, "offset") REFERENCES weir.dead_letter_record
);
CREATE INDEX dead_letter_tenant ON weir.dead_letter (tenant_id, refused_at);
CREATE INDEX dead_letter_sensor ON weir.dead_letter (device_id, sensor, refused_at);

-- Every refusal is counted; past a device's allowance only samples keep their bytes (kept < refused).
CREATE TABLE weir.refusal_count (
    minute timestamptz NOT NULL,
    device_id text NOT NULL,
    reason text NOT NULL,
    tenant_id text,
    refused bigint NOT NULL,
    kept bigint NOT NULL,
    first_offset bigint NOT NULL,
    last_offset bigint NOT NULL,
    topic text NOT NULL,
    partition integer NOT NULL,
    PRIMARY KEY (minute, device_id, reason, topic, partition)
);

-- One open alarm per kind and subject, for the people who run Weir.
CREATE TABLE weir.operator_alarm (
    alarm_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL,
    subject text NOT NULL,
    detail text NOT NULL,
    opened_at timestamptz NOT NULL DEFAULT now(),
    last_seen_at timestamptz NOT NULL DEFAULT now(),
    closed_at timestamptz
);
CREATE UNIQUE INDEX operator_alarm_open ON weir.operator_alarm (kind, subject) WHERE closed_at IS NULL;

-- Records that the relay publishes to Kafka after the commit, at least once and in order per key.
CREATE TABLE weir.topic_outbox (
    outbox_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic text NOT NULL,
    key bytea,
    value bytea,
    headers jsonb NOT NULL DEFAULT '[]'
);

CREATE TABLE weir.worker_heartbeat (
    worker_id text PRIMARY KEY,
    started_at timestamptz NOT NULL,
    beat_at timestamptz NOT NULL,
    -- [{"topic", "partition", "next_offset", "end_offset"}]
    partitions jsonb NOT NULL,
    -- Counters and gauges of the process, exported by the API's /metrics.
    metrics jsonb NOT NULL
);

GRANT SELECT, INSERT, UPDATE, DELETE ON weir.stream_position, weir.stream_gap, weir.dead_letter_record, weir.dead_letter,
    weir.refusal_count, weir.operator_alarm, weir.topic_outbox, weir.worker_heartbeat TO weir_writer;
GRANT SELECT ON weir.stream_position, weir.stream_gap, weir.operator_alarm, weir.worker_heartbeat TO weir_reader;

CREATE VIEW public.stream_positions AS
    SELECT topic, partition, next_offset, topic_identity, updated_at FROM weir.stream_position;

CREATE VIEW public.dead_letters AS
    SELECT d.tenant_id, d.reason, d.device_id, d.sensor, d.topic, d.partition, d."offset", d.index, d.detail,
           d.refused_at, d.replayed_at, d.dead_letter_id, d.topic_identity, r.key, r.value, r.headers, r.broker_timestamp_ms
    FROM weir.dead_letter d JOIN weir.dead_letter_record r USING (topic, topic_identity, partition, "offset");

CREATE VIEW weir_tenant.dead_letters WITH (security_barrier) AS
    SELECT * FROM public.dead_letters WHERE tenant_id = weir.current_tenant();

CREATE VIEW public.refusal_counts AS SELECT * FROM weir.refusal_count;
CREATE VIEW public.operator_alarms AS SELECT * FROM weir.operator_alarm;
CREATE VIEW public.stream_gaps AS SELECT * FROM weir.stream_gap;

GRANT SELECT ON public.stream_positions, public.dead_letters, public.refusal_counts, public.operator_alarms, public.stream_gaps TO weir_operator;
GRANT SELECT ON weir_tenant.dead_letters TO weir_reader;
