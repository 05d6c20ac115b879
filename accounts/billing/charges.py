"""Adjustments on their way to the next invoice: gathered by tenant, meter and month, sent as lines, read back.

    pending → sent → acknowledged | rejected | ambiguous → found among the customer's lines, or sent again

What is in doubt is never sent again before the provider was asked whether it has it. Border: the provider is the port's.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from operator import itemgetter
from typing import Final

from accounts.billing.port import BillingProvider, Charge, Charged, Item, Outcome
from accounts.billing.pushes import SURELY_UNIQUE
from accounts.billing.refusals import Refusals
from core.postgres import Pool
from schemas.usage import Meter

# What comes late comes together, and an invoice takes 250 lines.
GATHERED_FOR: Final = timedelta(days=1)
_FORGOTTEN: Final = timedelta(minutes=2)
# Lines are compared as long as somebody may still change them.
_COMPARED_FOR: Final = timedelta(days=34)
_SLOW_CLOCK: Final = timedelta(hours=1)
_BATCH: Final = 1_000
_BASE_S, _CAP_S = 2.0, 600.0

# Whoever gathers holds the planners' row.
_ALONE: Final = "SELECT FROM weir.push_plan FOR UPDATE"
# Of active sensors a month bills its last hour: what late hours made of it, less what was billed and charged of it before,
# which is known once nothing of the month is on its way.
_GATHER: Final = """
WITH due AS (
    SELECT tenant_id, meter, date_trunc('month', bucket_start, 'UTC') AS month, min(bucket_start) AS first,
           max(bucket_start) + interval '1 hour' AS last, sum(quantity)::bigint AS gained
    FROM weir.usage_adjustment WHERE charge_id IS NULL GROUP BY 1, 2, 3 HAVING min(created_at) <= %(gathered)s),
bounded AS (
    SELECT d.*, least((d.month AT TIME ZONE 'UTC' + interval '1 month') AT TIME ZONE 'UTC', a.ended_at) AS month_end
    FROM due d JOIN weir.billing_account a USING (tenant_id)
    WHERE d.meter <> 'active_sensors' OR NOT EXISTS (
        SELECT FROM weir.usage_push p WHERE (p.tenant_id, p.meter) = (d.tenant_id, d.meter) AND p.bucket_start >= d.month
        AND p.bucket_start < (d.month AT TIME ZONE 'UTC' + interval '1 month') AT TIME ZONE 'UTC'
        AND p.state IN ('pending', 'sent', 'ambiguous'))),
worth AS (
    SELECT d.*, CASE WHEN d.meter <> 'active_sensors' THEN d.gained ELSE
        coalesce((SELECT u.quantity FROM weir.usage u WHERE (u.tenant_id, u.meter) = (d.tenant_id, d.meter)
                  AND u.bucket_start >= d.month AND u.bucket_start < d.month_end AND NOT EXISTS (
                      SELECT FROM weir.billing_lapse l WHERE l.tenant_id = u.tenant_id
                      AND u.bucket_start >= l.starts_at AND u.bucket_start < l.ends_at)
                  ORDER BY u.bucket_start DESC LIMIT 1), 0)
        - coalesce((SELECT p.acked_quantity FROM weir.usage_push p WHERE (p.tenant_id, p.meter) = (d.tenant_id, d.meter)
                    AND p.bucket_start >= d.month AND p.bucket_start < d.month_end AND p.acked_quantity IS NOT NULL
                    ORDER BY p.bucket_start DESC LIMIT 1), 0)
        - coalesce((SELECT sum(c.quantity)::bigint FROM weir.usage_charge c
                    WHERE (c.tenant_id, c.meter, c.month) = (d.tenant_id, d.meter, d.month)), 0) END AS quantity
    FROM bounded d),
made AS (
    INSERT INTO weir.usage_charge (tenant_id, meter, month, starts_at, ends_at, quantity, state, created_at, settled_at, detail)
    SELECT tenant_id, meter, month, first, last, quantity, CASE quantity WHEN 0 THEN 'free' ELSE 'pending' END, %(now)s,
           CASE quantity WHEN 0 THEN %(now)s::timestamptz END,
           CASE WHEN quantity <> 0 THEN NULL WHEN meter = 'active_sensors' THEN 'what the month bills is as it was'
                ELSE 'gains and losses cancel out' END
    FROM worth ORDER BY tenant_id, month, meter
    RETURNING charge_id, tenant_id, meter, month)
UPDATE weir.usage_adjustment a SET charge_id = m.charge_id FROM made m
WHERE a.charge_id IS NULL AND (a.tenant_id, a.meter, date_trunc('month', a.bucket_start, 'UTC')) = (m.tenant_id, m.meter, m.month)
"""
_OPEN: Final = """
SELECT c.charge_id, c.tenant_id, a.customer_id, c.meter, c.starts_at, c.ends_at, c.quantity, c.number, c.attempts,
       c.created_at, c.first_sent_at
FROM weir.usage_charge c JOIN weir.billing_account a USING (tenant_id)
WHERE c.state IN ('pending', 'sent', 'ambiguous') AND c.next_at <= %(now)s ORDER BY c.tenant_id, c.charge_id LIMIT %(limit)s
"""
_SENT: Final = """
UPDATE weir.usage_charge SET state = 'sent', attempts = attempts + 1, first_sent_at = coalesce(first_sent_at, %(now)s),
       next_at = %(forgotten)s
WHERE (charge_id, number) = (%(charge)s, %(number)s) AND state IN ('pending', 'sent', 'ambiguous') AND next_at <= %(now)s
"""
_SETTLED: Final = """
UPDATE weir.usage_charge SET state = %(state)s, detail = %(detail)s, next_at = %(next)s, item_id = coalesce(%(item)s, item_id),
       settled_at = CASE WHEN %(state)s IN ('acknowledged', 'rejected', 'free') THEN %(now)s ELSE settled_at END
WHERE (charge_id, number) = (%(charge)s, %(number)s)
"""
# The old key may be free again: a new one is another request.
_ANEW: Final = """
UPDATE weir.usage_charge SET number = number + 1, state = 'pending', first_sent_at = NULL, next_at = '-infinity'
WHERE (charge_id, number) = (%(charge)s, %(number)s) AND state = 'sent'
"""
_LEFT_OVER: Final = """
SELECT a.tenant_id, a.customer_id, max(c.charge_id)
FROM weir.usage_charge c JOIN weir.billing_account a USING (tenant_id)
WHERE a.ended_at <= %(now)s AND c.state = 'acknowledged' AND c.invoiced_at IS NULL GROUP BY 1, 2
"""
_INVOICED: Final = """
UPDATE weir.usage_charge SET invoiced_at = %(now)s
WHERE tenant_id = %(tenant)s AND charge_id <= %(last)s AND state = 'acknowledged' AND invoiced_at IS NULL
"""
_TOLD: Final = """
SELECT a.customer_id, c.tenant_id, c.charge_id, c.item_id, c.quantity
FROM weir.usage_charge c JOIN weir.billing_account a USING (tenant_id)
WHERE c.state = 'acknowledged' AND c.settled_at > %(since)s AND c.settled_at < %(settled)s ORDER BY 1, 3
"""
_ALARM: Final = """
INSERT INTO weir.operator_alarm AS o (kind, subject, detail) VALUES ('billing', %s, %s)
ON CONFLICT (kind, subject) WHERE closed_at IS NULL DO UPDATE SET last_seen_at = now(), detail = EXCLUDED.detail
"""


@dataclass(frozen=True, slots=True)
class OpenCharge:
    """A charge that is not settled."""

    charge_id: int
    tenant_id: str
    customer_id: str
    meter: Meter
    starts_at: datetime
    ends_at: datetime
    quantity: int
    number: int
    attempts: int
    created_at: datetime
    first_sent_at: datetime | None

    @property
    def name(self) -> str:
        """What it is found by among the customer's lines."""
        return _name(self.tenant_id, self.charge_id)

    def as_line(self) -> Charge:
        """What the customer reads on the invoice."""
        hours = f"{self.starts_at.astimezone(UTC):%Y-%m-%d %H:%M} to {self.ends_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        what = f"{self.meter.value.replace('_', ' ')} of {hours}, reported late, noted {self.created_at.astimezone(UTC):%Y-%m-%d}"
        key = f"{self.name}:{self.number}"
        return Charge(key, self.name, self.customer_id, self.meter, self.quantity, self.starts_at, self.ends_at, what)


class Charger:
    """Charges.

    Args:
        pool: of the writer role.
        provider: who is told.
        gathered_for: how long the first of a month's late hours waits for others.
    """

    def __init__(self, pool: Pool, provider: BillingProvider, gathered_for: timedelta = GATHERED_FOR) -> None:
        self._pool = pool
        self._provider = provider
        self._gathered_for = gathered_for

    async def run(self, now_ms: int) -> int:
        """Gather what is due and send what is open; returns how many charges are settled by it.

        Raises:
            Transient: the provider does not say what it has; what is left waits.
            Misconfigured: what it refused first; all others had their turn.
        """
        now = datetime.fromtimestamp(now_ms / 1000, UTC)
        async with self._pool.connection() as connection:
            async with connection.transaction():
                await connection.execute(_ALONE)
                await connection.execute(_GATHER, {"now": now, "gathered": now - self._gathered_for})
            rows = await (await connection.execute(_OPEN, {"now": now, "limit": _BATCH})).fetchall()
        charges = [OpenCharge(row[0], row[1], row[2], Meter(row[3]), *row[4:]) for row in rows]
        settled, refusals = 0, Refusals()
        for charge in charges:
            with refusals.kept():
                settled += await self._one(charge, now)
        await self._invoice_left_overs(now, refusals)
        refusals.raise_first()
        return settled

    async def compare(self, now_ms: int) -> int:
        """Read lines back: what is missing, doubled or other than was told is an alarm; returns how many there are.

        Raises:
            Transient, Misconfigured: as `run` does.
        """
        now = datetime.fromtimestamp(now_ms / 1000, UTC)
        span = {"since": now - _COMPARED_FOR, "settled": now - _SLOW_CLOCK}
        async with self._pool.connection() as connection:
            rows = await (await connection.execute(_TOLD, span)).fetchall()
        refusals, wrong = Refusals(), []
        for customer_id, told in groupby(rows, key=itemgetter(0)):
            with refusals.kept():
                found = await self._provider.charged(customer_id, now - 2 * _COMPARED_FOR)
                wrong += [values for one in told if (values := _wrong(found, *one[1:])) is not None]
        async with self._pool.connection() as connection:
            for values in wrong:
                await connection.execute(_ALARM, values)
        refusals.raise_first()
        return len(wrong)

    async def _one(self, charge: OpenCharge, now: datetime) -> bool:
        keys = {"charge": charge.charge_id, "number": charge.number, "now": now, "forgotten": now + _FORGOTTEN}
        async with self._pool.connection() as connection:
            if (await connection.execute(_SENT, keys)).rowcount == 0:
                return False  # another worker has it
        if charge.first_sent_at is None:
            report = await self._provider.charge(charge.as_line())
            return await self._settle(charge, report, now)
        # In doubt: what the provider has decides.
        items = await self._provider.charged(charge.customer_id, charge.created_at - _SLOW_CLOCK)
        own = next((item for item in items if item.charge == charge.name), None)
        if own is not None:
            return await self._settle(charge, Charged(Outcome.ACCEPTED, own.item_id), now)
        if now - charge.first_sent_at <= SURELY_UNIQUE:
            return await self._settle(charge, await self._provider.charge(charge.as_line()), now)
        async with self._pool.connection() as connection:
            await connection.execute(_ANEW, keys)
        return False

    async def _settle(self, charge: OpenCharge, report: Charged, now: datetime) -> bool:
        states = {
            Outcome.ACCEPTED: "free" if report.item_id is None else "acknowledged",
            Outcome.REJECTED: "rejected",
            Outcome.BUSY: "ambiguous" if charge.first_sent_at else "pending",
            Outcome.AMBIGUOUS: "ambiguous",
        }
        wait_s = random.uniform(0, min(_CAP_S, _BASE_S * 2.0 ** min(charge.attempts, 20)))  # noqa: S311 - no secret
        values = {
            "charge": charge.charge_id,
            "number": charge.number,
            "state": states[report.outcome],
            "detail": report.detail or None,
            "item": report.item_id,
            "next": now + timedelta(seconds=wait_s),
            "now": now,
        }
        async with self._pool.connection() as connection:
            await connection.execute(_SETTLED, values)
        return report.outcome in (Outcome.ACCEPTED, Outcome.REJECTED)

    async def _invoice_left_overs(self, now: datetime, refusals: Refusals) -> None:
        """Whose subscription is over gets no next invoice: one of its own."""
        async with self._pool.connection() as connection:
            rows = await (await connection.execute(_LEFT_OVER, {"now": now})).fetchall()
        for tenant_id, customer_id, last in rows:
            with refusals.kept():
                await self._provider.invoice_pending(customer_id, f"{_name(tenant_id, last)}:invoice")
                async with self._pool.connection() as connection:
                    await connection.execute(_INVOICED, {"tenant": tenant_id, "last": last, "now": now})


def _wrong(
    found: Sequence[Item], tenant_id: str, charge_id: int, item_id: str, quantity: int
) -> tuple[str, str] | None:
    """Subject and detail of the alarm, if the customer's lines are not what was told."""
    name = _name(tenant_id, charge_id)
    own = [(item.item_id, item.quantity) for item in found if item.charge == name]
    if own == [(item_id, quantity)]:
        return None
    return f"charge {name}", f"Stripe has {own}, it was told {quantity} as {item_id}; correct it there"


def _name(tenant_id: str, charge_id: int) -> str:
    return f"{tenant_id}:charge:{charge_id}"
