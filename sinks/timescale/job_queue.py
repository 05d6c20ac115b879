"""Keeps procrastinate's own tables in the schema `weir_jobs`: made from its schema.sql, followed through its upgrades.

procrastinate ships its schema as one file and the way to it as many; which of them a database has had is written down
in `weir_jobs.applied_file`, so that another version of the library is noticed. What the jobs do is `jobs`' business.
"""

from __future__ import annotations

from importlib import metadata, resources

import psycopg
from psycopg import sql

from core.postgres import Connection, DatabaseRole
from schemas.errors import Misconfigured

QUEUE_SCHEMA = "weir_jobs"

_SyncConnection = psycopg.Connection[tuple[object, ...]]


def library_version() -> str:
    """The installed version of procrastinate."""
    return metadata.version("procrastinate")


def library_files() -> dict[str, str]:
    """Names and texts of procrastinate's migrations in the order they apply."""
    folder = resources.files("procrastinate.sql") / "migrations"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name)
    return {file.name: file.read_text(encoding="utf-8") for file in files}


def install_job_queue(connection: _SyncConnection) -> tuple[str, ...]:
    """Make or upgrade the job queue; returns the names of the files applied.

    Args:
        connection: in autocommit, of a login that may become weir_owner, under the migration lock.

    Raises:
        Misconfigured: the database was made by a newer procrastinate.
    """
    files = library_files()
    done = _applied(connection)
    if done is None:
        schema_text = (resources.files("procrastinate.sql") / "schema.sql").read_text(encoding="utf-8")
        _apply(connection, schema_text, list(files))
        return (f"procrastinate {library_version()} schema",)
    _refuse_newer(done, set(files))
    missing = [name for name in files if name not in done]
    for name in missing:
        _apply(connection, files[name], [name])
    return tuple(f"procrastinate {name}" for name in missing)


def _applied(connection: _SyncConnection) -> set[str] | None:
    """Files the database has had; None where there is no queue yet."""
    row = connection.execute("SELECT to_regclass('weir_jobs.applied_file')").fetchone()
    if row is None or row[0] is None:
        return None
    return {str(name) for (name,) in connection.execute("SELECT name FROM weir_jobs.applied_file")}


def _refuse_newer(done: set[str], known: set[str]) -> None:
    unknown = sorted(done - known)
    if unknown:
        msg = (
            f"the job queue was made by a newer procrastinate ({unknown[-1]}), installed is {library_version()}; "
            "install the version that this Weir release pins, or run a newer Weir"
        )
        raise Misconfigured(msg)


def _apply(connection: _SyncConnection, text: str, names: list[str]) -> None:
    with connection.transaction():
        connection.execute("SET LOCAL lock_timeout = '5s'")
        connection.execute("SET LOCAL ROLE weir_owner")
        # procrastinate names nothing by schema: the path decides where its tables go.
        connection.execute("SET LOCAL search_path TO weir_jobs, pg_temp")
        connection.execute(text.encode())
        connection.execute(
            "CREATE TABLE IF NOT EXISTS applied_file"
            " (name text PRIMARY KEY, version text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        connection.cursor().executemany(
            "INSERT INTO applied_file (name, version) VALUES (%s, %s)", [(name, library_version()) for name in names]
        )
        _pin_functions(connection)
        _grant(connection)


def _pin_functions(connection: _SyncConnection) -> None:
    """Give every function its search path, so that triggers work for whoever touches the tables."""
    functions = connection.execute(
        "SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = 'weir_jobs'::regnamespace"
    ).fetchall()
    for (signature,) in functions:
        statement = sql.SQL("ALTER FUNCTION {} SET search_path = weir_jobs, pg_temp")
        connection.execute(statement.format(sql.SQL(str(signature))))


def _grant(connection: _SyncConnection) -> None:
    writer = sql.Identifier(DatabaseRole.WRITER.value)
    for statement in (
        "GRANT USAGE ON SCHEMA weir_jobs TO {}",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA weir_jobs TO {}",
        "REVOKE INSERT, UPDATE, DELETE ON weir_jobs.applied_file FROM {}",
        "GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA weir_jobs TO {}",
        "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA weir_jobs TO {}",
    ):
        connection.execute(sql.SQL(statement).format(writer))
    connection.execute("REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA weir_jobs FROM PUBLIC")


async def require_job_queue(connection: Connection) -> None:
    """Check that the database's job queue is the one this procrastinate works with.

    Args:
        connection: under the writer role.

    Raises:
        Misconfigured: the queue is missing, older or newer than the library.
    """
    cursor = await connection.execute("SELECT to_regclass('weir_jobs.applied_file') IS NOT NULL")
    found = await cursor.fetchone()
    if found is None or not found[0]:
        msg = "the database has no job queue; run `weir migrate`"
        raise Misconfigured(msg)
    names = await (await connection.execute("SELECT name FROM weir_jobs.applied_file")).fetchall()
    done, known = {str(name) for (name,) in names}, set(library_files())
    _refuse_newer(done, known)
    if known - done:
        msg = (
            f"the job queue lacks {len(known - done)} change(s) that procrastinate {library_version()} needs; "
            "run `weir migrate`"
        )
        raise Misconfigured(msg)
