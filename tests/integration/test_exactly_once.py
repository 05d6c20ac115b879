"""Promises 1 and 2 on the real recording: whatever happens on the way, the stored result is that of the plain run."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ops.embedded.postgres import EmbeddedPostgres
from tests.integration import recording
from tests.integration.conftest import Broker
from tests.integration.publishing import ThirdPartyDevice
from tests.integration.servers import (
    Database,
    WorkerProcess,
    create_tenant,
    wait_until,
    worker_environment,
)

pytestmark = pytest.mark.integration

SEED = 20_140_107


@pytest.fixture
def device(broker: Broker, topic_prefix: str) -> ThirdPartyDevice:
    recording.require_recording()
    return ThirdPartyDevice(broker.bootstrap, f"{topic_prefix}readings")


def test_the_recording_is_stored_with_its_conflicts_and_roll_ups(
    database: Database, device: ThirdPartyDevice, new_worker: Callable[..., WorkerProcess]
) -> None:
    tenant = asyncio.run(create_tenant(database))
    new_worker()
    sent = recording.publish_rows(device, tenant, list(range(recording.rows().height)), per_record=100)
    wait_until(lambda: recording.committed_records(database) == sent, 60, "all records committed")

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
    sent = recording.publish_rows(device, tenant, order, per_record=1)
    assert sent == 68_085  # 3 × 22 695 rows, one a record

    def committed() -> int:
        chaos.restart_the_dead()
        return recording.committed_records(own_database)

    for number in range(20):
        seen = committed()
        wait_until(lambda: committed() not in (-1, seen), 60, "progress")  # noqa: B023
        wait_until(lambda: moments.random() < 0.3, 5, "a random moment")
        chaos.kill_one()
        if number in (6, 13):
            own_postgres.kill()
            own_postgres.start()
        chaos.restart_the_dead()

    wait_until(lambda: committed() == sent, 120, "all records committed")
    recording.assert_recording_is_stored(own_database)
