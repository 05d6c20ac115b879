"""A ceiling of several planes over the plan: which part of the room each covers, how high it is and what lies under it."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import Polygon
from shapely.ops import polygonize, unary_union

from processors.scans.ceilings import LEVEL_SLOPE, CeilingField, CeilingPlane
from processors.scans.levelled import Levelled
from processors.scans.levels import MIN_HEIGHT_M, Level
from processors.scans.walls import WallLine, find_lines

_REACH_M: Final = 100.0
_PARALLEL: Final = 0.02
_OFF_PLANE_M: Final = 0.04
_OFF_WALL_M: Final = 0.15
_UPRIGHT: Final = 0.5
_SLIVER_M2: Final = 0.01
_MIN_VOTES: Final = 8
_CELL_M: Final = 0.2
_AT_HEIGHT_M: Final = 0.12
_LEAST_COVERED: Final = 0.6
_LEAST_AT_HEIGHT: Final = 0.85
# How well the edge of a step is known from the voxels of its riser.
_RISER_SIGMA_M: Final = 0.01


@dataclass(frozen=True, slots=True)
class CeilingPart:
    """A plane, and the part of the plan that it covers."""

    plane: CeilingPlane
    shape: Polygon

    @property
    def corners(self) -> NDArray[np.float64]:
        """Counter-clockwise, on the plane; shape (k, 3)."""
        ring = shapely.get_coordinates(shapely.geometry.polygon.orient(self.shape).exterior)[:-1]
        return np.column_stack([ring, self.plane.at(ring)])

    @property
    def mean(self) -> float:
        """Mean z: a plane's is that over the middle of its part."""
        return float(self.plane.at(shapely.get_coordinates(self.shape.centroid))[0])


@dataclass(frozen=True, slots=True)
class ShapedCeiling:
    """All parts of it.

    Attributes:
        parts: largest first; together they cover the plan.
        lowest: the lowest z that it comes down to; `highest` the highest.
        highest_sigma: standard deviation of `highest` without the floor's.
        volume_sigma: standard deviation of the volume under it, as far as heights and steps make it.
    """

    parts: tuple[CeilingPart, ...]
    lowest: float
    highest: float
    highest_sigma: float
    volume_sigma: float

    @property
    def is_sloped(self) -> bool:
        """Whether any part slopes; else it is stepped."""
        return any(part.plane.slope >= LEVEL_SLOPE for part in self.parts)

    def at(self, plan: NDArray[np.float64]) -> NDArray[np.float64]:
        """Heights over places, shape (n, 2); the lowest plane's outside of the plan."""
        heights: NDArray[np.float64] = np.min([part.plane.at(plan) for part in self.parts], axis=0)
        for part in self.parts:
            over = shapely.contains_xy(part.shape, plan[:, 0], plan[:, 1])
            heights[over] = part.plane.at(plan[over])
        return heights

    def volume(self, floor_z: float) -> float:
        """Between the floor and it."""
        return math.fsum(part.shape.area * (part.mean - floor_z) for part in self.parts)


def shaped_ceiling(
    field: CeilingField,
    corners: NDArray[np.float64],
    seen: Levelled,
    floor: Level,
    wall_sigma: float,
) -> ShapedCeiling | None:
    """The ceiling over a plan; None if it is not what was seen nearly everywhere.

    Args:
        field: its planes.
        corners: of the plan, shape (k, 2).
        seen: all voxels; risers of steps are among them.
        floor: below.
        wall_sigma: how sure the walls are at which slopes end, metres.
    """
    plan = Polygon(corners)
    parts = _parts(field, plan, _ridges(field) + _risers(field, plan, seen))
    if not parts or not _is_seen(parts, plan, seen.points, floor.z):
        return None
    ends = np.concatenate([part.corners for part in parts])
    sigma = [
        math.hypot(part.plane.sigma_at(corner[:2]), part.plane.slope * wall_sigma)
        for part in parts
        for corner in part.corners
    ]
    top = int(ends[:, 2].argmax())
    return ShapedCeiling(
        tuple(sorted(parts, key=lambda part: -part.shape.area)),
        float(ends[:, 2].min()),
        float(ends[top, 2]),
        sigma[top],
        _volume_sigma(parts, plan.area * floor.sigma),
    )


def _volume_sigma(parts: Sequence[CeilingPart], floor: float) -> float:
    heights = [part.shape.area * part.plane.sigma_at(shapely.get_coordinates(part.shape.centroid)[0]) for part in parts]
    steps = [_step(one, other) * _RISER_SIGMA_M for one, other in itertools.combinations(parts, 2)]
    return math.hypot(floor, *heights, *steps)


def _step(one: CeilingPart, other: CeilingPart) -> float:
    """Area of the riser between two parts."""
    edge = one.shape.intersection(other.shape)
    if not edge.length:
        return 0.0
    middle = shapely.get_coordinates(edge.centroid)
    return float(edge.length * abs(one.plane.at(middle) - other.plane.at(middle))[0])


def _ridges(field: CeilingField) -> list[tuple[NDArray[np.float64], float]]:
    """Lines on the plan in which planes meet: normal and rho."""
    found = []
    for one, other in itertools.combinations(field.planes, 2):
        apart = one.gradient - other.gradient
        steepness = float(np.linalg.norm(apart))
        if steepness > _PARALLEL:
            found.append((apart / steepness, (other.offset - one.offset) / steepness))
    return found


def _risers(field: CeilingField, plan: Polygon, seen: Levelled) -> list[tuple[NDArray[np.float64], float]]:
    """Lines on the plan in which one level ends and another begins: what stands upright between the two."""
    points = seen.points
    rows = np.flatnonzero(np.abs(seen.normal[:, 2]) < _UPRIGHT)
    rows = rows[shapely.contains_xy(plan.buffer(-_OFF_WALL_M), points[rows, 0], points[rows, 1])]
    if not len(rows):
        return []
    low, high = field.range_at(points[rows, :2])
    between = rows[(points[rows, 2] > low + _OFF_PLANE_M) & (points[rows, 2] < high - _OFF_PLANE_M)]
    lines: list[WallLine] = find_lines(
        points[between], seen.normal[between], seen.weight[between], is_sparse=seen.sensor.is_sparse
    )
    return [(line.normal, line.rho) for line in lines]


def _parts(field: CeilingField, plan: Polygon, lines: Sequence[tuple[NDArray[np.float64], float]]) -> list[CeilingPart]:
    pieces, around = [plan.exterior], plan.buffer(_OFF_WALL_M)  # lines cross the walls, or they would not cut
    for normal, rho in lines:
        along = np.array([-normal[1], normal[0]]) * _REACH_M
        pieces.append(shapely.LineString([normal * rho - along, normal * rho + along]).intersection(around))
    cells = [cell for cell in polygonize(unary_union(pieces)) if plan.contains(cell.representative_point())]
    of_plane: dict[int, list[Polygon]] = defaultdict(list)
    for cell in cells:
        of_plane[_plane_over(field, cell)].append(cell)
    return [
        CeilingPart(field.planes[number], piece)
        for number, some in sorted(of_plane.items())
        for piece in _joined(some)
        if piece.area > _SLIVER_M2
    ]


def _plane_over(field: CeilingField, cell: Polygon) -> int:
    within = shapely.contains_xy(cell, field.points[:, 0], field.points[:, 1])
    votes = np.bincount(field.plane_of[within], minlength=len(field.planes))
    if votes.sum() >= _MIN_VOTES:
        return int(votes.argmax())
    return field.nearest(shapely.get_coordinates(cell.representative_point())[0])


def _joined(cells: Sequence[Polygon]) -> list[Polygon]:
    """Cells of one plane as few polygons; what would go around another part stays in cells."""
    union = unary_union(cells)
    pieces = [piece for piece in getattr(union, "geoms", [union]) if isinstance(piece, Polygon)]
    whole = [piece for piece in pieces if not piece.interiors]
    ringed = [piece for piece in pieces if piece.interiors]
    return whole + [cell for cell in cells if any(piece.contains(cell.representative_point()) for piece in ringed)]


def _is_seen(parts: Sequence[CeilingPart], plan: Polygon, points: NDArray[np.float64], floor_z: float) -> bool:
    """Whether the highest that was seen, cell by cell and away from walls, is the ceiling, nearly everywhere."""
    inner = plan.buffer(-_CELL_M)
    high = points[shapely.contains_xy(inner, points[:, 0], points[:, 1]) & (points[:, 2] > floor_z + MIN_HEIGHT_M)]
    high = high[np.argsort(high[:, 2], kind="stable")]
    cells, cell = np.unique(np.floor(high[:, :2] / _CELL_M).astype(np.int64), axis=0, return_inverse=True)
    top = np.zeros(len(cells), dtype=np.intp)
    top[cell.ravel()] = np.arange(len(high))  # the last one is the highest
    tops = high[top]
    at_height = np.zeros(len(tops), dtype=bool)
    for part in parts:
        over = shapely.contains_xy(part.shape, tops[:, 0], tops[:, 1])
        at_height[over] = np.abs(part.plane.off(tops[over])) < _AT_HEIGHT_M
    seen = int(at_height.sum())
    return seen * _CELL_M**2 >= _LEAST_COVERED * inner.area and seen >= _LEAST_AT_HEIGHT * len(cells)
