"""Tenants whose usage goes to the stand-in for Stripe, with clocks that can be moved."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

from accounts.billing.pushes import Pusher
from accounts.billing.reconciling import Reconciler
from accounts.billing.subscriptions import subscribe_directly
from core.clock import now_ms
from core.postgres import DatabaseRole, Pool, open_pool
from schemas.usage import HOUR_MS, Meter, UsageIncrement, usage_increments
from sinks.timescale import usage
from tests.integration.servers import Database, create_tenant
from tests.integration.stripe_scene import StripeScene, stripe_scene

EVENTS = "/v1/billing/meter_events"
HOUR = timedelta(hours=1)
# As if whatever the tests meter had been scanned: here pushes are looked at, not scans.
_SCANNED = """
CREATE OR REPLACE FUNCTION weir.stored_scans(p_tenant_ids text[], p_from timestamptz, p_to timestamptz)
RETURNS TABLE (tenant_id text, meter text, bucket_start timestamptz, quantity bigint) LANGUAGE sql STABLE AS $$
    SELECT u.tenant_id, u.meter, u.bucket_start, u.quantity FROM weir.usage u
    WHERE u.meter = 'scans' AND u.bucket_start >= p_from AND u.bucket_start < p_to
$$
"""


class Scene:
    """Tenants on the enterprise plan, their usage, and the pushes."""

    def __init__(self, database: Database, pool: Pool, stripe: StripeScene, is_absolute: bool) -> None:
        self.database, self.pool, self.stripe = database, pool, stripe
        self.pusher = Pusher(pool, stripe.billing, is_absolute=is_absolute)
        self.customers: dict[str, str] = {}
        self._begun_ms, self._ahead_ms = now_ms(), 0

    @property
    def now_ms(self) -> int:
        return now_ms() + self._ahead_ms

    def advance(self, span: timedelta) -> None:
        """Move our clock and Stripe's."""
        self._ahead_ms += round(span.total_seconds() * 1000)
        self.stripe.advance(span.total_seconds())

    def hour(self, ago: int) -> datetime:
        """An hour that long before the one in which the scene began: the same however long a test takes."""
        return datetime.fromtimestamp(self._begun_ms // HOUR_MS * HOUR_MS / 1000, UTC) - ago * HOUR

    async def subscribe(self) -> str:
        tenant = await create_tenant(self.database)
        async with self.pool.connection() as connection:
            made = await subscribe_directly(connection, self.stripe.billing, tenant.tenant_id, "enterprise")
        self.customers[tenant.tenant_id] = made.customer_id
        return tenant.tenant_id

    async def use(self, tenant_id: str, hour: datetime, quantity: int, meter: Meter = Meter.SCANS) -> None:
        """Usage as a pipeline adds it; scans, as they need no readings to agree with."""
        row = UsageIncrement(tenant_id, meter, round(hour.timestamp() * 1000), quantity)
        async with self.pool.connection() as connection, connection.transaction():
            await usage.add(connection, usage_increments([row]), "t-usage")

    async def push(self) -> None:
        """A run as the job makes it, at a time at which every back-off is over."""
        self.advance(timedelta(minutes=11))
        await self.pusher.run(self.now_ms)

    def states(self) -> list[tuple[Any, ...]]:
        return self.database.query(
            "SELECT state, number, acked_quantity, adjusted FROM usage_pushes ORDER BY bucket_start"
        )

    async def at_stripe(self, tenant_id: str, hour: datetime, meter: Meter = Meter.SCANS) -> int | None:
        start_s = int(hour.timestamp())
        totals = self.stripe.billing.totals(self.customers[tenant_id], meter, start_s, start_s + 3600, "hour")
        return (await totals).get(start_s)

    async def reconcile(self) -> tuple[int, int]:
        """Sent again, alarms."""
        start = (self.hour(0) - timedelta(days=3)).replace(hour=0)
        report = await Reconciler(self.pool, self.stripe.billing).run(start, start + timedelta(days=5), self.now_ms)
        return report.sent_again, report.alarms

    def drift(self) -> list[tuple[Any, ...]]:
        return self.database.query(
            "SELECT bucket_start, metered, pushed, adjusted, stripe, difference FROM usage_drift ORDER BY 1"
        )

    def make_old(self) -> None:
        """As if all usage had changed long enough ago for its push to be overdue."""
        self.database.query("ALTER TABLE weir.usage DISABLE TRIGGER USER")
        self.database.query("UPDATE weir.usage SET changed_at = changed_at - interval '10 minutes'")
        self.database.query("ALTER TABLE weir.usage ENABLE TRIGGER USER")
        self.database.query("UPDATE weir.billing_account SET activated_at = activated_at - interval '20 minutes'")


def run(database: Database, act: Callable[[Scene], Coroutine[Any, Any, None]], *, is_absolute: bool = True) -> None:
    database.query(_SCANNED)

    async def go() -> None:
        async with (
            stripe_scene(is_absolute=is_absolute) as stripe,
            # Tests make transactions wait for each other: however long this machine takes over it.
            open_pool(
                database.writer_url,
                DatabaseRole.WRITER,
                statement_timeout_ms=120_000,
                lock_timeout_ms=60_000,
                idle_in_transaction_timeout_ms=60_000,
            ) as pool,
        ):
            await stripe.billing.set_up()
            await act(Scene(database, pool, stripe, is_absolute))

    asyncio.run(go())
