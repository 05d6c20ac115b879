"""A ceiling is level if the highest that was seen is at one height, however much of it was seen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from processors.scans.levels import is_level

CORNERS = np.array([[0.0, 0.0], [4.0, 0.0], [4.0, 4.0], [0.0, 4.0]])
# A voxel every 4 cm: 100 along a side of 4 m.
SIDE = np.arange(0.02, 4.0, 0.04)
FLAT = np.array([(x, y, 0.0) for x in SIDE for y in SIDE])


def at(height_m: NDArray[np.float64] | float, keep: float = 1.0) -> NDArray[np.float64]:
    """Floor at 0 and a ceiling over it, of which this share of voxels was seen."""
    ceiling = FLAT + np.array([0.0, 0.0, 1.0]) * np.reshape(height_m, (-1, 1))
    return np.vstack([FLAT, ceiling[np.random.default_rng(1).random(len(ceiling)) < keep]])


def test_one_height_is_level_also_where_few_voxels_were_seen() -> None:
    assert is_level(at(2.5), CORNERS, 0.0, 2.5)
    assert is_level(at(2.5, keep=0.2), CORNERS, 0.0, 2.5)


def test_a_step_over_a_quarter_of_the_room_is_not() -> None:
    assert not is_level(at(np.where(FLAT[:, 0] < 1.0, 2.3, 2.5)), CORNERS, 0.0, 2.5)


def test_a_slope_of_two_centimetres_a_metre_is_not() -> None:
    assert not is_level(at(2.46 + 0.02 * FLAT[:, 0]), CORNERS, 0.0, 2.5)


def test_two_slopes_that_meet_in_the_middle_are_not_though_their_mean_has_no_slope() -> None:
    # From 2.6 m at the ridge down to 2.45 m at the walls.
    assert not is_level(at(2.6 - 0.075 * np.abs(FLAT[:, 0] - 2.0)), CORNERS, 0.0, 2.55)


def test_half_a_ceiling_is_not_known_to_be() -> None:
    points = at(2.5)
    assert not is_level(points[(points[:, 2] < 1.0) | (points[:, 0] < 2.0)], CORNERS, 0.0, 2.5)
