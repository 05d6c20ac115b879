"""What only TimescaleDB needs: refreshing its continuous aggregates, and knowing when everyone sees the outcome.

A statement is planned over the chunks that exist then, but sees the rows that are committed when it starts to run. Whoever
makes a chunk, fills it and at once tells readers to look there (by removing a marker, by freezing a span) is misread by
statements planned before. They hold a lock on the hypertable until their transaction ends, so they can be waited for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

from psycopg import errors

from core.postgres import Connection
from schemas.errors import Misconfigured

_POLLS, _POLL_S = 100, 0.05
_REFRESH = """
CALL public.refresh_continuous_aggregate(%s::regclass, %s::timestamptz, %s::timestamptz, options => '{"buckets_per_batch": 0}')
"""
_CHUNKS = "SELECT count(*) FROM pg_inherits WHERE inhparent = ANY (weir.rollup_stores())"
_READERS = """
SELECT DISTINCT virtualtransaction FROM pg_locks
WHERE locktype = 'relation' AND relation = ANY (weir.rollup_stores()::oid[]) AND granted AND pid <> pg_backend_pid()
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


async def refresh_day(connection: Connection, day: datetime, settled: datetime) -> bool:
    """Refresh every level of one UTC day as far as its hours are settled.

    The whole day is named, not its marked hours: only what was invalidated is recomputed, and invalidations between
    marked hours (TimescaleDB logs one range per transaction and chunk) would otherwise pile up in its log.

    Returns:
        Whether everyone who reads from now on finds the outcome.

    Raises:
        Misconfigured: the login is not a member of the owner role.
    """
    end = day + timedelta(days=1)
    chunks = await count_chunks(connection)
    async with _as_owner(connection):
        for level, until in (("1m", min(end, settled)), ("1h", min(end, settled)), ("1d", end)):
            await connection.execute(_REFRESH, (f"weir.rollup_{level}", day, until))
    return await everyone_sees(connection, chunks)


async def count_chunks(connection: Connection) -> int:
    """Chunks of everything that roll-ups are read from; compare with `everyone_sees`."""
    row = await (await connection.execute(_CHUNKS)).fetchone()
    return int(row[0]) if row else 0


async def everyone_sees(connection: Connection, chunks_before: int) -> bool:
    """Wait for statements that were planned before new chunks; False if some still go on after five seconds.

    Args:
        connection: in no transaction.
        chunks_before: from `count_chunks`, before the rows were written.
    """
    if await count_chunks(connection) == chunks_before:
        return True
    readers = await _readers(connection)
    for _ in range(_POLLS):
        if not readers:
            break
        await asyncio.sleep(_POLL_S)
        readers &= await _readers(connection)
    return not readers


async def _readers(connection: Connection) -> set[str]:
    return {str(row[0]) for row in await (await connection.execute(_READERS)).fetchall()}


@asynccontextmanager
async def _as_owner(connection: Connection) -> AsyncIterator[None]:
    row = await (await connection.execute("SELECT quote_ident(current_user)")).fetchone()
    assert row is not None  # noqa: S101 - every session has a user
    try:
        await connection.execute("SET ROLE weir_owner")
    except errors.InsufficientPrivilege as exc:
        msg = (
            "the login may not refresh continuous aggregates: on TimescaleDB the login of `weir jobs` must be a member"
            " of weir_owner (GRANT weir_owner TO <login>)"
        )
        raise Misconfigured(msg) from exc
    try:
        yield
    finally:
        if not connection.closed:
            await connection.execute(b"SET ROLE " + str(row[0]).encode())
