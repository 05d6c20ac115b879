"""Fixtures over real servers: by default the embedded pair, so that nothing but PyPI is needed.

`WEIR_TEST_BROKER=kafka` takes Apache Kafka instead, `WEIR_TEST_PG_ROOT` another PostgreSQL tree (such as one with
TimescaleDB, whose extension the migrations then find).
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from core.kafka import ensure_topics
from ops.embedded.broker import EmbeddedBroker
from ops.embedded.postgres import EmbeddedPostgres
from sinks.timescale.migrate import Engine
from tests.integration.api_scene import api_settings, serving
from tests.integration.servers import Database, WorkerProcess, create_template, fresh_database, worker_environment

PARTITIONS = 4


class Broker(Protocol):
    """What the tests ask of a broker; the embedded one and Apache Kafka both have it."""

    @property
    def bootstrap(self) -> str: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...


def _start_postgres(folder: Path, **settings: str) -> EmbeddedPostgres:
    root = os.environ.get("WEIR_TEST_PG_ROOT")
    extra = {"max_connections": "200", **settings}
    if root and list(Path(root).glob("lib/**/timescaledb.so")):
        extra |= {"shared_preload_libraries": "timescaledb", "timescaledb.max_background_workers": "4"}
    server = EmbeddedPostgres(folder, pg_root=Path(root) if root else None, extra_settings=extra)
    server.start()
    return server


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    # Nobody kills this one or pulls its plug, and databases come and go with every test.
    server = _start_postgres(tmp_path_factory.mktemp("postgres"), fsync="off", full_page_writes="off")
    yield server
    server.stop()


@pytest.fixture(scope="session")
def engine(postgres: EmbeddedPostgres) -> Engine:
    return create_template(postgres.superuser_url)


@pytest.fixture
def database(postgres: EmbeddedPostgres, engine: Engine) -> Iterator[Database]:
    with fresh_database(postgres.superuser_url, engine) as database:
        yield database


@pytest.fixture
def url(database: Database) -> Iterator[str]:
    """Where the API answers."""
    with serving(api_settings(database.reader_url)) as url:
        yield url


@pytest.fixture
def own_postgres(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """A server that the test may kill."""
    server = _start_postgres(tmp_path / "postgres")
    yield server
    server.stop()


@pytest.fixture
def own_database(own_postgres: EmbeddedPostgres) -> Iterator[Database]:
    engine = create_template(own_postgres.superuser_url)
    with fresh_database(own_postgres.superuser_url, engine) as database:
        yield database


@pytest.fixture(scope="session")
def new_broker() -> Callable[[], Broker]:
    """Every broker comes from here, so that tests which could tell one from another are known by it."""
    if os.environ.get("WEIR_TEST_BROKER", "embedded") == "kafka":
        from tests.integration.kafka_server import ApacheKafka

        return ApacheKafka
    return EmbeddedBroker


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what another broker could change: with one, nothing else needs to run again."""
    for item in items:
        if "new_broker" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.broker)


@pytest.fixture(scope="session")
def broker(new_broker: Callable[[], Broker]) -> Iterator[Broker]:
    """A broker for all tests; one that stops it starts it again and makes its topics anew."""
    broker = new_broker()
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def own_broker(new_broker: Callable[[], Broker]) -> Iterator[Broker]:
    """A broker that the test may stop."""
    broker = new_broker()
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def topic_prefix(broker: Broker) -> str:
    """Topics of the test's own."""
    prefix = f"t{secrets.token_hex(4)}-"
    ensure_topics(broker.bootstrap, prefix, PARTITIONS)
    return prefix


@pytest.fixture
def new_worker(
    database: Database, broker: Broker, topic_prefix: str, tmp_path: Path
) -> Iterator[Callable[..., WorkerProcess]]:
    """Starts workers on the test's database and topics; none outlives the test."""
    started: list[WorkerProcess] = []

    def start(**settings: str) -> WorkerProcess:
        environment = worker_environment(database, broker.bootstrap, topic_prefix, **settings)
        worker = WorkerProcess(environment, tmp_path / f"worker{len(started)}.log").start()
        started.append(worker)
        return worker

    yield start
    for worker in started:
        worker.kill()
