"""What is wrong with one customer is nobody else's: its final periods, its refusals, and workers who look at it at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, cast

import pytest

from accounts.billing.charges import Charger
from accounts.billing.port import BillingProvider, Invoice, Push, Report, Subscription
from accounts.billing.pushes import Pusher
from accounts.billing.reconciling import Reconciler
from accounts.billing.subscriptions import Inbox, take_invoice
from schemas.errors import Misconfigured
from tests.integration.servers import Database
from tests.integration.usage_push_scene import Scene, run

pytestmark = pytest.mark.integration

OLD = 24 * 36  # hours that Stripe takes no push of any more


class Refusing:
    """Stripe, which refuses what is asked of a customer, as of one that somebody deleted there; nobody is served before that."""

    def __init__(self, scene: Scene, tenant_id: str) -> None:
        self._billing, self._customer = scene.stripe.billing, scene.customers[tenant_id]
        self._refused = asyncio.Event()

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        async def ask(customer: str, *rest: object) -> object:
            if customer == self._customer:
                self._refused.set()
                msg = f"Stripe answered 400: No such customer: '{customer}'"
                raise Misconfigured(msg)
            return await getattr(self._billing, name)(customer, *rest)

        return ask

    async def push(self, push: Push) -> Report:
        await self._refused.wait()
        return await self._billing.push(push)

    @property
    def charge(self) -> Any:
        return self._billing.charge

    def as_provider(self) -> BillingProvider:
        return cast("BillingProvider", self)


async def two(scene: Scene) -> tuple[str, str]:
    """Tenants in the order in which they have their turn."""
    first, second = sorted([await scene.subscribe(), await scene.subscribe()])
    return first, second


PUSHES = "SELECT tenant_id, state FROM usage_pushes ORDER BY 1"
CHARGES = "SELECT tenant_id, state FROM usage_charges ORDER BY 1, 2"


def test_a_final_period_closes_no_hour_of_another_tenant(database: Database) -> None:
    async def act(scene: Scene) -> None:
        closed, open_one = await two(scene)
        invoice = Invoice("in_1", scene.customers[closed], scene.hour(50), scene.hour(0), is_final=True)
        async with scene.pool.connection() as connection:
            await take_invoice(connection, invoice)
        for tenant_id in (closed, open_one):
            await scene.use(tenant_id, scene.hour(30), 5)
        await scene.push()

        assert database.query(PUSHES) == [(closed, "adjusted"), (open_one, "acknowledged")]
        assert [value for _, value, _ in scene.stripe.events()] == [5]

    run(database, act)


def test_a_push_in_doubt_of_whom_stripe_tells_nothing_holds_up_no_other_tenant(database: Database) -> None:
    async def act(scene: Scene) -> None:
        gone, other = await two(scene)
        await scene.use(gone, scene.hour(30), 5)
        await scene.push()
        doubt = "UPDATE weir.usage_push SET state = 'ambiguous', acked_quantity = NULL, first_sent_at = %s"
        database.query(doubt, scene.hour(26))
        await scene.use(other, scene.hour(30), 3)
        scene.advance(timedelta(minutes=11))
        with pytest.raises(Misconfigured, match=scene.customers[gone]):
            await Pusher(scene.pool, Refusing(scene, gone).as_provider()).run(scene.now_ms)

        assert database.query(PUSHES) == [(gone, "ambiguous"), (other, "acknowledged")]

    run(database, act)


def test_a_customer_of_whom_stripe_tells_nothing_keeps_no_other_from_being_compared(database: Database) -> None:
    async def act(scene: Scene) -> None:
        gone, other = await two(scene)
        for tenant_id in (gone, other):
            await scene.use(tenant_id, scene.hour(30), 5)
        await scene.push()
        scene.stripe.fake.store.db.execute("DELETE FROM meter_event")
        scene.advance(timedelta(minutes=16))
        start = scene.hour(72).replace(hour=0)
        with pytest.raises(Misconfigured, match=scene.customers[gone]):
            await Reconciler(scene.pool, Refusing(scene, gone).as_provider()).run(
                start, start + timedelta(days=5), scene.now_ms
            )

        assert database.query(PUSHES) == [(gone, "acknowledged"), (other, "pending")]

    run(database, act)


def test_a_customer_of_whom_stripe_tells_nothing_holds_up_no_charge_of_another(database: Database) -> None:
    async def act(scene: Scene) -> None:
        gone, other = await two(scene)
        for tenant_id in (gone, other):
            await scene.use(tenant_id, scene.hour(OLD), 5)
        await scene.push()
        charger = Charger(scene.pool, Refusing(scene, gone).as_provider(), gathered_for=timedelta(0))
        plain = Charger(scene.pool, scene.stripe.billing, gathered_for=timedelta(0))
        # The first one's line is in doubt, the second one's not made yet.
        await plain.run(scene.now_ms)
        database.query("UPDATE weir.usage_charge SET state = 'ambiguous' WHERE tenant_id = %s", gone)
        await scene.use(other, scene.hour(OLD), 2)
        await scene.push()
        with pytest.raises(Misconfigured, match=scene.customers[gone]):
            await charger.run(scene.now_ms)
        charges = [(gone, "sent"), (other, "acknowledged"), (other, "acknowledged")]
        assert database.query(CHARGES) == charges
        mixed = "SELECT a.tenant_id FROM usage_adjustments a JOIN usage_charges c USING (charge_id)"
        assert database.query(f"{mixed} WHERE a.tenant_id <> c.tenant_id") == []

        # Nor is another's missing line overlooked, nor its last invoice forgotten.
        scene.advance(timedelta(hours=2))
        await plain.run(scene.now_ms)
        database.query("UPDATE weir.billing_account SET ended_at = now()")
        scene.advance(timedelta(hours=2))
        with pytest.raises(Misconfigured, match=scene.customers[gone]):
            await charger.run(scene.now_ms)
        invoiced = "SELECT tenant_id FROM usage_charges WHERE invoiced_at IS NOT NULL"
        assert database.query(invoiced) == [(other,), (other,)]
        scene.stripe.fake.store.db.execute("DELETE FROM object WHERE kind = 'invoiceitem'")
        with pytest.raises(Misconfigured, match=scene.customers[gone]):
            await charger.compare(scene.now_ms)
        missing = database.query("SELECT subject FROM operator_alarms ORDER BY 1")
        assert [subject.split(":")[0] for (subject,) in missing] == [f"charge {other}"] * 2

    run(database, act)


def test_of_two_workers_who_asked_the_one_who_asked_first_overwrites_nothing(database: Database) -> None:
    async def act(scene: Scene) -> None:
        await scene.subscribe()
        [subscription] = scene.stripe.fake.store.all("subscription")
        event = "INSERT INTO weir.billing_event (event_id, type, body) VALUES (%s, 'customer.subscription.updated', %s::jsonb)"
        body = '{"data": {"object": {"id": "%s"}}}' % subscription["id"]  # noqa: UP031 - braces
        database.query(event, "evt_1", body)

        class Slow:
            """Tells what was so when it was asked; meanwhile somebody pays, and another worker acts on that."""

            async def subscription(self, subscription_id: str) -> Subscription:
                scene.stripe.fake.store.put("subscription", subscription | {"status": "past_due"})
                told = await scene.stripe.billing.subscription(subscription_id)
                scene.stripe.fake.store.put("subscription", subscription | {"status": "active"})
                database.query(event, "evt_2", body)
                await Inbox(scene.pool, scene.stripe.billing).process()
                database.query(
                    "UPDATE weir.billing_event SET processed_at = NULL, attempts = 1 WHERE event_id = 'evt_1'"
                )
                return told

        await Inbox(scene.pool, cast("BillingProvider", Slow())).process()
        assert database.query("SELECT status FROM billing_accounts") == [("active",)]
        left = "SELECT event_id, attempts FROM billing_events WHERE processed_at IS NULL"
        assert database.query(left) == [("evt_1", 0)]  # it is looked at again
        await Inbox(scene.pool, scene.stripe.billing).process()

        assert database.query(left) == []
        assert database.query("SELECT status FROM billing_accounts") == [("active",)]

    run(database, act)
