"""Scans in the store, as those who process and show them need it: documents, frames, results, exports, states.

Border: rows in the caller's transaction. What intake writes of frames is `sinks.timescale.scan_intake`; payloads are in
`sinks.objects`. Whatever changes a scan here writes its live row in the same transaction, as its last statement.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from core.postgres import Connection
from sinks.timescale.usage import JSON_HEADERS

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Scan:
    """A scan as its processing needs it.

    Args:
        all_arrived: True: every record before the end is there; False: ended by time-out; None: more may come.
        version: moves with whatever a result depends on.
    """

    scan_no: int
    scan_id: str
    tenant_id: str
    device_id: str | None
    name: str
    status: str
    priority: int
    end_frames: int | None
    all_arrived: bool | None
    version: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class FrameRow:
    """A record of a scan; its value is the object, of `size` bytes. `sha256` is the value's."""

    seq: int
    type: str
    captured_at: datetime | None
    size: int
    sha256: bytes
    object_key: str
    file_id: str | None


@dataclass(frozen=True, slots=True)
class FileRow:
    """A file of a scan, uploaded or sent in parts; it can be read once it is complete."""

    file_id: str
    name: str
    kind: str
    size: int | None
    sha256: bytes | None
    object_key: str | None
    complete: bool
    error: str | None


@dataclass(frozen=True, slots=True)
class Export:
    """A file made of a result, already in the object store; `sha256` is its 32 bytes."""

    format: str
    size: int
    sha256: bytes
    object_key: str


@dataclass(frozen=True, slots=True)
class FrameVerdict:
    """What processing made of a frame. Frames without a verdict count as accepted, with no points."""

    seq: int
    accepted: bool
    reason: str | None
    points: int


_SCAN: Final = """
SELECT scan_no, scan_id, tenant_id, device_id, name, status, priority, end_frames, all_arrived, version, created_at
FROM weir.scan WHERE scan_id = %s
"""
_FRAMES: Final = """
SELECT seq, type, captured_at, bytes, sha256, object_key, file_id FROM weir.scan_frame
WHERE scan_no = %s AND seq > %s AND NOT refused ORDER BY seq LIMIT %s
"""
_FILES: Final = """
SELECT file_id, name, kind, bytes, sha256, object_key, complete, error FROM weir.scan_file
WHERE scan_no = %s ORDER BY created_at, file_id
"""
_EXPORT: Final = """
SELECT e.format, e.bytes, e.sha256, e.object_key FROM weir.scan_export e JOIN weir.scan s USING (scan_no)
WHERE s.scan_id = %s AND e.format = %s
"""
_JUDGE: Final = """
WITH judged AS (SELECT * FROM unnest(%s::integer[], %s::text[], %s::text[], %s::bigint[]) AS q (seq, verdict, reason, points))
UPDATE weir.scan_frame f SET verdict = coalesce(j.verdict, 'accepted'), reason = j.reason, points = coalesce(j.points, 0)
FROM weir.scan_frame g LEFT JOIN judged j USING (seq)
WHERE g.scan_no = %s AND f.scan_no = g.scan_no AND f.seq = g.seq AND NOT f.refused
  AND (f.verdict, f.reason, f.points) IS DISTINCT FROM (coalesce(j.verdict, 'accepted'), j.reason, coalesce(j.points, 0))
"""
_JUDGE_FILES: Final = """
UPDATE weir.scan_file f SET points = coalesce(q.points, 0)
FROM weir.scan_file g LEFT JOIN unnest(%s::text[], %s::bigint[]) AS q (file_id, points) USING (file_id)
WHERE g.scan_no = %s AND f.scan_no = g.scan_no AND f.file_id = g.file_id
"""
_KEEP_RESULT: Final = """
INSERT INTO weir.scan_result (scan_no, tenant_id, version, document, provisional)
SELECT %s, %s, coalesce(max(version), 0) + 1, %s::jsonb, %s FROM weir.scan_result WHERE scan_no = %s
"""
_KEEP_EXPORT: Final = """
INSERT INTO weir.scan_export AS e (scan_no, tenant_id, format, bytes, sha256, object_key) VALUES (%s, %s, %s, %s, %s, %s)
ON CONFLICT (scan_no, format) DO UPDATE SET (bytes, sha256, object_key, created_at) =
    (EXCLUDED.bytes, EXCLUDED.sha256, EXCLUDED.object_key, now())
"""
_COMPLETE: Final = """
UPDATE weir.scan AS s SET status = CASE WHEN all_arrived THEN 'completed' ELSE 'incomplete' END, progress = 100, error = NULL,
    completed_at = now(), rejected = (SELECT count(*) FROM weir.scan_frame f
        WHERE f.scan_no = s.scan_no AND f.verdict = 'rejected' AND f.type <> 'end')
WHERE scan_no = %s
"""


async def scan_document(connection: Connection, scan_id: str) -> Document | None:
    """The scan as `GET /v1/scans/{id}` shows it; None: there is none, or it is another tenant's.

    Args:
        connection: of the writer role, or inside a `core.postgres.tenant_transaction`.
        scan_id: as its device or the API named it.
    """
    row = await (await connection.execute("SELECT scan_by_id(%s)", (scan_id,))).fetchone()
    return None if row is None else row[0]


@dataclass(frozen=True, slots=True)
class ScanFilter:
    """Which scans a list shows; everything given must hold. start ≤ created_at < end."""

    statuses: Sequence[str] | None = None
    device_id: str | None = None
    start: datetime | None = None
    end: datetime | None = None


After = tuple[datetime, int]
"""created_at and scan_no of the last scan shown."""


async def list_scans(
    connection: Connection, which: ScanFilter, after: After | None, limit: int
) -> list[tuple[datetime, int, Document]]:
    """The current tenant's scans, newest first: created_at, scan_no, document."""
    statuses = None if which.statuses is None else list(which.statuses)
    cursor = await connection.execute(
        "SELECT created_at, scan_no, document FROM weir_tenant.scan_page(%s, %s, %s, %s, %s, %s, %s)",
        (statuses, which.device_id, which.start, which.end, *(after or (None, None)), limit),
    )
    return [(at, number, document) for at, number, document in await cursor.fetchall()]


async def find_scan(connection: Connection, scan_id: str) -> Scan | None:
    """The scan for who processes it (writer role)."""
    row = await (await connection.execute(_SCAN, (scan_id,))).fetchone()
    return None if row is None else Scan(*row)


async def frames_of(
    connection: Connection, scan_no: int, after_seq: int = -1, limit: int | None = None
) -> list[FrameRow]:
    """A scan's records with a greater `seq`, in their order, `end` included, refused ones not (writer role)."""
    return [FrameRow(*row) for row in await (await connection.execute(_FRAMES, (scan_no, after_seq, limit))).fetchall()]


async def files_of(connection: Connection, scan_no: int) -> list[FileRow]:
    """A scan's files (writer role, or inside a tenant's transaction)."""
    return [FileRow(*row) for row in await (await connection.execute(_FILES, (scan_no,))).fetchall()]


async def find_export(connection: Connection, scan_id: str, format: str) -> Export | None:
    """An export that was made of a scan (writer role, or inside a tenant's transaction)."""
    row = await (await connection.execute(_EXPORT, (scan_id, format))).fetchone()
    return None if row is None else Export(*row)


async def enqueue(connection: Connection, scan_no: int, task: Literal["scans.preview", "scans.process"]) -> None:
    """Have a job look at the scan; of each kind at most one waits (writer role)."""
    await connection.execute("SELECT weir.enqueue_scan_job(%s, %s)", (scan_no, task))


async def tell(connection: Connection, scan_nos: Sequence[int]) -> None:
    """Write the scans' live rows as they are now; the last statement of a transaction (writer role)."""
    await connection.execute("SELECT weir.tell_scan(%s)", (list(scan_nos),))


async def set_status(
    connection: Connection,
    scan_no: int,
    status: Literal["processing", "failed"],
    *,
    progress: int = 0,
    error: str | None = None,
) -> bool:
    """Say how far the processing of a queued scan is, or that it failed; tells viewers.

    Returns:
        False, and nothing is changed, when the scan is not to be processed (any more): it was cancelled, more of it came,
        or its result is there. Whoever processes it stops then.
    """
    cursor = await connection.execute(
        "UPDATE weir.scan SET status = %s, progress = %s, error = %s WHERE scan_no = %s AND status IN ('queued', 'processing')",
        (status, progress, error, scan_no),
    )
    if cursor.rowcount:
        await tell(connection, [scan_no])
    return bool(cursor.rowcount)


async def store_result(
    connection: Connection,
    scan: Scan,
    document: Mapping[str, Any],
    *,
    provisional: bool,
    usage_topic: str,
    exports: Sequence[Export] = (),
    verdicts: Sequence[FrameVerdict] = (),
    file_points: Mapping[str, int] | None = None,
) -> bool:
    """Keep a result; a final one completes the scan, judges its frames and is metered, all in the caller's transaction.

    Args:
        connection: of the writer role, inside a transaction.
        scan: as it was found before its frames were read. If more came since, the result is kept as a provisional one:
            a job for the whole scan waits already.
        document: the measured part of the scan's document.
        provisional: it shows while the scan goes on; nothing is judged or metered.
        usage_topic: where changed usage is published.
        exports: files in the object store; one of a format replaces the one before.
        verdicts: of the frames.
        file_points: points taken from files, by file id.

    Returns:
        Whether the result stands as it was given: False if the scan was cancelled (nothing is kept then), or if a final
        result is only provisional by now.
    """
    cursor = await connection.execute(
        "SELECT status, version FROM weir.scan WHERE scan_no = %s FOR NO KEY UPDATE", (scan.scan_no,)
    )
    row = await cursor.fetchone()
    if row is None or row[0] == "cancelled" or (provisional and row[0] in ("completed", "incomplete")):
        return False
    is_final = not provisional and row[1] == scan.version
    await _keep(connection, scan, document, exports, is_provisional=not is_final)
    if is_final:
        await _judge(connection, scan.scan_no, verdicts, file_points or {})
        await connection.execute(_COMPLETE, (scan.scan_no,))
        await connection.execute("SELECT weir.meter_scan(%s, %s, %s::jsonb)", (scan.scan_no, usage_topic, JSON_HEADERS))
    await tell(connection, [scan.scan_no])
    return is_final or provisional


async def _keep(
    connection: Connection, scan: Scan, document: Mapping[str, Any], exports: Sequence[Export], *, is_provisional: bool
) -> None:
    await connection.execute("DELETE FROM weir.scan_result WHERE scan_no = %s AND provisional", (scan.scan_no,))
    text = json.dumps(document, allow_nan=False)
    await connection.execute(_KEEP_RESULT, (scan.scan_no, scan.tenant_id, text, is_provisional, scan.scan_no))
    for export in exports:
        place = (scan.scan_no, scan.tenant_id)
        await connection.execute(_KEEP_EXPORT, (*place, export.format, export.size, export.sha256, export.object_key))


async def _judge(
    connection: Connection, scan_no: int, verdicts: Sequence[FrameVerdict], file_points: Mapping[str, int]
) -> None:
    columns = (
        [one.seq for one in verdicts],
        ["accepted" if one.accepted else "rejected" for one in verdicts],
        [one.reason for one in verdicts],
        [one.points if one.accepted else 0 for one in verdicts],
    )
    await connection.execute(_JUDGE, (*columns, scan_no))
    await connection.execute(_JUDGE_FILES, (list(file_points), list(file_points.values()), scan_no))
