"""What Stripe lost of what it had acknowledged is told again, or charged, once; what is in doubt is left to settle first."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from accounts.billing.planning import plan_pushes
from ops.fake_stripe.faults import Trouble
from tests.integration.servers import Database
from tests.integration.test_usage_charges import final_invoice
from tests.integration.test_usage_pushes import BOTH_MODES
from tests.integration.usage_push_scene import EVENTS, Scene, run

pytestmark = pytest.mark.integration

DAY = timedelta(days=1)
READABLE = timedelta(minutes=16)  # Stripe's summaries lag for a quarter of an hour


@BOTH_MODES
def test_it_is_told_again_in_full(database: Database, is_absolute: bool) -> None:
    async def act(scene: Scene) -> None:
        tenant_id = await scene.subscribe()
        await scene.use(tenant_id, scene.hour(2), 5)
        await scene.push()
        scene.stripe.fake.store.db.execute("DELETE FROM meter_event")
        scene.advance(READABLE)
        assert await scene.reconcile() == (1, 0)
        await scene.push()

        assert await scene.at_stripe(tenant_id, scene.hour(2)) == 5
        assert scene.states() == [("acknowledged", 2, 5, 0)]

    run(database, act, is_absolute=is_absolute)


def test_a_gain_in_doubt_is_settled_before_anything_is_told_again(database: Database) -> None:
    async def act(scene: Scene) -> None:
        tenant_id = await scene.subscribe()
        await scene.use(tenant_id, scene.hour(2), 5)
        await scene.push()
        await scene.use(tenant_id, scene.hour(2), 2)
        scene.stripe.fail(EVENTS, Trouble.LOST_REPLY)
        await scene.push()
        scene.stripe.fake.store.db.execute("DELETE FROM meter_event WHERE value = 5")
        scene.advance(READABLE)
        assert await scene.reconcile() == (0, 0)
        assert scene.states() == [("ambiguous", 2, 5, 0)]
        scene.advance(DAY)
        for _ in range(2):
            await scene.push()

        assert await scene.at_stripe(tenant_id, scene.hour(2)) == 7
        assert scene.states() == [("acknowledged", 3, 7, 0)]

    run(database, act, is_absolute=False)


def test_of_a_final_period_it_becomes_an_adjustment_after_a_day_in_which_a_summary_may_lag(database: Database) -> None:
    async def act(scene: Scene) -> None:
        tenant_id = await scene.subscribe()
        await scene.use(tenant_id, scene.hour(2), 5)
        await scene.push()
        await final_invoice(scene, tenant_id)
        scene.stripe.fake.store.db.execute("DELETE FROM meter_event")
        scene.advance(READABLE)
        assert await scene.reconcile() == (0, 0)
        scene.advance(DAY)
        assert await scene.reconcile() == (1, 0)
        for _ in range(2):
            await scene.push()

        assert scene.stripe.events() == []
        assert scene.states() == [("acknowledged", 2, 0, 5)]
        assert database.query("SELECT quantity FROM usage_adjustments") == [(5,)]

    run(database, act)


def test_a_push_that_waited_until_its_hour_was_too_old_becomes_an_adjustment(database: Database) -> None:
    async def act(scene: Scene) -> None:
        tenant_id = await scene.subscribe()
        await scene.use(tenant_id, scene.hour(24 * 34 - 2), 5)
        await plan_pushes(scene.pool, datetime.fromtimestamp(scene.now_ms / 1000, UTC))
        assert scene.states() == [("pending", 1, None, 0)]
        scene.advance(timedelta(hours=3))
        await scene.push()

        assert scene.stripe.events() == []
        assert scene.states() == [("adjusted", 1, None, 5)]

    run(database, act)
