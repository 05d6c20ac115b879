"""The readings pipeline with its meters on a real database, fed by signed records without a broker."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from accounts.provisioning import DeviceCredentials
from core.clock import SystemClock
from core.postgres import DatabaseRole, Pool, open_pool
from schemas.readings import encode_record
from sinks.dead_letters import Throttle
from sinks.timescale.catalog import Catalog
from sinks.timescale.partitions import PartitionKeeper
from streams.batches import RecordBatch
from streams.metering import MeterReadings
from streams.readings import BatchReport, ReadingsPipeline
from tests.integration.publishing import signed_headers
from tests.integration.servers import VAULT, Database
from tests.integration.store_scene import at

USAGE_TOPIC = "t-usage"
Reading = tuple[str, int, float]  # sensor, at in epoch ms, value


@dataclass
class FetchedRecord:
    """A record as the transport hands it over."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    timestamp: int = 0


@dataclass
class MeteringScene:
    """A pipeline that commits at once what it is given."""

    database: Database
    pool: Pool
    pipeline: ReadingsPipeline
    _positions: dict[int, int] = field(default_factory=dict)
    # A log of the scene's own: a database may see several scenes.
    _topic: str = field(default_factory=lambda: f"readings-{secrets.token_hex(4)}")

    async def publish(self, device: DeviceCredentials, readings: Iterable[Reading], partition: int = 0) -> BatchReport:
        """One batch of one record."""
        value = encode_record([(sensor, at_ms, number, 0) for sensor, at_ms, number in readings])
        if partition not in self._positions:
            self._positions[partition] = 0
            statement = "INSERT INTO weir.stream_position VALUES (%s, %s, 'id', 0)"
            self.database.query(statement, self._topic, partition)
        offset = self._positions[partition]
        record = FetchedRecord(offset, device.device_id.encode(), value, signed_headers(device, value))
        report = await self.pipeline.process(RecordBatch(self._topic, partition, "id", offset, [record]))
        self._positions[partition] = offset + 1
        return report

    def usage(self, meter: str) -> dict[datetime, tuple[int, int]]:
        """Quantity and revision by hour, of all tenants; hours to come included."""
        statement = "SELECT bucket_start, quantity, revision FROM weir.usage WHERE meter = %s ORDER BY 1"
        return {row[0]: (row[1], row[2]) for row in self.database.query(statement, meter)}

    def quantities(self, meter: str) -> dict[datetime, int]:
        """Quantity by hour."""
        return {hour: quantity for hour, (quantity, _) in self.usage(meter).items()}


def hours(first_ms: int, *quantities: int) -> dict[datetime, int]:
    """These quantities, hour after hour; zeros are absent."""
    return {at(first_ms + n * 3_600_000): quantity for n, quantity in enumerate(quantities) if quantity}


@asynccontextmanager
async def metering_scene(database: Database) -> AsyncIterator[MeteringScene]:
    """Pool open, nothing published yet."""
    async with open_pool(database.writer_url, DatabaseRole.WRITER) as pool:
        yield MeteringScene(database, pool, metered_pipeline(pool))


def metered_pipeline(pool: Pool) -> ReadingsPipeline:
    """As a worker makes it, without rules."""
    return ReadingsPipeline(
        pool=pool,
        catalog=Catalog(pool, VAULT, SystemClock()),
        partitions=PartitionKeeper(pool),
        throttle=Throttle(1000, 100, 1000),
        clock=SystemClock(),
        dead_letter_topic="t-dead-letters",
        max_sensors_per_device=10_000,
        effects=(MeterReadings(USAGE_TOPIC),),
    )


def run_scene(database: Database, act: Callable[[MeteringScene], Coroutine[Any, Any, None]]) -> None:
    """Open a scene and act in it."""

    async def go() -> None:
        async with metering_scene(database) as scene:
            await act(scene)

    asyncio.run(go())
