"""What the watch over silence waits for: the broker's answer, and everything committed that was there then."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core.postgres import Connection, DatabaseRole, open_pool
from streams.log_ends import LogEnds
from streams.rules.silence import Seen, SilenceWatch
from tests.integration.alert_scene import add_rule
from tests.integration.api_scene import add_readings, add_sensor
from tests.integration.servers import Database, create_tenant

pytestmark = pytest.mark.integration

LAST = datetime(2026, 10, 1, 12, tzinfo=UTC)
TOPIC = "readings"


class Scene:
    """A clock, a broker and what the watch makes of them."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.now = LAST
        self.asked = 0
        self.compared = 0
        self.log: LogEnds | None = None
        self.other: LogEnds | None = None

    def now_ms(self) -> int:
        return round(self.now.timestamp() * 1000)

    async def log_ends(self, topic: str) -> LogEnds | None:
        if topic != TOPIC:
            return self.other
        self.asked += 1
        if self.log is None:
            msg = "no broker"
            raise ConnectionError(msg)
        return self.log

    def commit(self, identity: str, *offsets: int, topic: str = TOPIC) -> None:
        for partition, offset in enumerate(offsets):
            self.database.query(
                "INSERT INTO weir.stream_position (topic, partition, topic_identity, next_offset) VALUES (%s, %s, %s, %s)"
                " ON CONFLICT (topic, partition) DO UPDATE SET topic_identity = excluded.topic_identity,"
                " next_offset = excluded.next_offset",
                topic,
                partition,
                identity,
                offset,
            )

    def found(self) -> list[tuple[Any, ...]]:
        return self.database.query("SELECT status, started_at, fired_at, resolved_at FROM alert_episodes")

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        for _ in range(1200):
            if await asyncio.to_thread(condition):
                return
            await asyncio.sleep(0.05)
        raise AssertionError(what)

    async def two_more(self, what: str) -> None:
        """Twice more the broker is asked, or what it said compared with what is committed."""
        before: int = getattr(self, what)
        await self.until(lambda: getattr(self, what) >= before + 2, f"no two more {what}")


class CountingWatch(SilenceWatch):
    """Tells the scene when it compares."""

    scene: Scene

    async def _behind(self, connection: Connection, seen: Seen) -> list[str]:
        behind = await super()._behind(connection, seen)
        self.scene.compared += 1
        return behind


def watching(database: Database, story: Callable[[Scene], Awaitable[None]]) -> None:
    async def run() -> None:
        scene = Scene(database)
        async with open_pool(database.writer_url, DatabaseRole.WRITER, size=3) as pool:
            watch = CountingWatch(pool, scene, TOPIC, "alerts", scene.log_ends, round_s=0.05, patience_s=0.2)
            watch.scene = scene
            running = asyncio.create_task(watch.run())
            try:
                await story(scene)
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)

    asyncio.run(run())


def test_silence_is_judged_once_everything_is_committed_that_was_there_after_the_deadline(database: Database) -> None:
    tenant = asyncio.run(create_tenant(database))
    add_rule(database, tenant, {"type": "silence", "after": "10m"})
    sensor_no, _ = add_sensor(database, tenant, "air")
    add_readings(database, sensor_no, [(LAST, 0, 4.0)])

    async def story(scene: Scene) -> None:
        # Half an hour without a broker: nobody knows of any silence.
        scene.now = LAST + timedelta(minutes=30)
        await scene.two_more("asked")
        assert scene.found() == []

        # It is back, with another topic than the one that was worked off.
        scene.commit("old", 900, 900)
        scene.commit("other", 2, topic="second-readings")
        scene.other = LogEnds("other", {0: 3})
        scene.log = LogEnds("new", {0: 5, 1: 0})
        await scene.two_more("compared")
        # Then all but one record of it.
        scene.commit("new", 4, 0)
        await scene.two_more("compared")
        assert scene.found() == []

        # All of it, but workers of another prefix have not read theirs.
        scene.commit("new", 5, 0)
        await scene.two_more("compared")
        assert scene.found() == []

        # Neither brought a reading of this sensor: it is really silent.
        scene.commit("other", 3, topic="second-readings")
        await scene.until(lambda: scene.found() != [], "the silence was not found")
        assert scene.found() == [("firing", LAST, LAST + timedelta(minutes=10), None)]

    watching(database, story)


@pytest.mark.parametrize("now_there", [None, LogEnds("anew", {0: 0})], ids=["deleted", "made anew"])
def test_a_topic_that_nobody_reads_raises_an_alarm_and_holds_up_no_longer_than_it_is_there(
    database: Database, now_there: LogEnds | None
) -> None:
    tenant = asyncio.run(create_tenant(database))
    add_rule(database, tenant, {"type": "silence", "after": "10m"})
    sensor_no, _ = add_sensor(database, tenant, "air")
    add_readings(database, sensor_no, [(LAST, 0, 4.0)])

    def open_alarms() -> list[tuple[Any, ...]]:
        return database.query("SELECT kind, subject FROM operator_alarms WHERE closed_at IS NULL")

    async def story(scene: Scene) -> None:
        scene.now = LAST + timedelta(minutes=30)
        scene.commit("id", 5)
        scene.log = LogEnds("id", {0: 5})
        # Two records of a prefix that no worker has any more.
        scene.commit("other", 1, topic="old-readings")
        scene.other = LogEnds("other", {0: 3})
        await scene.until(lambda: open_alarms() == [("silence_held", "old-readings")], "nobody is told")
        assert scene.found() == []

        scene.other = now_there
        await scene.until(lambda: scene.found() != [], "the silence was not found")
        await scene.until(lambda: open_alarms() == [], "the alarm stays")

    watching(database, story)


def test_a_silence_found_for_a_moment_before_its_rule_was_deleted_ends_at_the_deletion(database: Database) -> None:
    tenant = asyncio.run(create_tenant(database))
    rule_id = add_rule(database, tenant, {"type": "silence", "after": "10m"})
    sensor_no, _ = add_sensor(database, tenant, "air")
    add_readings(database, sensor_no, [(LAST, 0, 4.0)])
    deleted_at = LAST + timedelta(minutes=11, seconds=30)

    async def story(scene: Scene) -> None:
        # The ends are those of minute 11. Before all is committed the rule is gone, and the work that this made is done.
        scene.now, scene.log = LAST + timedelta(minutes=11), LogEnds("id", {0: 5})
        await scene.two_more("compared")
        database.query(
            "INSERT INTO weir.rule_version (rule_no, version, effective_from, document, recorded_by)"
            " SELECT rule_no, 2, %s, NULL, 'test' FROM weir.rule WHERE rule_id = %s",
            deleted_at,
            rule_id,
        )
        scene.now = LAST + timedelta(minutes=12)
        scene.commit("id", 5)
        await scene.until(lambda: bool(scene.found()) and scene.found()[0][0] != "firing", "the silence fires for ever")
        assert scene.found() == [("resolved", LAST, LAST + timedelta(minutes=10), deleted_at)]

    watching(database, story)
