"""The stream on the very images of docker-compose.yml, through testcontainers, wherever a Docker engine answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import docker
import psycopg
import pytest
import yaml
from docker.errors import DockerException
from testcontainers.core.container import DockerContainer

from core import kafka
from ops.embedded.ports import LOOPBACK, pick_port
from schemas.errors import WeirError
from sinks.timescale.migrate import Engine
from tests.integration.publishing import ThirdPartyDevice, body, reading
from tests.integration.servers import (
    PASSWORD,
    Database,
    WorkerProcess,
    create_template,
    create_tenant,
    fresh_database,
    wait_until,
)

pytestmark = pytest.mark.integration

COMPOSE = yaml.safe_load((Path(__file__).parents[2] / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
START_S = 300  # an image may have to be fetched first


@pytest.fixture(scope="module", autouse=True)
def _engine_answers() -> None:
    try:
        client = docker.from_env(timeout=10)
        client.ping()
    except DockerException as exc:
        pytest.skip(f"Docker does not answer here ({type(exc).__name__})")
    client.close()


@pytest.fixture(scope="module")
def server_url() -> Iterator[str]:
    port = pick_port()
    container = DockerContainer(COMPOSE["database"]["image"]).with_bind_ports(5432, port)
    with container.with_env("POSTGRES_PASSWORD", PASSWORD):
        url = f"postgresql://postgres:{PASSWORD}@{LOOPBACK}:{port}/postgres"

        def answers() -> bool:
            try:
                psycopg.connect(url, connect_timeout=2).close()
            except psycopg.OperationalError:
                return False
            return True

        wait_until(answers, START_S, "the database")
        yield url


@pytest.fixture(scope="module")
def engine(server_url: str) -> Engine:
    return create_template(server_url)


@pytest.fixture
def database(server_url: str, engine: Engine) -> Iterator[Database]:
    with fresh_database(server_url, engine) as database:
        yield database


@pytest.fixture(scope="module")
def broker() -> Iterator[SimpleNamespace]:
    port = pick_port()
    service = COMPOSE["kafka"]
    container = DockerContainer(service["image"]).with_bind_ports(9092, port)
    for name, value in service["environment"].items():
        container.with_env(name, str(value))
    container.with_env("KAFKA_CONTROLLER_QUORUM_VOTERS", "1@localhost:29093")
    container.with_env("KAFKA_ADVERTISED_LISTENERS", f"INTERNAL://localhost:19092,DEVICES://{LOOPBACK}:{port}")
    with container:
        bootstrap = f"{LOOPBACK}:{port}"

        def answers() -> bool:
            try:
                kafka.describe(bootstrap, [])
            except WeirError:
                return False
            return True

        wait_until(answers, START_S, "the broker")
        yield SimpleNamespace(bootstrap=bootstrap)


def test_readings_are_stored_once_although_the_worker_is_killed(
    database: Database, broker: SimpleNamespace, topic_prefix: str, new_worker: Callable[..., WorkerProcess]
) -> None:
    tenant = asyncio.run(create_tenant(database))
    device = ThirdPartyDevice(broker.bootstrap, f"{topic_prefix}readings")
    records = [body(reading(f"2026-10-01T12:{n // 60:02}:{n % 60:02}.000Z", float(n))) for n in range(600)]
    worker = new_worker(WEIR_BATCH_MAX_RECORDS="10")
    device.send_all(tenant.devices[0], records)
    wait_until(lambda: database.query("SELECT count(*) > 20 FROM readings") == [(True,)], 120, "the first batches")
    worker.kill()
    device.send_all(tenant.devices[0], records)
    new_worker()

    wait_until(lambda: database.query("SELECT sum(next_offset) FROM stream_positions") == [(1200,)], 120, "the rest")
    # 0 + 1 + … + 599 = 599 × 600 / 2
    assert database.query("SELECT count(*), sum(value) FROM readings") == [(600, 179_700.0)]
    assert database.query("SELECT sum(count), sum(sum) FROM readings_1h") == [(600, 179_700.0)]
    assert database.query("SELECT sum(quantity) FROM usage_hourly WHERE meter = 'readings'") == [(600,)]
    assert database.engine is Engine.TIMESCALE
