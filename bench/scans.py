"""`weir bench scans`: how well rooms are measured, over synthetic ones whose truth is known.

Every shape of the generator, several seeds, with and without faults of the recording. The lines give shares, worst cases
and coverage of the error bars; seconds are of this machine and mean something only beside each other.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, fields

import numpy as np
import shapely
from numpy.typing import NDArray

from ops.simulator.rooms.camera import DepthFrame, Imperfection, walk
from ops.simulator.rooms.shapes import Room, Shape, make_room
from processors.scans.fusion import Intrinsics, backproject
from processors.scans.motion import consistent_walk
from processors.scans.pipeline import ScanMap, measure_scan
from processors.scans.result import FoundOpening, ScanResult, Verdict
from processors.scans.voxels import VoxelMap
from schemas.scan_frames import DepthFrame as WireFrame

_FAULTS = {
    "none": Imperfection(),
    "drift_2_cm": Imperfection(drift_m=0.02),
    "wrong_poses_5_percent": Imperfection(wrong_poses=0.05),
    "noise_twofold": Imperfection(noise=2.0),
    "drift_5_cm": Imperfection(drift_m=0.05),
    "wrong_poses_20_percent": Imperfection(wrong_poses=0.2),
}
_LENGTHS = ("length", "width", "height")
# Where an opening is found: its middle lies so near to the true one.
_SAME_OPENING_M = 0.35


@dataclass(slots=True)
class _Tally:
    errors_m: list[float] = field(default_factory=list)
    area_errors: list[float] = field(default_factory=list)
    covered: list[bool] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    silent_errors: int = 0
    true_openings: int = 0
    found_openings: int = 0
    width_errors_m: list[float] = field(default_factory=list)
    measure_s: float = 0.0


def run(rooms_a_shape: int, shrink: int = 1) -> Iterator[dict[str, object]]:
    """One line a kind of fault, and one of all.

    Args:
        rooms_a_shape: rooms of each shape and kind of fault.
        shrink: divides the camera's pixels in both directions.
    """
    everything = _Tally()
    for name, fault in _FAULTS.items():
        tally = _Tally()
        for shape in Shape:
            for seed in range(rooms_a_shape):
                _measure_one(tally, make_room(shape, seed), seed, fault, shrink)
        yield {"bench": "scans", "fault": name, **_summary(tally)}
        _add(everything, tally)
    if everything.verdicts:
        yield {"bench": "scans", "fault": "all", **_summary(everything)}


def _add(everything: _Tally, tally: _Tally) -> None:
    for one in fields(_Tally):
        setattr(everything, one.name, getattr(everything, one.name) + getattr(tally, one.name))


def _measure_one(tally: _Tally, room: Room, seed: int, fault: Imperfection, shrink: int) -> None:
    frames = [wire_frame(seq, seen) for seq, seen in enumerate(walk(room, seed, imperfection=fault, shrink=shrink))]
    started = time.process_time()
    scan_map = ScanMap()
    for frame in frames:
        scan_map.add(frame.seq, frame)
    result = measure_scan(scan_map, frames.__getitem__)
    tally.measure_s += time.process_time() - started
    tally.verdicts.append(result.verdict)
    if result.verdict is not Verdict.INCOMPLETE:
        _compare(tally, result, truth_of(room))
        _compare_openings(tally, result, room)


def wire_frame(seq: int, seen: DepthFrame) -> WireFrame:
    """A frame as a device sends it, uncompressed."""
    camera = seen.camera
    x, y, z, qx, qy, qz, qw = (float(number) for number in seen.pose)
    return WireFrame(
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


def _compare(tally: _Tally, result: ScanResult, truth: dict[str, float]) -> None:
    for name, true in truth.items():
        value, sigma = getattr(result.room_dimensions, name), getattr(result.uncertainty, name)
        if value is None or sigma is None:
            continue
        error = abs(value - true)
        tally.covered.append(error <= 1.96 * sigma)
        if name in _LENGTHS:
            tally.errors_m.append(error)
            tally.silent_errors += error > 0.05  # whatever its error bar: so wrong a number must not be given
        if name == "area":
            tally.area_errors.append(error / true)


def _compare_openings(tally: _Tally, result: ScanResult, room: Room) -> None:
    turn, shift = np.array(result.placement.rotation), np.array(result.placement.translation)
    found = {number: _middle(result, one) for number, one in enumerate(result.openings)}
    tally.true_openings += len(room.openings)
    tally.found_openings += len(found)
    for opening in room.openings:
        first, last = room.wall(opening.wall)
        along = (last - first) / np.linalg.norm(last - first)
        true = (turn @ np.array([*(first + along * (opening.offset + opening.width / 2)), 0.0]) + shift)[:2]
        near = [number for number, middle in found.items() if np.linalg.norm(middle - true) < _SAME_OPENING_M]
        if near:
            tally.width_errors_m.append(abs(result.openings[near[0]].width - opening.width))
            found.pop(near[0])


def _middle(result: ScanResult, opening: FoundOpening) -> NDArray[np.float64]:
    wall = result.walls[opening.wall]
    along = (np.array(wall.end) - np.array(wall.start)) / wall.length
    middle: NDArray[np.float64] = np.array(wall.start) + along * (opening.offset + opening.width / 2)
    return middle


def _summary(tally: _Tally) -> dict[str, object]:
    count, matched = len(tally.verdicts), len(tally.width_errors_m)
    summary: dict[str, object] = {
        "rooms": count,
        "incomplete": tally.verdicts.count(Verdict.INCOMPLETE),
        "estimates": tally.verdicts.count(Verdict.ESTIMATE),
        "cpu_s_a_scan": round(tally.measure_s / count, 2),
    }
    if not tally.errors_m:
        return summary
    errors = np.array(tally.errors_m)
    summary |= {
        "within_1_cm": round(float((errors <= 0.01).mean()), 3),
        "within_2_cm": round(float((errors <= 0.02).mean()), 3),
        "worst_cm": round(float(errors.max()) * 100, 2),
        "area_error_median_percent": round(float(np.median(tally.area_errors)) * 100, 3),
        "area_error_worst_percent": round(float(np.max(tally.area_errors)) * 100, 2),
        "interval_coverage": round(float(np.mean(tally.covered)), 3),
        "silent_errors_above_5_cm": tally.silent_errors,
        "opening_recall": round(matched / max(tally.true_openings, 1), 3),
        "opening_precision": round(matched / max(tally.found_openings, 1), 3),
    }
    if matched:
        summary["opening_width_error_median_cm"] = round(float(np.median(tally.width_errors_m)) * 100, 1)
    return summary
