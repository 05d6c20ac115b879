"""Billing looks again only at what changed: pushes that are due, and the proof that goes on from the last one."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from accounts.billing.planning import forget_marks, plan_pushes
from core.postgres import DatabaseRole, open_pool
from ops.fake_stripe.faults import Trouble
from sinks.timescale import usage_proof
from sinks.timescale.usage_reader import Difference
from tests.integration.metering_scene import MeteringScene, Reading, run_scene
from tests.integration.servers import Database, create_tenant
from tests.integration.store_scene import at, ms
from tests.integration.usage_push_scene import EVENTS, Scene, run

pytestmark = pytest.mark.integration

NOON = ms("2026-03-10T12:00")


def behind_the_back(database: Database, statement: Any, *parameters: object) -> None:
    """A change of usage that leaves no mark."""
    database.query("ALTER TABLE weir.usage DISABLE TRIGGER USER")
    database.query(statement, *parameters)
    database.query("ALTER TABLE weir.usage ENABLE TRIGGER USER")


class TestPlanning:
    def test_only_marked_hours_of_the_past_are_looked_at(self, database: Database) -> None:
        async def act(scene: Scene) -> None:
            tenant_id = await scene.subscribe()
            for ago in (50, 60):
                await scene.use(tenant_id, scene.hour(ago), 5)
            await scene.push()
            raised = "UPDATE weir.usage SET quantity = 9 WHERE bucket_start = %s"
            behind_the_back(database, raised, scene.hour(60))
            await scene.use(tenant_id, scene.hour(50), 2)
            await scene.push()

            assert scene.states() == [("acknowledged", 1, 5, 0), ("acknowledged", 2, 7, 0)]
            assert database.query("SELECT count(*) FROM weir.usage_touched") == [(0,)]

        run(database, act)

    def test_an_hour_is_found_once_it_ends_although_nothing_marked_it(self, database: Database) -> None:
        async def act(scene: Scene) -> None:
            tenant_id = await scene.subscribe()
            await scene.push()
            await scene.use(tenant_id, scene.hour(0), 4)
            await scene.push()
            assert database.query("SELECT count(*) FROM weir.usage_touched") == [(0,)]
            scene.advance(timedelta(hours=1))
            await scene.push()

            assert scene.states() == [("acknowledged", 1, 4, 0)]

        run(database, act)

    def test_no_hour_lies_between_those_that_are_looked_at_anyway_and_those_that_leave_a_mark(
        self, database: Database
    ) -> None:
        async def act(scene: Scene) -> None:
            tenant_id = await scene.subscribe()
            await scene.push()
            for ago in (1, 2, 3, 4, 5):
                await scene.use(tenant_id, scene.hour(ago), ago)
            await scene.push()

            assert scene.states() == [("acknowledged", 1, ago, 0) for ago in (5, 4, 3, 2, 1)]

        run(database, act)

    def test_planners_that_stood_still_for_days_find_what_ended_meanwhile(self, database: Database) -> None:
        async def act(scene: Scene) -> None:
            tenant_id = await scene.subscribe()
            await scene.push()
            row = "INSERT INTO weir.usage (tenant_id, meter, bucket_start, quantity) VALUES (%s, 'scans', %s, 3)"
            behind_the_back(database, row, tenant_id, scene.hour(30))
            database.query("UPDATE weir.push_plan SET planned_at = planned_at - interval '2 days'")
            await scene.push()

            assert scene.states() == [("acknowledged", 1, 3, 0)]

        run(database, act)

    def test_a_planner_whose_clock_is_ahead_hides_no_hour_from_the_next(self, database: Database) -> None:
        async def act(scene: Scene) -> None:
            tenant_id = await scene.subscribe()
            await plan_pushes(scene.pool, datetime.fromtimestamp(scene.now_ms / 1000, UTC) + timedelta(days=1))
            row = "INSERT INTO weir.usage (tenant_id, meter, bucket_start, quantity) VALUES (%s, 'scans', %s, 3)"
            behind_the_back(database, row, tenant_id, scene.hour(1))
            await scene.push()

            assert scene.states() == [("acknowledged", 1, 3, 0)]

        run(database, act)

    def test_a_change_while_a_push_is_in_doubt_is_pushed_once_that_is_settled(self, database: Database) -> None:
        async def act(scene: Scene) -> None:
            tenant_id = await scene.subscribe()
            await scene.use(tenant_id, scene.hour(30), 5)
            scene.stripe.fail(EVENTS, Trouble.LOST_REPLY)
            await scene.push()
            await scene.use(tenant_id, scene.hour(30), 1)
            await plan_pushes(scene.pool, datetime.fromtimestamp(scene.now_ms / 1000, UTC))
            assert scene.states() == [("ambiguous", 1, None, 0)]
            await scene.push()
            await scene.push()

            assert scene.states() == [("acknowledged", 2, 6, 0)]
            assert await scene.at_stripe(tenant_id, scene.hour(30)) == 6

        run(database, act)

    def test_what_was_used_before_somebody_subscribed_is_looked_at_then(self, database: Database) -> None:
        async def act(scene: Scene) -> None:
            tenant = await create_tenant(database)
            await scene.use(tenant.tenant_id, scene.hour(30), 5)
            await scene.push()
            database.query(
                "INSERT INTO weir.billing_account (tenant_id, customer_id) VALUES (%s, 'cus_1')", tenant.tenant_id
            )
            await scene.push()
            assert scene.states() == []
            database.query(
                "UPDATE weir.billing_account SET subscription_id = 'sub_1', subscribed_at = now() - interval '2 days',"
                " activated_at = now()"
            )
            await plan_pushes(scene.pool, datetime.fromtimestamp(scene.now_ms / 1000, UTC))

            assert scene.states() == [("pending", 1, None, 0)]

        run(database, act)

    def test_without_a_provider_the_marks_of_nobody_go(self, database: Database) -> None:
        async def act(scene: Scene) -> None:
            mine, free = await scene.subscribe(), await create_tenant(database)
            for tenant_id in (mine, free.tenant_id):
                await scene.use(tenant_id, scene.hour(30), 5)
            await forget_marks(scene.pool)

            assert database.query("SELECT DISTINCT tenant_id FROM weir.usage_touched") == [(mine,)]

        run(database, act)


class TestProof:
    def prove(self, database: Database) -> list[Difference]:
        async def go() -> list[Difference]:
            async with open_pool(database.writer_url, DatabaseRole.WRITER) as pool:
                return await usage_proof.prove(pool)

        return asyncio.run(go())

    def test_it_goes_on_from_the_last_one_and_keeps_what_did_not_agree(self, database: Database) -> None:
        async def act(scene: MeteringScene) -> None:
            tenant = await create_tenant(database)
            readings: list[Reading] = [("air", NOON + day * 86_400_000, 1.0) for day in (0, 10, 20)]
            await scene.publish(tenant.devices[0], readings)

        run_scene(database, act)
        assert self.prove(database) == []
        # As if all of it had been stored long ago.
        behind_the_back(database, "UPDATE weir.usage SET changed_at = changed_at - interval '1 hour'")
        raised = "UPDATE weir.usage SET quantity = 3 WHERE meter = 'readings' AND bucket_start = %s"
        behind_the_back(database, raised, at(NOON))
        database.query(raised, at(NOON + 10 * 86_400_000))

        for _ in range(2):
            found = self.prove(database)
            assert [(one.bucket_start, one.stored, one.metered) for one in found] == [
                (at(NOON + 10 * 86_400_000), 1, 3)
            ]
            behind_the_back(database, "UPDATE weir.usage SET changed_at = changed_at - interval '1 hour'")
        assert database.query("SELECT subject, closed_at FROM operator_alarms") == [("usage drift", None)]
        assert database.query("SELECT count(*) FROM usage_drift") == [(2,)]

        database.query("UPDATE weir.usage SET quantity = 1 WHERE meter = 'readings'")
        assert self.prove(database) == []
        assert database.query("SELECT count(*) FROM operator_alarms WHERE closed_at IS NULL") == [(0,)]

    def test_pushes_and_what_stripe_counts_touch_their_days_too(self, database: Database) -> None:
        async def act(scene: Scene) -> None:
            async def differences() -> list[int]:
                return [one.difference for one in await usage_proof.prove(scene.pool)]

            tenant_id = await scene.subscribe()
            for ago, quantity in ((30, 10**15), (60, 4)):  # too much for Stripe, and not
                await scene.use(tenant_id, scene.hour(ago), quantity)
            await scene.push()
            # As if all had been metered long before the last proof.
            behind_the_back(database, "UPDATE weir.usage SET changed_at = changed_at - interval '1 hour'")
            database.query("UPDATE weir.billing_account SET activated_at = activated_at - interval '2 hours'")
            database.query("UPDATE weir.usage_proof SET proved_at = now()")
            assert await differences() == [-(10**15)]

            database.query(
                "UPDATE weir.usage_push SET state = 'acknowledged', acked_quantity = quantity,"
                " settled_at = now() - interval '1 hour'"
            )
            assert await differences() == []
            database.query(
                "INSERT INTO weir.provider_usage SELECT tenant_id, meter, bucket_start, quantity + 1, now()"
                " FROM weir.usage_push WHERE quantity = 4"
            )
            assert await differences() == [1]

        run(database, act)
