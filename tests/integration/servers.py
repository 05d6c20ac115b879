"""Real servers for the integration suite: databases made from a migrated template, worker processes, tenants to test with."""

from __future__ import annotations

import os
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, LiteralString
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from accounts import provisioning
from accounts.provisioning import DeviceCredentials
from core.postgres import DatabaseRole
from core.secrets import Vault
from sinks.timescale.migrate import Engine, migrate
from tests.integration import warm

SECRET_KEY = "integration-tests-only-" + "k" * 32
VAULT = Vault.from_secret(SECRET_KEY)
PASSWORD = secrets.token_hex(16)
_TEMPLATE = "weir_template"


def with_database(url: str, database: str, login: str | None = None) -> str:
    """The same server's URL for another database, and for a role's login when asked."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    netloc = parts.netloc if login is None else f"{login}:{PASSWORD}@{host}"
    return urlunsplit((parts.scheme, netloc, f"/{database}", parts.query, ""))


@dataclass(frozen=True)
class Database:
    """A migrated database of its own, with one login per role."""

    name: str
    engine: Engine
    admin_url: str
    owner_url: str
    writer_url: str
    reader_url: str
    operator_url: str

    def query(self, statement: LiteralString, *parameters: object) -> list[tuple[Any, ...]]:
        """Rows of a statement run as superuser; unqualified names are the views of INTERFACES §10."""
        with psycopg.connect(self.admin_url, autocommit=True) as connection:
            cursor = connection.execute(statement, parameters or None)
            return cursor.fetchall() if cursor.description else []


def create_logins(admin_url: str) -> None:
    """One login per group role; roles belong to the server, so this is done once."""
    with psycopg.connect(admin_url, autocommit=True) as connection:
        for role in DatabaseRole:
            login = sql.Identifier(f"login_{role.name.lower()}")
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} IN ROLE {}").format(
                    login, PASSWORD, sql.Identifier(role.value)
                )
            )


def create_template(admin_url: str) -> Engine:
    """A migrated database to copy; TimescaleDB's background workers forbid copying, so there each test migrates."""
    with psycopg.connect(admin_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(_TEMPLATE)))
    engine = migrate(with_database(admin_url, _TEMPLATE)).engine
    create_logins(admin_url)
    return engine


@contextmanager
def fresh_database(admin_url: str, engine: Engine) -> Iterator[Database]:
    """A migrated database that is dropped afterwards."""
    name = f"test_{secrets.token_hex(6)}"
    template = sql.Identifier(_TEMPLATE if engine is Engine.PLAIN else "template0")
    with psycopg.connect(admin_url, autocommit=True) as connection:
        # Copied as files: through the log, which is the default, it costs a quarter of a second of processor time.
        copy = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY")
        connection.execute(copy.format(sql.Identifier(name), template))
    if engine is Engine.TIMESCALE:
        migrate(with_database(admin_url, name))
    logins = (with_database(admin_url, name, f"login_{role}") for role in ("owner", "writer", "reader", "operator"))
    try:
        yield Database(name, engine, with_database(admin_url, name), *logins)
    finally:
        # A connection of its own: the test may have restarted the server.
        with psycopg.connect(admin_url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@dataclass(frozen=True)
class Tenant:
    """A tenant with devices to publish as."""

    tenant_id: str
    api_key: str
    devices: tuple[DeviceCredentials, ...]


async def create_tenant(database: Database, *, devices: int = 1, name: str = "tenant") -> Tenant:
    """A tenant with an API key and devices."""
    connection = await psycopg.AsyncConnection.connect(database.owner_url, autocommit=True)
    async with connection:
        await connection.execute("SET ROLE weir_owner")
        tenant_id = await provisioning.create_tenant(connection, name)
        scopes = ("read", "write", "admin")
        api_key = await provisioning.create_api_key(connection, VAULT, tenant_id, "test", scopes=scopes)
        made = [await provisioning.create_device(connection, VAULT, tenant_id, f"device {n}") for n in range(devices)]
    return Tenant(tenant_id, api_key, tuple(made))


# Faust imports most of itself at its first use.
_WORKERS_IMPORTS = ("ops.commands.worker", "core.logging", "streams.worker", "faust.app", "faust.tables.manager")


@dataclass
class WorkerProcess:
    """A `weir worker` of its own process."""

    environment: Mapping[str, str]
    log_file: Path
    process: warm.Process | None = field(default=None)
    program: Sequence[str] = ("-m", "ops.cli", "worker")

    def start(self) -> WorkerProcess:
        """Start it; it waits for its servers by itself."""
        self.process = warm.start(self.program, self.environment, self.log_file, _WORKERS_IMPORTS)
        return self

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to exactly this process."""
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """Kill -9."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(timeout=10)

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(timeout=20)

    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self.process is not None and self.process.poll() is None

    def log(self) -> str:
        """Everything it wrote."""
        return self.log_file.read_text(encoding="utf-8", errors="replace")


def worker_environment(database: Database, bootstrap: str, prefix: str, **settings: str) -> dict[str, str]:
    """Environment of a role process under test."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("WEIR_")},
        "WEIR_DATABASE_URL": database.writer_url,
        "WEIR_KAFKA_BOOTSTRAP": bootstrap,
        "WEIR_TOPIC_PREFIX": prefix,
        "WEIR_SECRET_KEY": SECRET_KEY,
        # Apache Kafka allows no shorter session than 6 s; the embedded broker does, and its joins take half of it.
        "WEIR_CONSUMER_SESSION_TIMEOUT_S": "6" if os.environ.get("WEIR_TEST_BROKER") == "kafka" else "3",
        **settings,
    }


def wait_until(condition: Callable[[], Any], timeout_s: float = 30.0, what: str = "condition") -> Any:
    """Wait for a condition to hold, and return its value.

    Raises:
        AssertionError: it did not hold in time.
    """
    deadline = time.monotonic() + timeout_s
    pause = threading.Event()
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"{what} did not hold within {timeout_s} s (last: {value!r})"
        pause.wait(0.05)
