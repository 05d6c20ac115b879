"""Usage on its way to the payment provider: what is sent, what came of it.

    pending → sent → acknowledged | rejected | ambiguous → sent again, or settled by what the provider counts

Absolute mode sends an hour's total, of which the provider keeps the newest; delta mode sends what it gained since the last
acknowledged total, and never while an earlier push is unsettled. Border: the provider is the port's, the rows are ours.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Final

from accounts.billing.planning import SURELY_OPEN, plan_pushes
from accounts.billing.port import BillingProvider, Outcome, Push, Report
from accounts.billing.refusals import Refusals
from core.postgres import Pool
from schemas.errors import Misconfigured, Transient
from schemas.usage import Meter

# Identifiers are unique for 24 h: with room for a slow clock.
SURELY_UNIQUE: Final = timedelta(hours=20)
_FORGOTTEN: Final = timedelta(minutes=2)
_TENANTS_AT_ONCE: Final = 20
_BATCH: Final = 5_000
_BASE_S, _CAP_S = 2.0, 600.0
_LAST_SECOND: Final = 3_599

_OPEN: Final = """
SELECT p.tenant_id, a.customer_id, p.meter, p.bucket_start, p.number, p.quantity, coalesce(p.acked_quantity, 0), p.attempts,
       p.first_sent_at, a.subscribed_at
FROM weir.usage_push p JOIN weir.billing_account a USING (tenant_id)
WHERE p.state IN ('pending', 'sent', 'ambiguous') AND p.next_at <= %(now)s
ORDER BY p.tenant_id, p.bucket_start, p.meter LIMIT %(limit)s
"""
# A worker that dies while it sends leaves the push to others after a while. What is too late for its invoice is not sent, nor
# sent again: it becomes an adjustment, or what the provider counts decides a day later.
_SENT: Final = """
UPDATE weir.usage_push SET state = 'sent', attempts = attempts + 1, first_sent_at = coalesce(first_sent_at, %(now)s),
       next_at = %(forgotten)s
WHERE (tenant_id, meter, bucket_start, number) = (%(tenant)s, %(meter)s, %(bucket)s, %(number)s)
  AND state IN ('pending', 'sent', 'ambiguous') AND next_at <= %(now)s AND NOT EXISTS (
    SELECT FROM weir.billing_period b WHERE b.tenant_id = %(tenant)s AND (b.is_final OR b.ends_at <= %(closing)s)
    AND date_trunc('hour', b.starts_at, 'UTC') <= %(bucket)s AND b.ends_at > %(bucket)s)
"""
_SETTLED: Final = """
UPDATE weir.usage_push SET state = %(state)s, detail = %(detail)s, next_at = %(next)s,
       settled_at = CASE WHEN %(state)s IN ('acknowledged', 'rejected') THEN %(now)s ELSE settled_at END,
       acked_quantity = CASE WHEN %(state)s = 'acknowledged' THEN quantity ELSE acked_quantity END
WHERE (tenant_id, meter, bucket_start, number) = (%(tenant)s, %(meter)s, %(bucket)s, %(number)s)
"""
_ANEW: Final = """
UPDATE weir.usage_push SET number = number + 1, state = 'pending', attempts = 0, next_at = '-infinity', first_sent_at = NULL,
       acked_quantity = CASE WHEN %(counted)s::bigint <> 0 OR acked_quantity IS NOT NULL THEN %(counted)s::bigint END
WHERE (tenant_id, meter, bucket_start, number) = (%(tenant)s, %(meter)s, %(bucket)s, %(number)s)
  AND state IN ('pending', 'sent', 'ambiguous')
"""


@dataclass(frozen=True, slots=True)
class OpenPush:
    """A push that is not settled."""

    tenant_id: str
    customer_id: str
    meter: Meter
    bucket_start: datetime
    number: int
    quantity: int
    acked: int
    attempts: int
    first_sent_at: datetime | None
    subscribed_at: datetime

    @property
    def identifier(self) -> str:
        """What the provider takes once within 24 h; another number is another push."""
        return f"{self.tenant_id}:{self.meter.value}:{self.bucket_start:%Y%m%d%H}:{self.number}"

    @property
    def at_s(self) -> int:
        """Later for later pushes of an hour, so that the newest is the newest by any measure; not before the subscription."""
        start_s, subscribed_s = int(self.bucket_start.timestamp()), int(self.subscribed_at.timestamp()) + 1
        first_s = subscribed_s if start_s < subscribed_s <= start_s + _LAST_SECOND else start_s
        return min(first_s + self.number, start_s + _LAST_SECOND)


@dataclass(frozen=True, slots=True)
class Run:
    """What a run of pushes came to."""

    sent: int = 0
    unsettled: int = 0


class Pusher:
    """Brings the provider's usage up to date.

    Args:
        pool: of the writer role.
        provider: who is told.
        is_absolute: whether pushes are totals.
        haste: all waits are divided by it; more than 1 for tests of many failures.
    """

    def __init__(self, pool: Pool, provider: BillingProvider, *, is_absolute: bool = True, haste: float = 1.0) -> None:
        self._pool = pool
        self._provider = provider
        self._is_absolute = is_absolute
        self._haste = haste

    async def run(self, now_ms: int) -> Run:
        """Plan what is due and send what is open; tenants beside each other, each one's pushes in their order.

        Raises:
            Transient, Misconfigured: the provider does not say what it has of a push in doubt; all other tenants had their turn.
        """
        now = datetime.fromtimestamp(now_ms / 1000, UTC)
        await plan_pushes(self._pool, now)
        async with self._pool.connection() as connection:
            cursor = await connection.execute(_OPEN, {"now": now, "limit": _BATCH})
            rows = [OpenPush(row[0], row[1], Meter(row[2]), *row[3:]) for row in await cursor.fetchall()]
        slots = asyncio.Semaphore(_TENANTS_AT_ONCE)
        refusals = Refusals(Misconfigured, Transient)

        async def in_turn(pushes: Sequence[OpenPush]) -> int:
            async with slots:
                with refusals.kept():
                    return sum([await self._one(push, now) for push in pushes])
            return 0

        tenants = [list(group) for _, group in groupby(rows, key=lambda push: push.tenant_id)]
        settled = sum(await asyncio.gather(*map(in_turn, tenants)))
        refusals.raise_first()
        return Run(len(rows), len(rows) - settled)

    async def _one(self, push: OpenPush, now: datetime) -> bool:
        if push.first_sent_at is not None and now - push.first_sent_at > SURELY_UNIQUE:
            return await self._settle_by_reading(push, now)
        keys = _keys(push) | {"now": now, "closing": now - SURELY_OPEN, "forgotten": now + _FORGOTTEN / self._haste}
        async with self._pool.connection() as connection:
            if (await connection.execute(_SENT, keys)).rowcount == 0:
                return False  # another worker has it, or it is too late
        value = push.quantity if self._is_total(push) else push.quantity - push.acked
        report = await self._provider.push(Push(push.identifier, push.customer_id, push.meter, value, push.at_s))
        await self._settle(push, report, now)
        return report.outcome in (Outcome.ACCEPTED, Outcome.REJECTED)

    async def _settle(self, push: OpenPush, report: Report, now: datetime) -> None:
        states = {
            Outcome.ACCEPTED: "acknowledged",
            Outcome.REJECTED: "rejected",
            Outcome.BUSY: "ambiguous" if push.first_sent_at else "pending",
            Outcome.AMBIGUOUS: "ambiguous",
        }
        wait_s = random.uniform(0, min(_CAP_S, _BASE_S * 2.0 ** min(push.attempts, 20)))  # noqa: S311 - no secret
        values = {
            "state": states[report.outcome],
            "detail": report.detail or None,
            "next": now + timedelta(seconds=wait_s / self._haste),
        }
        async with self._pool.connection() as connection:
            await connection.execute(_SETTLED, _keys(push) | values | {"now": now})

    async def _settle_by_reading(self, push: OpenPush, now: datetime) -> bool:
        """The identifier may be free again: what the provider counts decides whether it has the push."""
        start_s = int(push.bucket_start.timestamp())
        hours = await self._provider.totals(push.customer_id, push.meter, start_s, start_s + 3_600, "hour")
        counted = hours.get(start_s, 0)
        # More than was ever told is for people to correct: another gain on top would only charge more.
        is_too_much = not self._is_total(push) and counted > max(push.quantity, push.acked)
        if counted == push.quantity or is_too_much:
            await self._settle(push, Report(Outcome.ACCEPTED), now)
            return True
        async with self._pool.connection() as connection:
            await connection.execute(_ANEW, _keys(push) | {"counted": counted})
        return False

    def _is_total(self, push: OpenPush) -> bool:
        """Whether the provider keeps the newest value of an hour; of active sensors always."""
        return self._is_absolute or push.meter is Meter.ACTIVE_SENSORS


def _keys(push: OpenPush) -> dict[str, object]:
    return {
        "tenant": push.tenant_id,
        "meter": push.meter.value,
        "bucket": push.bucket_start,
        "number": push.number,
    }
