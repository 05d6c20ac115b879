"""Usage on its way to the stand-in for Stripe: whatever goes wrong, its totals become those of the rows, to the unit."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from accounts.billing.planning import plan_pushes
from accounts.billing.port import Push
from accounts.billing.subscriptions import take_invoice, take_subscription
from ops.fake_stripe.faults import Trouble
from schemas.usage import Meter
from tests.integration.servers import Database
from tests.integration.usage_push_scene import EVENTS, Scene, run

pytestmark = pytest.mark.integration

BOTH_MODES = pytest.mark.parametrize("is_absolute", [True, False], ids=["absolute", "delta"])


@BOTH_MODES
def test_a_closed_hour_is_pushed_and_pushed_again_when_it_changes(database: Database, is_absolute: bool) -> None:
    async def act(scene: Scene) -> None:
        tenant_id = await scene.subscribe()
        await scene.use(tenant_id, scene.hour(2), 5)
        await scene.use(tenant_id, scene.hour(-3), 9)  # an hour that is not over
        await scene.push()
        await scene.push()
        assert scene.states() == [("acknowledged", 1, 5, 0)]
        scene.advance(timedelta(hours=21))  # what comes now is no push in doubt
        await scene.use(tenant_id, scene.hour(2), 2)
        await scene.push()

        assert scene.states()[0] == ("acknowledged", 2, 7, 0)
        assert await scene.at_stripe(tenant_id, scene.hour(2)) == 7
        assert [value for _, value, _ in scene.stripe.events()][:2] == [5, 7 if is_absolute else 2]

    run(database, act, is_absolute=is_absolute)


@BOTH_MODES
@pytest.mark.parametrize("trouble", list(Trouble))
def test_trouble_leaves_the_total_exact(database: Database, trouble: Trouble, is_absolute: bool) -> None:
    async def act(scene: Scene) -> None:
        tenant_id = await scene.subscribe()
        await scene.use(tenant_id, scene.hour(2), 5)
        scene.stripe.fail(EVENTS, trouble, times=2)
        for _ in range(2):
            await scene.push()
            assert scene.states()[0][0] in ("pending", "ambiguous")
        # Stripe replays a failed answer to a known idempotency key for 24 h: what it counts decides.
        for _ in range(2):
            scene.advance(timedelta(hours=21))
            await scene.push()
        await scene.push()

        assert scene.states()[0][0::2] == ("acknowledged", 5)
        assert await scene.at_stripe(tenant_id, scene.hour(2)) == 5

    run(database, act, is_absolute=is_absolute)


@BOTH_MODES
def test_after_25_hours_what_stripe_counts_decides_about_a_lost_reply(database: Database, is_absolute: bool) -> None:
    async def act(scene: Scene) -> None:
        tenant_id = await scene.subscribe()
        await scene.use(tenant_id, scene.hour(2), 5)
        scene.stripe.fail(EVENTS, Trouble.LOST_REPLY, times=2)
        await scene.push()
        # The identifier's day begins with the first attempt, whatever follows.
        first_sent = database.query("SELECT first_sent_at FROM usage_pushes")
        await scene.push()
        assert scene.states() == [("ambiguous", 1, None, 0)]
        assert database.query("SELECT first_sent_at FROM usage_pushes") == first_sent
        scene.advance(timedelta(hours=25))
        await scene.push()

        assert scene.states() == [("acknowledged", 1, 5, 0)]
        assert len(scene.stripe.events()) == 1

    run(database, act, is_absolute=is_absolute)


@pytest.mark.parametrize(("counted", "number", "total"), [(12, 2, 12), (6, 3, 7), (3, 3, 7)])
def test_a_gain_in_doubt_is_measured_from_what_stripe_counts_and_never_added_to_too_much(
    database: Database, counted: int, number: int, total: int
) -> None:
    async def act(scene: Scene) -> None:
        tenant_id = await scene.subscribe()
        await scene.use(tenant_id, scene.hour(2), 5)
        await scene.push()
        await scene.use(tenant_id, scene.hour(2), 2)
        scene.stripe.fail(EVENTS, Trouble.LOST_REPLY)
        await scene.push()
        # As if there were other events too, or Stripe had dropped some.
        scene.stripe.fake.store.db.execute("UPDATE meter_event SET value = ? WHERE value = 2", (counted - 5,))
        scene.advance(timedelta(hours=25))
        for _ in range(3):
            await scene.push()

        assert scene.states() == [("acknowledged", number, 7, 0)]
        assert await scene.at_stripe(tenant_id, scene.hour(2)) == total

    run(database, act, is_absolute=False)


@BOTH_MODES
def test_active_sensors_are_told_as_totals(database: Database, is_absolute: bool) -> None:
    async def act(scene: Scene) -> None:
        tenant_id = await scene.subscribe()
        for gained in (3, 1):
            await scene.use(tenant_id, scene.hour(2), gained, Meter.ACTIVE_SENSORS)
            await scene.push()

        assert [event[1] for event in scene.stripe.events()] == [3, 4]

    run(database, act, is_absolute=is_absolute)


def test_a_push_that_is_sent_while_it_is_planned_anew_is_settled_first(database: Database) -> None:
    async def act(scene: Scene) -> None:
        tenant_id = await scene.subscribe()
        await scene.use(tenant_id, scene.hour(30), 5)
        await plan_pushes(scene.pool, datetime.fromtimestamp(scene.now_ms / 1000, UTC))
        await scene.use(tenant_id, scene.hour(30), 2)
        async with scene.pool.connection() as sender:
            async with sender.transaction():
                await sender.execute("UPDATE weir.usage_push SET state = 'sent', first_sent_at = now()")
                planning = asyncio.create_task(scene.push())
                waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
                while not planning.done() and database.query(waiting) == [(0,)]:  # noqa: ASYNC110 - the database tells nobody
                    await asyncio.sleep(0.01)
            await planning
        for _ in range(2):
            await scene.push()

        assert [event[1] for event in scene.stripe.events()] == [5, 2]
        assert scene.states() == [("acknowledged", 2, 7, 0)]

    run(database, act, is_absolute=False)


def test_what_stripe_has_under_its_identifier_already_is_acknowledged_at_one_attempt_and_holds_up_nobody(
    database: Database,
) -> None:
    async def act(scene: Scene) -> None:
        first, second = await scene.subscribe(), await scene.subscribe()
        for tenant_id in (first, second):
            await scene.use(tenant_id, scene.hour(2), 5)
        at_s = int(scene.hour(2).timestamp())
        has = Push(f"{first}:scans:{scene.hour(2):%Y%m%d%H}:1", scene.customers[first], Meter.SCANS, 5, at_s + 1)
        await scene.stripe.billing.push(has)
        scene.stripe.fake.store.db.execute("DELETE FROM answer")  # or the idempotency key would answer
        await scene.push()

        settled = database.query("SELECT state, attempts, acked_quantity FROM usage_pushes")
        assert settled == [("acknowledged", 1, 5)] * 2
        assert len(scene.stripe.events()) == 2

    run(database, act)


def test_a_push_that_is_refused_holds_up_no_other_tenant_and_shows(database: Database) -> None:
    async def act(scene: Scene) -> None:
        first, second = await scene.subscribe(), await scene.subscribe()
        await scene.use(first, scene.hour(2), 10**15)
        await scene.use(first, scene.hour(1), 1)
        await scene.use(second, scene.hour(2), 3)
        await scene.push()

        assert sorted(state for state, *_ in scene.states()) == ["acknowledged", "acknowledged", "rejected"]
        scene.make_old()
        [(hour, metered, pushed, adjusted, _, difference)] = scene.drift()
        assert (hour, metered, pushed, adjusted, difference) == (scene.hour(2), 10**15, 0, 0, -(10**15))

    run(database, act)


def test_what_was_dropped_is_sent_again_once_and_what_is_too_much_raises_an_alarm(database: Database) -> None:
    async def act(scene: Scene) -> None:
        tenant_id = await scene.subscribe()
        for ago in range(1, 11):
            await scene.use(tenant_id, scene.hour(ago), 100 + ago)
        await scene.push()
        db = scene.stripe.fake.store.db
        for ago in range(1, 6):
            db.execute("DELETE FROM meter_event WHERE value = ?", (100 + ago,))
        db.execute("UPDATE meter_event SET value = 999 WHERE value = 110")
        scene.stripe.fake.behaviour.summary_lag_s = 600
        assert await scene.reconcile() == (0, 0)  # acknowledged a moment ago: nothing is missed yet

        scene.advance(timedelta(minutes=16))
        assert await scene.reconcile() == (5, 1)
        await scene.push()
        scene.advance(timedelta(minutes=16))
        again = await scene.reconcile()
        await scene.push()

        assert again == (0, 1)
        assert len(scene.stripe.events()) == 10
        assert [await scene.at_stripe(tenant_id, scene.hour(ago)) for ago in (1, 5, 9)] == [101, 105, 109]
        [(kind, detail)] = database.query("SELECT kind, detail FROM operator_alarms")
        assert kind == "billing"
        assert "Stripe counts 999, it was told 110" in detail
        assert [(row[0], row[4] - row[2]) for row in scene.drift()] == [(scene.hour(10), 889)]

    run(database, act)


def test_all_agree_once_stripe_was_read(database: Database) -> None:
    async def act(scene: Scene) -> None:
        tenant_id = await scene.subscribe()
        for ago in (2, 3, 30):
            await scene.use(tenant_id, scene.hour(ago), ago)
        scene.make_old()
        assert [row[5] for row in scene.drift()] == [-30, -3, -2]  # due, and not pushed
        await scene.push()
        scene.advance(timedelta(minutes=16))
        assert await scene.reconcile() == (0, 0)

        assert scene.drift() == []
        assert database.query("SELECT quantity FROM provider_usage ORDER BY bucket_start") == [(30,), (3,), (2,)]
        # What was pushed since is not compared with what was read before.
        await scene.use(tenant_id, scene.hour(2), 1)
        await scene.push()
        scene.make_old()
        assert scene.drift() == []

    run(database, act)


def test_of_active_sensors_the_last_hour_is_what_stripe_counts(database: Database) -> None:
    async def act(scene: Scene) -> None:
        tenant_id = await scene.subscribe()
        for ago, quantity in ((27, 7), (26, 4), (2, 3)):
            await scene.use(tenant_id, scene.hour(ago), quantity, Meter.ACTIVE_SENSORS)
        await scene.push()
        scene.advance(timedelta(minutes=16))

        assert await scene.reconcile() == (0, 0)
        assert database.query("SELECT quantity FROM provider_usage ORDER BY bucket_start") == [(7,), (4,), (3,)]
        scene.advance(timedelta(minutes=1))
        assert await scene.reconcile() == (0, 0)
        read_again = database.query("SELECT count(DISTINCT read_at) FROM provider_usage")
        assert read_again == [(1,)]  # days that agree are not read by hour again

    run(database, act)


@pytest.mark.parametrize("is_pushed_before", [True, False])
def test_usage_of_a_final_period_becomes_a_dated_adjustment(database: Database, is_pushed_before: bool) -> None:
    async def act(scene: Scene) -> None:
        tenant_id = await scene.subscribe()
        await scene.use(tenant_id, scene.hour(2), 5)
        if is_pushed_before:
            await scene.push()
        else:
            await plan_pushes(scene.pool, datetime.fromtimestamp(scene.now_ms / 1000, UTC))
        invoice = await _final_invoice(scene, tenant_id)
        await scene.use(tenant_id, scene.hour(2), 3)
        await scene.push()
        await scene.push()

        pushed, adjusted = (5, 3) if is_pushed_before else (None, 8)
        state = "acknowledged" if is_pushed_before else "adjusted"
        assert scene.states() == [(state, 1, pushed, adjusted)]
        ledger = database.query("SELECT bucket_start, quantity, reason FROM usage_adjustments")
        assert ledger == [(scene.hour(2), adjusted, "the invoice of the period is final")]
        assert len(scene.stripe.events()) == (1 if is_pushed_before else 0)
        assert invoice is not None
        scene.make_old()
        assert scene.drift() == []

    run(database, act)


async def _final_invoice(scene: Scene, tenant_id: str) -> object:
    from accounts.billing.port import Invoice

    span = (scene.hour(50), scene.hour(0))
    invoice = Invoice("in_1", scene.customers[tenant_id], *span, is_final=True)
    async with scene.pool.connection() as connection:
        await take_invoice(connection, invoice)
    return invoice


def test_hours_older_than_stripe_takes_become_adjustments(database: Database) -> None:
    async def act(scene: Scene) -> None:
        tenant_id = await scene.subscribe()
        await scene.use(tenant_id, scene.hour(24 * 34), 8)
        await scene.use(tenant_id, scene.hour(24 * 34), 1)
        await scene.push()

        assert scene.states() == [("adjusted", 1, None, 9)]
        [(quantity, reason)] = database.query("SELECT quantity, reason FROM usage_adjustments")
        assert (quantity, reason) == (9, "the hour is too old to be pushed")
        assert scene.stripe.events() == []

    run(database, act)


def test_a_subscription_that_ended_is_told_nothing_more_and_leaves_the_free_plan(database: Database) -> None:
    async def act(scene: Scene) -> None:
        tenant_id = await scene.subscribe()
        [subscription] = scene.stripe.fake.store.all("subscription")
        ended = scene.hour(1)
        scene.stripe.fake.store.put(
            "subscription", subscription | {"status": "canceled", "ended_at": int(ended.timestamp())}
        )
        async with scene.pool.connection() as connection:
            await take_subscription(connection, await scene.stripe.billing.subscription(subscription["id"]))
        await scene.use(tenant_id, scene.hour(2), 5)
        await scene.use(tenant_id, scene.hour(1), 6)
        await scene.push()

        assert [event[1] for event in scene.stripe.events()] == [5]
        assert database.query("SELECT plan FROM weir.tenant WHERE tenant_id = %s", tenant_id) == [("free",)]
        scene.make_old()
        assert scene.drift() == []

    run(database, act)
