"""Keeps the stored roll-ups true: moves the frontier and recomputes the hours that writers marked.

Readers never depend on this having run: hours that are open or marked are computed from raw rows (migration 0005). It
makes reading cheap, not right. What is dropped, and when, is retention's.

A writer upserts its markers in the transaction of its rows. So whoever reads a marker's version, then recomputes the
hour under a later snapshot, and then removes the marker only if it still has that version and nobody holds it, has seen
every row that it stood for: a row that was not visible comes with a higher version, or with a marker inserted anew.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import LiteralString

from psycopg import errors

from core.postgres import Connection, Pool
from sinks.timescale import aggregates
from sinks.timescale.migrate import Engine

REFRESHER_LOCK = 5931870403
_HOUR_MS = 3_600_000
_OPEN_HOURS = 2
_STATEMENT_TIMEOUT = "600s"
_IDLE_TIMEOUT = "60s"
# Writers queue behind the exclusive lock as long as it waits: one batch's length, and then rather another time.
_FRONTIER_LOCK_TIMEOUT = "1500ms"
_HOURS_PER_TRANSACTION = 48

# Oldest touched first, so that a device that uploads a year cannot keep the others' hours waiting.
_BLOCKS_DUE = """
WITH due AS (
    SELECT d.block, date_bin('1 day', d.hour, 'epoch') AS day, d.hour, d.version, d.touched_at
    FROM weir.rollup_dirty d, weir.rollup_settled f
    WHERE d.hour < f.settled AND d.touched_at <= now() - make_interval(secs => %(settle_s)s)
    ORDER BY d.touched_at LIMIT %(limit)s)
SELECT day, array_agg(block ORDER BY hour), array_agg(hour ORDER BY hour), array_agg(version ORDER BY hour)
FROM due GROUP BY block, day ORDER BY min(touched_at)
"""
_DAYS_DUE = """
WITH ready AS MATERIALIZED (
    SELECT d.block, date_bin('1 day', d.hour, 'epoch') AS day, d.hour, d.version, d.touched_at
    FROM weir.rollup_dirty d, weir.rollup_settled f
    WHERE d.hour < f.settled AND d.touched_at <= now() - make_interval(secs => %(settle_s)s)),
due AS (
    SELECT day, min(touched_at) AS oldest FROM (SELECT * FROM ready ORDER BY touched_at LIMIT %(limit)s) r GROUP BY 1)
SELECT r.day, array_agg(r.block), array_agg(r.hour), array_agg(r.version)
FROM ready r JOIN due d USING (day) GROUP BY r.day, d.oldest ORDER BY d.oldest
"""
# Markers below `before` of the blocks in which one of these tenants has a sensor.
_TENANT_BLOCKS_DUE = """
SELECT date_bin('1 day', d.hour, 'epoch') AS day, array_agg(d.block ORDER BY d.hour), array_agg(d.hour ORDER BY d.hour),
       array_agg(d.version ORDER BY d.hour)
FROM weir.rollup_dirty d
JOIN (SELECT s.block, max(q.before) AS before
      FROM unnest(%(tenants)s::text[], %(befores)s::timestamptz[]) AS q (tenant_id, before)
      JOIN weir.sensor s USING (tenant_id) GROUP BY 1) q ON q.block = d.block AND d.hour < q.before
GROUP BY d.block, day ORDER BY day, d.block
"""
_CLEAR = """
WITH mine AS (
    SELECT d.block, d.hour FROM weir.rollup_dirty d
    JOIN unnest(%s::integer[], %s::timestamptz[], %s::bigint[]) AS q (block, hour, version) USING (block, hour, version)
    ORDER BY 1, 2 FOR UPDATE OF d SKIP LOCKED)
DELETE FROM weir.rollup_dirty d USING mine WHERE d.block = mine.block AND d.hour = mine.hour
"""
_REMAINING = "SELECT count(*) FROM weir.rollup_dirty d, weir.rollup_settled f WHERE d.hour < f.settled"
# One probe of the index per block that is alive; the outer bounds let the planner leave other partitions out.
_MARK_CLOSED = """
WITH found AS MATERIALIZED (
    SELECT b.block, h.hour FROM (SELECT DISTINCT block FROM weir.sensor) b
    CROSS JOIN generate_series(%(start)s::timestamptz, %(end)s::timestamptz - interval '1 hour', '1 hour') AS h (hour)
    CROSS JOIN LATERAL (
        SELECT FROM weir.sensor s CROSS JOIN LATERAL (
            SELECT FROM weir.reading r
            WHERE r.sensor_no = s.sensor_no AND r.at >= h.hour AND r.at < h.hour + interval '1 hour'
              AND r.at >= %(start)s::timestamptz AND r.at < %(end)s::timestamptz LIMIT 1) one
        WHERE s.block = b.block LIMIT 1) alive
    ORDER BY 1, 2)
INSERT INTO weir.rollup_dirty (block, hour) SELECT block, hour FROM found ON CONFLICT DO NOTHING
"""


@dataclass(frozen=True, slots=True)
class RefreshReport:
    """What a run did.

    Attributes:
        elected: False if another refresher was at work, and nothing was done here.
        hours: marked hours of blocks that were recomputed.
        cleared: of these, markers removed; the others were touched meanwhile and stay.
        remaining: markers that wait.
    """

    elected: bool
    hours: int = 0
    cleared: int = 0
    remaining: int = 0


@dataclass(frozen=True, slots=True)
class FrontierReport:
    """Where things stand after a run.

    Attributes:
        frontier: writers mark what they touch before it.
        settled: readers take stored roll-ups before it; equal to the frontier unless a run was interrupted.
        marked: hours of blocks that were marked on the way.
    """

    frontier: datetime
    settled: datetime
    marked: int


@dataclass(frozen=True, slots=True)
class _Work:
    """Markers of one UTC day as read; of one block on plain PostgreSQL."""

    day: datetime
    blocks: list[int]
    hours: list[datetime]
    versions: list[int]


async def refresh(pool: Pool, engine: Engine, *, limit: int = 2_000, settle_s: float = 5.0) -> RefreshReport:
    """Recompute marked hours and remove their markers.

    Args:
        pool: of the writer role; on TimescaleDB its login must be a member of weir_owner too, as only the owner may
            refresh continuous aggregates.
        engine: of the database.
        limit: markers to take at most; on TimescaleDB the others of their days are taken along.
        settle_s: leave markers alone that were touched more recently than this (by the database's clock): an hour that
            is being uploaded is recomputed once, not after every batch.

    Raises:
        Misconfigured: the login may not act as owner where it must.
    """
    async with pool.connection() as connection, refresher(connection) as elected:
        if not elected:
            return RefreshReport(elected=False)
        query: LiteralString = _DAYS_DUE if engine is Engine.TIMESCALE else _BLOCKS_DUE
        cursor = await connection.execute(query, {"settle_s": settle_s, "limit": limit})
        work = [_Work(*row) for row in await cursor.fetchall()]
        cleared = await _refresh_work(connection, engine, work)
        remaining = await (await connection.execute(_REMAINING)).fetchone()
        return RefreshReport(True, sum(len(part.hours) for part in work), cleared, remaining[0] if remaining else 0)


async def refresh_tenants(connection: Connection, engine: Engine, befores: dict[str, datetime]) -> int:
    """Recompute every marked hour that a tenant's sensors may have below a time; the caller is the refresher.

    Returns:
        Marked hours of blocks that were recomputed.
    """
    tenants = {"tenants": list(befores), "befores": list(befores.values())}
    cursor = await connection.execute(_TENANT_BLOCKS_DUE, tenants)
    work = [_Work(*row) for row in await cursor.fetchall()]
    if engine is Engine.TIMESCALE:
        work = _by_day(work)
    await _refresh_work(connection, engine, work)
    return sum(len(part.hours) for part in work)


def _by_day(work: Sequence[_Work]) -> list[_Work]:
    days: dict[datetime, _Work] = {}
    for part in work:
        whole = days.setdefault(part.day, _Work(part.day, [], [], []))
        whole.blocks.extend(part.blocks)
        whole.hours.extend(part.hours)
        whole.versions.extend(part.versions)
    return list(days.values())


async def _refresh_work(connection: Connection, engine: Engine, work: Sequence[_Work]) -> int:
    if engine is Engine.PLAIN:
        return sum([await _refresh_blocks(connection, some) for some in _transactions(work)])
    return sum([await _refresh_day(connection, part) for part in work])


def _transactions(work: Sequence[_Work]) -> Iterable[list[_Work]]:
    """Parts of the work, each small enough for one short transaction."""
    some: list[_Work] = []
    for part in work:
        some.append(part)
        if sum(len(one.hours) for one in some) >= _HOURS_PER_TRANSACTION:
            yield some
            some = []
    if some:
        yield some


async def _refresh_blocks(connection: Connection, work: Sequence[_Work]) -> int:
    """Plain PostgreSQL: recompute and clear in one transaction, the clearing last so that writers wait least."""
    async with connection.transaction():
        for part in work:
            await connection.execute("SELECT weir.refresh_block(%s, %s::timestamptz[])", (part.blocks[0], part.hours))
        return await _clear(connection, work)


async def _refresh_day(connection: Connection, work: _Work) -> int:
    """TimescaleDB: refresh in transactions of their own, then clear, unless someone may still read by an older plan."""
    settled = (await _stand(connection))[1]
    if not await aggregates.refresh_day(connection, work.day, settled):
        return 0
    async with connection.transaction():
        return await _clear(connection, [work])


async def _clear(connection: Connection, work: Sequence[_Work]) -> int:
    cursor = await connection.execute(
        _CLEAR,
        (
            [block for part in work for block in part.blocks],
            [hour for part in work for hour in part.hours],
            [version for part in work for version in part.versions],
        ),
    )
    return cursor.rowcount


async def advance_frontier(pool: Pool, now_ms: int) -> FrontierReport:
    """Close the hours that ended two hours ago: from then on they are read as stored, and late rows mark them.

    Safe to run from several places at once and to interrupt anywhere: it never goes back and the next run finishes.

    Args:
        pool: of the writer role.
        now_ms: the caller's clock; the database's own bounds it, so that a clock gone wrong cannot close the future.
    """
    target = datetime.fromtimestamp((now_ms // _HOUR_MS - _OPEN_HOURS) * 3600, UTC)
    async with pool.connection() as connection:
        await _move_frontier(connection, target)
        marked = 0
        frontier, settled = await _stand(connection)
        while settled < frontier:
            step = min(frontier, settled + timedelta(days=1))
            marked += await _settle(connection, settled, step)
            frontier, settled = await _stand(connection)
    return FrontierReport(frontier, settled, marked)


async def _stand(connection: Connection) -> tuple[datetime, datetime]:
    query = "SELECT f.frontier, s.settled FROM weir.rollup_frontier f, weir.rollup_settled s"
    row = await (await connection.execute(query)).fetchone()
    assert row is not None  # noqa: S101 - tables of one row
    return row[0], row[1]


async def _move_frontier(connection: Connection, target: datetime) -> None:
    """Move what writers go by; every open batch has committed then, and every later one goes by the new frontier."""
    if (await _stand(connection))[0] >= target:
        return
    try:
        async with connection.transaction():
            await lock_out_writers(connection)
            await connection.execute(
                "UPDATE weir.rollup_frontier SET frontier ="
                " greatest(frontier, least(%s, date_bin('1 hour', now() - make_interval(hours => %s), 'epoch')))",
                (target, _OPEN_HOURS),
            )
    except errors.LockNotAvailable:
        return  # a long batch is under way; nothing depends on the hour being closed now


async def lock_out_writers(connection: Connection) -> None:
    """Wait until no batch is open and hold new ones off until the transaction ends.

    Raises:
        psycopg.errors.LockNotAvailable: a batch took too long; writers have gone on.
    """
    await connection.execute("SELECT set_config('lock_timeout', %s, true)", (_FRONTIER_LOCK_TIMEOUT,))
    await connection.execute("SELECT pg_advisory_xact_lock(weir.frontier_lock())")


async def _settle(connection: Connection, start: datetime, end: datetime) -> int:
    async with connection.transaction():
        cursor = await connection.execute(_MARK_CLOSED, {"start": start, "end": end}, prepare=False)
        await connection.execute("UPDATE weir.rollup_settled SET settled = greatest(settled, %s)", (end,))
        return cursor.rowcount


@asynccontextmanager
async def refresher(connection: Connection, *, wait: bool = False) -> AsyncIterator[bool]:
    """Be the only refresher until the end of the block; yields whether this is so.

    Args:
        connection: stays in use for the whole block: the election ends with its session.
        wait: for the other one, up to the connection's lock time-out.

    Raises:
        psycopg.errors.LockNotAvailable: `wait` was in vain.
    """
    query: LiteralString = "SELECT pg_advisory_lock(%s)" if wait else "SELECT pg_try_advisory_lock(%s)"
    row = await (await connection.execute(query, (REFRESHER_LOCK,))).fetchone()
    if row is None or row[0] is False:
        yield False
        return
    try:
        async with long_statements(connection):
            # The lock goes with the session: a refresher that was stopped must not keep it for as long as it stands still.
            await connection.execute("SELECT set_config('idle_session_timeout', %s, false)", (_IDLE_TIMEOUT,))
            yield True
    finally:
        if not connection.closed:
            await connection.execute("SELECT set_config('idle_session_timeout', '0', false)")
            await connection.execute("SELECT pg_advisory_unlock(%s)", (REFRESHER_LOCK,))


@asynccontextmanager
async def long_statements(connection: Connection) -> AsyncIterator[None]:
    """Let statements take ten minutes until the end of the block."""
    before = await (await connection.execute("SELECT current_setting('statement_timeout')")).fetchone()
    assert before is not None  # noqa: S101 - a setting every server has
    await connection.execute("SELECT set_config('statement_timeout', %s, false)", (_STATEMENT_TIMEOUT,))
    try:
        yield
    finally:
        if not connection.closed:
            await connection.execute("SELECT set_config('statement_timeout', %s, false)", before)
