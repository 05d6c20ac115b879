"""Mirrors: a wall behind which the room seems to go on, as its own image.

What lies behind such a wall falls on what is in the room when it is folded back; what a door shows does not. Floors and ceilings
would, behind any opening, and so would walls that go on straight: only the rest is asked. Nor may it fall where one saw through.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.spatial import KDTree

from processors.scans.openings import Opening
from processors.scans.plan import Edge

_BEHIND_M: Final = 0.15
_OFF_FLAT_M: Final = 0.15
_SAME_M: Final = 0.08
# A mirror shows the backs of things whose fronts the camera saw.
_AROUND_M: Final = 0.4
_LEAST_SAME: Final = 0.25
_ASKED: Final = 150
_PASS_M: Final = 0.06
_ON_M: Final = 0.25
_LEAST_PASSES: Final = 6
_MOST_SEEN_THROUGH: Final = 0.32
_LEAST_SHARE: Final = 0.7
_LEAST_VOXELS: Final = 60
_LEAST_RAYS: Final = 30
# Above a mirror there is wall.
_LEAST_SUPPORT: Final = 0.8
_ACROSS: Final = 0.1


Rays: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64]]


class Folding:
    """Folds what was seen outside of a plan back into it.

    Args:
        edges: of the plan, counter-clockwise.
        points: of all voxels, shape (n, 3), levelled.
        floor_z: height of the floor.
        top: height of the ceiling over each voxel, shape (n,) or one.
        rays: where some rays began and ended, shape (m, 3) each, levelled; without any nothing is taken for a mirror.
    """

    def __init__(
        self,
        edges: Sequence[Edge],
        points: NDArray[np.float64],
        floor_z: float,
        top: NDArray[np.float64] | float,
        rays: Rays,
    ) -> None:
        self._edges = edges
        self._rays = rays
        self._plan = shapely.Polygon([edge.first for edge in edges])
        between = (points[:, 2] > floor_z + _OFF_FLAT_M) & (points[:, 2] < np.asarray(top) - _OFF_FLAT_M)
        points = points[between]
        near = shapely.contains_xy(self._plan.buffer(_SAME_M), points[:, 0], points[:, 1])
        self._inside, beside = points[near], points[~near]
        far = ~shapely.contains_xy(self._plan.buffer(_BEHIND_M), beside[:, 0], beside[:, 1])
        self._outside = beside[far]
        self._levels = floor_z + _OFF_FLAT_M, float(np.max(top)) - _OFF_FLAT_M

    def mirrored_walls(self) -> list[int]:
        """Numbers of the walls behind which there is nothing but the room again."""
        return [
            number
            for number, edge in enumerate(self._edges)
            if edge.support >= _LEAST_SUPPORT and self._is_image(self._behind(number), number)
        ]

    def drop_images(self, points: NDArray[np.float64], walls: Sequence[int]) -> NDArray[np.float64]:
        """Points (n, 3) outside of the plan without those that may be seen in the mirrors of these walls."""
        for number in walls:
            folded = self._folded(points, number)
            image = shapely.contains_xy(self._plan.buffer(_BEHIND_M), folded[:, 0], folded[:, 1])
            points = points[~(image & (self._beyond(points, number) > 0))]
        return points

    def is_mirror(self, opening: Opening) -> bool:
        """Whether rays through an opening that was found ended on images."""
        edge, (cameras, ends) = self._edges[opening.wall], self._rays
        start, stop = self._beyond(cameras, opening.wall), self._beyond(ends, opening.wall)
        through = (start < 0) & (stop > _BEHIND_M) & (ends[:, 2] > self._levels[0]) & (ends[:, 2] < self._levels[1])
        cameras, ends, start, stop = cameras[through], ends[through], start[through], stop[through]
        at = cameras + (ends - cameras) * (start / (start - stop))[:, None]
        along = (at[:, :2] - edge.first) @ (edge.last - edge.first) / edge.length - opening.offset
        above = at[:, 2] - (self._levels[0] - _OFF_FLAT_M) - opening.sill
        within = (along > 0) & (along < opening.width) & (above > 0) & (above < opening.height)
        return self._is_image(ends[within], opening.wall, _LEAST_RAYS)

    def _behind(self, number: int) -> NDArray[np.float64]:
        behind: NDArray[np.float64] = self._outside[self._beyond(self._outside, number) > _BEHIND_M]
        return behind

    def _is_image(self, points: NDArray[np.float64], number: int, least: int = _LEAST_VOXELS) -> bool:
        points = self._telling(points, number)
        folded = self._folded(points, number)
        folded = folded[shapely.contains_xy(self._plan.buffer(_SAME_M), folded[:, 0], folded[:, 1])]
        if len(folded) < max(least, _LEAST_SHARE * len(points)) or not len(self._inside):
            return False
        distance, _ = self._tree_around(folded).query(folded, distance_upper_bound=_AROUND_M)
        around, same = np.isfinite(distance), distance < _SAME_M
        if float(around.mean()) < _LEAST_SHARE or float(same.mean()) < _LEAST_SAME:
            return False
        return self._seen_through(folded[:: -(-len(folded) // _ASKED)]) < _MOST_SEEN_THROUGH

    def _tree_around(self, points: NDArray[np.float64]) -> KDTree:
        """Of what is inside, as far as it can be near any of the points: mostly little of it."""
        low, high = points.min(axis=0) - _AROUND_M, points.max(axis=0) + _AROUND_M
        return KDTree(self._inside[((self._inside >= low) & (self._inside <= high)).all(axis=1)])

    def _seen_through(self, points: NDArray[np.float64]) -> float:
        """Share of these places through which rays went: nothing can be there."""
        starts, ends = self._rays
        if not len(ends):
            return 1.0
        length = np.linalg.norm(ends - starts, axis=1)
        ways = (ends - starts) / length[:, None]
        return float(np.mean([_passes(point, starts, ways, length) >= _LEAST_PASSES for point in points]))

    def _telling(self, points: NDArray[np.float64], number: int) -> NDArray[np.float64]:
        """Without what lies where walls across this one would go on: that folds onto them, mirror or not."""
        normal = self._edges[number].line.normal
        kept = np.ones(len(points), dtype=bool)
        for edge in self._edges:
            if abs(edge.line.normal @ normal) < _ACROSS:
                kept &= np.abs(points[:, :2] @ edge.line.normal - edge.line.rho) > _SAME_M
        telling: NDArray[np.float64] = points[kept]
        return telling

    def _beyond(self, points: NDArray[np.float64], number: int) -> NDArray[np.float64]:
        """Metres behind a wall, of points (n, 3)."""
        edge = self._edges[number]
        out = self._out(number)
        behind: NDArray[np.float64] = (points[:, :2] - edge.first) @ out
        return behind

    def _folded(self, points: NDArray[np.float64], number: int) -> NDArray[np.float64]:
        folded: NDArray[np.float64] = points.copy()
        folded[:, :2] -= 2 * self._beyond(points, number)[:, None] * self._out(number)
        return folded

    def _out(self, number: int) -> NDArray[np.float64]:
        along = (self._edges[number].last - self._edges[number].first) / self._edges[number].length
        return np.array([along[1], -along[0]])


def rays_of(cameras: NDArray[np.float64], samples: Sequence[NDArray[np.float64]]) -> Rays:
    """Of frames: where each stood, shape (m, 3), and some points that it saw, shape (k, 3) each."""
    if not len(samples):
        return np.empty((0, 3)), np.empty((0, 3))
    counts = [len(each) for each in samples]
    return np.repeat(cameras, counts, axis=0), np.concatenate(samples)


def _passes(
    point: NDArray[np.float64], starts: NDArray[np.float64], ways: NDArray[np.float64], length: NDArray[np.float64]
) -> int:
    """How many rays went by a place and on."""
    towards = point - starts
    along = (towards * ways).sum(axis=1)
    off = (towards**2).sum(axis=1) - along**2
    return int(((off < _PASS_M**2) & (along > _ON_M) & (along < length - _ON_M)).sum())
