"""The work that changed rules make: no batch falls in between, and how far it is stands in its row."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from core.clock import SystemClock
from core.postgres import DatabaseRole, open_pool
from streams.rules.work import RuleWorker
from tests.integration.alert_scene import add_rule, episodes
from tests.integration.api_scene import add_readings, add_sensor, instant, new_tenant
from tests.integration.servers import Database, wait_until

pytestmark = pytest.mark.integration

START = instant("2026-10-01T12:00:00Z")


def working(database: Database, story: Callable[[], None]) -> None:
    """A story told while the rule worker works."""

    async def run() -> None:
        async with open_pool(database.writer_url, DatabaseRole.WRITER, size=3) as pool:
            worker = asyncio.create_task(RuleWorker(pool, SystemClock(), "alerts").run())
            try:
                await asyncio.to_thread(story)
            finally:
                worker.cancel()
                await asyncio.gather(worker, return_exceptions=True)

    asyncio.run(run())


def progress(database: Database) -> list[tuple[Any, ...]]:
    return database.query("SELECT sensors_total, sensors_done, done_at IS NOT NULL FROM weir.rule_work")


def test_a_batch_that_began_before_a_rule_is_waited_for_and_its_readings_are_judged(database: Database) -> None:
    tenant = new_tenant(database)
    sensors = [add_sensor(database, tenant, name)[0] for name in ("air", "core")]
    for number in sensors:
        add_readings(database, number, [(START, 0, 4.0)])
    hot = START + timedelta(minutes=1)

    def story() -> None:
        with psycopg.connect(database.writer_url) as batch:
            # A batch as it runs: it holds the frontier, shared, and its reading is not committed.
            batch.execute("SELECT pg_advisory_xact_lock_shared(weir.frontier_lock())")
            batch.execute(
                "INSERT INTO weir.reading (sensor_no, seq, at, value, received_at) VALUES (%s, 0, %s, 9.0, %s)",
                (sensors[0], hot, hot),
            )
            batch.execute("UPDATE weir.sensor_state SET last_at = %s WHERE sensor_no = %s", (hot, sensors[0]))
            add_rule(database, tenant, {"type": "threshold", "above": 8.0})
            waiting = "SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            done = "SELECT count(*) > 0 FROM weir.rule_work WHERE done_at IS NOT NULL"
            wait_until(lambda: database.query(f"SELECT ({waiting}) OR ({done})") == [(True,)], 60, "the worker")
            assert progress(database) == [(None, 0, False)]
        wait_until(lambda: progress(database) == [(2, 2, True)], 60, "the work")
        assert [one[:3] for one in episodes(database, tenant)] == [("firing", hot, hot)]

    working(database, story)
