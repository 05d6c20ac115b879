"""What intake writes of scans: whose scan it is, the index of its records, conflicts, counters, and how the scan goes on.

Border: rows in the batch's transaction; payloads are in the object store before it begins. Lock order: position, scans by
number, frames, conflicts; usage is not touched here, live heads come last.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from core.postgres import Connection


@dataclass(frozen=True, slots=True)
class ScanClaim:
    """Who says that a scan is its own."""

    scan_id: str
    tenant_id: str
    device_id: str


@dataclass(frozen=True, slots=True)
class KnownScan:
    """A scan that exists; `device_id` is None as long as no frame came."""

    scan_no: int
    tenant_id: str
    device_id: str | None
    status: str
    told_at: datetime | None

    def belongs_to(self, claim: ScanClaim) -> bool:
        """Whether the claim holds."""
        return self.tenant_id == claim.tenant_id and self.device_id in (None, claim.device_id)


@dataclass(frozen=True, slots=True)
class StoredFrame:
    """A record of a scan as the index has it; `rank` decides between records with one `seq`."""

    scan_no: int
    seq: int
    type: str
    size: int
    sha256: bytes
    object_key: str
    received_at: datetime
    captured_at: datetime | None = None
    pose: tuple[float, ...] | None = None
    file_id: str | None = None
    part_index: int | None = None
    part_total: int | None = None
    file_sha256: bytes | None = None
    # Why it was refused; such a record has no object.
    refusal: str | None = None

    @property
    def key(self) -> tuple[int, int]:
        """Its identity."""
        return self.scan_no, self.seq

    @property
    def rank(self) -> tuple[bool, bytes]:
        """The greatest of several records with one `seq` is the frame: a good one, then by hash, whatever came first."""
        return self.refusal is None, self.sha256


@dataclass(frozen=True, slots=True)
class IndexChange:
    """What the index gains from records: new frames, frames that take the place of stored ones, and those that lost."""

    added: Sequence[StoredFrame]
    replacing: Sequence[StoredFrame]
    lost: Sequence[StoredFrame]
    duplicates: int

    @property
    def scans(self) -> list[int]:
        """The scans whose frames change, in order."""
        return sorted({frame.scan_no for frame in (*self.added, *self.replacing)})


_FIND: Final = """
SELECT scan_id, scan_no, tenant_id, device_id, status, NULLIF(told_at, '-infinity') FROM weir.scan
WHERE scan_id = ANY (%s) ORDER BY scan_no
"""
_MAKE: Final = """
INSERT INTO weir.scan (scan_id, tenant_id, device_id) SELECT * FROM unnest(%s::text[], %s::text[], %s::text[])
ON CONFLICT (scan_id) DO NOTHING
"""
_TAKE: Final = """
UPDATE weir.scan s SET device_id = q.device_id FROM unnest(%s::bigint[], %s::text[]) AS q (scan_no, device_id)
WHERE s.scan_no = q.scan_no AND s.device_id IS NULL
"""
_STORED: Final = """
SELECT f.scan_no, f.seq, f.type, f.bytes, f.sha256, f.object_key, f.received_at, CASE WHEN f.refused THEN f.reason END
FROM unnest(%s::bigint[], %s::integer[]) AS q (scan_no, seq) JOIN weir.scan_frame f USING (scan_no, seq)
"""
_ADD: Final = """
INSERT INTO weir.scan_frame (scan_no, seq, type, bytes, sha256, object_key, received_at, captured_at, pose, file_id, part_index,
    part_total, file_sha256, refused, verdict, reason)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
"""
# The verdict stays that of the bytes before until a result judges the new ones: usage goes by it.
_REPLACE: Final = """
UPDATE weir.scan_frame SET (type, bytes, sha256, object_key, received_at, captured_at, pose, file_id, part_index, part_total,
    file_sha256, refused) = (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s),
    verdict = coalesce(%s, CASE WHEN NOT refused THEN verdict END), reason = coalesce(%s, CASE WHEN NOT refused THEN reason END)
WHERE scan_no = %s AND seq = %s
"""
_LOSE: Final = """
INSERT INTO weir.scan_conflict (scan_no, seq, sha256, type, bytes, object_key, received_at)
VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING
"""
_COUNT: Final = """
UPDATE weir.scan s SET received = q.received, highest_seq = q.highest_seq, rejected = q.rejected, types = q.types,
    end_frames = coalesce(q.end_frames, s.end_frames), last_frame_at = %s
FROM (SELECT f.scan_no, sum(f.n) FILTER (WHERE f.type <> 'end') AS received, max(f.highest) AS highest_seq,
             coalesce(sum(f.rejected) FILTER (WHERE f.type <> 'end'), 0) AS rejected,
             coalesce(jsonb_object_agg(f.type, f.n) FILTER (WHERE f.type <> 'end'), '{}') AS types,
             max(f.highest) FILTER (WHERE f.type = 'end') AS end_frames
      FROM (SELECT scan_no, type, count(*) AS n, max(seq) AS highest, count(*) FILTER (WHERE verdict = 'rejected') AS rejected
            FROM weir.scan_frame WHERE scan_no = ANY (%s) GROUP BY 1, 2) f
      GROUP BY 1) q
WHERE s.scan_no = q.scan_no
"""
_GROW: Final = """
UPDATE weir.scan s SET received = s.received + q.received, highest_seq = greatest(s.highest_seq, q.highest_seq),
    rejected = s.rejected + q.rejected, last_frame_at = %s,
    end_frames = CASE WHEN q.end_frames IS NULL THEN s.end_frames ELSE
        (SELECT max(f.seq) FROM weir.scan_frame f WHERE f.scan_no = s.scan_no AND f.type = 'end') END,
    types = s.types || (SELECT coalesce(jsonb_object_agg(t.key, t.value::bigint + coalesce((s.types ->> t.key)::bigint, 0)), '{}')
                        FROM jsonb_each_text(q.types) t)
FROM unnest(%s::bigint[], %s::integer[], %s::integer[], %s::integer[], %s::integer[], %s::jsonb[])
    AS q (scan_no, received, highest_seq, rejected, end_frames, types)
WHERE s.scan_no = q.scan_no
"""


async def find_scans(connection: Connection, scan_ids: Iterable[str], *, lock: bool = False) -> dict[str, KnownScan]:
    """The scans that exist among these, by id; locked until the transaction ends if asked for."""
    cursor = await connection.execute(f"{_FIND}{'FOR NO KEY UPDATE' if lock else ''}".encode(), (sorted(scan_ids),))
    return {row[0]: KnownScan(*row[1:]) for row in await cursor.fetchall()}


async def claim_scans(connection: Connection, claims: Mapping[str, ScanClaim]) -> dict[str, KnownScan]:
    """Make the scans that do not exist, and lock all of them; which of the claims hold shows in what is returned.

    Args:
        connection: in the batch's transaction.
        claims: by scan id, the first one of the batch; none that may not be made.
    """
    ordered = [claims[scan_id] for scan_id in sorted(claims)]
    await connection.execute(
        _MAKE,
        ([one.scan_id for one in ordered], [one.tenant_id for one in ordered], [one.device_id for one in ordered]),
    )
    found = await find_scans(connection, claims, lock=True)
    taken = [
        (scan.scan_no, claims[scan_id].device_id)
        for scan_id, scan in found.items()
        if scan.device_id is None and scan.belongs_to(claims[scan_id])
    ]
    if taken:
        await connection.execute(_TAKE, ([number for number, _ in taken], [device_id for _, device_id in taken]))
        return await find_scans(connection, claims)
    return found


async def stored_frames(connection: Connection, keys: Iterable[tuple[int, int]]) -> dict[tuple[int, int], StoredFrame]:
    """What the index has of these (scan, seq)."""
    wanted = sorted(set(keys))
    if not wanted:
        return {}
    cursor = await connection.execute(_STORED, ([number for number, _ in wanted], [seq for _, seq in wanted]))
    rows = await cursor.fetchall()
    return {
        (number, seq): StoredFrame(number, seq, kind, size, bytes(sha256), key, received_at, refusal=refusal)
        for number, seq, kind, size, sha256, key, received_at, refusal in rows
    }


def plan_change(frames: Iterable[StoredFrame], stored: Mapping[tuple[int, int], StoredFrame]) -> IndexChange:
    """What records change of the index; depends on the set of records only, not on their order."""
    best = dict(stored)
    lost: dict[tuple[int, int, bytes], StoredFrame] = {}
    duplicates = 0
    for frame in frames:
        known = best.get(frame.key)
        if known is None or frame.rank > known.rank:
            best[frame.key] = frame
        if known is None:
            continue
        if frame.sha256 == known.sha256:
            duplicates += 1
        else:
            loser = min(frame, known, key=lambda one: one.rank)
            if loser.refusal is None:  # what was refused is among the dead letters, with its bytes
                lost.setdefault((*loser.key, loser.sha256), loser)
    changed = sorted((frame for key, frame in best.items() if stored.get(key) is not frame), key=lambda one: one.key)
    return IndexChange(
        [frame for frame in changed if frame.key not in stored],
        [frame for frame in changed if frame.key in stored],
        sorted(lost.values(), key=lambda one: (one.key, one.sha256)),
        duplicates,
    )


async def write_change(connection: Connection, change: IndexChange, received_at: datetime) -> list[int]:
    """Write a change of the index, and what the scans count of it; returns the scans that are other than before."""
    async with connection.cursor() as cursor:
        if change.added:
            await cursor.executemany(_ADD, [_row(frame) for frame in change.added])
        if change.replacing:
            await cursor.executemany(_REPLACE, [(*_row(frame)[2:], *frame.key) for frame in change.replacing])
    conflicting = [scan_no for frame in change.lost for scan_no in await _lose(connection, frame)]
    if conflicting:
        await connection.execute(
            "UPDATE weir.scan s SET conflicts = s.conflicts + q.n FROM (SELECT c AS scan_no, count(*) AS n"
            " FROM unnest(%s::bigint[]) c GROUP BY c) q WHERE s.scan_no = q.scan_no",
            (conflicting,),
        )
    recounted = sorted({frame.scan_no for frame in change.replacing})
    if recounted:
        await connection.execute(_COUNT, (received_at, recounted))
    grown = [number for number in change.scans if number not in recounted]
    if grown:
        await connection.execute(_GROW, (received_at, *_growth(change.added, grown)))
    return sorted({*change.scans, *conflicting})


async def _lose(connection: Connection, frame: StoredFrame) -> list[int]:
    cursor = await connection.execute(
        _LOSE,
        (frame.scan_no, frame.seq, frame.sha256, frame.type, frame.size, frame.object_key, frame.received_at),
    )
    return [frame.scan_no] * cursor.rowcount


def _row(frame: StoredFrame) -> tuple[object, ...]:
    pose = None if frame.pose is None else list(frame.pose)
    return (
        frame.scan_no,
        frame.seq,
        frame.type,
        frame.size,
        frame.sha256,
        frame.object_key,
        frame.received_at,
        frame.captured_at,
        pose,
        frame.file_id,
        frame.part_index,
        frame.part_total,
        frame.file_sha256,
        frame.refusal is not None,
        None if frame.refusal is None else "rejected",
        frame.refusal,
    )


def _growth(added: Sequence[StoredFrame], scan_nos: Sequence[int]) -> tuple[list[object], ...]:
    """Columns of what each scan gains."""
    of_scan: dict[int, list[StoredFrame]] = {number: [] for number in scan_nos}
    for frame in added:
        if frame.scan_no in of_scan:
            of_scan[frame.scan_no].append(frame)
    rows: list[tuple[object, ...]] = []
    for number, frames in of_scan.items():
        types: dict[str, int] = {}
        for frame in frames:
            if frame.type != "end":
                types[frame.type] = types.get(frame.type, 0) + 1
        refused = sum(frame.refusal is not None for frame in frames)
        ends = [frame.seq for frame in frames if frame.type == "end"]
        highest = max(frame.seq for frame in frames)
        rows.append((number, sum(types.values()), highest, refused, max(ends, default=None), json.dumps(types)))
    return tuple(list(column) for column in zip(*rows, strict=True))


async def settle(connection: Connection, scan_nos: Iterable[int]) -> dict[int, str]:
    """Decide how scans go on whose records changed: more is waited for, or the whole is processed. Their new status."""
    cursor = await connection.execute(
        "SELECT n, weir.settle_scan(n) FROM unnest(%s::bigint[]) AS n", (sorted(scan_nos),)
    )
    return {number: str(status) for number, status in await cursor.fetchall()}
