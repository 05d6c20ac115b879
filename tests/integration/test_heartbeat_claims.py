"""What a killed worker said last of its partitions, and what that means when a log was replaced."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from core.postgres import DatabaseRole, open_pool
from streams.heartbeat import Heartbeat
from streams.positions import load_positions
from tests.integration.servers import Database

pytestmark = pytest.mark.integration

TOPIC = "readings"


def claim(partition: int, identity: str, end: int) -> dict[str, Any]:
    return {"topic": TOPIC, "partition": partition, "identity": identity, "next_offset": 40, "end_offset": end}


def killed(database: Database, *claims: dict[str, Any]) -> None:
    """A worker beat a minute ago and never again."""
    database.query(
        "INSERT INTO weir.worker_heartbeat (worker_id, started_at, beat_at, partitions, metrics)"
        " VALUES ('killed', now() - interval '1 h', now() - interval '1 min', %s, '{}')",
        json.dumps(claims),
    )


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

    async def beat() -> None:
        async with open_pool(database.writer_url, DatabaseRole.WRITER, size=1) as pool:
            heartbeat = Heartbeat(pool, "living", datetime.now(UTC))
            await heartbeat.beat([claim(0, "old", 47)], {})
            # Stopped in order: it has left nothing unread.
            await heartbeat.end(failed=False)

    asyncio.run(beat())
    [(left,)] = database.query("SELECT partitions FROM weir.worker_heartbeat")
    assert left == [claim(1, "old", 9)]
    replace_log(database)
    assert alarms(database) == []
