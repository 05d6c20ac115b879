"""An API of the test's own: served on a free port, asked over HTTP, with rows put into its database by SQL."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import psycopg
from pydantic import SecretStr

from core.settings import Settings
from ops.commands.api import listen, make_server
from tests.integration.servers import SECRET_KEY, Database, Tenant, create_tenant, wait_until

NOWHERE = "127.0.0.1:1"
"""A broker that is not there."""


def api_settings(database_url: str, **others: Any) -> Settings:
    """Settings of an API under test."""
    defaults: dict[str, Any] = {"kafka_bootstrap": NOWHERE, "api_requests_per_s": 10_000.0, "api_request_burst": 10_000}
    defaults["objects_url"] = "memory:"
    values = {"database_url": SecretStr(database_url), "secret_key": SecretStr(SECRET_KEY), **defaults, **others}
    return Settings(**values)


@contextmanager
def serving(settings: Settings) -> Iterator[str]:
    """Serve until the end of the block; yields the URL."""
    server = make_server(settings)
    listener = listen("127.0.0.1", 0)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        wait_until(lambda: server.started, what="the API's start")
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=20)


@dataclass(frozen=True)
class Client:
    """Asks as one tenant; every answer must be of the status that is expected."""

    http: httpx2.Client

    def get(self, path: str, *, status: int = 200, **parameters: Any) -> Any:
        """The body of an answer."""
        response = self.http.get(path, params=parameters)
        assert response.status_code == status, response.text
        return response.json()

    def walk(self, path: str, **parameters: Any) -> list[dict[str, Any]]:
        """The items of all pages."""
        items: list[dict[str, Any]] = []
        page = self.get(path, **parameters)
        while True:
            items += page["items"]
            if page["next"] is None:
                return items
            assert page["items"]
            page = self.get(path, cursor=page["next"], **parameters)


@contextmanager
def client(url: str, credential: str | None) -> Iterator[Client]:
    """A client with this bearer credential."""
    headers = {} if credential is None else {"Authorization": f"Bearer {credential}"}
    with httpx2.Client(base_url=url, headers=headers, timeout=60) as http:
        yield Client(http)


def new_tenant(database: Database, name: str = "tenant", devices: int = 1) -> Tenant:
    """A tenant with an API key and devices."""
    return asyncio.run(create_tenant(database, name=name, devices=devices))


def add_sensor(
    database: Database, tenant: Tenant, name: str, expected_interval_ms: int | None = None
) -> tuple[int, str]:
    """A sensor of the tenant's first device: its number and id."""
    ((sensor_no, sensor_id),) = database.query(
        "INSERT INTO weir.sensor (tenant_id, device_id, name, expected_interval_ms) VALUES (%s, %s, %s, %s)"
        " RETURNING sensor_no, sensor_id",
        tenant.tenant_id,
        tenant.devices[0].device_id,
        name,
        expected_interval_ms,
    )
    return sensor_no, sensor_id


def add_readings(database: Database, sensor_no: int, readings: Sequence[tuple[datetime, int, float]]) -> None:
    """Rows of (at, seq, value), received a quarter of a second later, with all that the stream would have written."""
    with psycopg.connect(database.admin_url) as connection:
        connection.execute("SELECT weir.ensure_partitions(%s)", ([at for at, _, _ in readings],))
        with connection.cursor().copy("COPY weir.reading (sensor_no, seq, at, value, received_at) FROM STDIN") as copy:
            for at, seq, value in readings:
                copy.write_row((sensor_no, seq, at, value, at + timedelta(milliseconds=250)))
        last_at, last_seq, last_value = max(readings)
        connection.execute(
            "INSERT INTO weir.sensor_state (sensor_no, last_at, last_seq, last_value, last_received_at)"
            " VALUES (%s, %s, %s, %s, %s)",
            (sensor_no, last_at, last_seq, last_value, last_at + timedelta(milliseconds=250)),
        )
        connection.execute(
            "INSERT INTO weir.rollup_dirty (block, hour) SELECT DISTINCT %s >> 6, date_bin('1 hour', at, 'epoch')"
            " FROM weir.reading WHERE sensor_no = %s ON CONFLICT DO NOTHING",
            (sensor_no, sensor_no),
        )


def instant(text: str) -> datetime:
    """The moment of `2026-11-22T20:00:00Z`, or the like."""
    return datetime.fromisoformat(text).astimezone(UTC)


def shown(at: datetime) -> str:
    """The moment as the API shows it."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def settings_with(settings: Settings, **others: object) -> Settings:
    """The same settings but for some."""
    return settings.model_copy(update=dict(others))


Json = Mapping[str, Any]
