"""Applies the numbered SQL files of `schemas/migrations` under an advisory lock, once each, in order.

`common/` holds what both engines share, `timescale/` and `plain/` what differs; a number exists either in `common` or in
both. The engine is chosen once, by what the server can do, and written down: a database never changes its engine.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources
from importlib.resources.abc import Traversable

import psycopg
from psycopg import sql

from core.postgres import DatabaseRole, explain_connection_error
from schemas.errors import Misconfigured
from sinks.timescale.job_queue import QUEUE_SCHEMA, install_job_queue

_LOCK = 5931870401
_MIN_SERVER_VERSION = 160000


class Engine(StrEnum):
    """Which store the database is."""

    PLAIN = "plain"
    TIMESCALE = "timescale"


@dataclass(frozen=True, slots=True)
class Migration:
    """One SQL file."""

    number: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the text, to notice a file changed after it was applied."""
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class MigrationReport:
    """What a run found and did."""

    engine: Engine
    applied: tuple[str, ...]
    version: int
    # Files of procrastinate applied to the job queue.
    job_queue: tuple[str, ...] = ()


def migrations(engine: Engine) -> list[Migration]:
    """The files for an engine in their order.

    Raises:
        ValueError: two files share a number, or a number is missing.
    """
    root = resources.files("schemas") / "migrations"
    files = [file for folder in ("common", engine.value) for file in _sql_files(root / folder)]
    found = sorted((_read(file) for file in files), key=lambda migration: migration.number)
    numbers = [migration.number for migration in found]
    if numbers != list(range(1, len(numbers) + 1)):
        msg = f"migrations for {engine} must be numbered 1, 2, 3, … without holes or doubles, found {numbers}"
        raise ValueError(msg)
    return found


def _sql_files(folder: Traversable) -> list[Traversable]:
    return [file for file in folder.iterdir() if file.name.endswith(".sql")] if folder.is_dir() else []


def _read(file: Traversable) -> Migration:
    name = file.name.removesuffix(".sql")
    return Migration(int(name.split("_", 1)[0]), name, file.read_text(encoding="utf-8"))


def migrate(admin_url: str, *, engine: Engine | None = None) -> MigrationReport:
    """Bring the database to the newest schema; safe to run from several places at once.

    Args:
        admin_url: a login that may create roles and schemas (and the extension, where it is wanted).
        engine: forces the engine of a new database; None chooses by capability.

    Raises:
        Misconfigured: the server is too old, cannot be reached, or holds a schema of another version or engine.
    """
    try:
        connection = psycopg.connect(admin_url, autocommit=True, connect_timeout=5)
    except psycopg.OperationalError as exc:
        raise Misconfigured(explain_connection_error(exc, admin_url)) from exc
    with connection:
        _require_server_version(connection)
        connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
        _create_roles_and_schemas(connection)
        chosen = _settle_engine(connection, engine)
        return _apply(connection, chosen)


def _require_server_version(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    version = connection.info.server_version
    if version < _MIN_SERVER_VERSION:
        msg = f"the database server is PostgreSQL {version // 10000}, expected 16 or newer; upgrade it"
        raise Misconfigured(msg)


def _create_roles_and_schemas(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    for role in DatabaseRole:
        if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role.value,)).fetchone() is None:
            connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(role.value)))
    owner = sql.Identifier(DatabaseRole.OWNER.value)
    connection.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(owner))
    for schema in ("weir", "weir_tenant", QUEUE_SCHEMA):
        connection.execute(
            sql.SQL("CREATE SCHEMA IF NOT EXISTS {} AUTHORIZATION {}").format(sql.Identifier(schema), owner)
        )
    connection.execute(sql.SQL("GRANT CREATE, USAGE ON SCHEMA public TO {}").format(owner))
    connection.execute("GRANT USAGE ON SCHEMA weir TO weir_writer, weir_reader")
    connection.execute("GRANT USAGE ON SCHEMA weir_tenant TO weir_reader")
    connection.execute("GRANT USAGE ON SCHEMA public TO weir_operator")
    connection.execute(
        "CREATE TABLE IF NOT EXISTS weir.schema_migration (number integer PRIMARY KEY, name text NOT NULL,"
        " checksum text NOT NULL, engine text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
    )
    connection.execute(sql.SQL("ALTER TABLE weir.schema_migration OWNER TO {}").format(owner))
    connection.execute("GRANT SELECT ON weir.schema_migration TO weir_writer, weir_reader, weir_operator")


def _settle_engine(connection: psycopg.Connection[tuple[object, ...]], wanted: Engine | None) -> Engine:
    row = connection.execute("SELECT engine FROM weir.schema_migration ORDER BY number LIMIT 1").fetchone()
    if row is not None:
        found = Engine(str(row[0]))
        if wanted not in (None, found):
            msg = f"the database was made for the {found} engine, asked for {wanted}; use another database"
            raise Misconfigured(msg)
        return found
    able = _has_timescale(connection)
    if wanted is Engine.TIMESCALE and not able:
        msg = "the server has no TimescaleDB with continuous aggregates; install it or leave the engine to be chosen"
        raise Misconfigured(msg)
    return wanted or (Engine.TIMESCALE if able else Engine.PLAIN)


def _has_timescale(connection: psycopg.Connection[tuple[object, ...]]) -> bool:
    """Whether the extension is there with columnstore and continuous aggregates (not the Apache build)."""
    available = connection.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'timescaledb'").fetchone()
    if available is None:
        return False
    try:
        connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
        row = connection.execute("SELECT current_setting('timescaledb.license', true)").fetchone()
    except psycopg.Error:  # not preloaded, or no right to create it: plain PostgreSQL serves
        return False
    return row is not None and row[0] == "timescale"


def _apply(connection: psycopg.Connection[tuple[object, ...]], engine: Engine) -> MigrationReport:
    known = migrations(engine)
    done = {
        int(str(number)): str(checksum)
        for number, checksum in connection.execute("SELECT number, checksum FROM weir.schema_migration")
    }
    _refuse_foreign_schema(known, done)
    job_queue = install_job_queue(connection)
    applied = []
    for migration in known:
        if migration.number not in done:
            _apply_one(connection, migration, engine)
            applied.append(migration.name)
    return MigrationReport(engine, tuple(applied), known[-1].number, job_queue)


def _refuse_foreign_schema(known: list[Migration], done: dict[int, str]) -> None:
    newest = known[-1].number
    if done and max(done) > newest:
        msg = f"the database has schema version {max(done)}, this program knows {newest}; run a newer Weir"
        raise Misconfigured(msg)
    for migration in known:
        if done.get(migration.number, migration.checksum) != migration.checksum:
            msg = f"migration {migration.name} was changed after it was applied; restore the file, add a new one"
            raise Misconfigured(msg)


def _apply_one(connection: psycopg.Connection[tuple[object, ...]], migration: Migration, engine: Engine) -> None:
    with connection.transaction():
        connection.execute("SET LOCAL lock_timeout = '5s'")
        connection.execute("SET LOCAL ROLE weir_owner")
        connection.execute(migration.text.encode())
        connection.execute(
            "INSERT INTO weir.schema_migration (number, name, checksum, engine) VALUES (%s, %s, %s, %s)",
            (migration.number, migration.name, migration.checksum, engine.value),
        )
