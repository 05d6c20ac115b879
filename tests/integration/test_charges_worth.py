"""What a late charge is measured from: the tenant's own month, nothing that is on its way, and one gatherer at a time."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import pytest

from accounts.billing.charges import Charger
from schemas.usage import Meter
from tests.integration.servers import Database
from tests.integration.test_billing_periods import DAY, HOUR, first
from tests.integration.test_usage_charges import GATE, WAIT, Late, charges, waiting
from tests.integration.usage_push_scene import Scene, run

pytestmark = pytest.mark.integration

LAST = first(3) + 3 * DAY  # the hour that bills the sensors of `Late`'s month, five


async def sensors(scene: Scene, tenant_id: str, hour: datetime, gained: int) -> None:
    await scene.use(tenant_id, hour, gained, Meter.ACTIVE_SENSORS)


def test_the_sensors_of_a_later_month_are_no_part_of_what_a_month_came_to_be(database: Database) -> None:
    async def act(scene: Scene) -> None:
        late = Late(scene)
        tenant_id = await late.begin()
        await sensors(scene, tenant_id, first(4) + DAY, 9)
        await late.push()
        await sensors(scene, tenant_id, LAST, 2)
        await late.charge()

        assert charges(database) == [("active_sensors", 2, "acknowledged")]

    run(database, act)


@pytest.mark.parametrize("is_back", [False, True])
def test_of_who_cancelled_the_sensors_after_the_end_are_not_charged(database: Database, is_back: bool) -> None:
    async def act(scene: Scene) -> None:
        late = Late(scene)
        tenant_id = await late.begin()
        # As if the subscription had ended within its month, and another one begun in May.
        if is_back:
            lapse = "INSERT INTO weir.billing_lapse VALUES (%s, %s, %s)"
            database.query(lapse, tenant_id, LAST + HOUR, first(5))
        else:
            database.query("UPDATE weir.billing_account SET ended_at = %s", LAST + HOUR)
        await sensors(scene, tenant_id, LAST + 2 * HOUR, 40)
        await sensors(scene, tenant_id, LAST, 2)
        await late.charge()

        assert charges(database) == [("active_sensors", 2, "acknowledged")]

    run(database, act)


def test_sensors_are_not_charged_while_a_push_of_their_month_is_in_doubt(database: Database) -> None:
    async def act(scene: Scene) -> None:
        late = Late(scene)
        tenant_id = await late.begin()
        await sensors(scene, tenant_id, LAST, 2)
        await late.push()
        # What Stripe has of the last hour is not known yet: with it nothing, without it all would be to pay.
        in_doubt = "UPDATE weir.usage_push SET state = %s, next_at = 'infinity' WHERE bucket_start = %s"
        database.query(in_doubt, "ambiguous", LAST)
        await late.charge()
        assert charges(database) == []
        database.query(in_doubt, "acknowledged", LAST)
        await late.charge()

        assert charges(database) == [("active_sensors", 2, "acknowledged")]

    run(database, act)


def test_what_a_meter_without_a_price_counts_is_settled_as_free(database: Database) -> None:
    async def act(scene: Scene) -> None:
        late = Late(scene)
        [price] = [one for one in scene.stripe.fake.store.all("price") if one["lookup_key"] == "weir_readings"]
        scene.stripe.fake.store.put("price", price | {"unit_amount_decimal": "0"})
        tenant_id = await late.begin()
        await late.use(tenant_id, [first(4) - HOUR], 2)
        await late.charge()

        assert database.query("SELECT state, item_id, detail FROM usage_charges") == [
            ("free", None, "the meter costs nothing")
        ]
        assert late.items() == []

    run(database, act)


def test_two_who_gather_at_once_make_one_charge(database: Database) -> None:
    async def act(scene: Scene) -> None:
        late = Late(scene)
        tenant_id = await late.begin()
        await late.use(tenant_id, [first(4) - HOUR], 2)
        await late.push()
        scene.advance(DAY + timedelta(minutes=1))
        database.query(WAIT)
        trigger = "CREATE TRIGGER gate BEFORE INSERT ON weir.usage_charge FOR EACH ROW EXECUTE FUNCTION"
        database.query(f"{trigger} weir.wait_at_the_gate()")
        async with scene.pool.connection() as gate:
            await gate.execute("SELECT pg_advisory_lock(%s)", (GATE,))
            charger = Charger(scene.pool, scene.stripe.billing)
            both = [asyncio.create_task(charger.run(scene.now_ms)) for _ in range(2)]
            await waiting(database, 2)
            await gate.execute("SELECT pg_advisory_unlock(%s)", (GATE,))
            await asyncio.gather(*both)

        assert charges(database) == [("readings", 2, "acknowledged")]
        assert len(late.items()) == 1

    run(database, act)
