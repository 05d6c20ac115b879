"""The floor plan: which cells of the arrangement of wall lines belong to the room that the camera was in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import LineString, Polygon
from shapely.ops import polygonize, unary_union

from processors.scans.walls import COLUMN_M, WallLine

_MARGIN_M: Final = 0.5
_ON_LINE_M: Final = 0.01


@dataclass(frozen=True, slots=True)
class Flood:
    """How the room grows from cell to cell.

    Attributes:
        raster_m: how far apart voxels of floor and ceiling may lie and still cover what is between.
        cross_below: edges with less support than this are no walls.
        covered: share of a cell over which floor or ceiling must have been seen.
    """

    raster_m: float
    cross_below: float
    covered: float


# A cell of which only half was seen hides a wall that was not found.
DENSE_FLOOD: Final = Flood(0.1, 0.45, 0.6)
# A scanner that stands still sees no floor behind a wall, but rows of lamps that look like one.
SPARSE_FLOOD: Final = Flood(0.3, 0.85, 0.15)


@dataclass(frozen=True, slots=True)
class Edge:
    """A wall of the plan: from corner to corner, the line it lies on and how much of it was seen."""

    first: NDArray[np.float64]
    last: NDArray[np.float64]
    line: WallLine
    support: float

    @property
    def length(self) -> float:
        """Metres."""
        return float(np.linalg.norm(self.last - self.first))


@dataclass(frozen=True, slots=True)
class Plan:
    """Counter-clockwise walls, without the first repeated."""

    edges: tuple[Edge, ...]

    @property
    def corners(self) -> NDArray[np.float64]:
        """Shape (k, 2)."""
        return np.array([edge.first for edge in self.edges])

    @property
    def min_support(self) -> float:
        """The weakest wall's support."""
        return min(edge.support for edge in self.edges)

    @property
    def completeness(self) -> float:
        """Share of the walls that was seen, by length."""
        return sum(edge.support * edge.length for edge in self.edges) / sum(edge.length for edge in self.edges)


def draw_plan(
    lines: Sequence[WallLine], cameras: NDArray[np.float64], flat: NDArray[np.float64], flood: Flood = DENSE_FLOOD
) -> Plan | None:
    """The closed plan around the cameras; None if the lines do not close.

    Args:
        lines: of the walls, best supported first.
        cameras: shape (m, 2); without any, the plan is around the largest piece of floor or ceiling.
        flat: shape (n, 2), voxels of floor and ceiling.
        flood: how far the room goes on.
    """
    ends = [line.rho * line.normal + line.columns[n] * COLUMN_M * line.along for line in lines for n in (0, -1)]
    cells = _cells(lines, np.concatenate([flat, cameras, np.reshape(ends, (-1, 2))]))
    if not cells:
        return None
    covered = _coverage(cells, flat, flood.raster_m)
    inside = _flood(cells, lines, cameras, covered, flood)
    if not inside:
        return None
    union = unary_union([cells[n] for n in inside])
    if not isinstance(union, Polygon):
        return None
    return _to_plan(union, lines)


def _cells(lines: Sequence[WallLine], points: NDArray[np.float64]) -> list[Polygon]:
    low, high = points.min(axis=0) - _MARGIN_M, points.max(axis=0) + _MARGIN_M
    frame = shapely.box(*low, *high)
    reach = float(np.linalg.norm(high - low))
    middle = (low + high) / 2
    pieces = [frame.exterior]
    for line in lines:
        foot = middle + (line.rho - line.normal @ middle) * line.normal
        pieces.append(LineString([foot - line.along * reach, foot + line.along * reach]).intersection(frame))
    return list(polygonize(unary_union(pieces)))


def _coverage(cells: Sequence[Polygon], flat: NDArray[np.float64], raster_m: float) -> list[float]:
    """Share of each cell's raster points over which floor or ceiling was seen."""
    low = flat.min(axis=0) - _MARGIN_M * 2
    size = np.ceil((flat.max(axis=0) + _MARGIN_M * 2 - low) / raster_m).astype(int)
    seen = np.zeros(size, dtype=bool)
    seen[tuple(((flat - low) / raster_m).astype(int).T)] = True
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in size), indexing="ij"), axis=-1).reshape(-1, 2)
    middles = shapely.points(low + (grid + 0.5) * raster_m)
    tree = shapely.STRtree(middles)
    flags = seen.reshape(-1)
    shares = []
    for cell in cells:
        within = tree.query(cell, predicate="contains")
        if not len(within):  # narrower than the raster: the point nearest to its middle speaks for it
            within = tree.query_nearest(cell.representative_point())
        shares.append(float(flags[within].mean()))
    return shares


def _flood(
    cells: Sequence[Polygon],
    lines: Sequence[WallLine],
    cameras: NDArray[np.float64],
    covered: Sequence[float],
    flood: Flood,
) -> set[int]:
    tree = shapely.STRtree(cells)
    if len(cameras):
        starts = {int(cell) for cell in tree.query(shapely.points(cameras), predicate="within")[1]}
    else:
        starts = {int(np.argmax([cell.area * share for cell, share in zip(cells, covered, strict=True)]))}
    inside = {n for n in starts if covered[n] > flood.covered}
    waiting = sorted(inside)
    while waiting:
        here = waiting.pop()
        for there in tree.query(cells[here], predicate="touches"):
            other = int(there)
            if other in inside or covered[other] <= flood.covered:
                continue
            shared = cells[here].intersection(cells[other])
            if shared.length < _ON_LINE_M or _edge_support(shared, lines)[1] >= flood.cross_below:
                continue
            inside.add(other)
            waiting.append(other)
    return inside


def _edge_support(edge: shapely.Geometry, lines: Sequence[WallLine]) -> tuple[WallLine | None, float]:
    """The best supported line that an edge lies on."""
    points = np.array(shapely.get_coordinates(edge))
    first, last = points[0], points[-1]
    best: tuple[WallLine | None, float] = (None, 0.0)
    for line in lines:
        if max(abs(line.normal @ first - line.rho), abs(line.normal @ last - line.rho)) < _ON_LINE_M:
            support = line.support(first, last)
            if best[0] is None or support > best[1]:
                best = (line, support)
    return best


def _to_plan(polygon: Polygon, lines: Sequence[WallLine]) -> Plan | None:
    corners = _corners(shapely.simplify(polygon, 0.01))
    if len(corners) < 3:  # noqa: PLR2004
        return None
    edges = []
    for first, last in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        line, support = _edge_support(LineString([first, last]), lines)
        if line is None:
            line, support = _own_line(first, last), 0.0
        edges.append(Edge(first, last, line, support))
    return Plan(tuple(edges))


def _corners(polygon: Polygon) -> NDArray[np.float64]:
    ring = shapely.get_coordinates(shapely.geometry.polygon.orient(polygon).exterior)[:-1]
    # The ring may start in the middle of a wall.
    turn = [
        abs(_sine(ring[n - 1], ring[n], ring[(n + 1) % len(ring)])) > math.sin(math.radians(2))
        for n in range(len(ring))
    ]
    corners: NDArray[np.float64] = ring[np.array(turn)]
    return corners


def _sine(a: NDArray[np.float64], b: NDArray[np.float64], c: NDArray[np.float64]) -> float:
    u, v = b - a, c - b
    return float((u[0] * v[1] - u[1] * v[0]) / (np.linalg.norm(u) * np.linalg.norm(v)))


def _own_line(first: NDArray[np.float64], last: NDArray[np.float64]) -> WallLine:
    along = (last - first) / np.linalg.norm(last - first)
    normal = np.array([along[1], -along[0]])
    return WallLine(normal, float(normal @ first), 0.05, np.empty(0, dtype=np.int64))
