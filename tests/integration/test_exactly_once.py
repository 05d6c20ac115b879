"""Promises 1 and 2 on the real recording: whatever happens on the way, the stored result is that of the plain run."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import signal
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ops.embedded.postgres import EmbeddedPostgres
from tests.integration import recording
from tests.integration.conftest import Broker
from tests.integration.publishing import ThirdPartyDevice, body, reading
from tests.integration.servers import (
    Database,
    Tenant,
    WorkerProcess,
    create_tenant,
    wait_until,
    worker_environment,
)

pytestmark = pytest.mark.integration

SEED = 20_140_107


def committed_records(database: Database) -> int:
    """Sum of the positions; -1 while the database is away."""
    try:
        return int(database.query("SELECT coalesce(sum(next_offset), 0) FROM stream_positions")[0][0])
    except psycopg.OperationalError:
        return -1


def send_recording(device: ThirdPartyDevice, tenant: Tenant, order: list[int], per_record: int) -> int:
    """Publish the file's rows in the order given; returns the number of records."""
    rows = recording.rows().rows()
    readings = [reading(recording.epoch_ms(rows[n][0]), rows[n][1]) for n in order]
    records = [body(*readings[n : n + per_record]) for n in range(0, len(readings), per_record)]
    # Two devices of one tenant would be two sensors; one device stays in one partition, so this uses one key.
    device.send_all(tenant.devices[0], records)
    return len(records)


@pytest.fixture
def device(broker: Broker, topic_prefix: str) -> ThirdPartyDevice:
    recording.require_recording()
    return ThirdPartyDevice(broker.bootstrap, f"{topic_prefix}readings")


def test_the_recording_is_stored_with_its_conflicts_and_roll_ups(
    database: Database, device: ThirdPartyDevice, new_worker: Callable[..., WorkerProcess]
) -> None:
    tenant = asyncio.run(create_tenant(database))
    new_worker()
    sent = send_recording(device, tenant, list(range(recording.rows().height)), per_record=100)
    wait_until(lambda: committed_records(database) == sent, 60, "all records committed")

    assert len(recording.expected_readings()) == 22_683
    assert len(recording.expected_conflicts()) == 12
    recording.assert_recording_is_stored(database)


class ChaoticRun:
    """Two workers on databases and brokers that fail, with kills at random moments."""

    def __init__(self, environment: dict[str, str], folder: Path, random_: random.Random) -> None:
        self.workers = [WorkerProcess(environment, folder / f"worker{n}.log").start() for n in range(2)]
        self._random = random_

    def kill_one(self) -> None:
        """Kill -9 of a random worker, started again at once as a supervisor does."""
        worker = self._random.choice(self.workers)
        worker.kill()
        worker.start()

    def restart_the_dead(self) -> None:
        """What a supervisor does with workers that ended by themselves."""
        for worker in self.workers:
            if not worker.is_alive():
                worker.start()

    def stop(self) -> None:
        for worker in self.workers:
            worker.kill()


@pytest.fixture
def chaos(own_database: Database, broker: Broker, topic_prefix: str, tmp_path: Path) -> Iterator[ChaoticRun]:
    environment = worker_environment(own_database, broker.bootstrap, topic_prefix, WEIR_BATCH_MAX_RECORDS="100")
    run = ChaoticRun(environment, tmp_path, random.Random(SEED))
    yield run
    run.stop()


def test_shuffled_tripled_and_killed_it_is_still_the_same(
    own_postgres: EmbeddedPostgres, own_database: Database, device: ThirdPartyDevice, chaos: ChaoticRun
) -> None:
    moments = random.Random(SEED)
    tenant = asyncio.run(create_tenant(own_database))
    order = [n for n in range(recording.rows().height) for _ in range(3)]
    moments.shuffle(order)
    sent = send_recording(device, tenant, order, per_record=1)
    assert sent == 68_085  # 3 × 22 695 rows, one a record

    for number in range(20):
        seen = committed_records(own_database)
        wait_until(lambda: committed_records(own_database) not in (-1, seen), 60, "progress")  # noqa: B023
        wait_until(lambda: moments.random() < 0.3, 5, "a random moment")
        chaos.kill_one()
        if number in (6, 13):
            own_postgres.kill()
            own_postgres.start()
        chaos.restart_the_dead()

    def finished() -> bool:
        chaos.restart_the_dead()
        return committed_records(own_database) == sent

    wait_until(finished, 120, "all records committed")
    recording.assert_recording_is_stored(own_database)


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
    half = send_recording(device, tenant, list(rows[:10_000]), per_record=1)
    wait_until(lambda: 100 < committed_records(database) < half, 60, "the first worker at work")
    first.signal(signal.SIGSTOP)
    at_stop = committed_records(database)

    second = new_worker(WEIR_WORKER_ID="second")
    wait_until(lambda: committed_records(database) == half, 60, "the second worker has taken over")
    assert at_stop < half
    seen = len(first.log().splitlines())
    first.signal(signal.SIGCONT)
    sent = half + send_recording(device, tenant, list(rows[10_000:]), per_record=2)

    def woken() -> list[str]:
        return first.log().splitlines()[seen:]

    wait_until(lambda: not first.is_alive() or any("partitions.assigned" in line for line in woken()), 60, "it knows")
    before = itertools.takewhile(lambda line: "partitions.assigned" not in line, woken())
    # A commit that was on its way when the stop came may be logged after it; nothing beyond what the second took over is.
    assert [
        line for line in commits(before) if line["next_offset"] > taken_over(second).get(line["partition"], 0)
    ] == []
    wait_until(lambda: committed_records(database) == sent, 60, "all records committed")
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
    """Stop the worker; wake it again unless the server waits for its next message just there."""
    query = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND wait_event = 'ClientRead' AND state = %s AND query ~ %s"
    )
    worker.signal(signal.SIGSTOP)
    # Twice, for what the worker sent just before it stopped may still be on its way.
    if all(database.query(query, *IN_BETWEEN[where]) == [(1,)] for _ in range(2)):
        return True
    worker.signal(signal.SIGCONT)
    return False


@pytest.mark.parametrize("where", list(IN_BETWEEN))
def test_a_worker_frozen_between_statements_gives_up_its_partition(
    database: Database, device: ThirdPartyDevice, new_worker: Callable[..., WorkerProcess], where: str
) -> None:
    tenant = asyncio.run(create_tenant(database))
    first = new_worker(WEIR_BATCH_MAX_RECORDS="1", WEIR_WORKER_ID="first")
    rows = list(range(recording.rows().height))
    # Late readings are copied, new ones travel with the other statements.
    sent = send_recording(device, tenant, rows[::-1] if where == "copy" else rows, per_record=2)
    wait_until(lambda: committed_records(database) > 10, 60, "the first worker at work")
    wait_until(lambda: is_frozen_in_between(database, first, where), 60, "the first worker frozen")
    assert committed_records(database) < sent

    second = new_worker(WEIR_WORKER_ID="second")
    wait_until(lambda: committed_records(database) == sent, 60, "the second worker has taken over")
    assert second.log().count("worker.stalled_copy_ended") == 1
    # Its own sessions were left alone.
    assert "closed connection" not in second.log()
    first.signal(signal.SIGCONT)
    recording.assert_recording_is_stored(database)
