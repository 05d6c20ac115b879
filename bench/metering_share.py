"""Metering's share of ingest: what the CPU does for a batch with metering, and for the same batch without.

The pipeline is fed without a broker; both kinds of batch take turns, each with a connection of its own. CPU, not time: the
worker's and its backend's; what the machine does beside, vacuuming and writing out count for neither.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from statistics import median

import psycopg

from accounts import provisioning
from accounts.provisioning import DeviceCredentials
from core.clock import SystemClock
from core.postgres import DatabaseRole, open_pool
from core.secrets import Vault
from schemas.readings import encode_record
from schemas.signing import HEADER_DEVICE, HEADER_SIGNATURE, sign
from schemas.usage import HOUR_MS
from sinks.dead_letters import Throttle
from sinks.timescale.catalog import Catalog
from sinks.timescale.partitions import PartitionKeeper
from sinks.timescale.writer import BatchTransaction
from streams.batches import RecordBatch
from streams.metering import MeterReadings
from streams.readings import Effect, ReadingsPipeline, Stored

_SECRET = "bench" * 8
# As many as a worker takes into one transaction where nothing is set.
_BATCH = 20_000
# These register sensors, begin an hour, prepare statements and fill caches.
_WARM = 8
# All of a run's readings lie within one hour, as those of nearly every batch of a live stream do.
_STEP_MS = 10


@dataclass
class _Record:
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    timestamp: int = 0


@dataclass(frozen=True)
class _Cpu:
    """Seconds of CPU that a batch took."""

    worker: float
    database: float


class _Timed:
    """Metering, with a clock of CPU around it: what it executes travels later, so it waits for nothing here."""

    def __init__(self) -> None:
        self._inner = MeterReadings("bench-usage")
        self.seconds = 0.0

    async def apply(self, transaction: BatchTransaction, stored: Stored) -> None:
        started = time.process_time()
        await self._inner.apply(transaction, stored)
        self.seconds = time.process_time() - started


@dataclass
class _Side:
    """A pipeline with a backend of its own."""

    pipeline: ReadingsPipeline
    backend_pid: int
    topic: str
    devices: list[DeviceCredentials]
    start_ms: int

    async def process(self, number: int) -> _Cpu:
        """Commit the batch of this number."""
        batch = _batch(self.topic, self.devices, number * _BATCH, self.start_ms)
        worker, database = time.process_time(), _cpu_of(self.backend_pid)
        await self.pipeline.process(batch)
        return _Cpu(time.process_time() - worker, _cpu_of(self.backend_pid) - database)


def _cpu_of(pid: int) -> float:
    """Seconds of CPU that a process took so far: Linux names the clock of each by its number."""
    return time.clock_gettime(~pid << 3 | 2)


async def _devices(url: str, count: int) -> list[DeviceCredentials]:
    """One tenant each."""
    vault = Vault.from_secret(_SECRET)
    connection = await psycopg.AsyncConnection.connect(url, autocommit=True)
    async with connection, connection.transaction():
        made = []
        for number in range(count):
            tenant_id = await provisioning.create_tenant(connection, f"tenant {number}")
            made.append(await provisioning.create_device(connection, vault, tenant_id, f"device {number}"))
    return made


def _batch(topic: str, devices: list[DeviceCredentials], first: int, start_ms: int) -> RecordBatch:
    """One-reading messages, round robin over the devices."""
    records = []
    for number in range(first, first + _BATCH):
        device = devices[number % len(devices)]
        value = encode_record([("air", start_ms + number // len(devices) * _STEP_MS, 4.0, 0)])
        key = device.device_id.encode()
        headers = [(HEADER_DEVICE, key), (HEADER_SIGNATURE, sign(device.secret, key, value).encode())]
        records.append(_Record(number, key, value, headers))
    return RecordBatch(topic, 0, "id", first, records)


async def _side(stack: AsyncExitStack, url: str, tenants: int, topic: str, effects: Sequence[Effect]) -> _Side:
    pool = await stack.enter_async_context(open_pool(url, DatabaseRole.WRITER, size=1))
    async with pool.connection() as connection:
        await connection.execute("INSERT INTO weir.stream_position VALUES (%s, 0, 'id', 0)", (topic,))
        backend_pid = connection.info.backend_pid
    catalog = Catalog(pool, Vault.from_secret(_SECRET), SystemClock())
    pipeline = ReadingsPipeline(
        pool=pool, catalog=catalog, partitions=PartitionKeeper(pool), throttle=Throttle(1000, 100, 1000),
        clock=SystemClock(), dead_letter_topic="bench-dead", max_sensors_per_device=10, effects=effects,
    )  # fmt: skip
    start_ms = (int(time.time() * 1000) // HOUR_MS - 1) * HOUR_MS
    return _Side(pipeline, backend_pid, topic, await _devices(url, tenants), start_ms)


async def measure(url: str, tenants: int, batches: int) -> dict[str, object]:
    """Microseconds of CPU a reading, and what of it is metering: medians over batches.

    The worker's part is what passes while it meters: garbage is collected when it pleases, so a difference would tell little.
    The database's part is what a batch costs more than the same without.
    """
    async with AsyncExitStack() as stack:
        timed = _Timed()
        metered = await _side(stack, url, tenants, f"metered-{tenants}", (timed,))
        plain = await _side(stack, url, tenants, f"plain-{tenants}", ())
        with_metering, without, metering_worker = [], [], []
        for number in range(_WARM + batches):
            with_metering.append(await metered.process(number))
            metering_worker.append(timed.seconds)
            without.append(await plain.process(number))
    pairs = list(zip(with_metering, without, strict=True))[_WARM:]
    worker = median(one.worker for one, _ in pairs)
    database = median(one.database for one, _ in pairs)
    in_worker = median(metering_worker[_WARM:])
    in_database = median(one.database - other.database for one, other in pairs)
    return {
        "measure": "share",
        "tenants_a_batch": tenants,
        "worker_us_per_reading": _us(worker),
        "database_us_per_reading": _us(database),
        "metering_worker_us": _us(in_worker),
        "metering_database_us": _us(in_database),
        "metering_share": round((in_worker + in_database) / (worker + database), 3),
    }


def _us(seconds: float) -> float:
    return round(seconds / _BATCH * 1e6, 3)
