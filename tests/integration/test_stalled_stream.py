"""A worker whose stream stands still although records wait ends by itself, and the next one goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Producer

from tests.integration.conftest import Broker
from tests.integration.publishing import ThirdPartyDevice, body, reading, signed_headers
from tests.integration.servers import Database, WorkerProcess, create_tenant, wait_until, worker_environment

pytestmark = pytest.mark.integration

# The worker with one fault: what the broker sends never comes, or what came gets lost on its way to the pipeline.
FAULTS = {
    "not fetched": "from faust.transport.drivers.aiokafka import Consumer\nConsumer._getmany = nothing",
    "lost on its way": "from streams.intake import Intake\nIntake.add = nothing",
}
DRIVER = """
import asyncio, sys
async def nothing(*_, **__):
    await asyncio.sleep(0.1)
    return {{}}
{fault}
from ops.cli import main
sys.argv = ["weir", "worker"]
main()
"""


@pytest.mark.parametrize("fault", FAULTS)
def test_records_that_nothing_takes_end_the_worker_and_the_next_one_takes_them(
    database: Database,
    broker: Broker,
    topic_prefix: str,
    new_worker: Callable[..., WorkerProcess],
    tmp_path: Path,
    fault: str,
) -> None:
    tenant = asyncio.run(create_tenant(database))
    environment = worker_environment(database, broker.bootstrap, topic_prefix, WEIR_WORKER_STALL_S="3")
    program = ["-c", DRIVER.format(fault=FAULTS[fault])]
    stalled = WorkerProcess(environment, tmp_path / "stalled.log", program=program).start()
    try:
        wait_until(lambda: "partitions.assigned" in stalled.log(), 60, "partitions")
        device = ThirdPartyDevice(broker.bootstrap, f"{topic_prefix}readings")
        device.send_all(tenant.devices[0], [body(reading("2026-10-01T12:00:00.000Z", 4.0))])
        wait_until(lambda: not stalled.is_alive(), 60, "its end")
    finally:
        stalled.kill()
    assert "nothing moved" in stalled.log()
    assert stalled.process is not None
    assert stalled.process.returncode == 70

    new_worker()
    wait_until(lambda: database.query("SELECT count(*) FROM readings") == [(1,)], 60, "the reading")


def test_the_marker_behind_a_transaction_is_nothing_that_waits(
    database: Database, broker: Broker, topic_prefix: str, new_worker: Callable[..., WorkerProcess]
) -> None:
    credentials = asyncio.run(create_tenant(database)).devices[0]
    worker = new_worker(WEIR_WORKER_STALL_S="1")
    producer = Producer({"bootstrap.servers": broker.bootstrap, "transactional.id": f"{topic_prefix}device"})
    producer.init_transactions(30)
    producer.begin_transaction()
    value = body(reading("2026-10-01T12:00:00.000Z", 4.0))
    headers = list(signed_headers(credentials, value))
    producer.produce(f"{topic_prefix}readings", value, key=credentials.device_id.encode(), headers=headers)
    producer.commit_transaction(30)
    wait_until(lambda: database.query("SELECT count(*) FROM readings") == [(1,)], 60, "the reading")

    # Four limits on; a worker that ended would no longer beat.
    stored = database.query("SELECT now()")[0][0]
    beat = "SELECT count(*) FROM weir.worker_heartbeat WHERE NOT ended AND beat_at > %s::timestamptz + interval '4 s'"
    wait_until(lambda: database.query(beat, stored) == [(1,)], 60, "a later beat")
    assert worker.is_alive()
