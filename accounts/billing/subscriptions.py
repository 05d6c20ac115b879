"""Subscriptions as our tables have them: brought up to date from the provider, whatever order its events come in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, cast

from accounts.billing.plans import PLANS
from accounts.billing.port import BillingProvider, Invoice, NotThere, Subscription
from core.postgres import Connection, Pool
from schemas.errors import Misconfigured, Transient

_FREE: Final = "free"
_OVER: Final = frozenset({"canceled", "incomplete_expired"})

_TAKE: Final = """
UPDATE weir.billing_account SET subscription_id = %(subscription)s, status = %(status)s,
    status_since = CASE WHEN status IS DISTINCT FROM %(status)s THEN now() ELSE status_since END,
    subscribed_at = %(started)s, activated_at = coalesce(activated_at, now()), ended_at = %(ended)s, period_start = %(start)s,
    period_end = %(end)s, cancel_at_period_end = %(cancel)s, updated_at = clock_timestamp()
WHERE customer_id = %(customer)s AND (subscription_id IS NULL OR subscription_id = %(subscription)s
    OR status = ANY (%(over)s) AND (%(status)s <> ALL (%(over)s) OR subscribed_at <= %(started)s))
RETURNING tenant_id
"""
# Whoever wrote since may have asked later; whoever is writing is waited for.
_WRITTEN_SINCE: Final = "SELECT updated_at > %s FROM weir.billing_account WHERE customer_id = %s FOR NO KEY UPDATE"
_PERIOD: Final = """
INSERT INTO weir.billing_period AS p (tenant_id, starts_at, ends_at, invoice_id, is_final)
SELECT tenant_id, %s, %s, %s, %s FROM weir.billing_account WHERE customer_id = %s
ON CONFLICT (tenant_id, starts_at) DO UPDATE SET is_final = p.is_final OR EXCLUDED.is_final, ends_at = EXCLUDED.ends_at
"""
_CUSTOMER: Final = """
SELECT t.name, a.customer_id, a.subscription_id, a.status
FROM weir.tenant t LEFT JOIN weir.billing_account a USING (tenant_id) WHERE tenant_id = %s
"""
MOST_ATTEMPTS: Final = 20
"""Of an event that cannot be acted on; then an operator alarm tells of it."""

_WAITING: Final = """
SELECT event_id, type, body FROM weir.billing_event WHERE processed_at IS NULL AND attempts < %s
ORDER BY received_at LIMIT 500
"""
_COUNT: Final = "UPDATE weir.billing_event SET attempts = attempts + %s WHERE event_id = %s RETURNING attempts"
_DONE: Final = (
    "UPDATE weir.billing_event SET processed_at = now(), outcome = %s, attempts = attempts + 1 WHERE event_id = %s"
)


async def take_subscription(connection: Connection, found: Subscription) -> str | None:
    """Write down how a subscription stands; the tenant's plan follows. None: it is nobody's, or an older one."""
    values = {
        "subscription": found.subscription_id,
        "status": found.status,
        "started": found.started_at,
        "ended": found.ended_at,
        "start": found.period_start,
        "end": found.period_end,
        "cancel": found.cancel_at_period_end,
        "customer": found.customer_id,
        "over": sorted(_OVER),
    }
    row = await (await connection.execute(_TAKE, values)).fetchone()
    if row is None:
        return None
    plan = _FREE if found.status in _OVER or found.plan not in PLANS else found.plan
    await connection.execute(
        "UPDATE weir.tenant SET plan = %s WHERE tenant_id = %s AND plan <> %s", (plan, row[0], plan)
    )
    return str(row[0])


async def take_invoice(connection: Connection, found: Invoice) -> None:
    """Write down whether a period can still be changed."""
    if found.period_end > found.period_start:
        period = (found.period_start, found.period_end, found.invoice_id, found.is_final)
        await connection.execute(_PERIOD, (*period, found.customer_id))


async def subscribe_directly(
    connection: Connection, provider: BillingProvider, tenant_id: str, plan: str
) -> Subscription:
    """Subscribe a tenant that pays by invoice; again: how it stands.

    Raises:
        Misconfigured: there is no such plan or tenant.
    """
    if plan not in PLANS:
        msg = f"there is no plan {plan}; there are {', '.join(PLANS)}"
        raise Misconfigured(msg)
    row = await (await connection.execute(_CUSTOMER, (tenant_id,))).fetchone()
    if row is None:
        msg = f"there is no tenant {tenant_id}"
        raise Misconfigured(msg)
    if row[2] is not None and row[3] not in _OVER:
        made = await provider.subscription(row[2])
        await take_subscription(connection, made)
        return made
    customer_id = row[1] or await provider.create_customer(tenant_id, row[0])
    await connection.execute(
        "INSERT INTO weir.billing_account (tenant_id, customer_id) VALUES (%s, %s) ON CONFLICT DO NOTHING",
        (tenant_id, customer_id),
    )
    made = await provider.subscribe(customer_id, tenant_id, plan)
    await take_subscription(connection, made)
    return made


@dataclass(frozen=True, slots=True)
class Inbox:
    """Webhook events that wait: each is only a hint to look at what it is about.

    Args:
        pool: of the writer role.
        provider: who is asked how things stand.
    """

    pool: Pool
    provider: BillingProvider

    async def process(self) -> int:
        """Act on what waits; returns how many events that were. One that cannot be acted on holds up no other.

        Raises:
            Transient: the provider does not answer; what is left waits.
            Misconfigured: what it refused of one of them, or another error of the first that has a shape nobody expects.
        """
        async with self.pool.connection() as connection:
            rows = await (await connection.execute(_WAITING, (MOST_ATTEMPTS,))).fetchall()
        failed: Exception | None = None
        for event_id, kind, body in rows:
            # Counted first: it is not tried for ever, whatever it does to this process.
            attempts = await self._count(event_id, 1)
            try:
                if not await self._act(event_id, kind, body):
                    await self._count(event_id, -1)
            except Transient:
                await self._count(event_id, -1)  # no fault of the event's: it waits as long as that takes
                raise
            except (Misconfigured, LookupError, AttributeError, TypeError, ValueError) as error:
                failed = failed or error
                if attempts >= MOST_ATTEMPTS:
                    await self._give_up(event_id, kind, error)
        if failed is not None:
            raise failed
        return len(rows)

    async def _count(self, event_id: str, by: int) -> int:
        async with self.pool.connection() as connection:
            row = await (await connection.execute(_COUNT, (by, event_id))).fetchone()
        return int(row[0]) if row else 0

    async def _give_up(self, event_id: str, kind: str, error: Exception) -> None:
        detail = (
            f"Stripe's event {event_id} could not be acted on in {MOST_ATTEMPTS} attempts ({type(error).__name__});"
        )
        async with self.pool.connection() as connection:
            await _raise_alarm(connection, kind, f"{detail} see billing_events, and what Stripe's dashboard says of it")

    async def _act(self, event_id: str, kind: str, body: dict[str, Any]) -> bool:
        """False: another worker wrote while this one asked, so the answer may be the older one; the event waits."""
        thing, found, invoice, outcome = body.get("data", {}).get("object", {}), None, None, "ignored"
        subscription_id = thing.get("id") if kind.startswith("customer.subscription.") else thing.get("subscription")
        # Of an invoice that is to come there is none yet, and no id of it.
        invoice_id = thing.get("id") if kind.startswith("invoice.") else None
        asked = await self._now()
        try:
            found = await self.provider.subscription(subscription_id) if isinstance(subscription_id, str) else None
            invoice = await self.provider.invoice(invoice_id) if isinstance(invoice_id, str) else None
            outcome = outcome if found is None and invoice is None else "done"
        except NotThere:
            outcome = "unknown"
        async with self.pool.connection() as connection, connection.transaction():
            if found is not None:
                cursor = await connection.execute(_WRITTEN_SINCE, (asked, found.customer_id))
                if await cursor.fetchone() == (True,):
                    return False
                await take_subscription(connection, found)
            if invoice is not None:
                await take_invoice(connection, invoice)
            if kind.startswith("v1.billing.meter."):
                # It found usage wrong after it had taken it in; its report has samples only, the totals tell the rest.
                detail = (
                    f"Stripe reported invalid meter events ({event_id}); see billing_events, then run `weir reconcile`"
                )
                await _raise_alarm(connection, kind, detail)
            await connection.execute(_DONE, (outcome, event_id))
        return True

    async def _now(self) -> datetime:
        async with self.pool.connection() as connection:
            row = await (await connection.execute("SELECT clock_timestamp()")).fetchone()
        assert row is not None  # noqa: S101 - it has no WHERE
        return cast("datetime", row[0])


async def _raise_alarm(connection: Connection, subject: str, detail: str) -> None:
    """For the operator; one that is open already is seen again."""
    await connection.execute(
        "INSERT INTO weir.operator_alarm AS o (kind, subject, detail) VALUES ('billing', %s, %s)"
        " ON CONFLICT (kind, subject) WHERE closed_at IS NULL DO UPDATE SET last_seen_at = now()",
        (subject, detail),
    )
