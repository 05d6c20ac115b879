"""Lets go of raw readings that a tenant does not keep; their roll-ups and usage stay for ever.

In steps, each of which may be repeated or interrupted anywhere. The horizon moves: older readings are refused and hidden
from then on. The roll-ups below it are brought up to date once more, its hours sealed for the bill's proof, and both frozen
(migrations 0004, 0025). Only then do rows go: whole partitions where every tenant's are frozen, else sensor by sensor and day by
day.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import LiteralString

from psycopg import errors

from core.postgres import Connection, Pool
from sinks.timescale import aggregates
from sinks.timescale.migrate import Engine
from sinks.timescale.rollups import lock_out_writers, long_statements, refresh_tenants, refresher

_COMPRESS_AFTER_DAYS = 7
_SENSORS_A_COPY = 64
_DAY = timedelta(days=1)

_ADVANCE = """
WITH due AS (
    SELECT tenant_id, date_bin('1 day', least(%s, now()) - least(raw_retention, plan_retention), 'epoch') AS target
    FROM weir.tenant WHERE least(raw_retention, plan_retention) IS NOT NULL)
UPDATE weir.tenant t SET retention_horizon = due.target FROM due
WHERE due.tenant_id = t.tenant_id AND due.target > t.retention_horizon RETURNING t.tenant_id, t.retention_horizon
"""
_ANY_DUE = """
SELECT count(*) FROM weir.tenant
WHERE date_bin('1 day', least(%s, now()) - least(raw_retention, plan_retention), 'epoch') > retention_horizon
"""
_UNFROZEN = """
SELECT tenant_id, to_at FROM (
    SELECT t.tenant_id, least(t.retention_horizon, date_bin('1 day', f.settled, 'epoch')) AS to_at, z.frozen_before
    FROM weir.tenant t CROSS JOIN weir.rollup_settled f LEFT JOIN weir.rollup_frozen z USING (tenant_id)) q
WHERE to_at > coalesce(frozen_before, '-infinity') ORDER BY 1
"""
_FREEZE = """
INSERT INTO weir.rollup_frozen AS z (tenant_id, frozen_before) VALUES (%s, %s)
ON CONFLICT (tenant_id) DO UPDATE SET frozen_before = greatest(z.frozen_before, EXCLUDED.frozen_before)
"""
_UNERASED = "SELECT tenant_id, frozen_before FROM weir.rollup_frozen WHERE erased_before < frozen_before ORDER BY 1"
_ERASED = "UPDATE weir.rollup_frozen SET erased_before = %s WHERE tenant_id = %s"
# The parts of partitions that lie in [what is done, to_at).
_PARTS_TO_FREEZE: LiteralString = """
SELECT greatest(p.from_at, z.frozen_before), least(p.to_at, %(to_at)s)
FROM weir.partitions() p LEFT JOIN weir.rollup_frozen z ON z.tenant_id = %(tenant_id)s
WHERE p.from_at < %(to_at)s AND p.to_at > coalesce(z.frozen_before, '-infinity') ORDER BY 1
"""
_PARTS_TO_ERASE: LiteralString = """
SELECT greatest(p.from_at, z.erased_before), least(p.to_at, %(to_at)s)
FROM weir.partitions() p JOIN weir.rollup_frozen z ON z.tenant_id = %(tenant_id)s
WHERE p.from_at < %(to_at)s AND p.to_at > z.erased_before ORDER BY 1
"""
# One probe of the index per sensor: the first UTC day, of those asked for, in which it has rows.
_FIRST_DAYS = """
SELECT s.sensor_no, date_bin('1 day', r.at, 'epoch') FROM weir.sensor s CROSS JOIN LATERAL (
    SELECT r.at FROM weir.reading r WHERE r.sensor_no = s.sensor_no AND r.at >= %s AND r.at < %s ORDER BY r.at LIMIT 1) r
WHERE s.tenant_id = %s ORDER BY 1
"""
_ERASE_DAY = "DELETE FROM weir.reading WHERE sensor_no = %s AND at >= %s AND at < least(%s + interval '24 hours', %s)"


@dataclass(slots=True)
class RetentionReport:
    """What a run let go.

    Attributes:
        sealed: hours sealed before their rows may go.
        frozen: tenants whose roll-ups are frozen up to a later day now.
        dropped: partitions dropped whole.
        erased: rows deleted one sensor and day at a time.
        compressed: chunks turned into columns.
    """

    sealed: int = 0
    frozen: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    erased: int = 0
    compressed: list[str] = field(default_factory=list)


async def advance_horizons(pool: Pool, now_ms: int) -> dict[str, datetime]:
    """Move every tenant's horizon to the UTC day that its retention leaves.

    No batch is open while they move, so none stores a reading that the new horizon refuses.

    Args:
        pool: of the writer role.
        now_ms: the caller's clock; the database's own bounds it: a clock gone wrong deletes nothing.

    Returns:
        The horizons that moved.
    """
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    async with pool.connection() as connection:
        due = await (await connection.execute(_ANY_DUE, (now,))).fetchone()
        if due is None or due[0] == 0:
            return {}
        try:
            async with connection.transaction():
                await lock_out_writers(connection)
                return dict(await (await connection.execute(_ADVANCE, (now,))).fetchall())
        except errors.LockNotAvailable:
            return {}  # a long batch is under way; the next run will do


async def drop_expired(pool: Pool, engine: Engine) -> RetentionReport:
    """Freeze roll-ups below the horizons, then let the raw rows below them go; turn TimescaleDB's old chunks into columns.

    Args:
        pool: as for `rollups.refresh`.
        engine: of the database.

    Raises:
        psycopg.errors.LockNotAvailable: the refresher is at work, or readers hold a partition; try again later.
        Misconfigured: as for `rollups.refresh`.
    """
    report = RetentionReport()
    async with pool.connection() as connection:
        async with refresher(connection, wait=True):
            await _freeze(connection, engine, report)
            await _drop_partitions(connection, report)
        # What may take hours goes on beside the refresher, which leaves frozen spans alone.
        async with long_statements(connection):
            await _erase(connection, report)
            if engine is Engine.TIMESCALE:
                await _compress(connection, report)
    return report


async def _freeze(connection: Connection, engine: Engine, report: RetentionReport) -> None:
    befores: dict[str, datetime] = dict(await (await connection.execute(_UNFROZEN)).fetchall())
    # Writers refuse what is below a horizon, so one look at the markers is enough: none comes for these tenants' rows.
    await refresh_tenants(connection, engine, befores)
    if engine is Engine.TIMESCALE and not await _keep(connection, befores):
        return  # a long statement would look in the wrong place; the next run will do
    for tenant_id, to_at in befores.items():
        report.sealed += await _seal(connection, tenant_id, to_at)
        await connection.execute(_FREEZE, (tenant_id, to_at))
        report.frozen.append(tenant_id)


async def _seal(connection: Connection, tenant_id: str, to_at: datetime) -> int:
    """Seal the hours whose rows are to go, a day at a time: the database lets none go unsealed (migration 0025)."""
    sealed = 0
    for from_at, before in await _parts(connection, _PARTS_TO_FREEZE, tenant_id, to_at):
        day = from_at
        while day < before:
            values = (tenant_id, day, min(day + _DAY, before))
            row = await (await connection.execute("SELECT weir.seal_hours(%s, %s, %s, true)", values)).fetchone()
            sealed += row[0] if row else 0
            day += _DAY
    return sealed


async def _keep(connection: Connection, befores: dict[str, datetime]) -> bool:
    """Copy what is to be frozen to where no refresh reaches it; returns whether all readers would find it there."""
    chunks = await aggregates.count_chunks(connection)
    for tenant_id, to_at in befores.items():
        query = "SELECT sensor_no FROM weir.sensor WHERE tenant_id = %s ORDER BY 1"
        sensors = [row[0] for row in await (await connection.execute(query, (tenant_id,))).fetchall()]
        for part in await _parts(connection, _PARTS_TO_FREEZE, tenant_id, to_at):
            for start in range(0, len(sensors), _SENSORS_A_COPY):
                some = sensors[start : start + _SENSORS_A_COPY]
                await connection.execute("SELECT weir.keep_rollups(%s::integer[], %s, %s)", (some, *part))
    return await aggregates.everyone_sees(connection, chunks)


async def _parts(
    connection: Connection, query: LiteralString, tenant_id: str, to_at: datetime
) -> list[tuple[datetime, datetime]]:
    cursor = await connection.execute(query, {"tenant_id": tenant_id, "to_at": to_at})
    return [(row[0], row[1]) for row in await cursor.fetchall()]


async def _drop_partitions(connection: Connection, report: RetentionReport) -> None:
    while True:
        row = await (await connection.execute("SELECT weir.drop_oldest_partition()")).fetchone()
        if row is None or row[0] is None:
            return
        report.dropped.append(row[0])


async def _erase(connection: Connection, report: RetentionReport) -> None:
    """Delete what no partition took along, in transactions of one sensor's day."""
    # TimescaleDB refuses to unpack more than 100 000 rows for one statement; elsewhere the setting means nothing.
    await connection.execute("SELECT set_config('timescaledb.max_tuples_decompressed_per_dml_transaction', '0', false)")
    for tenant_id, to_at in await (await connection.execute(_UNERASED)).fetchall():
        for from_at, before in await _parts(connection, _PARTS_TO_ERASE, tenant_id, to_at):
            report.erased += await _erase_part(connection, tenant_id, from_at, before)
        await connection.execute(_ERASED, (to_at, tenant_id))


async def _erase_part(connection: Connection, tenant_id: str, from_at: datetime, before: datetime) -> int:
    erased = 0
    while days := await (await connection.execute(_FIRST_DAYS, (from_at, before, tenant_id))).fetchall():
        for sensor_no, day in days:
            cursor = await connection.execute(_ERASE_DAY, (sensor_no, day, day, before))
            erased += cursor.rowcount
    return erased


async def _compress(connection: Connection, report: RetentionReport) -> None:
    """In the place of a columnstore policy, which needs an owner that may log in."""
    query = "SELECT weir.compress_oldest_chunk(now() - make_interval(days => %s))"
    while True:
        row = await (await connection.execute(query, (_COMPRESS_AFTER_DAYS,))).fetchone()
        if row is None or row[0] is None or row[0] in report.compressed:
            return
        report.compressed.append(row[0])
