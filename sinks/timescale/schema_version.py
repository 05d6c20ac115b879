"""Whether the database's schema is the one that this program was written for."""

from __future__ import annotations

import psycopg

from core.postgres import Connection
from schemas.errors import Misconfigured
from sinks.timescale.migrate import Engine, migrations


async def require_schema(connection: Connection) -> Engine:
    """The engine of a database whose schema is exactly the one expected.

    Raises:
        Misconfigured: the schema is missing, older or newer; the message says what to do.
    """
    try:
        cursor = await connection.execute(
            "SELECT number, engine FROM weir.schema_migration ORDER BY number DESC LIMIT 1"
        )
    except (psycopg.errors.UndefinedTable, psycopg.errors.InsufficientPrivilege) as exc:
        msg = "the database has no Weir schema that this role may use; run `weir migrate` against it"
        raise Misconfigured(msg) from exc
    row = await cursor.fetchone()
    if row is None:
        msg = "the database's schema is empty; run `weir migrate` against it"
        raise Misconfigured(msg)
    found, engine = int(row[0]), Engine(str(row[1]))
    expected = migrations(engine)[-1].number
    if found < expected:
        msg = f"the database has schema version {found}, this program needs {expected}; run `weir migrate`"
        raise Misconfigured(msg)
    if found > expected:
        msg = f"the database has schema version {found}, this program knows {expected}; run a newer Weir"
        raise Misconfigured(msg)
    return engine
