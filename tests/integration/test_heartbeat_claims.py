"""What a killed worker said last of its partitions, and what that means when a log was replaced."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from core.postgres import DatabaseRole, open_pool
from ops.last_run import note_drained, tell_of_last_run
from streams.heartbeat import Heartbeat
from streams.positions import load_positions
from tests.integration.servers import Database

pytestmark = pytest.mark.integration

TOPIC = "readings"


def claim(partition: int, identity: str, end: int, held_s: float = 30.0) -> dict[str, Any]:
    where = {"topic": TOPIC, "partition": partition, "identity": identity}
    return {**where, "next_offset": 40, "end_offset": end, "held_s": held_s}


def killed(database: Database, *claims: dict[str, Any], seconds_ago: int = 60) -> None:
    """A worker beat so long ago and never again."""
    database.query(
        "INSERT INTO weir.worker_heartbeat (worker_id, started_at, beat_at, partitions, metrics)"
        " VALUES ('killed', now() - interval '1 h', now() - make_interval(secs => %s), %s, '{}')",
        seconds_ago,
        json.dumps(claims),
    )


def live(database: Database, *claims: dict[str, Any]) -> None:
    """Another worker beats once and stops in order: it has left nothing unread."""

    async def beat() -> None:
        async with open_pool(database.writer_url, DatabaseRole.WRITER, size=1) as pool:
            heartbeat = Heartbeat(pool, "living", datetime.now(UTC))
            await heartbeat.beat(claims, {})
            await heartbeat.end(failed=False)

    asyncio.run(beat())


def replace_log(database: Database) -> None:
    """The stored position is offset 40 of the log `old`; the broker has `new`."""
    database.query("INSERT INTO weir.stream_position VALUES (%s, 0, 'old', 40)", TOPIC)

    async def assign() -> None:
        async with open_pool(database.writer_url, DatabaseRole.WRITER, size=1) as pool:
            stands = await load_positions(pool, TOPIC, "new", {0: 0})
            assert (stands[0].identity, stands[0].next_offset) == ("new", 0)

    asyncio.run(assign())


def alarms(database: Database) -> list[str]:
    return [kind for (kind,) in database.query("SELECT kind FROM weir.operator_alarm ORDER BY kind")]


def test_a_worker_that_was_killed_while_it_read_the_log_tells_what_is_lost_of_it(database: Database) -> None:
    killed(database, claim(0, "old", 45))
    replace_log(database)
    assert alarms(database) == ["stream_gap", "topic_recreated"]
    assert database.query("SELECT from_offset, to_offset FROM weir.stream_gap") == [(40, 45)]


def test_a_worker_that_was_killed_with_an_older_log_says_nothing_of_this_one(database: Database) -> None:
    killed(database, claim(0, "older", 500))
    replace_log(database)
    assert alarms(database) == []
    assert database.query("SELECT count(*) FROM weir.stream_gap") == [(0,)]


def test_whoever_holds_a_partition_now_speaks_for_it(database: Database) -> None:
    killed(database, claim(0, "old", 45), claim(1, "old", 9))

    live(database, claim(0, "old", 47))
    [(left,)] = database.query("SELECT partitions FROM weir.worker_heartbeat")
    assert left == [claim(1, "old", 9)]
    replace_log(database)
    assert alarms(database) == []


def test_it_does_from_its_first_beat_on_however_lately_the_other_was_killed(database: Database) -> None:
    killed(database, claim(0, "old", 45), seconds_ago=3)
    live(database, claim(0, "old", 47, held_s=1.0))
    replace_log(database)
    assert alarms(database) == []


def test_who_has_beaten_since_another_got_the_partition_has_it_again(database: Database) -> None:
    killed(database, claim(0, "old", 45), seconds_ago=3)
    live(database, claim(0, "old", 43, held_s=20.0))
    replace_log(database)
    assert alarms(database) == ["stream_gap", "topic_recreated"]


@pytest.mark.parametrize("is_drained", [False, True])
def test_a_system_that_was_killed_whole_tells_what_is_lost_when_it_starts_again(
    database: Database, tmp_path: Path, *, is_drained: bool
) -> None:
    killed(database, claim(0, "old", 45), seconds_ago=3)
    if is_drained:  # it was stopped, and only the worker took too long
        note_drained(tmp_path)
    tell_of_last_run(tmp_path, database.admin_url)
    replace_log(database)
    assert alarms(database) == ([] if is_drained else ["stream_gap", "topic_recreated"])
    left = [] if is_drained else [(True, None)]
    assert database.query("SELECT ended, failed_at FROM weir.worker_heartbeat") == left
    assert list(tmp_path.iterdir()) == []
