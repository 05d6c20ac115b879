"""A tenant's bill as it stands: period, meters, quotas, corrections. Read in its own transaction; nothing is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from accounts.billing.plans import PLANS, Feature, Plan, Refusal, Standing, entitlements, grace_end
from core.postgres import Connection
from schemas.usage import Meter

_ALL: Final = 100
_ACCOUNT: Final = """
SELECT t.plan, a.status, a.status_since, a.subscription_id IS NOT NULL, a.cancel_at_period_end,
       CASE WHEN a.period_start <= %(now)s AND a.period_end > %(now)s THEN a.period_start
            ELSE date_trunc('month', %(now)s, 'UTC') END,
       CASE WHEN a.period_start <= %(now)s AND a.period_end > %(now)s THEN a.period_end
            ELSE (date_trunc('month', %(now)s AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC' END
FROM weir.tenant t LEFT JOIN weir.billing_account a USING (tenant_id)
"""
# Of active sensors the last hour counts, of other meters the sum. In flight: what no answer has settled, hours that go on
# included.
_METERS: Final = """
WITH hours AS (
    SELECT u.meter, u.bucket_start, u.quantity, coalesce(p.acked_quantity, 0) AS pushed, coalesce(p.adjusted, 0) AS adjusted,
           v.quantity AS stripe, p.state
    FROM weir_tenant.usage_hourly u
    LEFT JOIN weir_tenant.usage_pushes p USING (tenant_id, meter, bucket_start)
    LEFT JOIN weir_tenant.provider_usage v USING (tenant_id, meter, bucket_start)
    WHERE u.bucket_start >= date_trunc('hour', %(start)s::timestamptz, 'UTC') AND u.bucket_start < %(end)s)
SELECT meter, sum(quantity)::bigint, sum(pushed)::bigint, sum(adjusted)::bigint, sum(stripe)::bigint,
       sum(quantity - pushed - adjusted) FILTER (WHERE state IS DISTINCT FROM 'rejected')::bigint,
       count(*) FILTER (WHERE state = 'rejected')
FROM hours WHERE meter <> 'active_sensors' GROUP BY meter
UNION ALL
(SELECT h.meter, h.quantity, l.pushed, h.adjusted, l.stripe, h.quantity - h.pushed - h.adjusted,
        (SELECT count(*) FROM hours r WHERE r.meter = 'active_sensors' AND r.state = 'rejected')
 FROM hours h LEFT JOIN LATERAL (
     SELECT k.pushed, k.stripe FROM hours k WHERE k.meter = 'active_sensors' AND k.state = 'acknowledged'
     ORDER BY k.bucket_start DESC LIMIT 1) l ON true
 WHERE h.meter = 'active_sensors' ORDER BY h.bucket_start DESC LIMIT 1)
"""
_USED: Final = """
SELECT meter, CASE meter WHEN 'active_sensors' THEN (array_agg(quantity ORDER BY bucket_start DESC))[1] ELSE sum(quantity) END
FROM weir_tenant.usage_hourly WHERE bucket_start >= date_trunc('month', %(now)s, 'UTC') GROUP BY meter
UNION ALL
SELECT meter, used FROM weir_tenant.quota_uses WHERE month = date_trunc('month', %(now)s, 'UTC') ORDER BY 2
"""
_NOTICES: Final = """
SELECT meter, percent, noticed_at FROM weir_tenant.quota_notices WHERE month = date_trunc('month', %(now)s, 'UTC') ORDER BY 1, 2
"""
_CORRECTIONS: Final = """
SELECT meter, bucket_start, quantity, reason, created_at, coalesce(charge_state, 'gathered') FROM weir_tenant.usage_adjustments
ORDER BY created_at DESC, bucket_start DESC LIMIT 100
"""


@dataclass(frozen=True, slots=True)
class MeterState:
    """A meter in this period; of active sensors the last hour, of others the sum.

    Args:
        pushed: what the provider has acknowledged.
        stripe: what it counted when it was last read; None: never read.
        in_flight: what it does not have yet.
        rejected: hours that it refused.
    """

    meter: str
    metered: int
    pushed: int
    adjusted: int
    stripe: int | None
    in_flight: int
    rejected: int


@dataclass(frozen=True, slots=True)
class Correction:
    """Usage that no push can correct any more.

    Args:
        charge: how far its line on the next invoice is; `gathered`: waiting for others, `free`: nothing to pay.
    """

    meter: str
    bucket_start: datetime
    quantity: int
    reason: str
    created_at: datetime
    charge: str


@dataclass(frozen=True, slots=True)
class Quota:
    """What of a month's quota is used, when the tenant was told, and until when being over it refuses nothing."""

    meter: str
    included: int
    used: int
    noticed: Mapping[int, datetime]
    grace_end: datetime | None


@dataclass(frozen=True, slots=True)
class Statement:
    """A tenant's bill as it stands."""

    plan: Plan
    status: str | None
    is_subscribed: bool
    cancel_at_period_end: bool
    period_start: datetime
    period_end: datetime
    refused: Mapping[Feature, Refusal]
    meters: list[MeterState]
    quotas: list[Quota]
    corrections: list[Correction]


async def read_statement(connection: Connection, now: datetime) -> Statement | None:
    """The statement of the transaction's tenant; None: there is none such."""
    row = await (await connection.execute(_ACCOUNT, {"now": now})).fetchone()
    if row is None:
        return None
    name, status, since, is_subscribed, cancels, start, end = row
    meters = await (await connection.execute(_METERS, {"start": start, "end": end})).fetchall()
    used: dict[str, int] = dict(await (await connection.execute(_USED, {"now": now})).fetchall())
    corrections = await (await connection.execute(_CORRECTIONS)).fetchall()
    plan = PLANS.get(name, PLANS["free"])
    quotas = await _quotas(connection, plan, used, now)
    told = {Meter(one.meter): one.noticed[_ALL] for one in quotas if _ALL in one.noticed}
    standing = Standing(name, status, since, {Meter(meter): int(amount) for meter, amount in used.items()}, told)
    return Statement(
        plan, status, bool(is_subscribed), bool(cancels), start, end, entitlements(standing, now).refused,
        sorted((MeterState(*one) for one in meters), key=lambda one: list(Meter).index(Meter(one.meter))),
        quotas,
        [Correction(*one) for one in corrections],
    )  # fmt: skip


async def _quotas(connection: Connection, plan: Plan, used: Mapping[str, int], now: datetime) -> list[Quota]:
    noticed: dict[str, dict[int, datetime]] = {}
    for meter, percent, at in await (await connection.execute(_NOTICES, {"now": now})).fetchall():
        noticed.setdefault(meter, {})[percent] = at
    return [_quota(plan, meter, int(used.get(meter.value, 0)), noticed.get(meter.value, {})) for meter in plan.included]


def _quota(plan: Plan, meter: Meter, used: int, noticed: Mapping[int, datetime]) -> Quota:
    # Of scans none begins beyond the quota: they have no grace.
    end = None if meter is Meter.SCANS or not plan.quota_grace else grace_end(plan, noticed.get(_ALL))
    return Quota(meter.value, plan.included[meter], used, noticed, end)
