"""Recordings of synthetic rooms as wire frames, made once a test session."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache

import msgspec
import numpy as np
from numpy.typing import NDArray

from bench.scans import wire_frame
from ops.simulator.rooms.camera import Imperfection, walk
from ops.simulator.rooms.shapes import Room, Shape, make_room
from processors.scans.pipeline import ScanMap, measure_scan
from processors.scans.poses import quaternion, rotation
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


def turned_world(frames: Iterable[DepthFrame], turn: NDArray[np.float64], scale: float = 1.0) -> list[DepthFrame]:
    """The same frames in a turned and scaled world."""
    return [
        posed(frame, turn @ np.array(frame.pose[:3]) * scale, turn @ rotation(np.array(frame.pose[3:])))
        for frame in frames
    ]


def posed(frame: DepthFrame, place: NDArray[np.float64], turn: NDArray[np.float64]) -> DepthFrame:
    """The same image taken from elsewhere."""
    x, y, z, qx, qy, qz, qw = (float(number) for number in (*place, *quaternion(turn)))
    return msgspec.structs.replace(frame, pose=(x, y, z, qx, qy, qz, qw))


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
