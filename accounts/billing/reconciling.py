"""What the provider counts against what it was told: by day first, by hour where a day differs.

Lower: a new push. Higher: an alarm for the operators, never a silent correction.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from operator import itemgetter
from typing import Final

from accounts.billing.port import BillingProvider
from accounts.billing.refusals import Refusals
from core.postgres import Connection, Pool
from schemas.usage import Meter

# Summaries lag; what was acknowledged just now is not missed yet.
SETTLED_FOR: Final = timedelta(minutes=15)
_DAY: Final = timedelta(days=1)

# Days of the span with their pushes: the sum, or of active sensors what the last hour says.
_DAYS: Final = """
SELECT p.tenant_id, a.customer_id, p.meter, date_bin('1 day', p.bucket_start, 'epoch') AS day,
       CASE p.meter WHEN 'active_sensors' THEN (array_agg(p.acked_quantity ORDER BY p.bucket_start DESC))[1]
                    ELSE sum(p.acked_quantity)::bigint END,
       bool_or(v.read_at IS NULL OR v.read_at < p.settled_at)
FROM weir.usage_push p JOIN weir.billing_account a USING (tenant_id)
LEFT JOIN weir.provider_usage v USING (tenant_id, meter, bucket_start)
WHERE p.bucket_start >= %(start)s AND p.bucket_start < %(end)s AND p.acked_quantity IS NOT NULL AND p.settled_at < %(settled)s
GROUP BY 1, 2, 3, 4 ORDER BY 1, 3, 4
"""
_REMEMBER: Final = """
INSERT INTO weir.provider_usage AS v (tenant_id, meter, bucket_start, quantity, read_at)
SELECT p.tenant_id, p.meter, p.bucket_start, coalesce(q.quantity, 0), %(now)s
FROM weir.usage_push p
LEFT JOIN unnest(%(hours)s::timestamptz[], %(quantities)s::bigint[]) AS q (hour, quantity) ON q.hour = p.bucket_start
WHERE p.tenant_id = %(tenant)s AND p.meter = %(meter)s AND p.bucket_start >= %(start)s AND p.bucket_start < %(end)s
  AND p.settled_at < %(settled)s AND p.acked_quantity IS NOT NULL
ON CONFLICT (tenant_id, meter, bucket_start) DO UPDATE SET quantity = EXCLUDED.quantity, read_at = EXCLUDED.read_at
"""
# In a final period what is missing is charged: a day is given to a summary that lags.
_LOWER: Final = """
UPDATE weir.usage_push p SET number = p.number + 1, state = 'pending', attempts = 0, next_at = '-infinity',
       first_sent_at = NULL, acked_quantity = v.quantity, detail = 'the provider counts less than it has acknowledged'
FROM weir.provider_usage v
WHERE (v.tenant_id, v.meter, v.bucket_start) = (p.tenant_id, p.meter, p.bucket_start) AND p.tenant_id = %(tenant)s
  AND p.meter = %(meter)s AND p.bucket_start >= %(start)s AND p.bucket_start < %(end)s AND v.read_at = %(now)s
  AND p.state = 'acknowledged' AND v.quantity < p.acked_quantity AND (p.settled_at < %(day_ago)s OR NOT EXISTS (
    SELECT FROM weir.billing_period b WHERE b.tenant_id = p.tenant_id AND b.ends_at <= %(now)s
    AND date_trunc('hour', b.starts_at, 'UTC') <= p.bucket_start AND b.ends_at > p.bucket_start))
"""
_HIGHER: Final = """
INSERT INTO weir.operator_alarm AS o (kind, subject, detail)
SELECT 'billing', p.tenant_id || ' ' || p.meter || ' ' || weir.shown_time(p.bucket_start),
       'Stripe counts ' || v.quantity || ', it was told ' || p.acked_quantity || '; look into it, then correct it at Stripe'
FROM weir.provider_usage v JOIN weir.usage_push p USING (tenant_id, meter, bucket_start)
WHERE p.tenant_id = %(tenant)s AND p.meter = %(meter)s AND p.bucket_start >= %(start)s AND p.bucket_start < %(end)s
  AND v.read_at = %(now)s AND v.quantity > p.acked_quantity
ON CONFLICT (kind, subject) WHERE closed_at IS NULL DO UPDATE SET last_seen_at = now()
"""


@dataclass(slots=True)
class Reconciled:
    """What a run read and found."""

    days: int = 0
    days_by_hour: int = 0
    sent_again: int = 0
    alarms: int = 0


class Reconciler:
    """Compares.

    Args:
        pool: of the writer role.
        provider: who is asked.
    """

    def __init__(self, pool: Pool, provider: BillingProvider) -> None:
        self._pool = pool
        self._provider = provider

    async def run(self, start: datetime, end: datetime, now_ms: int) -> Reconciled:
        """Compare the whole UTC days of `[start, end)`: one read per tenant and meter, one more per day that differs.

        Raises:
            Transient: the provider does not answer; what is left waits.
            Misconfigured: what it refused first; all others were compared.
        """
        now = datetime.fromtimestamp(now_ms / 1000, UTC)
        span = {"start": start, "end": end, "settled": now - SETTLED_FOR}
        async with self._pool.connection() as connection:
            rows = await (await connection.execute(_DAYS, span)).fetchall()
        report = Reconciled(days=len(rows))
        bounds, refusals = (int(start.timestamp()), int(end.timestamp())), Refusals()
        for (tenant_id, customer_id, meter), days in groupby(rows, key=itemgetter(0, 1, 2)):
            with refusals.kept():
                counted = await self._provider.totals(customer_id, Meter(meter), *bounds, "day")
                for _, _, _, day, told, is_unread in days:
                    if is_unread or counted.get(int(day.timestamp()), 0) != told:
                        await self._compare_hours(tenant_id, customer_id, meter, day, now, report)
        refusals.raise_first()
        return report

    async def _compare_hours(
        self, tenant_id: str, customer_id: str, meter: str, day: datetime, now: datetime, report: Reconciled
    ) -> None:
        start_s = int(day.timestamp())
        found = await self._provider.totals(customer_id, Meter(meter), start_s, start_s + 86_400, "hour")
        values = {
            "tenant": tenant_id,
            "meter": meter,
            "start": day,
            "end": day + _DAY,
            "now": now,
            "settled": now - SETTLED_FOR,
            "day_ago": now - _DAY,
            "hours": [datetime.fromtimestamp(hour_s, UTC) for hour_s in found],
            "quantities": list(found.values()),
        }
        report.days_by_hour += 1
        async with self._pool.connection() as connection, connection.transaction():
            await self._judge(connection, values, report)

    @staticmethod
    async def _judge(connection: Connection, values: dict[str, object], report: Reconciled) -> None:
        await connection.execute(_REMEMBER, values)
        report.alarms += (await connection.execute(_HIGHER, values)).rowcount
        report.sent_again += (await connection.execute(_LOWER, values)).rowcount
