"""What the jobs of billing do, of all that there is to do: push and charge, compare hours and lines; without a key nothing."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import cast

import pytest

from jobs.billing import push_usage, reconcile_recent_usage, reconcile_usage
from jobs.registry import Resources
from tests.integration.servers import Database
from tests.integration.stripe_scene import KEY
from tests.integration.usage_push_scene import Scene, run

pytestmark = pytest.mark.integration

LONG_AGO, TOO_OLD = 24 * 20, 24 * 36
PUSHES = "SELECT state, acked_quantity, adjusted FROM usage_pushes ORDER BY bucket_start"


def resources(scene: Scene, monkeypatch: pytest.MonkeyPatch, key: str = KEY) -> Resources:
    monkeypatch.setenv("WEIR_STRIPE_API_KEY", key)
    monkeypatch.setenv("WEIR_STRIPE_API_BASE", scene.stripe.url)
    return cast("Resources", SimpleNamespace(pool=scene.pool, now_ms=lambda: scene.now_ms))


def test_every_minute_hours_are_pushed_and_every_night_hours_and_lines_are_compared(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act(scene: Scene) -> None:
        given = resources(scene, monkeypatch)
        tenant_id = await scene.subscribe()
        for ago, quantity in ((TOO_OLD, 8), (LONG_AGO, 5), (2, 3)):
            await scene.use(tenant_id, scene.hour(ago), quantity)
        await push_usage(given)
        assert database.query(PUSHES) == [("adjusted", None, 8), ("acknowledged", 5, 0), ("acknowledged", 3, 0)]
        scene.advance(timedelta(hours=25))
        await push_usage(given)
        assert database.query("SELECT quantity, state FROM usage_charges") == [(8, "acknowledged")]

        scene.stripe.fake.store.db.execute("DELETE FROM meter_event")
        scene.stripe.fake.store.db.execute("DELETE FROM object WHERE kind = 'invoiceitem'")
        scene.advance(timedelta(hours=2))
        await reconcile_recent_usage(given)
        assert [row[0] for row in database.query(PUSHES)][1] == "acknowledged"
        assert database.query("SELECT count(*) FROM operator_alarms") == [(0,)]
        await reconcile_usage(given)
        assert [row[0] for row in database.query(PUSHES)] == ["adjusted", "pending", "pending"]
        [(subject,)] = database.query("SELECT subject FROM operator_alarms")
        assert subject.startswith(f"charge {tenant_id}:charge:")

    run(database, act)


def test_without_a_key_nothing_is_told_and_no_mark_of_a_subscriber_is_lost(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act(scene: Scene) -> None:
        tenant_id = await scene.subscribe()
        await scene.use(tenant_id, scene.hour(30), 5)
        for work in (push_usage, reconcile_recent_usage, reconcile_usage):
            await work(resources(scene, monkeypatch, key=""))
        assert database.query(PUSHES) == []
        assert scene.stripe.events() == []
        await push_usage(resources(scene, monkeypatch))

        assert database.query(PUSHES) == [("acknowledged", 5, 0)]

    run(database, act)
