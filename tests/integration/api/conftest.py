"""One database and one API for all tests of a file: each test makes a tenant of its own and looks at nobody else's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ops.embedded.postgres import EmbeddedPostgres
from sinks.timescale.migrate import Engine
from tests.integration.api_scene import Client, api_settings, client, new_tenant, serving
from tests.integration.people_scene import Person, new_person
from tests.integration.servers import Database, Tenant, fresh_database


@pytest.fixture(scope="module")
def database(postgres: EmbeddedPostgres, engine: Engine) -> Iterator[Database]:
    with fresh_database(postgres.superuser_url, engine) as database:
        yield database


@pytest.fixture(scope="module")
def api_options() -> dict[str, Any]:
    """The settings in which a file's API differs."""
    return {}


@pytest.fixture(scope="module")
def url(database: Database, api_options: dict[str, Any]) -> Iterator[str]:
    with serving(api_settings(database.reader_url, **api_options)) as url:
        yield url


@pytest.fixture
def tenant(database: Database) -> Tenant:
    return new_tenant(database)


@pytest.fixture
def owner(url: str, tenant: Tenant) -> Person:
    return new_person(url, tenant.api_key, "owner")


@pytest.fixture
def api(url: str, tenant: Tenant) -> Iterator[Client]:
    with client(url, tenant.api_key) as api:
        yield api


@pytest.fixture
def stranger(url: str, database: Database) -> Iterator[Client]:
    """Somebody of another tenant."""
    with client(url, new_tenant(database, "other").api_key) as api:
        yield api
