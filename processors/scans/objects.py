"""Things that stand in the room, as boxes. What they are nobody here knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy import ndimage

from processors.scans.plan import Edge
from processors.scans.voxels import VOXEL_M

_OFF_WALL_M: Final = 0.1
_OFF_FLOOR_M: Final = 0.08
_OFF_CEILING_M: Final = 0.15
_MIN_VOXELS: Final = 60
_MIN_SIZE_M: Final = 0.15
_JOIN_CELLS = 2


@dataclass(frozen=True, slots=True)
class ObjectBox:
    """A box that stands upright: center (3), size length x width x height (3), yaw of its length in radians."""

    center: tuple[float, float, float]
    size: tuple[float, float, float]
    yaw: float


def find_objects(
    points: NDArray[np.float64], walls: tuple[Edge, ...], floor_z: float, ceiling_z: NDArray[np.float64] | float
) -> list[ObjectBox]:
    """Boxes around what is neither wall nor floor nor ceiling, largest first.

    Args:
        points: shape (n, 3), levelled voxel centres.
        walls: of the plan.
        floor_z: height of the floor.
        ceiling_z: height of the ceiling, over all or over each of the points, shape (n,).
    """
    inside = shapely.contains_xy(shapely.Polygon([wall.first for wall in walls]), points[:, 0], points[:, 1])
    free = inside & (points[:, 2] > floor_z + _OFF_FLOOR_M) & (points[:, 2] < ceiling_z - _OFF_CEILING_M)
    for wall in walls:
        free &= np.abs(points[:, :2] @ wall.line.normal - wall.line.rho) > _OFF_WALL_M
    loose = points[free]
    if len(loose) < _MIN_VOXELS:
        return []
    boxes = [box for cluster in _clusters(loose) if (box := _box(loose[cluster], floor_z)) is not None]
    return sorted(boxes, key=lambda box: -box.size[0] * box.size[1] * box.size[2])


def _clusters(points: NDArray[np.float64]) -> list[NDArray[np.intp]]:
    """Points whose voxels are at most two apart belong together."""
    cells = np.floor((points - points.min(axis=0)) / VOXEL_M).astype(np.int64) + 2
    grid = np.zeros(cells.max(axis=0) + 3, dtype=bool)
    grid[tuple(cells.T)] = True
    labels, count = ndimage.label(_widened(grid), np.ones((3, 3, 3)))
    of_point = labels[tuple(cells.T)]
    return [rows for part in range(1, count + 1) if len(rows := np.flatnonzero(of_point == part)) >= _MIN_VOXELS]


def _widened(grid: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """With all cells around that are at most so many away: a cube, so one axis can go after another."""
    for axis in range(grid.ndim):
        wide = grid.copy()
        for far in range(1, _JOIN_CELLS + 1):
            here, there = np.moveaxis(wide, axis, 0), np.moveaxis(grid, axis, 0)
            here[far:] |= there[:-far]
            here[:-far] |= there[far:]
        grid = wide
    return grid


def _box(points: NDArray[np.float64], floor_z: float) -> ObjectBox | None:
    rectangle = shapely.minimum_rotated_rectangle(shapely.MultiPoint(points[:, :2]))
    if not isinstance(rectangle, shapely.Polygon):
        return None
    ring = shapely.get_coordinates(rectangle)
    sides = [ring[1] - ring[0], ring[2] - ring[1]]
    long, short = sorted(sides, key=lambda side: -float(np.linalg.norm(side)))
    length, width = float(np.linalg.norm(long)), float(np.linalg.norm(short))
    # A low underside is the part that nobody could see: things stand on the floor.
    top = float(np.quantile(points[:, 2], 0.99))
    height = top - floor_z
    if min(length, width, height) < _MIN_SIZE_M:
        return None
    middle = ring[:4].mean(axis=0)
    yaw = float(np.arctan2(long[1], long[0]) % np.pi)
    return ObjectBox((float(middle[0]), float(middle[1]), floor_z + height / 2), (length, width, height), yaw)
