"""What comes after its invoice is a line of the next one: every reading is in exactly one invoice, whatever goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from accounts.billing import planning, pushes
from accounts.billing.charges import Charger
from accounts.billing.planning import plan_pushes
from accounts.billing.port import Invoice
from accounts.billing.subscriptions import take_invoice
from core.postgres import Pool
from ops.fake_stripe.faults import Trouble
from schemas.usage import Meter
from tests.integration.servers import Database
from tests.integration.test_billing_periods import DAY, HOUR, Calendar, first
from tests.integration.usage_push_scene import Scene, run

pytestmark = pytest.mark.integration

ITEMS = "/v1/invoiceitems"
GATE = 720_416
# Whoever inserts waits while the test holds the lock.
WAIT = f"""
CREATE FUNCTION weir.wait_at_the_gate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_advisory_xact_lock_shared({GATE}); RETURN NEW; END $$
"""


def charges(database: Database) -> list[tuple[Any, ...]]:
    return database.query("SELECT meter, quantity, state FROM usage_charges ORDER BY charge_id")


class Late(Calendar):
    """A customer of March, whose invoice is final, and what comes after it."""

    async def begin(self) -> str:
        self.go_to(first(3) + timedelta(minutes=1))
        tenant_id = await self.check_out()
        await self.use(tenant_id, [first(3) + DAY])
        for hour in (first(3) + 2 * DAY, first(3) + 3 * DAY):
            await self.scene.use(tenant_id, hour, 5, Meter.ACTIVE_SENSORS)
        await self.end_period(first(4))
        self.go_to(first(4) + 3 * DAY)
        return tenant_id

    async def charge(self, after: timedelta = DAY) -> None:
        """Note what is late now, and charge it so much later."""
        await self.push()
        self.scene.advance(after)
        await Charger(self.scene.pool, self.scene.stripe.billing).run(self.scene.now_ms)

    def items(self) -> list[dict[str, Any]]:
        return list(self.scene.stripe.fake.store.all("invoiceitem"))

    def lines(self) -> Iterable[dict[str, Any]]:
        """Of final invoices, those of readings; prices by their nickname, items by what they carry."""
        for invoice in self.scene.stripe.fake.store.all("invoice"):
            for line in invoice["lines"]["data"]:
                if line["description"] == "weir_readings" or line.get("metadata", {}).get("meter") == "readings":
                    yield line


def test_every_late_reading_is_on_the_next_invoice_once(database: Database) -> None:
    async def act(scene: Scene) -> None:
        late = Late(scene)
        tenant_id = await late.begin()
        million = 1_000_000
        await late.use(
            tenant_id, [first(4) - HOUR, first(4) - 20 * DAY], 20 * million
        )  # 20 and 40 million, three days late
        await late.charge(DAY - HOUR)
        assert late.items() == []  # they wait for others
        late.scene.advance(HOUR)
        await late.charge()
        await late.charge()
        [item] = late.items()
        assert (item["quantity"], item["amount"], item["currency"]) == (60 * million, 6_000, "eur")  # 0.0001 cents each
        assert item["invoice"] is None  # until the next one
        assert item["description"].startswith(
            f"readings of {first(4) - 20 * DAY:%Y-%m-%d %H:%M} to {first(4):%Y-%m-%d %H:%M} UTC"
        )
        span = [datetime.fromtimestamp(item["period"][end], UTC) for end in ("start", "end")]
        assert span == [first(4) - 20 * DAY, first(4)]
        assert charges(database) == [("readings", 60 * million, "acknowledged")]

        late.go_to(first(4) + 33 * DAY)  # in May: March's hours are 34 days old and more
        await late.look()
        await late.use(tenant_id, [first(4) - DAY, first(4) - 30 * DAY], 7)
        await late.use(tenant_id, [first(5) + HOUR], 3)  # in time
        await late.charge()
        await late.end_period(first(6))

        assert sum(line["quantity"] for line in late.lines()) == sum(late.used.values()) == 1 + 60 * million + 21 + 3
        assert [row[1:] for row in charges(database)] == [(60 * million, "acknowledged"), (21, "acknowledged")]
        assert all(item["invoice"] for item in late.items())
        assert await Charger(scene.pool, scene.stripe.billing).compare(scene.now_ms) == 0

    run(database, act)


def test_an_hour_before_the_subscription_began_within_it_is_closed_with_its_period(database: Database) -> None:
    async def act(scene: Scene) -> None:
        late = Late(scene)
        late.go_to(first(3) + timedelta(hours=14, minutes=37))
        tenant_id = await late.check_out()
        hour = first(3) + 14 * HOUR
        await late.use(tenant_id, [hour])
        await late.end_period(first(4))
        await late.use(tenant_id, [hour], 2)
        await late.charge()

        assert len(scene.stripe.events()) == 1
        assert charges(database) == [("readings", 2, "acknowledged")]

    run(database, act)


def test_what_is_about_to_be_billed_is_not_pushed_any_more(database: Database) -> None:
    async def act(scene: Scene) -> None:
        late = Late(scene)
        late.go_to(first(3) + timedelta(minutes=1))
        tenant_id = await late.check_out()
        late.go_to(first(4) + timedelta(minutes=49))
        await late.look()  # a draft, to be final an hour after the period
        await late.use(tenant_id, [first(4) - HOUR])
        await late.push()
        await late.use(tenant_id, [first(4) - HOUR], 2)
        late.go_to(first(4) + timedelta(minutes=51))
        await late.charge()

        assert [value for _, value, _ in scene.stripe.events()] == [1]
        adjusted = database.query("SELECT quantity, reason FROM usage_adjustments")
        assert adjusted == [(2, "the invoice of the period is about to be final")]
        assert charges(database) == [("readings", 2, "acknowledged")]

    run(database, act)


@pytest.mark.parametrize("trouble", list(Trouble))
@pytest.mark.parametrize("pause", [timedelta(minutes=11), timedelta(hours=21)], ids=["soon", "after a day"])
def test_trouble_leaves_one_line(database: Database, trouble: Trouble, pause: timedelta) -> None:
    async def act(scene: Scene) -> None:
        late = Late(scene)
        tenant_id = await late.begin()
        await late.use(tenant_id, [first(4) - HOUR], 2)
        scene.stripe.fail(ITEMS, trouble)
        await late.charge()
        assert charges(database)[0][2] in ("pending", "ambiguous")
        for _ in range(5):
            scene.advance(pause)
            await Charger(scene.pool, scene.stripe.billing).run(scene.now_ms)

        assert charges(database) == [("readings", 2, "acknowledged")]
        [item] = late.items()
        assert database.query("SELECT item_id FROM usage_charges") == [(item["id"],)]

    run(database, act)


def test_a_refused_charge_shows_as_a_difference(database: Database) -> None:
    async def act(scene: Scene) -> None:
        tenant_id = await scene.subscribe()
        await scene.use(tenant_id, scene.hour(24 * 36), 8)
        await scene.push()
        scene.make_old()
        assert scene.drift() == []
        database.query("UPDATE weir.usage_adjustment SET created_at = created_at - interval '27 hours'")
        difference = "SELECT adjusted, difference, explanation FROM usage_drift"
        assert database.query(difference) == [(8, -8, "the charge of its adjustment is missing")]
        scene.stripe.fake.store.db.execute("UPDATE object SET id = 'gone' WHERE id = ?", (scene.customers[tenant_id],))
        await Charger(scene.pool, scene.stripe.billing).run(scene.now_ms)
        [(_, _, why)] = database.query(difference)
        assert why.startswith("the charge of its adjustment is rejected: 404: No such customer")
        touched = "SELECT difference FROM usage_drift_touched()"
        assert database.query(touched) == [(-8,)]

    run(database, act)


def test_of_active_sensors_only_what_the_months_last_hour_came_to_be_is_charged(database: Database) -> None:
    async def act(scene: Scene) -> None:
        late = Late(scene)
        tenant_id = await late.begin()  # five sensors on the third and the fourth; the month bills the fourth's

        async def sensors(hour: datetime, gained: int) -> None:
            await scene.use(tenant_id, hour, gained, Meter.ACTIVE_SENSORS)

        await sensors(first(3) + 2 * DAY, 1)
        await late.charge()
        assert charges(database) == [("active_sensors", 0, "free")]
        await sensors(first(3) + 3 * DAY, 2)
        await late.charge()
        await sensors(first(3) + 2 * DAY, 1)
        await late.charge()
        await sensors(first(3) + 4 * DAY, 3)  # a later hour takes over: 3 instead of 7
        await late.charge()

        assert [row[1:] for row in charges(database)] == [
            (0, "free"),
            (2, "acknowledged"),
            (0, "free"),
            (-4, "acknowledged"),
        ]
        assert [(item["quantity"], item["amount"]) for item in late.items()] == [(4, -200), (2, 100)]  # 50 cents each

    run(database, act)


def test_who_cancelled_gets_an_invoice_of_what_comes_late(database: Database) -> None:
    async def act(scene: Scene) -> None:
        late = Late(scene)
        late.go_to(first(3) + timedelta(minutes=1))
        tenant_id = await late.check_out()
        [subscription] = scene.stripe.fake.store.all("subscription")
        scene.stripe.fake.update_subscription({"cancel_at_period_end": True}, subscription["id"])
        await late.use(tenant_id, [first(3)])
        await late.end_period(first(4))
        late.go_to(first(4) + 3 * DAY)
        await late.use(tenant_id, [first(4) - HOUR], 2)
        await late.charge()
        for _ in range(2):
            scene.advance(2 * HOUR)
            await Charger(scene.pool, scene.stripe.billing).run(scene.now_ms)
            await late.look()

        assert sorted(line["quantity"] for line in late.lines()) == [1, 2]
        assert len(list(scene.stripe.fake.store.all("invoice"))) == 2
        assert database.query("SELECT count(*) FROM usage_charges WHERE invoiced_at IS NOT NULL") == [(1,)]

    run(database, act)


def test_a_line_that_somebody_removed_changed_or_doubled_raises_an_alarm(database: Database) -> None:
    async def act(scene: Scene) -> None:
        late = Late(scene)
        tenant_id = await late.begin()
        await late.use(tenant_id, [first(4) - HOUR], 2)
        await late.charge()
        scene.advance(2 * HOUR)
        charger, store = Charger(scene.pool, scene.stripe.billing), scene.stripe.fake.store
        [item] = late.items()
        assert await charger.compare(scene.now_ms) == 0
        store.put("invoiceitem", item | {"quantity": 3})
        assert await charger.compare(scene.now_ms) == 1
        store.put("invoiceitem", item)
        store.put("invoiceitem", item | {"id": "ii_other"})
        assert await charger.compare(scene.now_ms) == 1
        store.db.execute("DELETE FROM object WHERE kind = 'invoiceitem'")
        assert await charger.compare(scene.now_ms) == 1
        [(kind, detail)] = database.query("SELECT kind, detail FROM operator_alarms")
        assert (kind, detail) == ("billing", f"Stripe has [], it was told 2 as {item['id']}; correct it there")

    run(database, act)


async def waiting(database: Database, count: int) -> None:
    """Until so many wait for locks."""
    async with asyncio.timeout(60):
        while database.query("SELECT count(*) FROM pg_locks WHERE NOT granted") != [(count,)]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def final_invoice(scene: Scene, tenant_id: str) -> None:
    span = (scene.hour(50), scene.hour(0))
    async with scene.pool.connection() as connection:
        await take_invoice(connection, Invoice("in_1", scene.customers[tenant_id], *span, is_final=True))


def test_two_planners_at_once_note_an_adjustment_once(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "_MARKS_AT_ONCE", 1)

    async def act(scene: Scene) -> None:
        tenant_id = await scene.subscribe()
        await final_invoice(scene, tenant_id)
        for ago, quantity in ((10, 1), (2, 5)):
            await scene.use(tenant_id, scene.hour(ago), quantity)
        gated = f"WHEN (NEW.bucket_start = '{scene.hour(2).isoformat()}') EXECUTE FUNCTION weir.wait_at_the_gate()"
        database.query(WAIT)
        database.query(f"CREATE TRIGGER gate BEFORE INSERT ON weir.usage_adjustment FOR EACH ROW {gated}")
        now = datetime.fromtimestamp(scene.now_ms / 1000, UTC)
        async with scene.pool.connection() as gate:
            await gate.execute("SELECT pg_advisory_lock(%s)", (GATE,))
            planners = [asyncio.create_task(plan_pushes(scene.pool, now))]
            await waiting(database, 1)
            await scene.use(
                tenant_id, scene.hour(2), 3
            )  # after the first look at that hour, before the one for its mark
            for statement in ("SELECT pg_advisory_unlock(%s)", "SELECT pg_advisory_lock(%s)"):
                await gate.execute(statement, (GATE,))
            await waiting(database, 1)
            planners.append(asyncio.create_task(plan_pushes(scene.pool, now)))
            await waiting(database, 2)
            await gate.execute("SELECT pg_advisory_unlock(%s)", (GATE,))
            await asyncio.gather(*planners)

        adjustments = database.query("SELECT quantity FROM usage_adjustments ORDER BY bucket_start, adjustment_id")
        assert adjustments == [(1,), (5,), (3,)]
        assert scene.states() == [("adjusted", 1, None, 1), ("adjusted", 1, None, 8)]

    run(database, act)


def test_an_invoice_that_becomes_final_while_hours_are_planned_waits_for_the_plan(database: Database) -> None:
    async def act(scene: Scene) -> None:
        tenant_id = await scene.subscribe()
        await scene.push()
        await scene.use(tenant_id, scene.hour(2), 5)
        database.query(WAIT)
        trigger = "CREATE TRIGGER gate BEFORE INSERT ON weir.usage_push FOR EACH ROW EXECUTE FUNCTION"
        database.query(f"{trigger} weir.wait_at_the_gate()")
        async with scene.pool.connection() as gate:
            await gate.execute("SELECT pg_advisory_lock(%s)", (GATE,))
            pushing = asyncio.create_task(scene.pusher.run(scene.now_ms))
            await waiting(database, 1)
            finalizing = asyncio.create_task(final_invoice(scene, tenant_id))
            await waiting(database, 2)
            assert not finalizing.done()
            await gate.execute("SELECT pg_advisory_unlock(%s)", (GATE,))
            await asyncio.gather(pushing, finalizing)
        await scene.push()
        await scene.push()

        stripe = sum(value for _, value, _ in scene.stripe.events())
        [(noted,)] = database.query("SELECT coalesce(sum(quantity), 0)::int FROM usage_adjustments")
        assert stripe + noted == 5

    run(database, act)


def test_what_was_planned_is_not_sent_once_its_invoice_is_final(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act(scene: Scene) -> None:
        tenant_id = await scene.subscribe()
        await scene.use(tenant_id, scene.hour(30), 5)

        async def plan_and_finalize(pool: Pool, now: datetime) -> None:
            await plan_pushes(pool, now)
            await final_invoice(scene, tenant_id)

        with monkeypatch.context() as patched:
            patched.setattr(pushes, "plan_pushes", plan_and_finalize)
            await scene.push()
        assert scene.states() == [("pending", 1, None, 0)]
        await scene.push()

        assert scene.stripe.events() == []
        assert scene.states() == [("adjusted", 1, None, 5)]

    run(database, act)


def test_a_push_that_begins_while_its_period_is_found_final_is_settled_before_anything_is_noted(
    database: Database,
) -> None:
    async def act(scene: Scene) -> None:
        tenant_id = await scene.subscribe()
        await scene.use(tenant_id, scene.hour(30), 5)
        await plan_pushes(scene.pool, datetime.fromtimestamp(scene.now_ms / 1000, UTC))
        await final_invoice(scene, tenant_id)
        async with scene.pool.connection() as sender:
            async with sender.transaction():
                await sender.execute("UPDATE weir.usage_push SET state = 'sent', first_sent_at = now()")
                planning = asyncio.create_task(scene.push())
                await waiting(database, 1)
            await planning
        assert database.query("SELECT count(*) FROM usage_adjustments") == [(0,)]
        for _ in range(3):
            scene.advance(timedelta(hours=21))
            await scene.push()

        # It was never sent: Stripe counts nothing, and all of it is noted, once.
        assert scene.stripe.events() == []
        assert database.query("SELECT quantity FROM usage_adjustments") == [(5,)]
        assert scene.states() == [("adjusted", 2, None, 5)]

    run(database, act)
