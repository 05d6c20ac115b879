"""What scans cost: bytes on the wire, time from bytes to the voxel map, a large cloud to its room's dimensions.

One core, one process, no servers; rates are of CPU time. Open3D's own voxel down-sampling runs on the same points for
comparison; it neither decodes nor back-projects. Seconds are of this machine; ratios mean something elsewhere.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ops.simulator.room_scan import RoomScan, timed
from ops.simulator.rooms.camera import Imperfection
from ops.simulator.rooms.shapes import Shape
from processors.scans import codec
from processors.scans.clouds import read_blocks
from processors.scans.pipeline import ScanMap, measure_scan
from processors.scans.scan_map import frame_points
from processors.scans.voxels import VOXEL_M
from schemas.errors import Rejected
from schemas.scan_frames import DepthFrame, decode_scan_frame

_START_MS = 1_795_377_600_000
_FRAMES = 60
_RUNS = 5
_CLOUD_POINTS = 9_000_000
_NOISES = {"a_phone's": Imperfection(blur_px=2.0), "each_pixel's_own": Imperfection()}


def run() -> Iterator[dict[str, object]]:
    """Wire, fusion, cloud: a line each."""
    values: list[bytes] = []
    for name, imperfection in _NOISES.items():
        values = _depth_values(imperfection)
        yield {"bench": "scan_wire", "noise": name, **_wire(values)}
    yield {"bench": "scan_fusion", **_fusion(values)}
    yield {"bench": "scan_cloud", **_cloud(values)}


def _depth_values(imperfection: Imperfection) -> list[bytes]:
    scan = RoomScan(3, Shape.BOX, _FRAMES, imperfection=imperfection)
    return [value for _, value in timed(scan, _START_MS) if _is_usable(value)]


def _is_usable(value: bytes) -> bool:
    """A depth image in which something was in reach."""
    try:
        return _decoded(value) is not None
    except Rejected:
        return False


def _wire(values: list[bytes]) -> dict[str, object]:
    sizes = np.array([len(value) for value in values])
    began = time.perf_counter()
    for value in values:
        _decoded(value)
    took_ms = (time.perf_counter() - began) * 1000 / len(values)
    return {
        "bytes_mean": int(sizes.mean()),
        "bytes_p95": int(np.quantile(sizes, 0.95)),
        "bytes_max": int(sizes.max()),
        "decode_ms": round(took_ms, 3),
    }


def _decoded(value: bytes) -> NDArray[np.uint16] | None:
    frame = decode_scan_frame(value)
    return codec.depth_mm(frame) if isinstance(frame, DepthFrame) else None


def _fusion(values: list[bytes]) -> dict[str, object]:
    """The best of some runs each, in turns, so that what else the machine does falls on both."""
    points = _world_points(values)
    ours_s, theirs_s, with_copy_s = math.inf, math.inf, math.inf
    for _ in range(_RUNS):
        ours_s = min(ours_s, _ours_s(values))
        copied_s, done_s = _open3d_s(points)
        theirs_s, with_copy_s = min(theirs_s, done_s), min(with_copy_s, copied_s + done_s)
    return {
        "points": len(points),
        "bytes_to_map_points_per_s": round(len(points) / ours_s),
        "open3d_voxel_down_sample_points_per_s": round(len(points) / theirs_s),
        "ratio": round(theirs_s / ours_s, 2),
        "ratio_with_open3d_s_copy_of_the_points": round(with_copy_s / ours_s, 2),
    }


def _ours_s(values: list[bytes]) -> float:
    began = time.process_time()
    scan_map = ScanMap()
    for seq, value in enumerate(values):
        scan_map.add(seq, decode_scan_frame(value))
    scan_map.map_of("depth").voxels()
    return time.process_time() - began


def _world_points(values: list[bytes]) -> NDArray[np.float64]:
    frames = [frame for value in values if isinstance(frame := decode_scan_frame(value), DepthFrame)]
    return np.concatenate([frame_points(frame)[0] for frame in frames])


def _open3d_s(points: NDArray[np.float64]) -> tuple[float, float]:
    """To take the points over, and to down-sample them."""
    import open3d

    began = time.process_time()
    cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(points))
    copied = time.process_time()
    cloud.voxel_down_sample(VOXEL_M)
    return copied - began, time.process_time() - copied


def _cloud(values: list[bytes]) -> dict[str, object]:
    """In a process of its own, whose peak memory is counted from its start."""
    points = _world_points(values).astype("<f4")
    copies = -(-_CLOUD_POINTS // len(points))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cloud.ply"
        header = f"ply\nformat binary_little_endian 1.0\nelement vertex {_CLOUD_POINTS}\n"
        header += "".join(f"property float {axis}\n" for axis in "xyz") + "end_header\n"
        path.write_bytes(header.encode() + np.tile(points, (copies, 1))[:_CLOUD_POINTS].tobytes())
        command = [sys.executable, "-m", __name__, str(path)]
        alone = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
        run = subprocess.run(command, env=alone, capture_output=True, check=True, timeout=600)  # noqa: S603
        found: dict[str, object] = json.loads(run.stdout)
        return {"megabytes": round(path.stat().st_size / 1e6), **found}


def _measure_file(path: Path) -> dict[str, object]:
    before, began, cpu = _peak_mib(), time.perf_counter(), time.process_time()
    scan_map = ScanMap()
    with path.open("rb") as file:
        scan_map.add_cloud(read_blocks(file))
    result = measure_scan(scan_map, lambda seq: decode_scan_frame(b""))
    return {
        "to_dimensions_s": round(time.perf_counter() - began, 2),
        "cpu_s": round(time.process_time() - cpu, 2),
        "peak_mib": _peak_mib(),
        "of_which_imports_mib": before,
        "verdict": result.verdict,
    }


def _peak_mib() -> int:
    """Of this program: what the one that started it took, getrusage counts as well."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) // 1024


if __name__ == "__main__":
    print(json.dumps(_measure_file(Path(sys.argv[1]))))
