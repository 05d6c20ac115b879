"""What `weir scan publish` takes, as the records of a scan: clouds, RoomPlan's JSON, and folders of recorded frames.

A recorded scan is a folder with one file `NAME.msgpack` for each record, its value as on the wire, numbered by their `seq`; in
`manifest.json` may stand `{"scan_id": …}`. PLY, PCD and RoomPlan files beside them follow as parts.

Border: files to record values, each checked before the first one is sent. Reading the same files again gives the same bytes, so
that publishing again has no effect.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final

from weir_device import Pose, scan_records
from weir_device.scan_records import PART_BYTES, Moment
from weir_device.scans import file_parts

from processors.scans.clouds import Cloud
from schemas.errors import Misconfigured, Rejected
from schemas.room_plan import MAX_BYTES, decode_room_plan
from schemas.scan_frames import EARLIEST_MS, EndFrame, decode_scan_frame

POINTS_A_FRAME: Final = 50_000
CLOUDS: Final = (".ply", ".pcd")
ROOM_PLAN: Final = ".json"
RECORD: Final = ".msgpack"
MANIFEST: Final = "manifest.json"
_AT_ORIGIN: Final = Pose((0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0))


@dataclass(frozen=True, slots=True)
class Planned:
    """A scan to publish.

    Attributes:
        records: how many there will be.
        values: makes them, in order.
        scan_id: which scan they were recorded as, if that is known.
    """

    records: int
    values: Callable[[], Iterator[bytes]]
    scan_id: str | None = None


def plan(path: Path, *, as_points: bool = False, end: bool = True) -> Planned:
    """Look at a file or folder.

    Args:
        path: what to publish.
        as_points: send a cloud as `points` frames seen from the origin instead of as a file; colours stay behind.
        end: finish the scan, unless the folder does so itself; False leaves a folder's own end out.

    Raises:
        Misconfigured: it cannot be published; the message says which file and why.
    """
    if path.is_dir():
        if as_points:
            msg = f"{path} is a folder, which is sent as it was recorded; leave out --as points"
            raise Misconfigured(msg)
        return _folder(path, end=end)
    kind = path.suffix.lower()
    if as_points and kind in CLOUDS:
        return _with_end(sum(1 for _ in _points(path)), partial(_points, path), end=end)
    if as_points:
        msg = f"{path} is no cloud; --as points takes PLY and PCD"
        raise Misconfigured(msg)
    return _with_end(_checked_parts(path), partial(_parts, [path]), end=end)


def write_folder(folder: Path, scan_id: str, values: Iterator[bytes]) -> int:
    """Record a scan in a new folder; how many records it has.

    Raises:
        Misconfigured: the folder has something in it, or cannot be written.
    """
    count = 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            msg = f"{folder} is not empty; a scan is recorded in a folder of its own"
            raise Misconfigured(msg)
        for value in values:
            (folder / f"{decode_scan_frame(value).seq:06d}{RECORD}").write_bytes(value)
            count += 1
        (folder / MANIFEST).write_text(json.dumps({"scan_id": scan_id}) + "\n")
    except OSError as exc:
        msg = f"{folder} cannot be written: {exc.strerror}"
        raise Misconfigured(msg) from exc
    return count


def _folder(folder: Path, *, end: bool) -> Planned:
    records = sorted(folder.glob(f"*{RECORD}"))
    files = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in (*CLOUDS, ROOM_PLAN)]
    files = [path for path in files if path.name != MANIFEST]
    if not records and not files:
        msg = f"{folder} has no {RECORD}, PLY, PCD or RoomPlan file; docs/scan-frames.md says what a recorded scan looks like"
        raise Misconfigured(msg)
    ended = _checked_records(records)
    if ended and not end:
        records, ended = records[:-1], False
    if ended and files:
        msg = f"{records[-1]} ends the scan, but {files[0].name} is to follow; remove one of them"
        raise Misconfigured(msg)
    parts = sum(map(_checked_parts, files))

    def values() -> Iterator[bytes]:
        yield from map(Path.read_bytes, records)
        yield from _parts(files, len(records))

    planned = _with_end(len(records) + parts, values, end=end and not ended)
    return Planned(planned.records, planned.values, _scan_id(folder))


def _with_end(records: int, values: Callable[[], Iterator[bytes]], *, end: bool) -> Planned:
    def all_of_them() -> Iterator[bytes]:
        yield from values()
        if end:
            yield scan_records.end_record(records)

    return Planned(records + end, all_of_them)


def _parts(files: list[Path], first_seq: int = 0) -> Iterator[bytes]:
    parts = (part for path in files for part in file_parts(partial(_opened, path), path.name))
    return (scan_records.part_record(seq, part) for seq, part in enumerate(parts, first_seq))


def _points(path: Path) -> Iterator[bytes]:
    try:
        with _opened(path) as file:
            captured_at = max(int(path.stat().st_mtime * 1000), EARLIEST_MS)  # the same whenever it is published
            for seq, block in enumerate(Cloud(file).blocks(POINTS_A_FRAME)):
                yield scan_records.points_record(seq, Moment(captured_at), block.points, _AT_ORIGIN)
    except Rejected as refusal:
        raise _unusable(path, refusal) from refusal


def _checked_parts(path: Path) -> int:
    """How many parts a file makes, once it has shown to be what its name says."""
    kind = path.suffix.lower()
    if kind in CLOUDS:
        try:
            with _opened(path) as file:
                Cloud(file)
        except Rejected as refusal:
            raise _unusable(path, refusal) from refusal
    elif kind == ROOM_PLAN:
        try:
            with _opened(path) as file:
                decode_room_plan(file.read(MAX_BYTES + 1))
        except Rejected as refusal:
            raise _unusable(path, refusal) from refusal
    else:
        msg = f"{path} is none of PLY, PCD, RoomPlan JSON, or a folder of recorded frames"
        raise Misconfigured(msg)
    return -(-path.stat().st_size // PART_BYTES)


def _checked_records(paths: list[Path]) -> bool:
    """Whether the last one ends the scan."""
    frame = None
    for seq, path in enumerate(paths):
        try:
            frame = decode_scan_frame(path.read_bytes())
        except Rejected as refusal:
            raise _unusable(path, refusal) from refusal
        if frame.seq != seq or (isinstance(frame, EndFrame) and seq < len(paths) - 1):
            msg = f"{path} has the seq {frame.seq}; expected {seq}: by name, records go from 0 on without holes, an end last"
            raise Misconfigured(msg)
    return isinstance(frame, EndFrame)


def _scan_id(folder: Path) -> str | None:
    path = folder / MANIFEST
    if not path.exists():
        return None
    try:
        document: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        msg = f"{path} cannot be read as JSON: {exc}"
        raise Misconfigured(msg) from exc
    found = document.get("scan_id") if isinstance(document, dict) else None
    if not isinstance(found, str):
        msg = f'{path} names no scan; expected {{"scan_id": "…"}}'
        raise Misconfigured(msg)
    return found


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as exc:
        msg = f"{path} cannot be read: {exc.strerror}"
        raise Misconfigured(msg) from exc


def _unusable(path: Path, refusal: Rejected) -> Misconfigured:
    return Misconfigured(f"{path} cannot be used ({refusal.reason}): {refusal.detail}")
