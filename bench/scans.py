"""`weir bench scans`: how well rooms are measured, over synthetic ones whose truth is known.

Every shape of the generator, several seeds, with and without faults of the recording, ceilings that slope or step, mirrors.
The lines give shares, worst cases and coverage of the error bars; seconds are of this machine and mean something only beside
each other.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray

from bench.scan_scores import Tally, compare, summary
from ops.simulator.rooms.camera import DepthFrame, Imperfection, walk
from ops.simulator.rooms.ceilings import CeilingKind
from ops.simulator.rooms.shapes import Room, Shape, make_room
from processors.scans.fusion import Intrinsics, backproject
from processors.scans.motion import consistent_walk
from processors.scans.pipeline import ScanMap, measure_scan
from processors.scans.result import ScanResult
from processors.scans.voxels import VoxelMap
from schemas.scan_frames import DepthFrame as WireFrame


class Case(NamedTuple):
    """How a recording differs from a perfect one, and a room from a plain one."""

    fault: Imperfection = Imperfection()
    ceiling: CeilingKind = CeilingKind.LEVEL
    mirrors: int = 0

    def room(self, shape: Shape, seed: int) -> Room:
        """A room of this kind."""
        return make_room(shape, seed, ceiling=self.ceiling, mirrors=self.mirrors)


CASES = {
    "none": Case(),
    "drift_2_cm": Case(Imperfection(drift_m=0.02)),
    "wrong_poses_5_percent": Case(Imperfection(wrong_poses=0.05)),
    "noise_twofold": Case(Imperfection(noise=2.0)),
    "drift_5_cm": Case(Imperfection(drift_m=0.05)),
    "wrong_poses_20_percent": Case(Imperfection(wrong_poses=0.2)),
    "pitched_ceiling": Case(ceiling=CeilingKind.PITCHED),
    "gable_ceiling": Case(ceiling=CeilingKind.GABLE),
    "stepped_ceiling": Case(ceiling=CeilingKind.STEPPED),
    "mirror": Case(mirrors=1),
}


def run(rooms_a_shape: int, shrink: int = 1, processes: int | None = None) -> Iterator[dict[str, object]]:
    """One line a case, and one of all.

    Args:
        rooms_a_shape: rooms of each shape and case.
        shrink: divides the camera's pixels in both directions.
        processes: that measure side by side; one a processor if None.
    """
    everything = Tally()
    # Every shape has seeds of its own: the same one gives the same noise, path and drift.
    places = list(enumerate(Shape))
    rooms = [(shape, number * len(places) + place) for place, shape in places for number in range(rooms_a_shape)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes or os.cpu_count() or 1, mp_context=context) as pool:
        waiting = {name: [pool.submit(tally_of, name, shape, seed, shrink) for shape, seed in rooms] for name in CASES}
        for name, futures in waiting.items():
            tally = Tally()
            for future in futures:
                tally.add(future.result())
            everything.add(tally)
            yield {"bench": "scans", "case": name, **summary(tally)}
    yield {"bench": "scans", "case": "all", **summary(everything)}


def tally_of(case: str, shape: Shape, seed: int, shrink: int = 1) -> Tally:
    """Of one room."""
    room = CASES[case].room(shape, seed)
    tally = Tally()
    result, tally.measure_s = scan(room, seed, CASES[case].fault, shrink)
    compare(tally, result, room, truth_of(room))
    return tally


def scan(room: Room, seed: int, fault: Imperfection | None = None, shrink: int = 1) -> tuple[ScanResult, float]:
    """A recording's result, and the processor's seconds from frames to it."""
    frames = [wire_frame(seq, seen) for seq, seen in enumerate(walk(room, seed, imperfection=fault, shrink=shrink))]
    started = time.process_time()
    scan_map = ScanMap()
    for frame in frames:
        scan_map.add(frame.seq, frame)
    return measure_scan(scan_map, frames.__getitem__), time.process_time() - started


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
        "volume": room.volume,
        "perimeter": room.perimeter,
    }


def _sides(corners: NDArray[np.float64]) -> tuple[float, float]:
    box = shapely.get_coordinates(shapely.minimum_rotated_rectangle(shapely.Polygon(corners)))
    one, other = (float(np.linalg.norm(box[n + 1] - box[n])) for n in (0, 1))
    return max(one, other), min(one, other)
