"""Points become weighted centroids of voxels: the same sums however far apart, many or in what portions they come."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from processors.scans import voxel_rows, voxel_sums
from processors.scans.voxels import VoxelMap


def by_hand(points: NDArray[np.float64], distance_m: NDArray[np.float64]) -> dict[tuple[int, ...], list[int]]:
    """Weight, weight · x, · y, · z within the voxel and count, one point after the other in whole numbers."""
    sums: dict[tuple[int, ...], list[int]] = defaultdict(lambda: [0] * 5)
    for point, distance in zip(points.tolist(), distance_m.tolist(), strict=True):
        units = [round(each * 10_000) for each in point]
        weight = max(round(distance * 100), 1) ** 2
        row = sums[tuple(each // 400 for each in units)]
        for place, more in enumerate((weight, *(weight * (each % 400) for each in units), 1)):
            row[place] += more
    return sums


def scattered(seed: int, spread_m: float, count: int) -> NDArray[np.float64]:
    """Whole tenths of millimetres, so that no rounding is in doubt."""
    random = np.random.default_rng(seed)
    middle = random.uniform(-spread_m, spread_m, (count, 3))
    return np.rint((middle + random.normal(0, 0.05, (count, 3))) * 10_000) / 10_000


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.1, 5.0, 9_000.0]), st.integers(1, 300), st.integers(1, 4))
def test_sums_are_those_of_adding_point_by_point(seed: int, spread_m: float, count: int, portions: int) -> None:
    points = scattered(seed, spread_m, count)
    distance_m = np.random.default_rng(seed).uniform(0, 90, count)
    voxel_map = VoxelMap()
    for rows in np.array_split(np.arange(count), portions):
        voxel_map.add(points[rows], distance_m[rows])
        voxel_map.voxels()
    found = voxel_map.voxels()
    expected = by_hand(points, distance_m)

    assert np.array_equal(found.key, np.sort(found.key))
    cells = [tuple((key >> shift & 0x1FFFFF) - 0x100000 for shift in (42, 21, 0)) for key in found.key.tolist()]
    assert dict(zip(cells, zip(found.weight, found.count, strict=True), strict=True)) == {
        cell: (row[0], row[4]) for cell, row in expected.items()
    }
    centers = [[(400 * each + row / sums[0]) / 10_000 for each, row in zip(cell, sums[1:4], strict=True)]
               for cell in cells for sums in [expected[cell]]]  # fmt: skip
    assert np.array_equal(found.center, centers)


@pytest.mark.parametrize("bricks", [0, 100, 600])
def test_voxels_have_the_same_bytes_with_room_in_the_tables_for_none_some_or_most(
    bricks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    points, distance_m = scattered(1, 3.0, 5_000), np.full(5_000, 2.5)
    all_in_tables, others_sorted = VoxelMap(), VoxelMap()
    all_in_tables.add(points, distance_m)
    monkeypatch.setattr(voxel_rows, "_MOST_BRICKS", bricks)
    monkeypatch.setattr(voxel_rows, "_MOST", (0.4, 0.6))
    monkeypatch.setattr(voxel_sums, "_MOST_WAITING", 1_500)
    for rows in np.array_split(np.arange(5_000), 5):
        others_sorted.add(points[rows], distance_m[rows])

    assert others_sorted.to_bytes() == all_in_tables.to_bytes()


def test_points_without_a_distance_weigh_1_each(monkeypatch: pytest.MonkeyPatch) -> None:
    points = scattered(4, 2.0, 6_000)
    near, anywhere = VoxelMap(), VoxelMap()
    near.add(points, np.full(6_000, 0.01))  # a whole centimetre, squared
    monkeypatch.setattr(voxel_sums, "_MOST_PACKED", 400 * 2_500)
    for rows in np.array_split(np.arange(6_000), 4):
        anywhere.add(points[rows], np.full(len(rows), 0.01) if rows[0] == 1_500 else None)

    assert anywhere.to_bytes() == near.to_bytes()


def test_a_room_keeps_its_table_when_a_point_lies_kilometres_away() -> None:
    room = scattered(3, 2.0, 4_000)
    voxel_map = VoxelMap()
    for rows in (room[:2_000], np.array([[9_000.0, -9_000.0, 9_000.0]]), room[2_000:]):
        voxel_map.add(rows, np.ones(len(rows)))
    expected = by_hand(np.concatenate([room, [[9_000.0, -9_000.0, 9_000.0]]]), np.ones(4_001))

    assert voxel_map.voxels().count.tolist() == [row[4] for _, row in sorted(expected.items())]


def test_what_was_looked_at_does_not_change_afterwards() -> None:
    voxel_map = VoxelMap()
    voxel_map.add(np.array([[0.01, 0.01, 0.01]]), np.ones(1))
    before = voxel_map.voxels()
    voxel_map.add(np.array([[0.02, 0.02, 0.02], [1.0, 1.0, 1.0]]), np.ones(2))

    assert voxel_map.voxels().count.tolist() == [2, 1]
    assert before.count.tolist() == [1]


def test_a_map_without_another_is_what_was_not_in_both() -> None:
    points = scattered(2, 2.0, 4_000)
    everything, unwanted, rest = VoxelMap(), VoxelMap(), VoxelMap()
    everything.add(points, np.ones(4_000))
    unwanted.add(points[:1_000], np.ones(1_000))
    rest.add(points[1_000:], np.ones(3_000))
    left = everything.without(unwanted)

    assert np.array_equal(left.key, rest.voxels().key)
    assert np.array_equal(left.center, rest.voxels().center)
    assert everything.voxels().count.sum() == 4_000
