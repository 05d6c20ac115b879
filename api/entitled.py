"""What a tenant's plan and payment allow of the conveniences: asked by endpoints, never by ingest or alerts.

What held within the last second is not asked for again, so a payment acts within two from its webhook on.
"""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

from accounts.billing.plans import PLANS, Entitlements, Feature, Refusal, Standing, entitlements
from api.auth import Recent
from api.errors import Problem
from api.services import Services
from core.clock import monotonic_s
from core.postgres import tenant_transaction
from schemas.usage import Meter

_REMEMBERED_S: Final = 1.0

_STANDING: Final = """
SELECT t.plan, a.status, a.status_since FROM weir.tenant t LEFT JOIN weir.billing_account a USING (tenant_id)
"""
_USED: Final = """
SELECT meter, CASE meter WHEN 'active_sensors' THEN (array_agg(quantity ORDER BY bucket_start DESC))[1] ELSE sum(quantity) END
FROM weir_tenant.usage_hourly WHERE bucket_start >= date_trunc('month', %s::timestamptz, 'UTC') GROUP BY meter
UNION ALL
SELECT meter, used FROM weir_tenant.quota_uses WHERE month = date_trunc('month', %s::timestamptz, 'UTC') ORDER BY 2
"""
_NOTICED: Final = """
SELECT meter, noticed_at FROM weir_tenant.quota_notices
WHERE percent = 100 AND month = date_trunc('month', %s::timestamptz, 'UTC')
"""
_DETAILS: Final = {
    Refusal.NOT_INCLUDED: "the plan does not include {}; choose another at POST /v1/billing/checkout",
    Refusal.UNPAID: "the subscription is not paid, so {} must wait; readings and alerts go on; see POST /v1/billing/portal",
    Refusal.QUOTA: "this month's quota is used up, so {} must wait; readings and alerts go on; a larger plan has more",
}


class Entitled:
    """Asks, and remembers for a second."""

    def __init__(self) -> None:
        self._recent: Recent[Entitlements] = Recent(monotonic_s, ttl_s=_REMEMBERED_S)

    async def require(self, services: Services, tenant_id: str, feature: Feature) -> None:
        """Go on if the tenant may use the feature now.

        Raises:
            Problem: 402, or 429 where only the month's quota is in the way.
        """
        known = self._recent.get(tenant_id)
        if known is None:
            known = await _find(services, tenant_id)
            self._recent.put(tenant_id, known)
        refusal = known.refusal(feature)
        if refusal is not None:
            raise refused(refusal, feature)


def refused(refusal: Refusal, feature: Feature) -> Problem:
    """The problem that says why a feature has to wait: 429 where only the month's quota is in the way, else 402."""
    status = HTTPStatus.TOO_MANY_REQUESTS if refusal is Refusal.QUOTA else HTTPStatus.PAYMENT_REQUIRED
    return Problem(status, refusal.value, _DETAILS[refusal].format(feature.value))


async def _find(services: Services, tenant_id: str) -> Entitlements:
    now = datetime.fromtimestamp(services.clock.now_ms() / 1000, UTC)
    used: dict[Meter, int] = {}
    noticed: dict[Meter, datetime] = {}
    async with tenant_transaction(services.pool, tenant_id) as connection:
        row = await (await connection.execute(_STANDING)).fetchone()
        plan, status, since = row or ("free", None, None)
        # What has no limit need not be counted.
        if plan not in PLANS or PLANS[plan].included:
            cursor = await connection.execute(_USED, (now, now))
            # Of a meter that is granted ahead, the greater of what was granted and metered comes last.
            used = {Meter(meter): int(quantity) for meter, quantity in await cursor.fetchall()}
            noticed = {Meter(meter): at for meter, at in await (await connection.execute(_NOTICED, (now,))).fetchall()}
    return entitlements(Standing(plan, status, since, used, noticed), now)
