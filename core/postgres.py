"""Connections to PostgreSQL: pools per database role, tenant-bound transactions, failures sorted into kinds.

The login of a process is a member of one or more group roles; every connection takes the role it works under, so a
query can never do more than its part of the system may. Time-outs are set on the connection so that a hung process
cannot hold a position row.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Any
from weakref import WeakKeyDictionary

import psycopg
from psycopg import AsyncConnection, sql
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from core.clock import monotonic_s
from schemas.errors import Misconfigured, Transient

Connection = AsyncConnection[tuple[Any, ...]]
Pool = AsyncConnectionPool[Connection]

_CONNECT_TIMEOUT_S = 5
_HAS_TRANSACTION_TIMEOUT = 170_000
_TRUSTED_S = 0.5


class DatabaseRole(StrEnum):
    """The four group roles; see schemas/migrations."""

    OWNER = "weir_owner"
    WRITER = "weir_writer"
    READER = "weir_reader"
    OPERATOR = "weir_operator"


SEARCH_PATH = {
    DatabaseRole.OWNER: "pg_catalog, weir",
    DatabaseRole.WRITER: "pg_catalog, weir",
    DatabaseRole.READER: "pg_catalog, weir_tenant",
    DatabaseRole.OPERATOR: "pg_catalog, public",
}

# SQLSTATE classes and codes that pass by themselves: connection, resources, operator intervention, conflicts, locks.
_TRANSIENT_CLASSES = {"08", "53", "57"}
_TRANSIENT_CODES = {"40001", "40P01", "55P03", "25P03", "25P04"}


def open_pool(
    url: str,
    role: DatabaseRole,
    *,
    size: int = 8,
    statement_timeout_ms: int = 30_000,
    lock_timeout_ms: int = 5_000,
    idle_in_transaction_timeout_ms: int = 10_000,
    transaction_timeout_ms: int = 0,
) -> Pool:
    """Make a pool (not yet opened: use it as an async context manager).

    `transaction_timeout_ms` (0: none) is for servers that have it, PostgreSQL 17 and later.

    Raises:
        Misconfigured: the URL is empty.
    """
    if not url:
        msg = "WEIR_DATABASE_URL is not set; expected postgresql://login:password@host:port/database for this role"
        raise Misconfigured(msg)

    async def configure(connection: Connection) -> None:
        await connection.set_autocommit(True)
        await connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role.value)))
        await connection.execute(sql.SQL("SET search_path TO {}").format(sql.SQL(SEARCH_PATH[role])))
        for name, value in (
            ("statement_timeout", statement_timeout_ms),
            ("lock_timeout", lock_timeout_ms),
            ("idle_in_transaction_session_timeout", idle_in_transaction_timeout_ms),
        ):
            await connection.execute("SELECT set_config(%s, %s, false)", (name, f"{value}ms"))
        if transaction_timeout_ms and connection.info.server_version >= _HAS_TRANSACTION_TIMEOUT:
            await connection.execute(
                "SELECT set_config('transaction_timeout', %s, false)", (f"{transaction_timeout_ms}ms",)
            )
        await connection.execute("SET TIME ZONE 'UTC'")

    return AsyncConnectionPool(
        url,
        min_size=1,
        max_size=size,
        open=False,
        configure=configure,
        check=_check_idle(),
        timeout=10.0,
        reconnect_timeout=0.0,
        kwargs={
            "autocommit": True,
            "connect_timeout": _CONNECT_TIMEOUT_S,
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 20_000,
        },
    )


def _check_idle() -> Callable[[Connection], Awaitable[None]]:
    """A check of connections that were not handed out a moment ago: asking each time costs a batch a journey of its own.

    A connection that broke in use does not come back to the pool, so the moment is all that a failure can hide in.
    """
    handed_out: WeakKeyDictionary[Connection, float] = WeakKeyDictionary()

    async def check(connection: Connection) -> None:
        now_s, last_s = monotonic_s(), handed_out.get(connection, 0.0)
        handed_out[connection] = now_s
        if now_s - last_s > _TRUSTED_S:
            await AsyncConnectionPool.check_connection(connection)

    return check


async def require_connection(url: str) -> None:
    """Connect once, outside any pool, to learn why it does not work.

    Raises:
        Transient: it does not; the message says which server, why and what to change.
    """
    try:
        connection = await AsyncConnection.connect(url, connect_timeout=_CONNECT_TIMEOUT_S)
    except psycopg.OperationalError as exc:
        raise Transient(explain_connection_error(exc, url)) from exc
    await connection.close()


@asynccontextmanager
async def tenant_transaction(pool: Pool, tenant_id: str, actor: str = "") -> AsyncIterator[Connection]:
    """A transaction that sees one tenant only: the views and policies filter by the setting made here.

    Args:
        pool: of the role to work under.
        tenant_id: from a verified credential, never from a payload.
        actor: whom the audit log names for what is changed here; a reading transaction needs none.
    """
    async with pool.connection() as connection, connection.transaction():
        await connection.execute(
            "SELECT set_config('weir.tenant', %s, true), set_config('weir.actor', %s, true)", (tenant_id, actor)
        )
        yield connection


def is_transient(error: BaseException) -> bool:
    """Whether the same work may succeed later without anyone changing anything."""
    if isinstance(error, (Transient, PoolTimeout)):
        return True
    if isinstance(error, psycopg.Error):
        if error.sqlstate is None:
            return isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
        return error.sqlstate in _TRANSIENT_CODES or error.sqlstate[:2] in _TRANSIENT_CLASSES
    return isinstance(error, (ConnectionError, TimeoutError))


def explain_connection_error(error: BaseException, url: str) -> str:
    """One sentence for a person: what could not be reached and what to change; never the password."""
    parts = psycopg.conninfo.conninfo_to_dict(url)
    where = f"{parts.get('host', 'local socket')}:{parts.get('port', 5432)}/{parts.get('dbname', '')}"
    code = getattr(error, "sqlstate", None)
    text = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
    if code == "28P01" or "password authentication failed" in text:
        return f"the database at {where} refused the password of {parts.get('user')}; correct WEIR_DATABASE_URL"
    if code == "3D000" or "does not exist" in text:
        return f"the database at {where} answered: {text}; correct WEIR_DATABASE_URL or run `weir migrate`"
    return f"the database at {where} cannot be reached ({text}); start it or correct WEIR_DATABASE_URL"
