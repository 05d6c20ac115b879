"""Which hours are to be pushed: only those that ended or changed since the last look, in transactions of bounded size.

Looked at are the hours of the last three, those that a change left a mark for (migration 0023), all of an account whose
subscription changed, and pushes that came too late. Border: rows in, rows out; sending is `accounts.billing.pushes`'s.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from core.postgres import Connection, Pool

# Timestamps are accepted for 35 days: with room for a slow clock.
SURELY_ACCEPTED: Final = timedelta(days=34)
# An invoice is final an hour after its period, or later: what a run begins to send before this is surely on it.
SURELY_OPEN: Final = timedelta(minutes=50)
_MARKS_AT_ONCE: Final = 20_000
_ACCOUNTS_AT_ONCE: Final = 50

# Changes of hours that began less than two hours before leave no mark; they commit within the hour that is left.
_BEGIN: Final = """
WITH before AS (SELECT planned_at FROM weir.push_plan FOR UPDATE),
now AS (UPDATE weir.push_plan SET planned_at = least(%(now)s, clock_timestamp()))
SELECT planned_at - interval '3 hours', (SELECT coalesce(max(touched_id), 0) FROM weir.usage_touched) FROM before
"""
# Hours are closed once over. What is final or too old is nobody's to push any more; what is unsettled is looked at again.
_PLAN: Final = """
WITH touched AS (
    DELETE FROM weir.usage_touched WHERE touched_id = ANY (ARRAY(
        SELECT touched_id FROM weir.usage_touched WHERE touched_id <= %(last_mark)s ORDER BY touched_id LIMIT %(marks)s))
    RETURNING tenant_id, meter, bucket_start),
replanned AS (
    UPDATE weir.billing_account SET replan = false WHERE tenant_id = ANY (ARRAY(
        SELECT tenant_id FROM weir.billing_account WHERE replan AND subscription_id IS NOT NULL
        ORDER BY tenant_id LIMIT %(accounts)s FOR UPDATE SKIP LOCKED))
    RETURNING tenant_id),
hours AS (
    SELECT tenant_id, meter, bucket_start FROM touched
    UNION SELECT u.tenant_id, u.meter, u.bucket_start FROM replanned r JOIN weir.usage u USING (tenant_id)
    UNION SELECT u.tenant_id, u.meter, u.bucket_start FROM weir.usage u
        WHERE u.bucket_start >= %(since)s AND u.bucket_start + interval '1 hour' <= %(now)s
    UNION SELECT p.tenant_id, p.meter, p.bucket_start FROM weir.usage_push p
        WHERE p.state = 'pending' AND p.bucket_start < %(oldest)s
    UNION SELECT p.tenant_id, p.meter, p.bucket_start FROM weir.billing_period b JOIN weir.usage_push p
        ON p.state = 'pending' AND p.tenant_id = b.tenant_id AND p.bucket_start >= date_trunc('hour', b.starts_at, 'UTC')
        AND p.bucket_start < b.ends_at
        WHERE b.is_final OR b.ends_at <= %(closing)s),
due AS MATERIALIZED (
    SELECT u.tenant_id, u.meter, u.bucket_start, u.revision, u.quantity,
           u.bucket_start < %(oldest)s AS is_old, (
               SELECT 'the invoice of the period ' || CASE WHEN b.is_final THEN 'is final' ELSE 'is about to be final' END
               FROM weir.billing_period b WHERE b.tenant_id = u.tenant_id AND (b.is_final OR b.ends_at <= %(closing)s)
               AND u.bucket_start >= date_trunc('hour', b.starts_at, 'UTC') AND u.bucket_start < b.ends_at
               ORDER BY b.is_final DESC LIMIT 1) AS reason,
           coalesce(p.state IN ('sent', 'ambiguous'), false) AS is_unsettled,
           coalesce(p.acked_quantity, 0) AS acked, coalesce(p.adjusted, 0) AS adjusted, p.quantity AS told
    FROM hours h JOIN weir.billing_account a USING (tenant_id)
    JOIN weir.usage u USING (tenant_id, meter, bucket_start)
    LEFT JOIN weir.usage_push p USING (tenant_id, meter, bucket_start)
    WHERE a.subscription_id IS NOT NULL AND (p.quantity IS DISTINCT FROM u.quantity OR p.state = 'pending')
      AND (u.bucket_start >= date_trunc('hour', a.subscribed_at, 'UTC') OR u.changed_at >= a.activated_at)
      AND u.bucket_start < coalesce(a.ended_at, 'infinity') AND NOT EXISTS (
        SELECT FROM weir.billing_lapse l WHERE l.tenant_id = u.tenant_id
        AND u.bucket_start >= l.starts_at AND u.bucket_start < l.ends_at)),
ready AS (
    SELECT *, is_old OR reason IS NOT NULL AS is_closed FROM due
    WHERE NOT is_unsettled AND bucket_start + interval '1 hour' <= %(now)s),
adjusted AS (
    INSERT INTO weir.usage_push AS p (tenant_id, meter, bucket_start, revision, quantity, state, adjusted, settled_at)
    SELECT tenant_id, meter, bucket_start, revision, quantity, 'adjusted', quantity, %(now)s FROM ready WHERE is_closed
    ON CONFLICT (tenant_id, meter, bucket_start) DO UPDATE SET revision = EXCLUDED.revision, quantity = EXCLUDED.quantity,
        state = CASE WHEN p.acked_quantity IS NULL THEN 'adjusted' ELSE 'acknowledged' END, detail = NULL,
        adjusted = EXCLUDED.quantity - coalesce(p.acked_quantity, 0)
        WHERE p.state NOT IN ('sent', 'ambiguous') -- since this statement began
    RETURNING p.tenant_id, p.meter, p.bucket_start, p.adjusted),
-- What the row came to be, not what this statement saw of it when it began.
ledger AS (
    INSERT INTO weir.usage_adjustment (tenant_id, meter, bucket_start, quantity, reason, created_at)
    SELECT tenant_id, meter, bucket_start, a.adjusted - r.adjusted, coalesce(r.reason, 'the hour is too old to be pushed'),
           %(now)s
    FROM adjusted a JOIN ready r USING (tenant_id, meter, bucket_start)
    WHERE a.adjusted <> r.adjusted ORDER BY tenant_id, bucket_start, meter),
planned AS (
    INSERT INTO weir.usage_push AS p (tenant_id, meter, bucket_start, revision, quantity, state)
    SELECT tenant_id, meter, bucket_start, revision, quantity, 'pending' FROM ready
    WHERE NOT is_closed AND told IS DISTINCT FROM quantity
    ON CONFLICT (tenant_id, meter, bucket_start) DO UPDATE SET number = p.number + 1, revision = EXCLUDED.revision,
        quantity = EXCLUDED.quantity, state = 'pending', attempts = 0, next_at = '-infinity', first_sent_at = NULL, detail = NULL
        WHERE p.state NOT IN ('sent', 'ambiguous') -- since this statement began
    RETURNING p.tenant_id, p.meter, p.bucket_start),
later AS (
    INSERT INTO weir.usage_touched (tenant_id, meter, bucket_start)
    SELECT tenant_id, meter, bucket_start FROM due WHERE is_unsettled
    UNION ALL (SELECT tenant_id, meter, bucket_start FROM ready WHERE is_closed OR told IS DISTINCT FROM quantity
               EXCEPT SELECT tenant_id, meter, bucket_start FROM planned
               EXCEPT SELECT tenant_id, meter, bucket_start FROM adjusted))
SELECT (SELECT count(*) FROM touched), (SELECT count(*) FROM replanned)
"""
_NOBODYS: Final = """
DELETE FROM weir.usage_touched t WHERE NOT EXISTS (
    SELECT FROM weir.billing_account a WHERE a.tenant_id = t.tenant_id AND a.subscription_id IS NOT NULL)
"""


async def plan_pushes(pool: Pool, now: datetime) -> None:
    """Note what is due, until nothing is left that was there at the beginning.

    Args:
        pool: of the writer role.
        now: hours that end by then are closed.
    """
    values: dict[str, object] = {"now": now, "oldest": now - SURELY_ACCEPTED, "closing": now - SURELY_OPEN}
    values |= {"marks": _MARKS_AT_ONCE, "accounts": _ACCOUNTS_AT_ONCE}
    async with pool.connection() as connection:
        async with connection.transaction():
            row = await (await connection.execute(_BEGIN, values)).fetchone()
            assert row is not None  # noqa: S101 - the migration's only row
            values |= {"since": row[0], "last_mark": row[1]}
            is_more = await _plan_some(connection, values)
        values["since"] = now  # the last hours are planned
        while is_more:
            async with connection.transaction():
                is_more = await _plan_some(connection, values)


async def forget_marks(pool: Pool) -> None:
    """Without a payment provider nobody takes the marks of tenants that never subscribed."""
    async with pool.connection() as connection:
        await connection.execute(_NOBODYS)


async def _plan_some(connection: Connection, values: dict[str, object]) -> bool:
    """Returns whether there may be more."""
    # Few rows are looked up in large tables: anything but nested loops would read those whole.
    await connection.execute("SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off")
    # Whoever makes a period final waits, or is seen; another planner waits, who would note the same adjustments again.
    await connection.execute("LOCK TABLE weir.billing_period IN SHARE ROW EXCLUSIVE MODE")
    row = await (await connection.execute(_PLAN, values)).fetchone()
    assert row is not None  # noqa: S101 - a row of two counts
    return bool(row[0] >= _MARKS_AT_ONCE or row[1] >= _ACCOUNTS_AT_ONCE)
