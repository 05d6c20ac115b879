"""What frames say against each other: who stands elsewhere than claimed, and how far walls wander."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from processors.scans.agreement import astray, wander
from processors.scans.voxels import VoxelMap

RANDOM = np.random.default_rng(5)
X = np.array([1.0, 0.0, 0.0])
FLOOR = (np.array([0.0, 0.0, 1.0]), 0.0)


def floor(points: int = 400) -> NDArray[np.float64]:
    return np.column_stack([RANDOM.uniform(0, 3, (points, 2)), RANDOM.normal(0, 0.005, points)])


def wardrobe(points: int) -> NDArray[np.float64]:
    """The front of one: a metre wide, two metres high."""
    across, up = RANDOM.uniform(0, 1, points), RANDOM.uniform(0.1, 2, points)
    return np.column_stack([across, np.full(points, 1.5), up])


def test_a_frame_before_a_wardrobe_is_not_astray_if_others_show_the_wardrobe_too() -> None:
    others = [np.vstack([floor(), wardrobe(100)]) for _ in range(12)]
    near, elsewhere = wardrobe(500), wardrobe(500) + np.array([1.2, -0.8, 0.4])
    voxels = VoxelMap()
    for points in others:
        voxels.add(points, np.full(len(points), 3.0))
    for points in (near, elsewhere):
        voxels.add(points, np.full(len(points), 0.5))  # so near that it hardly weighs
    assert list(astray([*others, near, elsewhere], voxels.voxels(), [FLOOR])) == [False] * 13 + [True]


def test_frames_that_see_mostly_what_stands_before_a_wall_do_not_make_it_wander() -> None:
    wall = [np.column_stack([RANDOM.normal(2.0, 0.01, 60), RANDOM.uniform(0, 3, (60, 2))]) for _ in range(20)]
    before = [points - np.array([0.05, 0.0, 0.0]) for points in wall[:5]]
    assert wander([*wall[5:], *before], X, 2.0) < 0.003


def test_a_wall_seen_two_centimetres_apart_wanders_by_that() -> None:
    # Evenly between -2 and 2 cm: half of them within 1 cm, of which 1.48 times is the standard deviation of normal numbers.
    shifts = np.linspace(-0.02, 0.02, 41)
    wall = [np.column_stack([RANDOM.normal(2.0 + x, 0.004, 60), RANDOM.uniform(0, 3, (60, 2))]) for x in shifts]
    assert wander(wall, X, 2.0) == pytest.approx(0.0148, abs=0.002)


def test_noise_alone_is_no_wandering() -> None:
    # Means of 15 points are 5 mm apart by their noise of 2 cm.
    random = np.random.default_rng(7)
    wall = [np.column_stack([random.normal(2.0, 0.02, 15), random.uniform(0, 3, (15, 2))]) for _ in range(400)]
    assert wander(wall, X, 2.0) < 0.002
