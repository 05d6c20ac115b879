"""Holes in a wall by the rays that went through: what is one, of which kind, and how large to the centimetre."""

from __future__ import annotations

import numpy as np
import pytest

from processors.scans.openings import Opening, OpeningKind, OpeningSearch
from processors.scans.plan import Edge
from processors.scans.walls import WallLine

HEIGHT = 2.5
WALL = Edge(
    np.zeros(2), np.array([5.0, 0.0]), WallLine(np.array([0.0, -1.0]), 0.0, 0.0, np.empty(0, dtype=np.int64)), 1.0
)
CAMERA = np.array([2.5, 3.0, 1.25])


def found(
    left: float,
    right: float,
    low: float,
    high: float,
    *,
    looks: int = 3,
    shut: int = 0,
    returned: bool = True,
    apart: float = 0.05,
) -> list[Opening]:
    """What is found where rays so far apart on the wall end on it or, in a hole that is not shut, a metre behind it."""
    across, up = np.meshgrid(np.arange(apart / 2, 5, apart), np.arange(apart / 2, HEIGHT, apart))
    at = np.stack([across.ravel(), np.zeros(across.size), up.ravel()], axis=1)
    is_hole = (at[:, 0] > left) & (at[:, 0] < right) & (at[:, 2] > low) & (at[:, 2] < high)
    ends = CAMERA + (at - CAMERA) * np.where(is_hole, 4 / 3, 1.0)[:, None]
    search = OpeningSearch([WALL], 0.0, HEIGHT)
    for _ in range(looks):
        search.add(CAMERA, ends, returned | ~is_hole)
    for _ in range(shut):
        search.add(CAMERA, at, np.ones(len(at), dtype=bool))
    return search.openings()


@pytest.mark.parametrize("returned", [True, False])
@pytest.mark.parametrize(
    ("hole", "kind"),
    [
        ((1.0, 1.9, 0.0, 2.0), OpeningKind.DOOR),
        ((1.0, 2.3, 0.0, 2.0), OpeningKind.DOOR),
        ((1.0, 2.4, 0.0, 2.0), OpeningKind.OPENING),
        ((1.0, 1.9, 0.15, 2.0), OpeningKind.DOOR),
        ((1.0, 1.9, 0.2, 2.0), OpeningKind.WINDOW),
        ((2.0, 2.6, 1.0, 1.5), OpeningKind.WINDOW),
    ],
)
def test_a_hole_has_its_kind_and_its_size(
    hole: tuple[float, float, float, float], kind: OpeningKind, returned: bool
) -> None:
    left, right, low, high = hole
    (one,) = found(*hole, returned=returned)

    assert (one.kind, one.wall) == (kind, 0)
    assert [one.offset, one.width, one.sill, one.height] == pytest.approx([left, right - left, low, high - low])


def test_a_hole_that_ends_within_a_cell_has_the_share_of_it_that_lets_rays_through() -> None:
    (one,) = found(0.975, 1.925, 0.5, 1.475, apart=0.025)

    assert [one.offset, one.width, one.sill, one.height] == pytest.approx([0.975, 0.95, 0.5, 0.975])


def test_a_hole_of_less_than_a_quarter_of_a_square_metre_or_seen_twice_only_is_none() -> None:
    assert found(2.0, 2.45, 1.0, 1.55) == []  # 0.2475 m²
    assert found(2.0, 3.0, 1.0, 2.0, looks=2) == []
    assert found(2.0, 2.25, 0.5, 2.0) == []  # a slit


@pytest.mark.parametrize(("looks", "count"), [(6, 0), (7, 1)])
def test_more_than_three_of_four_rays_must_go_through(looks: int, count: int) -> None:
    assert len(found(2.0, 3.0, 1.0, 2.0, looks=looks, shut=2)) == count
