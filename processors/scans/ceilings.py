"""Ceilings that are not level: the planes they are made of, found without knowing the walls, and how high they are over a place.

A plane is proposed by every half metre of what hangs overhead, the one that most voxels lie on is fitted, its voxels are taken
away, and so on, as for walls. Where one plane ends and another begins is told by the voxels over the place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

# Lower than this hang lamps and shelves, not ceilings; a slope that reaches deeper is carried on from above.
_LOWEST_M: Final = 1.5
# Within 60 degrees of level.
_STEEPEST: Final = 0.5
_PATCH_M: Final = 0.5
_PATCH_VOXELS: Final = 30
_PATCH_SPREAD_M: Final = 0.03
_FIT_M: Final = 0.06
_VOTE_M: Final = 0.03
_CLAIM_M: Final = 0.08
# Four tenths of a square metre.
_MIN_VOXELS: Final = 250
_MOST_PLANES: Final = 12
_RASTER_M: Final = 0.2
_AROUND_M: Final = 0.35
_AROUND_CELLS: Final = 9
_ROUNDS: Final = 4
# As for floors and level ceilings; what slopes lies in its voxels every way, which a third of it is left of.
_GRID_SIGMA_M: Final = 0.0006
_OF_SLOPES: Final = 0.33
LEVEL_SLOPE: Final = 0.01
_MOSTLY: Final = 0.85
_LAMPS_M: Final = 0.12


@dataclass(frozen=True, slots=True)
class CeilingPlane:
    """z = gradient · p + offset over a place p of the plan.

    Attributes:
        gradient: metres of height a metre, shape (2,).
        offset: height over the origin.
        middle: of its voxels, shape (2,): there it is surest.
        reach: root mean square distance of its voxels from there, metres.
        sigma: standard deviation of its height there, metres.
    """

    gradient: NDArray[np.float64]
    offset: float
    middle: NDArray[np.float64]
    reach: float
    sigma: float

    def at(self, plan: NDArray[np.float64]) -> NDArray[np.float64]:
        """Heights over places, shape (n, 2)."""
        heights: NDArray[np.float64] = plan @ self.gradient + self.offset
        return heights

    @property
    def slope(self) -> float:
        """Metres of height a metre along its steepest way."""
        return float(np.linalg.norm(self.gradient))

    @property
    def normal(self) -> NDArray[np.float64]:
        """Unit vector, upwards."""
        found: NDArray[np.float64] = np.array([*-self.gradient, 1.0]) / math.hypot(1.0, self.slope)
        return found

    def off(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Signed distances of points, shape (n, 3)."""
        found: NDArray[np.float64] = (points[:, 2] - self.at(points[:, :2])) / math.hypot(1.0, self.slope)
        return found

    def sigma_at(self, place: NDArray[np.float64]) -> float:
        """Standard deviation of its height over a place: the farther from its middle, the less sure."""
        away = float(np.linalg.norm(place - self.middle)) / max(self.reach, _RASTER_M)
        return self.sigma * math.hypot(1.0, away)


class CeilingField:
    """Planes, and which of them is over which place.

    Args:
        planes: of the ceiling.
        points: voxels that lie on them, shape (n, 3).
        plane_of: the plane of each, shape (n,).
    """

    def __init__(self, planes: Sequence[CeilingPlane], points: NDArray[np.float64], plane_of: NDArray[np.intp]) -> None:
        self.planes = tuple(planes)
        self.points = points
        self.plane_of = plane_of
        cells, row = np.unique(np.floor(points[:, :2] / _RASTER_M).astype(np.int64), axis=0, return_inverse=True)
        votes = np.bincount(row.ravel() * len(planes) + plane_of, minlength=len(cells) * len(planes))
        self._plane_of_cell = votes.reshape(-1, len(planes)).argmax(axis=1)
        self._tree = KDTree((cells + 0.5) * _RASTER_M)

    @property
    def is_level(self) -> bool:
        """Whether it is one plane without a slope."""
        return len(self.planes) == 1 and self.planes[0].slope < LEVEL_SLOPE

    @property
    def is_mostly_one(self) -> bool:
        """Whether nearly all that was seen of it is one plane."""
        votes = np.bincount(self.plane_of, minlength=len(self.planes))
        return bool(votes.max() > _MOSTLY * votes.sum())

    @property
    def is_mostly_level(self) -> bool:
        """Whether that one has no slope."""
        votes = np.bincount(self.plane_of, minlength=len(self.planes))
        return self.is_mostly_one and self.planes[int(votes.argmax())].slope < LEVEL_SLOPE

    def is_mostly_at(self, z: float) -> bool:
        """Whether nearly all that was seen of it is about as high as that, lamps and beams with it."""
        return float((np.abs(self.points[:, 2] - z) < _LAMPS_M).mean()) > _MOSTLY

    def surer(self, sigmas: Sequence[float]) -> CeilingField:
        """With other standard deviations of its planes."""
        planes = [replace(plane, sigma=sigma) for plane, sigma in zip(self.planes, sigmas, strict=True)]
        return CeilingField(planes, self.points, self.plane_of)

    def around(self, plan: NDArray[np.float64]) -> NDArray[np.float64]:
        """Heights over each place (n, 2) of the planes seen near it, which differ where one ends; NaN for cells far off."""
        count = min(_AROUND_CELLS, self._tree.n)
        distance, cell = self._tree.query(plan, k=list(range(1, count + 1)))
        near = distance < _AROUND_M
        near[:, 0] = True
        heights = np.stack([plane.at(plan) for plane in self.planes], axis=1)
        around = np.take_along_axis(heights, self._plane_of_cell[cell], axis=1)
        return np.where(near, around, np.nan)

    def range_at(self, plan: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lowest and highest of the planes seen near each place (n, 2)."""
        around = self.around(plan)
        return np.nanmin(around, axis=1), np.nanmax(around, axis=1)

    def nearest(self, place: NDArray[np.float64]) -> int:
        """The plane seen nearest to a place, shape (2,)."""
        return int(self._plane_of_cell[self._tree.query(place)[1]])


def find_field(
    points: NDArray[np.float64], normal: NDArray[np.float64], weight: NDArray[np.float64], floor_z: float
) -> CeilingField | None:
    """The ceiling's planes; None if hardly any of it was seen.

    Args:
        points: shape (n, 3), levelled by the floor.
        normal: of each.
        weight: of each.
        floor_z: height of the floor.
    """
    overhead = (points[:, 2] > floor_z + _LOWEST_M) & (np.abs(normal[:, 2]) > _STEEPEST)
    points, weight = points[overhead], weight[overhead]
    planes = _found(points, weight)
    if not planes:
        return None
    for _ in range(_ROUNDS):
        plane_of, near = _nearest_plane(planes, points)
        planes = [
            _fitted(points[rows], weight[rows])
            for number in range(len(planes))
            if (rows := near & (plane_of == number)).sum() >= _MIN_VOXELS
        ]
        if not planes:
            return None
    plane_of, near = _nearest_plane(planes, points)
    return CeilingField(planes, points[near], plane_of[near])


def _nearest_plane(
    planes: Sequence[CeilingPlane], points: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    off = np.abs(np.stack([plane.off(points) for plane in planes]))
    return off.argmin(axis=0), off.min(axis=0) < _FIT_M


def _found(points: NDArray[np.float64], weight: NDArray[np.float64]) -> list[CeilingPlane]:
    guesses = _patches(points)
    free = np.ones(len(points), dtype=bool)
    planes: list[CeilingPlane] = []
    while len(planes) < _MOST_PLANES and len(guesses) and free.sum() >= _MIN_VOXELS:
        off = np.abs(points[free, 2] - guesses[:, :2] @ points[free, :2].T - guesses[:, 2:])
        votes = (off < _VOTE_M * np.hypot(1, np.linalg.norm(guesses[:, :2], axis=1))[:, None]).sum(axis=1)
        best = int(votes.argmax())
        if votes[best] < _MIN_VOXELS:
            break
        plane = _grown(points[free], weight[free], guesses[best])
        guesses = np.delete(guesses, best, axis=0)
        if plane is not None:
            planes.append(plane)
            free &= np.abs(plane.off(points)) > _CLAIM_M
    return planes


def _grown(points: NDArray[np.float64], weight: NDArray[np.float64], guess: NDArray[np.float64]) -> CeilingPlane | None:
    plane = CeilingPlane(guess[:2], float(guess[2]), np.zeros(2), 1.0, 0.0)
    for _ in range(_ROUNDS):
        near = np.abs(plane.off(points)) < _FIT_M
        if near.sum() < _MIN_VOXELS:
            return None
        plane = _fitted(points[near], weight[near])
    return plane


def _fitted(points: NDArray[np.float64], weight: NDArray[np.float64]) -> CeilingPlane:
    """Weighted least squares of heights."""
    middle = np.average(points, axis=0, weights=weight)
    centred = points - middle
    scaled = np.sqrt(weight / weight.mean())[:, None]
    gradient = np.linalg.lstsq(centred[:, :2] * scaled, centred[:, 2] * scaled[:, 0], rcond=None)[0]
    reach = math.sqrt(float(np.average((centred[:, :2] ** 2).sum(axis=1), weights=weight)) / 2)
    plane = CeilingPlane(gradient, float(middle[2] - gradient @ middle[:2]), middle[:2], reach, 0.0)
    spread = float(np.sqrt(np.average(plane.off(points) ** 2, weights=weight)))
    sigma = math.hypot(spread / math.sqrt(max(len(points) / 20, 1)), _GRID_SIGMA_M)
    return replace(plane, sigma=sigma if plane.slope < LEVEL_SLOPE else sigma * _OF_SLOPES)


def _patches(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Planes (a, b, c) through what hangs over each half metre of the plan, where that is a plane; shape (n, 3)."""
    cells, row = np.unique(np.floor(points[:, :2] / _PATCH_M).astype(np.int64), axis=0, return_inverse=True)
    if not len(cells):
        return np.empty((0, 3))
    row = row.ravel()
    count = np.bincount(row)
    middle = np.stack([np.bincount(row, axis) / count for axis in points.T], axis=1)
    x, y, z = (points - middle[row]).T
    xx, xy, yy, xz, yz, zz = (np.bincount(row, one) for one in (x * x, x * y, y * y, x * z, y * z, z * z))
    size = xx * yy - xy**2
    is_flat = (count >= _PATCH_VOXELS) & (size > (count * _RASTER_M**2 / 12) ** 2)
    size = np.where(is_flat, size, 1.0)
    a, b = (xz * yy - yz * xy) / size, (yz * xx - xz * xy) / size
    spread = np.sqrt(np.maximum(zz - a * xz - b * yz, 0.0) / count) / np.hypot(1, np.hypot(a, b))
    is_flat &= spread < _PATCH_SPREAD_M
    return np.stack([a, b, middle[:, 2] - a * middle[:, 0] - b * middle[:, 1]], axis=1)[is_flat]
