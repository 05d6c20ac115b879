"""Billing in the background: usage pushed and compared, webhook events acted on. Without a Stripe key there is nothing to do.

Each task is safe to run twice, even at once; one run does what all before it left.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from accounts.billing import quotas
from accounts.billing.charges import Charger
from accounts.billing.planning import SURELY_ACCEPTED, forget_marks
from accounts.billing.pushes import Pusher
from accounts.billing.reconciling import Reconciler
from accounts.billing.refusals import Refusals
from accounts.billing.subscriptions import MOST_ATTEMPTS, Inbox
from core.settings import Settings, load_settings
from core.tasks import TaskName
from jobs.registry import Resources, Task, Tasks
from jobs.retry import Backoff
from sinks.timescale import usage_proof

if TYPE_CHECKING:
    from accounts.billing.stripe_adapter import StripeBilling

_DAY: Final = timedelta(days=1)


async def push_usage(resources: Resources) -> None:
    """Tell Stripe of hours that are over or have changed, and charge what came too late for that."""
    settings = load_settings()
    async with _provider(settings) as provider:
        if provider is None:
            await forget_marks(resources.pool)
        else:
            is_absolute, refusals = settings.stripe_usage_mode == "absolute", Refusals()
            with refusals.kept():
                await Pusher(resources.pool, provider, is_absolute=is_absolute).run(resources.now_ms())
            with refusals.kept():
                await Charger(resources.pool, provider).run(resources.now_ms())
            refusals.raise_first()


async def take_billing_events(resources: Resources) -> None:
    """Act on webhook events that wait."""
    async with resources.pool.connection() as connection:
        query = "SELECT EXISTS (SELECT FROM weir.billing_event WHERE processed_at IS NULL AND attempts < %s)"
        row = await (await connection.execute(query, (MOST_ATTEMPTS,))).fetchone()
    if row is None or not row[0]:
        return
    async with _provider(load_settings()) as provider:
        if provider is not None:
            await Inbox(resources.pool, provider).process()


async def reconcile_recent_usage(resources: Resources) -> None:
    """Compare today and yesterday with what Stripe counts."""
    await _reconcile(resources, _DAY)


async def reconcile_usage(resources: Resources) -> None:
    """Compare every day that a push can still change, and what was charged."""
    refusals = Refusals()
    with refusals.kept():
        await _reconcile(resources, SURELY_ACCEPTED)
    async with _provider(load_settings()) as provider:
        if provider is not None:
            with refusals.kept():
                await Charger(resources.pool, provider).compare(resources.now_ms())
    refusals.raise_first()


async def prove_usage(resources: Resources) -> None:
    """Compare rows, usage, pushes and what Stripe counts for every day that changed since the last time."""
    await usage_proof.prove(resources.pool)


async def notice_quotas(resources: Resources) -> None:
    """Tell tenants whose quota runs out, or has."""
    await quotas.notice_quotas(resources.pool, datetime.fromtimestamp(resources.now_ms() / 1000, UTC))


async def _reconcile(resources: Resources, back: timedelta) -> None:
    today = datetime.fromtimestamp(resources.now_ms() / 1000, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    async with _provider(load_settings()) as provider:
        if provider is not None:
            await Reconciler(resources.pool, provider).run(today - back, today + _DAY, resources.now_ms())


@asynccontextmanager
async def _provider(settings: Settings) -> AsyncIterator[StripeBilling | None]:
    if not settings.stripe_api_key.get_secret_value():
        yield None
        return
    # Loading the library takes most of a second and 40 MB, which only workers that bill should pay.
    from accounts.billing.stripe_adapter import from_settings  # noqa: PLC0415

    provider = from_settings(settings)
    try:
        yield provider
    finally:
        if provider is not None:
            await provider.close()


# The next tick of a frequent task is its retry.
_ONCE: Final = Backoff(max_attempts=1)

BILLING_TASKS: Tasks = {
    TaskName.PUSH_USAGE: Task(push_usage, timeout_s=600.0, backoff=_ONCE),
    TaskName.TAKE_BILLING_EVENTS: Task(take_billing_events, timeout_s=60.0, backoff=_ONCE),
    TaskName.RECONCILE_RECENT_USAGE: Task(reconcile_recent_usage, timeout_s=1_100.0, backoff=_ONCE),
    TaskName.RECONCILE_USAGE: Task(reconcile_usage, timeout_s=3_600.0),
    TaskName.PROVE_USAGE: Task(prove_usage, timeout_s=900.0),
    TaskName.NOTICE_QUOTAS: Task(notice_quotas, timeout_s=240.0, backoff=_ONCE),
}
