-- Adjustments are charged: what no push can tell any more becomes a line of the customer's next invoice.

-- One line for what came late of a meter in a UTC month (periods are months); Stripe takes 250 lines an invoice. Of active sensors
-- the month's last hour is what is billed, so a charge is what that came to be worth. `number` grows with each key it is sent under.
CREATE TABLE weir.usage_charge (
    charge_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id text NOT NULL REFERENCES weir.billing_account,
    meter text NOT NULL,
    month timestamptz NOT NULL,
    -- The hours it speaks of.
    starts_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL CHECK (ends_at > starts_at),
    -- Negative: a credit.
    quantity bigint NOT NULL,
    number integer NOT NULL DEFAULT 1,
    -- free: there is nothing to pay, and `detail` says why.
    state text NOT NULL CHECK (state IN ('pending', 'sent', 'acknowledged', 'rejected', 'ambiguous', 'free')),
    attempts integer NOT NULL DEFAULT 0,
    next_at timestamptz NOT NULL DEFAULT '-infinity',
    created_at timestamptz NOT NULL DEFAULT now(),
    first_sent_at timestamptz,
    settled_at timestamptz,
    -- The invoice item.
    item_id text,
    -- When an invoice of its own was asked for: no period follows that would bill it.
    invoiced_at timestamptz,
    detail text
) WITH (fillfactor = 70);
CREATE INDEX usage_charge_open ON weir.usage_charge (tenant_id, charge_id) WHERE state IN ('pending', 'sent', 'ambiguous');
CREATE INDEX usage_charge_month ON weir.usage_charge (tenant_id, meter, month);

ALTER TABLE weir.usage_adjustment ADD COLUMN charge_id bigint REFERENCES weir.usage_charge;
CREATE INDEX usage_adjustment_uncharged ON weir.usage_adjustment (tenant_id, meter, bucket_start) WHERE charge_id IS NULL;

-- Until now whoever runs Weir charged adjustments or waived them: nobody pays twice.
WITH settled AS (
    INSERT INTO weir.usage_charge (tenant_id, meter, month, starts_at, ends_at, quantity, state, settled_at, detail)
    SELECT tenant_id, meter, date_trunc('month', bucket_start, 'UTC'), min(bucket_start), max(bucket_start) + interval '1 hour',
           sum(quantity), 'free', now(), 'from before adjustments were charged: settled by hand'
    FROM weir.usage_adjustment GROUP BY 1, 2, 3
    RETURNING charge_id, tenant_id, meter, month)
UPDATE weir.usage_adjustment a SET charge_id = s.charge_id FROM settled s
WHERE (a.tenant_id, a.meter, date_trunc('month', a.bucket_start, 'UTC')) = (s.tenant_id, s.meter, s.month);

-- As before, and what was adjusted has to be charged: a day is given to what comes late together, and two hours to Stripe.
CREATE OR REPLACE FUNCTION weir.usage_differences(p_tenant_ids text[], p_from timestamptz, p_to timestamptz)
RETURNS TABLE (tenant_id text, meter text, bucket_start timestamptz, stored bigint, metered bigint, pushed bigint,
               adjusted bigint, stripe bigint, difference bigint, explanation text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog
AS $$
    WITH counted AS (
        SELECT tenant_id, meter, bucket_start, coalesce(s.quantity, 0) AS stored, coalesce(u.quantity, 0) AS metered, u.changed_at
        FROM weir.stored_usage(p_tenant_ids, p_from, p_to) s
        FULL JOIN (SELECT * FROM weir.usage m WHERE m.bucket_start >= p_from AND m.bucket_start < p_to
                     AND (p_tenant_ids IS NULL OR m.tenant_id = ANY (p_tenant_ids))) u USING (tenant_id, meter, bucket_start)),
    uncharged AS (
        SELECT a.tenant_id, a.meter, a.bucket_start, sum(a.quantity)::bigint AS quantity,
               max(coalesce(c.state || coalesce(': ' || c.detail, ''), 'missing')) AS why
        FROM weir.usage_adjustment a LEFT JOIN weir.usage_charge c USING (charge_id)
        WHERE coalesce(c.state, 'missing') NOT IN ('acknowledged', 'free') AND a.created_at + interval '26 hours' < now()
          AND a.bucket_start >= p_from AND a.bucket_start < p_to AND (p_tenant_ids IS NULL OR a.tenant_id = ANY (p_tenant_ids))
        GROUP BY 1, 2, 3 HAVING sum(a.quantity) <> 0),
    billed AS (
        SELECT c.*, a.tenant_id IS NOT NULL AS is_billed,
               coalesce(p.acked_quantity, 0) AS pushed, coalesce(p.adjusted, 0) AS adjusted, p.state, p.detail,
               greatest(c.bucket_start + interval '1 hour', c.changed_at) + interval '5 minutes' < now() AS is_overdue,
               CASE WHEN v.read_at > p.settled_at OR p.settled_at IS NULL THEN v.quantity END AS stripe,
               x.quantity AS uncharged, x.why
        FROM counted c
        LEFT JOIN weir.billing_account a ON a.tenant_id = c.tenant_id
             AND (c.bucket_start >= date_trunc('hour', a.subscribed_at, 'UTC') OR c.changed_at >= a.activated_at)
             AND c.bucket_start < coalesce(a.ended_at, 'infinity')
        LEFT JOIN weir.usage_push p ON p.tenant_id = c.tenant_id AND p.meter = c.meter AND p.bucket_start = c.bucket_start
        LEFT JOIN weir.provider_usage v ON v.tenant_id = c.tenant_id AND v.meter = c.meter AND v.bucket_start = c.bucket_start
        LEFT JOIN uncharged x ON x.tenant_id = c.tenant_id AND x.meter = c.meter AND x.bucket_start = c.bucket_start)
    SELECT b.tenant_id, b.meter, b.bucket_start, b.stored, b.metered,
           CASE WHEN b.is_billed THEN b.pushed END, CASE WHEN b.is_billed THEN b.adjusted END, CASE WHEN b.is_billed THEN b.stripe END,
           CASE WHEN b.metered <> b.stored THEN b.metered - b.stored
                WHEN b.is_overdue AND b.pushed + b.adjusted <> b.metered THEN b.pushed + b.adjusted - b.metered
                WHEN b.stripe <> b.pushed THEN b.stripe - b.pushed
                ELSE -b.uncharged END,
           CASE WHEN b.metered < b.stored THEN 'stored rows were not metered'
                WHEN b.metered > b.stored THEN 'more was metered than is stored'
                WHEN b.is_overdue AND b.pushed + b.adjusted <> b.metered THEN
                    'the push is ' || coalesce(b.state || coalesce(': ' || b.detail, ''), 'missing')
                WHEN b.stripe < b.pushed THEN 'Stripe counts less than it has acknowledged'
                WHEN b.stripe > b.pushed THEN 'Stripe counts more than it was told'
                ELSE 'the charge of its adjustment is ' || b.why END
    FROM billed b
    WHERE b.metered <> b.stored
       OR b.is_billed AND (b.is_overdue AND b.pushed + b.adjusted <> b.metered OR b.stripe <> b.pushed OR b.uncharged IS NOT NULL)
$$;

-- And days whose adjustments are not charged yet, or were since.
CREATE OR REPLACE FUNCTION weir.touched_days() RETURNS TABLE (day timestamptz, tenant_ids text[])
LANGUAGE sql STABLE SET search_path = pg_catalog
AS $$
    WITH since AS MATERIALIZED (SELECT proved_at - interval '15 minutes' AS at FROM weir.usage_proof)
    SELECT t.day, array_agg(DISTINCT t.tenant_id) FROM (
        SELECT u.tenant_id, date_bin('1 day', u.bucket_start, 'epoch') AS day FROM weir.usage u
        WHERE greatest(u.changed_at, u.bucket_start + interval '1 hour') >= (SELECT at FROM since)
        UNION ALL
        SELECT p.tenant_id, date_bin('1 day', p.bucket_start, 'epoch') FROM weir.usage_push p
        WHERE p.settled_at >= (SELECT at FROM since) OR p.state NOT IN ('acknowledged', 'adjusted')
        UNION ALL
        SELECT v.tenant_id, date_bin('1 day', v.bucket_start, 'epoch') FROM weir.provider_usage v WHERE v.read_at >= (SELECT at FROM since)
        UNION ALL
        SELECT a.tenant_id, date_bin('1 day', a.bucket_start, 'epoch')
        FROM weir.usage_adjustment a LEFT JOIN weir.usage_charge c USING (charge_id)
        WHERE c.settled_at >= (SELECT at FROM since) OR coalesce(c.state, 'missing') NOT IN ('acknowledged', 'free')
        UNION ALL
        SELECT n.tenant_id, n.day FROM weir.usage_unproved n) t
    GROUP BY 1
$$;

CREATE OR REPLACE VIEW public.usage_adjustments AS
    SELECT a.adjustment_id, a.tenant_id, a.meter, a.bucket_start, a.quantity, a.reason, a.created_at, a.charge_id,
           c.state AS charge_state, c.item_id
    FROM weir.usage_adjustment a LEFT JOIN weir.usage_charge c USING (charge_id);
CREATE OR REPLACE VIEW weir_tenant.usage_adjustments WITH (security_barrier) AS
    SELECT a.adjustment_id, a.tenant_id, a.meter, a.bucket_start, a.quantity, a.reason, a.created_at, a.charge_id,
           c.state AS charge_state, c.item_id
    FROM weir.usage_adjustment a LEFT JOIN weir.usage_charge c USING (charge_id) WHERE a.tenant_id = weir.current_tenant();
CREATE VIEW public.usage_charges AS SELECT * FROM weir.usage_charge;
GRANT SELECT ON public.usage_charges TO weir_operator;

ALTER TABLE weir.usage_charge ENABLE ROW LEVEL SECURITY;
CREATE POLICY every_charge ON weir.usage_charge TO weir_writer USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE ON weir.usage_charge TO weir_writer;
