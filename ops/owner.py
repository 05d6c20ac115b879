"""A connection that works as the owner, for commands that make tenants and users.

WEIR_DATABASE_URL must name a login that may take the role weir_owner; those of the roles themselves may not.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg

from core.postgres import Connection, explain_connection_error
from schemas.errors import Misconfigured


@asynccontextmanager
async def owner_connection(url: str) -> AsyncIterator[Connection]:
    """Connected as weir_owner.

    Raises:
        Misconfigured: the database cannot be reached, or the login may not.
    """
    if not url:
        msg = "WEIR_DATABASE_URL is not set; expected postgresql://login:password@host:port/database of the owner"
        raise Misconfigured(msg)
    try:
        connection = await psycopg.AsyncConnection.connect(url, autocommit=True, connect_timeout=5)
    except psycopg.OperationalError as exc:
        raise Misconfigured(explain_connection_error(exc, url)) from exc
    async with connection:
        try:
            await connection.execute("SET ROLE weir_owner")
        except psycopg.Error:
            msg = f"the login {connection.info.user} may not work as weir_owner; name one in WEIR_DATABASE_URL that may"
            raise Misconfigured(msg) from None
        yield connection
