"""Turns at work that one process at a time does: rows with an expiry, for which the holder's own connections do not matter.

A session's advisory lock lasts as long as its connection, and the kernel keeps up the connection of a process that was stopped
(SIGSTOP, a paused machine): nobody else would do the work until it comes back. A lease runs out instead. Its last holder may
wake up and believe in it still, so whatever must not be done twice asks `Lease.require` in the transaction that does it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import psycopg
import structlog

from core.clock import monotonic_s
from core.postgres import Connection, Pool
from schemas.errors import Transient

log = structlog.get_logger()

LEASE_S: Final = 8.0
_RENEW_S: Final = 2.0

# Only the database's clock counts, as several machines compare it.
_TAKE = """
INSERT INTO weir.lease AS l (name, holder, expires_at) VALUES (%s, %s, clock_timestamp() + make_interval(secs => %s))
ON CONFLICT (name) DO UPDATE SET holder = EXCLUDED.holder, expires_at = EXCLUDED.expires_at
WHERE l.expires_at <= clock_timestamp()
"""
_RENEW = """
UPDATE weir.lease SET expires_at = clock_timestamp() + make_interval(secs => %s)
WHERE name = %s AND holder = %s AND expires_at > clock_timestamp()
"""
_IS_HELD = "SELECT FROM weir.lease WHERE name = %s AND holder = %s AND expires_at > clock_timestamp()"
_RELEASE = "DELETE FROM weir.lease WHERE name = %s AND holder = %s"


class LeaseLost(Transient):
    """The turn ran out, because this process stood still or the database was away; another may have it now."""


class Lease:
    """A turn that is held; made by `hold`."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._holder = secrets.token_hex(8)
        self._sure_until_s = 0.0

    async def require(self, connection: Connection) -> None:
        """Go on only if nobody else can have had the turn since.

        In a transaction, call it under the locks that the work takes: then the next holder's work on the same thing comes
        after this commits, or it came before and this raises.

        Raises:
            LeaseLost: the turn is over.
        """
        cursor = await connection.execute(_IS_HELD, (self._name, self._holder))
        if await cursor.fetchone() is None:
            raise self._lost()

    def require_here(self) -> None:
        """The same by this process's own clock, for what no transaction covers.

        Raises:
            LeaseLost: the turn may be over.
        """
        if monotonic_s() >= self._sure_until_s:
            raise self._lost()

    def _lost(self) -> LeaseLost:
        return LeaseLost(f"the lease {self._name!r} ran out; this process stood still, or the database was away")

    async def take(self, pool: Pool) -> bool:
        """Begin a turn unless another's has not ended."""
        return await self._extend(pool, _TAKE, (self._name, self._holder, LEASE_S))

    async def keep(self, pool: Pool) -> None:
        """Renew until cancelled.

        Raises:
            LeaseLost: too late.
        """
        while True:
            await asyncio.sleep(_RENEW_S)
            if not await self._extend(pool, _RENEW, (LEASE_S, self._name, self._holder)):
                raise self._lost()

    async def release(self, pool: Pool) -> None:
        """End the turn early; without the database it ends by itself."""
        with suppress(psycopg.Error):
            async with pool.connection(timeout=1.0) as connection:
                await connection.execute(_RELEASE, (self._name, self._holder))

    async def _extend(self, pool: Pool, statement: str, values: tuple[object, ...]) -> bool:
        asked_s = monotonic_s()
        async with pool.connection() as connection:
            cursor = await connection.execute(statement.encode(), values)
        if cursor.rowcount:
            self._sure_until_s = asked_s + LEASE_S
        return cursor.rowcount > 0


async def hold(pool: Pool, name: str, work: Callable[[Lease], Awaitable[None]]) -> None:
    """Do the work if it is nobody else's turn, until it ends or the turn is lost; returns at once if it is another's.

    Args:
        pool: under the writer role; one of its connections is used now and then.
        name: of the work, the same in every process.
        work: given its turn; cancelled when that is lost.
    """
    lease = Lease(name)
    if not await lease.take(pool):
        return
    tasks = [asyncio.ensure_future(work(lease)), asyncio.ensure_future(lease.keep(pool))]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    except LeaseLost as exc:
        log.warning("lease.lost", problem=str(exc))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await lease.release(pool)
