"""Scans to process: synthetic rooms as intake leaves them, in the object store and the index; what became of them.

Also computations that go wrong on purpose: `preview` and `process` of this module stand in for those of
`jobs.scans.computation` and act by a marker file beside the objects. And a worker process with them:
`python -m tests.integration.scan_job_scene DATABASE_URL`.
"""

from __future__ import annotations

import asyncio
import ctypes
import functools
import hashlib
import json
import os
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from core.postgres import DatabaseRole, open_pool, tenant_transaction
from jobs.scans import computation, tasks
from jobs.tasks import TASKS
from jobs.worker import JobWorker
from ops.simulator.rooms.camera import walk
from ops.simulator.rooms.shapes import Shape, make_room
from schemas.scan_frames import DepthFrame, EndFrame, ScanFrame, encode_scan_frame, frame_type
from sinks.objects import content_key, open_directory, scan_prefix
from tests.integration.job_scene import QUICK
from tests.integration.servers import Database

Document = dict[str, Any]
_EPOCH_MS = 1_700_000_000_000


@functools.cache
def room(frames: int = 60, shrink: int = 2, seed: int = 1) -> tuple[ScanFrame, ...]:
    """A box of about 4.56 x 4.22 x 2.76 m, seen in low resolution; the last record is the end."""
    seen: list[ScanFrame] = [
        DepthFrame(
            seq=seq,
            captured_at=_EPOCH_MS + frame.captured_at_ms % 1_000_000,
            width=frame.camera.width,
            height=frame.camera.height,
            fx=frame.camera.focal_px,
            fy=frame.camera.focal_px,
            cx=(frame.camera.width - 1) / 2,
            cy=(frame.camera.height - 1) / 2,
            depth=frame.depth_mm.astype("<u2").tobytes(),
            depth_encoding="raw16",
            pose=tuple(float(number) for number in frame.pose),  # type: ignore[arg-type] # seven of them
        )
        for seq, frame in enumerate(walk(make_room(Shape.BOX, seed), seed, frames=frames, shrink=shrink))
    ]
    return (*seen, EndFrame(seq=len(seen), frames=len(seen)))


@dataclass(frozen=True)
class Scans:
    """Scans of a database, their objects in a folder."""

    database: Database
    objects: Path

    def make(self, scan_id: str, tenant_id: str, *, priority: int = 0) -> int:
        """A scan without records; its number."""
        rows = self.database.query(
            "INSERT INTO weir.scan (scan_id, tenant_id, priority, name) VALUES (%s, %s, %s, 'room') RETURNING scan_no",
            *(scan_id, tenant_id, priority),
        )
        return int(rows[0][0])

    def add(self, scan_id: str, frames: Sequence[ScanFrame], *, seed: int | None = None) -> None:
        """Records as they come, shuffled if there is a seed; then the scan is settled, as after each batch."""
        number, tenant_id = self.database.query("SELECT scan_no, tenant_id FROM weir.scan WHERE scan_id = %s", scan_id)[
            0
        ]
        order = list(frames)
        if seed is not None:
            random.Random(seed).shuffle(order)
        values = [encode_scan_frame(frame) for frame in order]
        keys = self._keep(f"{scan_prefix(tenant_id, scan_id)}/frames", values)
        rows = [
            (frame.seq, frame_type(frame), frame.captured_at, len(value), hashlib.sha256(value).hexdigest(), key)
            for frame, value, key in zip(order, values, keys, strict=True)
        ]
        self.database.query(
            "INSERT INTO weir.scan_frame (scan_no, seq, type, captured_at, bytes, sha256, object_key, received_at)"
            " SELECT %s, (r ->> 0)::int, r ->> 1, to_timestamp((r ->> 2)::float8 / 1000), (r ->> 3)::int,"
            " decode(r ->> 4, 'hex'), r ->> 5, now() FROM jsonb_array_elements(%s::jsonb) r",
            *(number, json.dumps(rows)),
        )
        ends = [frame.frames for frame in order if isinstance(frame, EndFrame)]
        self.database.query(
            "UPDATE weir.scan s SET received = q.n, highest_seq = q.m, end_frames = coalesce(%s, s.end_frames) FROM (SELECT"
            " count(*) FILTER (WHERE type <> 'end') AS n, coalesce(max(seq) FILTER (WHERE type <> 'end'), -1) AS m"
            " FROM weir.scan_frame WHERE scan_no = %s) q WHERE scan_no = %s",
            *(ends[0] if ends else None, number, number),
        )
        self.database.query("SELECT weir.settle_scan(%s)", number)

    def document(self, scan_id: str) -> Document:
        """As the API shows it."""
        found: Document = self.database.query("SELECT weir.scan_by_id(%s)", scan_id)[0][0]
        return found

    def status(self, scan_id: str) -> str:
        return str(self.database.query("SELECT status FROM weir.scan WHERE scan_id = %s", scan_id)[0][0])

    def exports(self, scan_id: str) -> dict[str, str]:
        """SHA-256 by format; each is in the folder and is what its row says."""
        rows = self.database.query(
            "SELECT e.format, encode(e.sha256, 'hex'), e.object_key, e.bytes FROM weir.scan_export e"
            " JOIN weir.scan s USING (scan_no) WHERE s.scan_id = %s ORDER BY 1",
            scan_id,
        )
        for _, sha256, key, size in rows:
            data = (self.objects / key).read_bytes()
            assert (hashlib.sha256(data).hexdigest(), len(data)) == (sha256, size)
        return {str(name): str(sha256) for name, sha256, *_ in rows}

    def as_tenant(self, tenant_id: str, call: str, *values: object) -> Any:
        """What a function of the API answers."""

        async def go() -> Any:
            pool = open_pool(self.database.reader_url, DatabaseRole.READER, size=1)
            async with pool, tenant_transaction(pool, tenant_id) as connection:
                row = await (await connection.execute(f"SELECT {call}".encode(), values)).fetchone()
            return row and row[0]

        return asyncio.run(go())

    def _keep(self, prefix: str, values: Sequence[bytes]) -> list[str]:
        async def go() -> list[str]:
            store = open_directory(self.objects)
            keys = [content_key(prefix, value) for value in values]
            for key, value in zip(keys, values, strict=True):
                await store.put(key, value)
            return keys

        return asyncio.run(go())


def measured(document: Document) -> Document:
    """What does not depend on when and under which name a scan was processed."""
    kept = {name: value for name, value in document.items() if not name.endswith(("_at", "_id")) and name != "name"}
    return kept | {"processing": kept["processing"] and kept["processing"]["version"]}


def preview(request: Document, tell: Callable[[float], None]) -> Document:
    """As the real one."""
    return computation.preview(request, tell)


def process(request: Document, tell: Callable[[float], None]) -> Document:
    """Goes wrong as the marker says: a file beside the objects, named as the number of records."""
    folder = Path(request["store"]["objects_url"]).parent / "mishaps"
    marker = folder / str(len(request["records"]))
    how = marker.read_text(encoding="ascii") if marker.exists() else ""
    if how == "hold":
        marker.with_suffix(".pid").write_text(str(os.getpid()), encoding="ascii")
    while how == "hold" and marker.exists():
        tell(0.3)
    if how == "crash":
        ctypes.string_at(0)
    if how == "crash in the mesh":
        vars(computation)["build_mesh"] = lambda *_: ctypes.string_at(0)
    kept = []
    while how in ("loop", "hoard"):
        tell(0.3)
        if how == "hoard":
            kept.append(b"x" * (16 << 20))
    return computation.process(request, tell)


class Crashing:
    """A recognizer that takes its process down."""

    def recognize(self, *_: object) -> list[None]:
        ctypes.string_at(0)
        return []


if __name__ == "__main__":
    tasks._COMPUTATION = "tests.integration.scan_job_scene"
    asyncio.run(JobWorker(replace(QUICK, url=sys.argv[1]), TASKS, ()).run(asyncio.Event()))
