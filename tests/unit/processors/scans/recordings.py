"""Recordings of synthetic rooms as wire frames, made once a test session."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache

from bench.scans import wire_frame
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
