"""A store to test on: sensors with known numbers, batches written as the stream worker writes them, what to expect."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString

import numpy as np
import polars as pl
import psycopg
from psycopg import sql

from core.postgres import DatabaseRole, Pool, open_pool, tenant_transaction
from sinks.timescale.batch_columns import ReadingColumns
from sinks.timescale.migrate import Engine
from sinks.timescale.partitions import PartitionKeeper
from sinks.timescale.rollups import refresh
from sinks.timescale.writer import BatchTransaction, Position, batch_transaction
from tests.integration.servers import Database

MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
STEPS = {"1m": MINUTE_MS, "1h": HOUR_MS, "1d": DAY_MS}

Reading = tuple[int, int, int, float]  # sensor_no, at in epoch ms, seq, value
# sensor_no, start, count, sum, min, max, first, last
Bucket = tuple[int, datetime, int, float, float, float, float, float]


def ms(text: str) -> int:
    """Epoch milliseconds of `2026-03-10T12:00` (UTC)."""
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def at(epoch_ms: int) -> datetime:
    """The moment as a datetime."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=epoch_ms)


@dataclass
class StoreScene:
    """Pools per role over one database, and the readings that were put into it."""

    database: Database
    writer: Pool
    maintenance: Pool
    reader: Pool
    truth: dict[tuple[int, int, int], float] = field(default_factory=dict)
    tenants: dict[int, str] = field(default_factory=dict)
    _positions: dict[int, int] = field(default_factory=dict)

    @property
    def engine(self) -> Engine:
        return self.database.engine

    async def add_sensors(self, sensors: Mapping[int, str]) -> None:
        """Sensors by number, each `s<number>` of a tenant that is made if need be; 64 neighbours share a block."""
        for tenant in sorted(set(sensors.values())):
            await self.admin(
                "INSERT INTO weir.tenant (tenant_id, name) VALUES (%s, %s) ON CONFLICT DO NOTHING", tenant, tenant
            )
            await self.admin(
                "INSERT INTO weir.device (device_id, tenant_id, name) VALUES (%s, %s, 'd') ON CONFLICT DO NOTHING",
                f"dev-{tenant}",
                tenant,
            )
        self.tenants.update(sensors)
        for number, tenant in sensors.items():
            await self.admin(
                "INSERT INTO weir.sensor (sensor_no, sensor_id, tenant_id, device_id, name) OVERRIDING SYSTEM VALUE"
                " VALUES (%s, %s, %s, %s, %s)",
                number,
                f"s{number}",
                tenant,
                f"dev-{tenant}",
                f"n{number}",
            )

    async def admin(self, statement: LiteralString | sql.Composed, *parameters: object) -> list[tuple[Any, ...]]:
        """Rows of a statement run as superuser."""
        async with await psycopg.AsyncConnection.connect(self.database.admin_url, autocommit=True) as connection:
            await connection.execute("SET TIME ZONE 'UTC'")
            cursor = await connection.execute(statement, parameters or None)
            return await cursor.fetchall() if cursor.description else []

    async def close_hours_before(self, epoch_ms: int) -> None:
        """Pretend that no reading existed when the hours before this one were closed, as in a new database."""
        await self.admin("UPDATE weir.rollup_frontier SET frontier = %s", at(epoch_ms))
        await self.admin("UPDATE weir.rollup_settled SET settled = %s", at(epoch_ms))

    @asynccontextmanager
    async def batch(
        self, readings: Iterable[Reading], partition: int = 0, *, mark: bool = True
    ) -> AsyncIterator[BatchTransaction]:
        """An open transaction in which the readings are stored and marked (or not yet)."""
        rows = columns(readings)
        await PartitionKeeper(self.writer).ensure(rows.at_ms)
        expected = self._positions.get(partition, 0)
        if partition not in self._positions:
            await self.admin("INSERT INTO weir.stream_position VALUES ('readings', %s, 'id', 0)", partition)
        position = Position("readings", partition, "id", expected, expected + 1)
        async with batch_transaction(self.writer, position) as transaction:
            outcome = await transaction.insert_readings(rows, int(rows.at_ms.max()), np.zeros(len(rows), dtype=bool))
            changed = outcome.inserted | outcome.replaced
            if mark:
                await transaction.mark_dirty(rows.sensor_no[changed], rows.at_ms[changed])
            yield transaction
        self._positions[partition] = expected + 1
        for sensor_no, at_ms, seq, value in zip(
            rows.sensor_no.tolist(), rows.at_ms.tolist(), rows.seq.tolist(), rows.value.tolist(), strict=True
        ):
            key = (sensor_no, at_ms, seq)
            self.truth[key] = max(value, self.truth.get(key, value))

    async def write(self, *readings: Reading, partition: int = 0) -> None:
        """Store readings and commit."""
        async with self.batch(readings, partition):
            pass

    async def refresh_all(self) -> None:
        """Leave no marker behind."""
        report = await refresh(self.maintenance, self.engine, limit=100_000, settle_s=0)
        assert report.remaining == 0, report

    async def rollup(self, level: str) -> list[Bucket]:
        """Everything the operator's view of a level shows."""
        query = sql.SQL(
            "SELECT s.sensor_no, v.bucket_start, v.count, v.sum, v.min, v.max, v.first, v.last"
            " FROM public.{} v JOIN weir.sensor s USING (tenant_id, sensor_id) ORDER BY 1, 2"
        )
        return [_bucket(row) for row in await self.admin(query.format(sql.Identifier(f"readings_{level}")))]

    async def page(self, sensor_no: int, level: str, start: int, end: int, *, limit: int | None = None) -> list[Bucket]:
        """What the API reads of one sensor for its tenant."""
        async with tenant_transaction(self.reader, self.tenants[sensor_no]) as connection:
            cursor = await connection.execute(
                "SELECT %s::integer, r.* FROM weir_tenant.sensor_rollup(%s, %s, %s, %s, %s) r",
                (sensor_no, sensor_no, level, at(start), at(end), limit),
            )
            return [_bucket(row) for row in await cursor.fetchall()]

    async def markers(self) -> list[tuple[int, datetime]]:
        """Blocks and hours that are marked."""
        rows = await self.admin("SELECT block, hour FROM weir.rollup_dirty ORDER BY 1, 2")
        return [(row[0], row[1]) for row in rows]


def _bucket(row: tuple[Any, ...]) -> Bucket:
    sensor_no, start, count, total, least, greatest, first, last = row
    return sensor_no, start, count, total, least, greatest, first, last


def columns(readings: Iterable[Reading]) -> ReadingColumns:
    """Readings as the writer takes them: in key order, of equal identities the greatest value."""
    best: dict[tuple[int, int, int], float] = {}
    for sensor_no, at_ms, seq, value in readings:
        best[sensor_no, at_ms, seq] = max(value, best.get((sensor_no, at_ms, seq), value))
    keys = sorted(best)
    return ReadingColumns(
        np.array([key[0] for key in keys], dtype=np.int32),
        np.array([key[2] for key in keys], dtype=np.int32),
        np.array([key[1] for key in keys], dtype=np.int64),
        np.array([best[key] for key in keys], dtype=np.float64),
    )


def expected(truth: Mapping[tuple[int, int, int], float], level: str) -> list[Bucket]:
    """The roll-up of a level, computed by polars from all readings."""
    if not truth:
        return []
    frame = pl.DataFrame(
        [(*key, value) for key, value in sorted(truth.items())], schema=["sensor", "at", "seq", "value"], orient="row"
    ).with_columns((pl.col("at") // STEPS[level] * STEPS[level]).alias("start"))
    value = pl.col("value")
    rolled = (
        frame.group_by("sensor", "start", maintain_order=True)
        .agg(
            value.len().alias("count"),
            value.sum().alias("sum"),
            value.min().alias("min"),
            value.max().alias("max"),
            value.first().alias("first"),
            value.last().alias("last"),
        )
        .sort("sensor", "start")
    )
    return [_bucket((row[0], at(row[1]), *row[2:])) for row in rolled.iter_rows()]


def assert_same_buckets(found: Sequence[Bucket], wanted: Sequence[Bucket]) -> None:
    """Everything exactly equal, sums to 1e-9 relative to the magnitudes that were added."""
    assert [(*row[:3], *row[4:]) for row in found] == [(*row[:3], *row[4:]) for row in wanted]
    for one, other in zip(found, wanted, strict=True):
        scale = max(abs(one[4]), abs(one[5])) * one[2]
        assert abs(one[3] - other[3]) <= 1e-9 * scale, (one, other)


@asynccontextmanager
async def store_scene(database: Database) -> AsyncIterator[StoreScene]:
    """Pools open; on TimescaleDB only the owner may refresh continuous aggregates."""
    owner = database.engine is Engine.TIMESCALE
    async with (
        open_pool(database.writer_url, DatabaseRole.WRITER, size=6) as writer,
        open_pool(
            database.owner_url if owner else database.writer_url,
            DatabaseRole.OWNER if owner else DatabaseRole.WRITER,
            size=4,
        ) as maintenance,
        open_pool(database.reader_url, DatabaseRole.READER, size=2) as reader,
    ):
        yield StoreScene(database, writer, maintenance, reader)
