-- What tenants pay for: subscriptions, periods, what the payment provider was told of usage and what it counts.

CREATE TABLE weir.billing_account (
    tenant_id text PRIMARY KEY REFERENCES weir.tenant,
    customer_id text NOT NULL UNIQUE,
    subscription_id text UNIQUE,
    -- As Stripe names them; NULL: never subscribed.
    status text,
    status_since timestamptz,
    -- Usage is pushed from the hour on in which the subscription began, and for earlier ones if it was metered since we know
    -- of the subscription, to the hour in which it ended.
    subscribed_at timestamptz,
    activated_at timestamptz,
    ended_at timestamptz,
    period_start timestamptz,
    period_end timestamptz,
    cancel_at_period_end boolean NOT NULL DEFAULT false,
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- Periods whose invoice is final: their usage is corrected by adjustments only.
CREATE TABLE weir.billing_period (
    tenant_id text NOT NULL REFERENCES weir.billing_account,
    starts_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL CHECK (ends_at > starts_at),
    invoice_id text NOT NULL UNIQUE,
    is_final boolean NOT NULL,
    PRIMARY KEY (tenant_id, starts_at)
);

-- Webhook events as they came, each once; a job acts on them.
CREATE TABLE weir.billing_event (
    event_id text PRIMARY KEY,
    type text NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    body jsonb NOT NULL,
    processed_at timestamptz,
    attempts integer NOT NULL DEFAULT 0,
    outcome text
);
CREATE INDEX billing_event_open ON weir.billing_event (received_at) WHERE processed_at IS NULL;

-- The newest push of each hour. `quantity` is the hour's total that it stands for; `acked_quantity` the one that the provider
-- surely has. An ambiguous push is sent again under its own identifier, or settled by reading what the provider counts.
CREATE TABLE weir.usage_push (
    tenant_id text NOT NULL REFERENCES weir.billing_account,
    meter text NOT NULL,
    bucket_start timestamptz NOT NULL,
    number integer NOT NULL DEFAULT 1,
    revision bigint NOT NULL,
    quantity bigint NOT NULL,
    state text NOT NULL CHECK (state IN ('pending', 'sent', 'acknowledged', 'rejected', 'ambiguous', 'adjusted')),
    attempts integer NOT NULL DEFAULT 0,
    next_at timestamptz NOT NULL DEFAULT '-infinity',
    first_sent_at timestamptz,
    settled_at timestamptz,
    acked_quantity bigint,
    adjusted bigint NOT NULL DEFAULT 0,
    detail text,
    PRIMARY KEY (tenant_id, meter, bucket_start)
) WITH (fillfactor = 70);
CREATE INDEX usage_push_open ON weir.usage_push (tenant_id, bucket_start, meter) WHERE state IN ('pending', 'sent', 'ambiguous');

-- Corrections that no push can make any more, dated and with their reason.
CREATE TABLE weir.usage_adjustment (
    adjustment_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id text NOT NULL REFERENCES weir.billing_account,
    meter text NOT NULL,
    bucket_start timestamptz NOT NULL,
    quantity bigint NOT NULL,
    reason text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX usage_adjustment_hour ON weir.usage_adjustment (tenant_id, bucket_start);

-- What the provider counts of each hour, as it was last read.
CREATE TABLE weir.provider_usage (
    tenant_id text NOT NULL REFERENCES weir.billing_account,
    meter text NOT NULL,
    bucket_start timestamptz NOT NULL,
    quantity bigint NOT NULL,
    read_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, meter, bucket_start)
);

-- Called by the API before any tenant is known, once the signature holds. True: it is new.
CREATE FUNCTION weir.receive_billing_event(p_event_id text, p_type text, p_body jsonb) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
BEGIN
    INSERT INTO weir.billing_event (event_id, type, body) VALUES (p_event_id, p_type, p_body) ON CONFLICT DO NOTHING;
    RETURN FOUND;
END $$;

-- The customer of the current tenant, remembered once.
CREATE FUNCTION weir.remember_customer(p_customer_id text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
BEGIN
    INSERT INTO weir.billing_account (tenant_id, customer_id) VALUES (weir.current_tenant(), p_customer_id) ON CONFLICT DO NOTHING;
    RETURN (SELECT a.customer_id FROM weir.billing_account a WHERE a.tenant_id = weir.current_tenant());
END $$;

-- Both sides of every hour since a tenant subscribed: what was stored and metered is compared first, then what the provider
-- was told once that is overdue, then what it counts once that was read after the last push settled.
CREATE OR REPLACE FUNCTION weir.usage_differences(p_tenant_id text, p_from timestamptz, p_to timestamptz)
RETURNS TABLE (tenant_id text, meter text, bucket_start timestamptz, stored bigint, metered bigint, pushed bigint,
               adjusted bigint, stripe bigint, difference bigint, explanation text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog
AS $$
    WITH counted AS (
        SELECT tenant_id, meter, bucket_start, coalesce(s.quantity, 0) AS stored, coalesce(u.quantity, 0) AS metered, u.changed_at
        FROM weir.stored_usage(p_tenant_id, p_from, p_to) s
        FULL JOIN (SELECT * FROM weir.usage m
                   WHERE m.meter IN ('readings', 'active_sensors') AND m.bucket_start >= p_from AND m.bucket_start < p_to
                     AND (p_tenant_id IS NULL OR m.tenant_id = p_tenant_id)) u USING (tenant_id, meter, bucket_start)
        UNION ALL
        -- Scans have no recount yet: what was metered of them speaks for itself.
        SELECT m.tenant_id, m.meter, m.bucket_start, m.quantity, m.quantity, m.changed_at FROM weir.usage m
        WHERE m.meter NOT IN ('readings', 'active_sensors') AND m.bucket_start >= p_from AND m.bucket_start < p_to
          AND (p_tenant_id IS NULL OR m.tenant_id = p_tenant_id)),
    billed AS (
        SELECT c.*, a.tenant_id IS NOT NULL AS is_billed,
               coalesce(p.acked_quantity, 0) AS pushed, coalesce(p.adjusted, 0) AS adjusted, p.state, p.detail,
               greatest(c.bucket_start + interval '1 hour', c.changed_at) + interval '5 minutes' < now() AS is_overdue,
               CASE WHEN v.read_at > p.settled_at OR p.settled_at IS NULL THEN v.quantity END AS stripe
        FROM counted c
        LEFT JOIN weir.billing_account a ON a.tenant_id = c.tenant_id
             AND (c.bucket_start >= date_trunc('hour', a.subscribed_at, 'UTC') OR c.changed_at >= a.activated_at)
             AND c.bucket_start < coalesce(a.ended_at, 'infinity')
        LEFT JOIN weir.usage_push p ON p.tenant_id = c.tenant_id AND p.meter = c.meter AND p.bucket_start = c.bucket_start
        LEFT JOIN weir.provider_usage v ON v.tenant_id = c.tenant_id AND v.meter = c.meter AND v.bucket_start = c.bucket_start)
    SELECT b.tenant_id, b.meter, b.bucket_start, b.stored, b.metered,
           CASE WHEN b.is_billed THEN b.pushed END, CASE WHEN b.is_billed THEN b.adjusted END, CASE WHEN b.is_billed THEN b.stripe END,
           CASE WHEN b.metered <> b.stored THEN b.metered - b.stored
                WHEN b.is_overdue AND b.pushed + b.adjusted <> b.metered THEN b.pushed + b.adjusted - b.metered
                ELSE b.stripe - b.pushed END,
           CASE WHEN b.metered < b.stored THEN 'stored rows were not metered'
                WHEN b.metered > b.stored THEN 'more was metered than is stored'
                WHEN b.is_overdue AND b.pushed + b.adjusted <> b.metered THEN
                    'the push is ' || coalesce(b.state || coalesce(': ' || b.detail, ''), 'missing')
                WHEN b.stripe < b.pushed THEN 'Stripe counts less than it has acknowledged'
                ELSE 'Stripe counts more than it was told' END
    FROM billed b
    WHERE b.metered <> b.stored
       OR b.is_billed AND (b.is_overdue AND b.pushed + b.adjusted <> b.metered OR b.stripe <> b.pushed)
$$;

CREATE VIEW public.usage_pushes AS SELECT * FROM weir.usage_push;
CREATE VIEW public.usage_adjustments AS SELECT * FROM weir.usage_adjustment;
CREATE VIEW public.provider_usage AS SELECT * FROM weir.provider_usage;
CREATE VIEW public.billing_accounts AS SELECT a.*, t.plan FROM weir.billing_account a JOIN weir.tenant t USING (tenant_id);
CREATE VIEW public.billing_events AS SELECT * FROM weir.billing_event;
GRANT SELECT ON public.usage_pushes, public.usage_adjustments, public.provider_usage, public.billing_accounts, public.billing_events
    TO weir_operator;

ALTER TABLE weir.billing_account ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_account ON weir.billing_account TO weir_reader USING (tenant_id = weir.current_tenant());
CREATE POLICY every_account ON weir.billing_account TO weir_writer USING (true) WITH CHECK (true);
GRANT SELECT ON weir.billing_account TO weir_reader;
GRANT SELECT, INSERT, UPDATE, DELETE ON weir.billing_account, weir.billing_period, weir.billing_event, weir.usage_push,
    weir.usage_adjustment, weir.provider_usage TO weir_writer;
GRANT UPDATE (plan) ON weir.tenant TO weir_writer;
REVOKE EXECUTE ON FUNCTION weir.receive_billing_event, weir.remember_customer FROM PUBLIC;
GRANT EXECUTE ON FUNCTION weir.receive_billing_event, weir.remember_customer TO weir_reader;
