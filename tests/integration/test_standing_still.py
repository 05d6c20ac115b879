"""Promise 1 while a worker stands still (SIGSTOP) in the midst of the recording: others go on, and it writes nothing stale."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

import pytest

from tests.integration import recording
from tests.integration.conftest import Broker
from tests.integration.publishing import ThirdPartyDevice
from tests.integration.servers import (
    Database,
    WorkerProcess,
    create_tenant,
    wait_until,
)

pytestmark = pytest.mark.integration


@pytest.fixture
def device(broker: Broker, topic_prefix: str) -> ThirdPartyDevice:
    recording.require_recording()
    return ThirdPartyDevice(broker.bootstrap, f"{topic_prefix}readings")


def commits(lines: Iterable[str]) -> list[dict[str, Any]]:
    """The log's committed batches."""
    return [json.loads(line) for line in lines if '"batch.committed"' in line]


def taken_over(worker: WorkerProcess) -> dict[int, int]:
    """Where a worker's partitions stood when it first got them."""
    first = next(line for line in worker.log().splitlines() if '"partitions.assigned"' in line)
    return {int(partition): offset for partition, offset in json.loads(first)["positions"].items()}


def test_a_stopped_worker_that_comes_back_after_its_partitions_moved_writes_nothing(
    database: Database, device: ThirdPartyDevice, new_worker: Callable[..., WorkerProcess]
) -> None:
    tenant = asyncio.run(create_tenant(database))
    first = new_worker(WEIR_BATCH_MAX_RECORDS="10", WEIR_WORKER_ID="first")
    rows = range(recording.rows().height)
    half = recording.publish_rows(device, tenant, list(rows[:10_000]), per_record=1)
    wait_until(lambda: 100 < recording.committed_records(database) < half, 60, "the first worker at work")
    first.signal(signal.SIGSTOP)
    at_stop = recording.committed_records(database)

    second = new_worker(WEIR_WORKER_ID="second")
    wait_until(lambda: recording.committed_records(database) == half, 60, "the second worker has taken over")
    assert at_stop < half
    seen = len(first.log().splitlines())
    first.signal(signal.SIGCONT)
    sent = half + recording.publish_rows(device, tenant, list(rows[10_000:]), per_record=2)

    def woken() -> list[str]:
        return first.log().splitlines()[seen:]

    wait_until(lambda: not first.is_alive() or any("partitions.assigned" in line for line in woken()), 60, "it knows")
    before = itertools.takewhile(lambda line: "partitions.assigned" not in line, woken())
    # A commit that was on its way when the stop came may be logged after it; nothing beyond what the second took over is.
    assert [
        line for line in commits(before) if line["next_offset"] > taken_over(second).get(line["partition"], 0)
    ] == []
    wait_until(lambda: recording.committed_records(database) == sent, 60, "all records committed")
    assert database.query("SELECT count(*) FROM stream_gaps") == [(0,)]
    recording.assert_recording_is_stored(database)


# Where a batch's session may stand still: the server has no time limit of its own that would end it there.
# State and statement, which in the last case is the end of the pipeline that begins the batch.
IN_BETWEEN = {
    "copy": ("active", "^COPY "),
    "pipeline": ("active", "^(?!COPY )"),
    "idle": ("idle in transaction", "FROM weir.sensor_state WHERE sensor_no = ANY"),
}


def is_frozen_in_between(database: Database, worker: WorkerProcess, where: str) -> bool:
    """Stop the worker; wake it again unless the server waits for its next message just there, for ever."""
    worker.signal(signal.SIGSTOP)
    found = waiting_sessions(database, where)
    # Twice, for what the worker sent just before it stopped may still be on its way.
    if (
        len(found) == 1
        and waiting_sessions(database, where) == found
        and outlives_the_servers_limit(database, *found[0])
    ):
        return True
    worker.signal(signal.SIGCONT)
    return False


def waiting_sessions(database: Database, where: str) -> list[tuple[int, datetime]]:
    """Server processes that wait there for their client, and since when.

    Only such as hold something up: before the first write, or behind a COMMIT that its pipeline has not yet ended, a
    frozen worker's partition can be taken over at once.
    """
    query = (
        "SELECT pid, state_change FROM pg_stat_activity WHERE datname = current_database()"
        " AND wait_event = 'ClientRead' AND backend_xid IS NOT NULL AND state = %s AND query ~ %s"
    )
    return database.query(query, *IN_BETWEEN[where])


def outlives_the_servers_limit(database: Database, pid: int, since: datetime) -> bool:
    """Whether it still stands there at 7 s, when the server would have ended an idle transaction (5 s) and we do not yet (10 s).

    It does end one whose client was stopped between psycopg's Sync and its Flush, which switches the limit off.
    """
    query = (
        "SELECT clock_timestamp() > state_change + interval '7 seconds' FROM pg_stat_activity"
        " WHERE pid = %s AND state_change = %s"
    )
    wait_until(lambda: database.query(query, pid, since) != [(False,)], 60, "the limit passed, or the session gone")
    return database.query(query, pid, since) == [(True,)]


@pytest.mark.parametrize("where", list(IN_BETWEEN))
def test_a_worker_frozen_between_statements_gives_up_its_partition(
    database: Database, device: ThirdPartyDevice, new_worker: Callable[..., WorkerProcess], where: str
) -> None:
    tenant = asyncio.run(create_tenant(database))
    first = new_worker(WEIR_BATCH_MAX_RECORDS="1", WEIR_WORKER_ID="first")
    rows = list(range(recording.rows().height))
    # Late readings are copied, new ones travel with the other statements.
    sent = recording.publish_rows(device, tenant, rows[::-1] if where == "copy" else rows, per_record=2)
    wait_until(lambda: recording.committed_records(database) > 10, 60, "the first worker at work")
    wait_until(lambda: is_frozen_in_between(database, first, where), 60, "the first worker frozen")
    assert recording.committed_records(database) < sent

    second = new_worker(WEIR_WORKER_ID="second")
    wait_until(lambda: recording.committed_records(database) == sent, 60, "the second worker has taken over")
    ended = second.log().count("worker.stalled_copy_ended")
    # Its own sessions were left alone.
    assert "closed connection" not in second.log()
    first.signal(signal.SIGCONT)
    assert ended == 1
    recording.assert_recording_is_stored(database)
