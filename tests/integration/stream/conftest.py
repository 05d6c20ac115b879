"""One worker on one database and one set of topics for all tests of a file; each test has a tenant of its own."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator

import pytest

from core.kafka import ensure_topics
from ops.embedded.postgres import EmbeddedPostgres
from sinks.timescale.migrate import Engine
from tests.integration.conftest import PARTITIONS, Broker
from tests.integration.publishing import ThirdPartyDevice
from tests.integration.servers import (
    Database,
    Tenant,
    WorkerProcess,
    create_tenant,
    fresh_database,
    worker_environment,
)


@pytest.fixture(scope="module")
def database(postgres: EmbeddedPostgres, engine: Engine) -> Iterator[Database]:
    with fresh_database(postgres.superuser_url, engine) as database:
        yield database


@pytest.fixture(scope="module")
def topic_prefix(broker: Broker) -> str:
    prefix = f"t{secrets.token_hex(4)}-"
    ensure_topics(broker.bootstrap, prefix, PARTITIONS)
    return prefix


@pytest.fixture(scope="module")
def device(broker: Broker, topic_prefix: str) -> ThirdPartyDevice:
    return ThirdPartyDevice(broker.bootstrap, f"{topic_prefix}readings")


@pytest.fixture(scope="module")
def worker_options() -> dict[str, str]:
    """The settings in which a file's worker differs."""
    return {}


@pytest.fixture(scope="module", autouse=True)
def worker(
    database: Database,
    broker: Broker,
    topic_prefix: str,
    worker_options: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[WorkerProcess]:
    environment = worker_environment(database, broker.bootstrap, topic_prefix, **worker_options)
    worker = WorkerProcess(environment, tmp_path_factory.mktemp("worker") / "worker.log").start()
    yield worker
    worker.kill()


@pytest.fixture
def tenant(database: Database) -> Tenant:
    return asyncio.run(create_tenant(database))
