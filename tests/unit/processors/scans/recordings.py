"""Recordings of synthetic rooms as wire frames, made once a test session."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache

from ops.simulator.rooms.camera import DepthFrame as Seen
from ops.simulator.rooms.camera import Imperfection, walk
from ops.simulator.rooms.shapes import Room, Shape, make_room
from processors.scans.pipeline import ScanMap, measure_scan
from processors.scans.result import ScanResult
from schemas.scan_frames import DepthFrame, ScanFrame

SEED = 7


@cache
def recording(shape: Shape = Shape.BOX, seed: int = SEED, imperfection: Imperfection | None = None) -> list[DepthFrame]:
    """A quick scan of `make_room(shape, seed)`: a quarter of the pixels, 96 frames."""
    return record(make_room(shape, seed), seed, imperfection)


def record(
    room: Room, seed: int = SEED, imperfection: Imperfection | None = None, frames: int = 96
) -> list[DepthFrame]:
    """A quick scan of a room."""
    seen = walk(room, seed, frames=frames, imperfection=imperfection, shrink=2)
    return [wire_frame(number, one) for number, one in enumerate(seen)]


def wire_frame(seq: int, seen: Seen) -> DepthFrame:
    """As a device sends it, uncompressed."""
    camera = seen.camera
    x, y, z, qx, qy, qz, qw = (float(number) for number in seen.pose)
    return DepthFrame(
        seq=seq,
        captured_at=seen.captured_at_ms,
        width=camera.width,
        height=camera.height,
        fx=camera.focal_px,
        fy=camera.focal_px,
        cx=(camera.width - 1) / 2,
        cy=(camera.height - 1) / 2,
        pose=(x, y, z, qx, qy, qz, qw),
        depth=seen.depth_mm.astype("<u2").tobytes(),
        depth_encoding="raw16",
    )


def reader(frames: Iterable[ScanFrame]) -> Callable[[int], ScanFrame]:
    """Gives frames again by seq."""
    return {frame.seq: frame for frame in frames}.__getitem__


def mapped(frames: Iterable[ScanFrame]) -> ScanMap:
    """All frames in a map."""
    scan_map = ScanMap()
    for frame in frames:
        scan_map.add(frame.seq, frame)
    return scan_map


def measured(frames: Iterable[ScanFrame], *, ended: bool = True) -> ScanResult:
    """Frames to result."""
    listed = list(frames)
    return measure_scan(mapped(listed), reader(listed), ended=ended)
