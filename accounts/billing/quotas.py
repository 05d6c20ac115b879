"""Quotas: whether a scan may begin, who is told that a quota runs out, how long a plan keeps raw readings.

Border: the limits are `accounts.billing.plans`', the counting is the database's, one atomic update each.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from accounts.billing.plans import PLANS, Feature, Refusal, Standing, entitlements
from core.postgres import Connection, Pool
from schemas.usage import Meter

# A smaller plan shortens what is kept only after this: time to export, or to come back.
RETENTION_GRACE: Final = timedelta(days=30)

_STANDING: Final = """
SELECT t.plan, a.status, a.status_since, weir.current_tenant() FROM weir.tenant t
LEFT JOIN weir.billing_account a USING (tenant_id) WHERE t.tenant_id = %s
"""
_FOLLOW: Final = """
UPDATE weir.tenant t SET plan_retention = p.retention FROM unnest(%s::text[], %s::interval[]) AS p (plan, retention)
WHERE t.plan = p.plan AND t.plan_retention IS DISTINCT FROM p.retention
  AND (p.retention IS NULL OR p.retention > t.plan_retention OR t.plan_since < %s)
"""


async def admit_scan(connection: Connection, tenant_id: str, now: datetime) -> Refusal | None:
    """Take one scan of this month's quota; None: it may begin. To be asked in the transaction that makes the scan.

    Args:
        connection: in a transaction of the tenant's (API), or of the writer role (stream).
        tenant_id: whose scan.
        now: of the quota's month.
    """
    current, refusal, limit = await _entitled(connection, tenant_id, now)
    if refusal is not None or limit is None:
        return refusal
    values = (Meter.SCANS.value, _month(now), limit)
    if current is None:
        cursor = await connection.execute("SELECT weir.take_quota(%s, %s, %s, 1, %s)", (tenant_id, *values))
    else:
        cursor = await connection.execute("SELECT weir_tenant.take_quota(%s, %s, 1, %s)", values)
    taken = await cursor.fetchone()
    return None if taken is not None and taken[0] else Refusal.QUOTA


async def admit_scan_again(connection: Connection, tenant_id: str, scan_id: str, now: datetime) -> Refusal | None:
    """Let a scan that failed take its quota again, that of the month in which it began; None: it may be tried again.

    Args:
        connection: in a transaction of the tenant's.
        tenant_id: whose scan.
        scan_id: of one that did not fail nothing is taken.
        now: when the tenant has to be entitled.
    """
    _, refusal, limit = await _entitled(connection, tenant_id, now)
    if refusal is not None:
        return refusal
    cursor = await connection.execute("SELECT weir_tenant.take_scan_again(%s, %s)", (scan_id, limit))
    taken = await cursor.fetchone()
    return None if taken is not None and taken[0] else Refusal.QUOTA


async def _entitled(
    connection: Connection, tenant_id: str, now: datetime
) -> tuple[str | None, Refusal | None, int | None]:
    """The transaction's tenant, why scans are refused to it, and how many it may begin a month; None: as many as it likes."""
    row = await (await connection.execute(_STANDING, (tenant_id,))).fetchone()
    plan_name, status, since, current = row or ("free", None, None, tenant_id)
    refusal = entitlements(Standing(plan_name, status, since, {}), now).refusal(Feature.SCANS)
    return current, refusal, PLANS.get(plan_name, PLANS["free"]).included.get(Meter.SCANS)


async def give_back_scan(connection: Connection, scan_no: int) -> None:
    """A scan that failed is free: the quota of the month in which it began has it back, once; of the writer role."""
    await connection.execute("SELECT weir.give_back_scan(%s)", (scan_no,))


async def notice_quotas(pool: Pool, now: datetime) -> int:
    """Tell tenants at 80 and at 100 percent, once each a month; returns how many were told."""
    told = 0
    for plan in PLANS.values():
        if plan.included:
            meters = [meter.value for meter in plan.included]
            values = (plan.name, meters, list(plan.included.values()), now)
            async with pool.connection() as connection:
                row = await (await connection.execute("SELECT weir.notice_quotas(%s, %s, %s, %s)", values)).fetchone()
            told += row[0] if row else 0
    return told


async def follow_plans(pool: Pool, now: datetime) -> None:
    """Keep raw readings as long as plans say: longer at once, shorter after the grace."""
    plans = list(PLANS.values())
    values = ([plan.name for plan in plans], [plan.retention for plan in plans], now - RETENTION_GRACE)
    async with pool.connection() as connection:
        await connection.execute(_FOLLOW, values)


def _month(now: datetime) -> datetime:
    return now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
