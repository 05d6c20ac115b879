"""Clouds of boxes: with slight slopes overhead, and with so many noisy points that what they spread is thick."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from processors.scans.pipeline import ScanMap, measure_scan
from processors.scans.result import ScanResult, Verdict
from processors.scans.voxels import VoxelMap, without_haze
from processors.scans.walls import find_lines
from schemas.scan_frames import ScanFrame

LENGTH, WIDTH, HEIGHT = 5.2, 3.7, 2.5
BESIDE = np.array([0.0, 0.02, 0.0])


def no_frames(seq: int) -> ScanFrame:
    raise KeyError(seq)


def measured(points: NDArray[np.float64]) -> ScanResult:
    scan_map = ScanMap()
    scan_map.add_cloud([points])
    return measure_scan(scan_map, no_frames)


def box(count: int, noise: float, slope: float = 0.0) -> NDArray[np.float64]:
    """Points on the faces of a box, evenly; the ceiling rises along x by so many metres a metre."""
    random = np.random.default_rng(3)
    size = np.array([LENGTH, WIDTH, HEIGHT])
    faces = []
    for axis in range(3):
        area = float(np.prod(np.delete(size, axis)))
        for end in (0.0, 1.0):
            share = random.random((int(count * area / 77.7), 3))  # m² of all six
            share[:, axis] = end
            faces.append(share * size)
    points = np.concatenate(faces)
    points[:, 2] *= 1 + slope * points[:, 0] / HEIGHT
    return points + random.normal(0, noise, points.shape)


@pytest.mark.parametrize("slope", [0.03, 0.05, 0.2])
def test_a_ceiling_that_rises_a_little_is_as_high_as_its_highest_point(slope: float) -> None:
    result = measured(box(60_000, 0.004, slope))
    assert result.verdict is Verdict.GOOD
    assert result.ceiling is not None
    assert result.ceiling.kind == "sloped"
    assert result.room_dimensions.height == pytest.approx(HEIGHT + slope * LENGTH, abs=0.01)
    assert result.room_dimensions.length == pytest.approx(LENGTH, abs=0.01)


def test_many_points_make_walls_no_thicker() -> None:
    cloud = box(300_000, 0.02)
    once, thrice = measured(cloud), measured(np.repeat(cloud, 10, axis=0))
    for result in (once, thrice):
        assert result.verdict is Verdict.GOOD
        assert result.room_dimensions.length == pytest.approx(LENGTH, abs=0.01)
        assert result.room_dimensions.width == pytest.approx(WIDTH, abs=0.01)
        assert result.room_dimensions.height == pytest.approx(HEIGHT, abs=0.01)


def test_strays_far_apart_on_a_line_that_is_nearly_parallel_to_a_wall_are_no_wall() -> None:
    wall = np.stack([np.arange(0, 5, 0.05), np.zeros(100)], axis=1)
    # Made parallel, the line through them passes half a metre beside the nearest ones.
    away = np.arange(-90.0, 91.0, 20.0)
    strays = np.stack([away, 50 + away * np.tan(np.radians(3.5))], axis=1)
    plan = np.concatenate([wall, strays])
    points, normals = np.column_stack([plan, np.full(110, 2.0)]), np.tile([0.0, 1.0, 0.0], (110, 1))
    lines = find_lines(points, normals, np.ones(110), is_sparse=True)
    assert [round(abs(line.rho), 3) for line in lines] == [0.0]


def test_haze_is_what_has_little_beside_much() -> None:
    voxels = VoxelMap(200)
    plane = np.array([[0.01 + 0.02 * n, 0.01, 0.01] for n in range(50)])
    voxels.add(np.repeat(plane, 20, axis=0))
    voxels.add(np.repeat(plane + BESIDE, 3, axis=0))  # less than a fifth of 20
    voxels.add(np.repeat(plane - BESIDE, 4, axis=0))  # a fifth
    voxels.add(plane[:1] + 50 * BESIDE)  # alone
    counts = np.bincount(without_haze(voxels.voxels()).count, minlength=21)
    assert {number: int(count) for number, count in enumerate(counts) if count} == {1: 1, 4: 50, 20: 50}


def test_where_points_are_few_nothing_is_haze() -> None:
    voxels = VoxelMap(200)
    plane = np.array([[0.01 + 0.02 * n, 0.01, 0.01] for n in range(50)])
    voxels.add(np.repeat(plane, 9, axis=0))
    voxels.add(plane + BESIDE)
    assert len(without_haze(voxels.voxels())) == 100
