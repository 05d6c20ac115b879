"""`weir bench scans`: how well rooms are measured, over synthetic ones whose truth is known.

Every shape of the generator, several seeds, with and without faults of the recording. The lines give shares, worst cases
and coverage of the error bars; seconds are of this machine and mean something only beside each other.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import shapely
from numpy.typing import NDArray

from ops.simulator.rooms.camera import DepthFrame, Imperfection, walk
from ops.simulator.rooms.shapes import Room, Shape, make_room
from processors.scans.fusion import Intrinsics, backproject
from processors.scans.measure import RoomMeasurement, measure_room
from processors.scans.motion import consistent_walk
from processors.scans.result import Verdict
from processors.scans.voxels import VoxelMap

_UP = np.array([0.0, 0.0, 1.0])
_FAULTS = {
    "none": Imperfection(),
    "drift_2_cm": Imperfection(drift_m=0.02),
    "wrong_poses_5_percent": Imperfection(wrong_poses=0.05),
    "noise_twofold": Imperfection(noise=2.0),
}


@dataclass(slots=True)
class _Tally:
    errors_m: list[float] = field(default_factory=list)
    area_errors: list[float] = field(default_factory=list)
    covered: list[bool] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    silent_errors: int = 0
    points: int = 0
    fuse_s: float = 0.0
    measure_s: float = 0.0


def run(rooms_a_shape: int) -> Iterator[dict[str, object]]:
    """One line a kind of fault.

    Args:
        rooms_a_shape: rooms of each shape and kind of fault.
    """
    for name, fault in _FAULTS.items():
        tally = _Tally()
        for shape in Shape:
            for seed in range(rooms_a_shape):
                _measure_one(tally, make_room(shape, seed), seed, fault)
        yield {"bench": "scans", "fault": name, **_summary(tally)}


def _measure_one(tally: _Tally, room: Room, seed: int, fault: Imperfection) -> None:
    frames = list(walk(room, seed, imperfection=fault))
    started = time.perf_counter()
    voxels = fuse(frames)
    fused = time.perf_counter()
    measured = measure_room(voxels.voxels(), np.array([frame.pose[:3] for frame in frames]), _UP)
    tally.fuse_s += fused - started
    tally.measure_s += time.perf_counter() - fused
    tally.points += sum(int((frame.depth_mm > 0).sum()) for frame in frames)
    tally.verdicts.append(measured.verdict)
    if measured.verdict is not Verdict.INCOMPLETE:
        _compare(tally, measured, truth_of(room))


def fuse(frames: list[DepthFrame]) -> VoxelMap:
    """All frames that belong to one walk, in one map."""
    poses = np.array([frame.pose for frame in frames])
    taken = consistent_walk(np.array([frame.captured_at_ms for frame in frames]), poses)
    voxels = VoxelMap()
    for frame in itertools.compress(frames, taken):
        add(voxels, frame)
    return voxels


def add(voxels: VoxelMap, frame: DepthFrame) -> None:
    """Add a frame's points to a map."""
    camera = frame.camera
    intrinsics = Intrinsics(camera.focal_px, camera.focal_px, (camera.width - 1) / 2, (camera.height - 1) / 2)
    voxels.add(*backproject(frame.depth_mm, intrinsics, frame.pose))


def truth_of(room: Room) -> dict[str, float]:
    """What a perfect measurement gives."""
    length, width = _sides(room.corners)
    return {
        "length": length,
        "width": width,
        "height": room.height,
        "area": room.area,
        "volume": room.area * room.height,
        "perimeter": room.perimeter,
    }


def _sides(corners: NDArray[np.float64]) -> tuple[float, float]:
    box = shapely.get_coordinates(shapely.minimum_rotated_rectangle(shapely.Polygon(corners)))
    one, other = (float(np.linalg.norm(box[n + 1] - box[n])) for n in (0, 1))
    return max(one, other), min(one, other)


def _compare(tally: _Tally, measured: RoomMeasurement, truth: dict[str, float]) -> None:
    for name, true in truth.items():
        quantity = getattr(measured, name)
        error = quantity.value - true
        tally.covered.append(abs(error) <= 1.96 * quantity.sigma)
        if name in {"length", "width", "height"}:
            tally.errors_m.append(abs(error))
            tally.silent_errors += measured.verdict is Verdict.GOOD and abs(error) > 0.05
        if name == "area":
            tally.area_errors.append(abs(error) / true)


def _summary(tally: _Tally) -> dict[str, object]:
    errors = np.array(tally.errors_m)
    count = len(tally.verdicts)
    return {
        "rooms": count,
        "incomplete": tally.verdicts.count(Verdict.INCOMPLETE),
        "estimates": tally.verdicts.count(Verdict.ESTIMATE),
        "within_1_cm": round(float((errors <= 0.01).mean()), 3),
        "within_2_cm": round(float((errors <= 0.02).mean()), 3),
        "worst_cm": round(float(errors.max()) * 100, 2),
        "area_error_median_percent": round(float(np.median(tally.area_errors)) * 100, 3),
        "interval_coverage": round(float(np.mean(tally.covered)), 3),
        "silent_errors_above_5_cm": tally.silent_errors,
        "fuse_points_per_s": math.floor(tally.points / tally.fuse_s),
        "measure_s": round(tally.measure_s / count, 3),
    }
