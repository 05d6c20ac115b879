"""`weir migrate` on a real server: what it prints, and the logins it makes."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from core.postgres import DatabaseRole
from ops.commands.migrate import login_name
from ops.embedded.postgres import EmbeddedPostgres
from sinks.timescale.migrate import Engine, migrations
from tests.integration.servers import with_database

pytestmark = pytest.mark.integration


@pytest.fixture
def empty_url(postgres: EmbeddedPostgres) -> Iterator[str]:
    """A database without a schema; the logins made in the test go with it."""
    name = f"test_{secrets.token_hex(6)}"
    with psycopg.connect(postgres.superuser_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        yield with_database(postgres.superuser_url, name)
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
        for role in DatabaseRole:
            connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(login_name(role))))


def weir_migrate(url: str, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WEIR_")}
    return subprocess.run(
        [sys.executable, "-m", "ops.cli", "migrate", *words],
        env=environment | {"WEIR_DATABASE_URL": url} | settings,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def passwords(prefix: str) -> dict[str, str]:
    return {f"WEIR_{role.name}_PASSWORD": f"{prefix} {role.name}" for role in DatabaseRole}


def as_login(url: str, role: DatabaseRole, password: str) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(url, user=login_name(role), password=password, autocommit=True)


def test_the_first_run_tells_what_it_applied_and_the_second_that_all_is_there(empty_url: str, engine: Engine) -> None:
    newest = migrations(engine)[-1]

    first = weir_migrate(empty_url).stdout.splitlines()
    second = weir_migrate(empty_url).stdout.splitlines()

    assert first[0] == "applied procrastinate 3.10.0 schema"
    assert first[-2] == f"applied {newest.name}"
    assert first[-1] == f"schema version {newest.number} on the {engine} engine"
    assert second == [first[-1]]


def test_each_role_gets_a_login_that_may_take_it(empty_url: str) -> None:
    done = weir_migrate(empty_url, "--create-logins", **passwords("first"))

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-4:] == [f"login {login_name(role)}" for role in DatabaseRole]
    for role in DatabaseRole:
        with as_login(empty_url, role, f"first {role.name}") as connection:
            connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role.value)))


def test_another_run_changes_the_passwords(empty_url: str) -> None:
    weir_migrate(empty_url, "--create-logins", **passwords("first"))
    weir_migrate(empty_url, "--create-logins", **passwords("second"))

    as_login(empty_url, DatabaseRole.READER, "second READER").close()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        as_login(empty_url, DatabaseRole.READER, "first READER")


def test_a_login_may_take_no_role_but_its_own(empty_url: str) -> None:
    weir_migrate(empty_url, "--create-logins", **passwords("first"))

    with as_login(empty_url, DatabaseRole.READER, "first READER") as connection:
        for role in (DatabaseRole.OWNER, DatabaseRole.WRITER, DatabaseRole.OPERATOR):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role.value)))


def test_missing_passwords_are_named_before_anything_is_done(empty_url: str) -> None:
    done = weir_migrate(empty_url, "--create-logins", WEIR_OWNER_PASSWORD="x")

    assert done.returncode == 2
    assert "--create-logins needs WEIR_WRITER_PASSWORD, WEIR_READER_PASSWORD, WEIR_OPERATOR_PASSWORD" in done.stderr
    with psycopg.connect(empty_url) as connection:
        assert connection.execute("SELECT to_regclass('weir.schema_migration')").fetchone() == (None,)


@pytest.mark.parametrize(
    ("url", "code", "message"),
    [
        ("", 2, "WEIR_DATABASE_URL is not set"),
        ("postgresql://me:secret99@127.0.0.1:1/none", 2, "the database at 127.0.0.1:1/none cannot be reached"),
    ],
)
def test_a_database_that_is_not_there_is_named(url: str, code: int, message: str) -> None:
    done = weir_migrate(url)

    assert (done.returncode, message in done.stderr, "secret99" in done.stderr) == (code, True, False)
