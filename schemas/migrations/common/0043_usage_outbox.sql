-- Metering of many tenants: what a batch changes is handed to the relay as one row, not as a record for each tenant.

-- Usage rows of a meter as one statement left them: arrays of one length. The relay publishes a record for each place, in order per tenant,
-- since whoever changes a usage row holds it from before this row is numbered until the commit.
CREATE TABLE weir.usage_outbox (
    outbox_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic text NOT NULL,
    meter text NOT NULL,
    tenant_ids text[] NOT NULL,
    hours timestamptz[] NOT NULL,
    quantities bigint[] NOT NULL,
    revisions bigint[] NOT NULL
);
-- Rows live for a moment: compressing them would cost more than writing them.
ALTER TABLE weir.usage_outbox
    ALTER COLUMN tenant_ids SET STORAGE EXTERNAL, ALTER COLUMN hours SET STORAGE EXTERNAL,
    ALTER COLUMN quantities SET STORAGE EXTERNAL, ALTER COLUMN revisions SET STORAGE EXTERNAL;
GRANT SELECT, INSERT, DELETE ON weir.usage_outbox TO weir_writer;

-- A batch changes one hour of many tenants: led by the hour, their keys lie on a few pages instead of on one each, which the
-- caches keep between batches. Whoever asks for a tenant's usage finds it by the second index.
CREATE INDEX usage_tenant ON weir.usage (tenant_id, meter, bucket_start);
ALTER TABLE weir.usage DROP CONSTRAINT usage_pkey, ADD PRIMARY KEY (bucket_start, tenant_id, meter);
DROP INDEX weir.usage_bucket;
