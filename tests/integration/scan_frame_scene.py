"""The scan-frames pipeline on a real database and a directory of objects, fed by signed records without a broker."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accounts.provisioning import DeviceCredentials
from core.clock import SystemClock
from core.postgres import DatabaseRole, Pool, open_pool
from sinks.dead_letters import Throttle
from sinks.objects import ObjectStore, open_directory
from sinks.timescale.catalog import Catalog
from streams.batches import RecordBatch
from streams.scan_frames import ScanBatchReport, ScanFramesPipeline
from tests.integration.metering_scene import FetchedRecord
from tests.integration.publishing import signed_headers
from tests.integration.servers import VAULT, Database, Tenant, create_tenant
from tests.unit.processors.scans.scan_records import depth, record

Sent = tuple[DeviceCredentials, str, bytes]  # device, scan id, value


def frame(seq: int, millimetres: int = 2000, **changes: Any) -> bytes:
    """A depth frame of four pixels as a record's value."""
    return record(depth([[millimetres, millimetres], [0, 0]], seq=seq, **changes))


def end(frames: int) -> bytes:
    return record({"type": "end", "seq": frames, "frames": frames})


def piece(seq: int, data: bytes, index: int, pieces: Iterable[bytes], **changes: Any) -> bytes:
    """One of the pieces that make a file."""
    whole = list(pieces)
    fields = {
        "type": "part", "seq": seq, "file_id": "cloud", "index": index, "total": len(whole), "data": data,
        "sha256": hashlib.sha256(b"".join(whole)).hexdigest(), "name": "room.ply",
    }  # fmt: skip
    return record({**fields, **changes})


@dataclass
class ScanScene:
    """A pipeline that commits at once what it is given."""

    database: Database
    pool: Pool
    objects: ObjectStore
    pipeline: ScanFramesPipeline
    tenant: Tenant
    other: Tenant
    _positions: dict[int, int] = field(default_factory=dict)
    _topic: str = field(default_factory=lambda: f"scan-frames-{secrets.token_hex(4)}")

    @property
    def device(self) -> DeviceCredentials:
        return self.tenant.devices[0]

    async def send(self, *records: Sent, partition: int = 0, **headers: str) -> ScanBatchReport:
        """One batch of these records."""
        if partition not in self._positions:
            self._positions[partition] = 0
            self.database.query("INSERT INTO weir.stream_position VALUES (%s, %s, 'id', 0)", self._topic, partition)
        start = self._positions[partition]
        more = [(name.replace("_", "-"), value.encode()) for name, value in headers.items()]
        fetched = [
            FetchedRecord(start + n, scan_id.encode(), value, [*signed_headers(device, value, scan_id.encode()), *more])
            for n, (device, scan_id, value) in enumerate(records)
        ]
        report = await self.pipeline.process(RecordBatch(self._topic, partition, "id", start, fetched))
        self._positions[partition] = start + len(fetched)
        return report

    async def scan(self, scan_id: str, *values: bytes) -> ScanBatchReport:
        """One batch of the first device."""
        return await self.send(*((self.device, scan_id, value) for value in values))

    def document(self, scan_id: str) -> dict[str, Any]:
        rows = self.database.query("SELECT weir.scan_by_id(%s)", scan_id)
        return rows[0][0] or {}

    def letters(self) -> list[tuple[str, str | None]]:
        """Reason and tenant of the dead letters."""
        return self.database.query("SELECT reason, tenant_id FROM dead_letters ORDER BY dead_letter_id")

    def index(self) -> list[tuple[Any, ...]]:
        """All of the frame index that does not depend on when its records came."""
        return self.database.query(
            "SELECT scan_id, seq, type, captured_at, pose, bytes, sha256, object_key, file_id, refused, verdict, reason"
            " FROM scan_frames ORDER BY 1, 2"
        )

    def jobs(self, scan_id: str) -> list[str]:
        rows = self.database.query(
            "SELECT task_name FROM weir_jobs.procrastinate_jobs WHERE args ->> 'scan_id' = %s ORDER BY id", scan_id
        )
        return [task for (task,) in rows]


def run_scan_scene(database: Database, where: Path | ObjectStore, act: Callable[[ScanScene], Awaitable[None]]) -> None:
    """Run a test on a tenant with two devices and another tenant with one; objects go into a folder or a store."""

    async def go() -> None:
        tenant, other = await create_tenant(database, devices=2), await create_tenant(database, name="other")
        async with open_pool(database.writer_url, DatabaseRole.WRITER, size=4) as pool:
            objects = open_directory(where) if isinstance(where, Path) else where
            pipeline = ScanFramesPipeline(
                pool=pool,
                catalog=Catalog(pool, VAULT, SystemClock()),
                open_objects=lambda: objects,
                throttle=Throttle(1000, 100, 1000),
                clock=SystemClock(),
                dead_letter_topic="t-dead-letters",
            )
            await act(ScanScene(database, pool, objects, pipeline, tenant, other))

    asyncio.run(go())
