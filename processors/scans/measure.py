"""From a voxel map to a room's measurements, each with its standard deviation, or to what is missing for them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import Polygon

from processors.scans.agreement import wander
from processors.scans.levels import MIN_HEIGHT_M, Level, find_levels, is_level, level_rotation, refine_up
from processors.scans.plan import DENSE_FLOOD, SPARSE_FLOOD, Edge, Plan, draw_plan
from processors.scans.result import Verdict
from processors.scans.voxels import VOXEL_M, Voxels, coarse_normals, normals, regrouped
from processors.scans.walls import WallLine, find_lines

_MIN_POINTS: Final = 4
_BAND_TOP_M: Final = 0.03
_BAND_BOTTOM_M: Final = 0.25
# A scanner's rings lie far apart on far walls, and its ceilings are thicker.
_SPARSE_TOP_M: Final = 0.05
_SPARSE_BOTTOM_M: Final = 0.6
_SPARSE_SUPPORT: Final = 0.6
# Where planes lie in their voxels: in the middle; where few voxels decide, another grid may see what one does not.
_PHASES: Final = (0.5, 0.25, 0.75, 0.0)
_OPEN_BAND_M: Final = 0.6
_LEVEL_M: Final = 0.06
_MIN_VOXELS: Final = 200
# How much of its weakest wall must have been seen (measured over more than 100 scans, notes of the trial).
_GOOD_SUPPORT: Final = 0.8
_LEAST_SUPPORT: Final = 0.5
# As for walls; what corners share makes sums a little surer than their parts (calibrated with the same scans).
_WANDER_SHARE: Final = 0.2
_AREA_SHARE: Final = 0.8
_PERIMETER_SHARE: Final = 1.4
_OUTSIDE_M: Final = 0.12
_OUTSIDE_M2: Final = 0.1
_MOST_OUTSIDE: Final = 0.1
# A wall of four metres that turns by half a degree changes a rectangle's area by about as much.
_RIVAL_AREA: Final = 1.01
_WALL_TOP_SIGMA_M: Final = 0.05
_UP: Final = np.array([0.0, 0.0, 1.0])


@dataclass(frozen=True, slots=True)
class Quantity:
    """A measured number and its standard deviation; None without enough evidence. Metres, m² or m³."""

    value: float | None = None
    sigma: float | None = None


@dataclass(frozen=True, slots=True)
class RoomMeasurement:
    """A room.

    Attributes:
        length: longer side of the smallest rectangle around the floor polygon; `width` the shorter one.
        corners: shape (k, 2), counter-clockwise, in the levelled world.
        walls: the walls between them.
        missing_parts: what to scan again.
        turn: rotation that levels the world; corners, walls and `floor_z` are in the levelled world.
        planes: floor, ceiling and lines of walls in the world, normal and rho with normal · p = rho.
    """

    length: Quantity = field(default_factory=Quantity)
    width: Quantity = field(default_factory=Quantity)
    height: Quantity = field(default_factory=Quantity)
    area: Quantity = field(default_factory=Quantity)
    volume: Quantity = field(default_factory=Quantity)
    perimeter: Quantity = field(default_factory=Quantity)
    verdict: Verdict = Verdict.INCOMPLETE
    confidence: float = 0.0
    completeness: float = 0.0
    missing_parts: tuple[str, ...] = ()
    corners: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 2)))
    walls: tuple[Edge, ...] = ()
    turn: NDArray[np.float64] = field(default_factory=lambda: np.eye(3))
    floor_z: float = 0.0
    top_z: float = 0.0
    has_ceiling: bool = False
    planes: tuple[tuple[NDArray[np.float64], float], ...] = ()


@dataclass(frozen=True, slots=True)
class Sensor:
    """What kind of voxels these are: dense ones of depth images, or the sparse ones of a laser scanner."""

    is_sparse: bool = False


DEPTH_CAMERA: Final = Sensor()
SCANNER: Final = Sensor(is_sparse=True)


def clean(voxels: Voxels, sensor: Sensor = DEPTH_CAMERA) -> Voxels:
    """Without stray voxels: flying pixels, haze and frames with a wrong pose gather little weight."""
    if not len(voxels) or sensor.is_sparse:
        return voxels
    return voxels.take((voxels.count >= _MIN_POINTS) & (voxels.weight >= np.median(voxels.weight)))


def measure_room(
    voxels: Voxels,
    cameras: NDArray[np.float64],
    up: NDArray[np.float64],
    sensor: Sensor = DEPTH_CAMERA,
    samples: Sequence[NDArray[np.float64]] = (),
) -> RoomMeasurement:
    """Measure.

    Args:
        voxels: everything that was seen, not cleaned.
        cameras: shape (m, 3), where it was seen from; may be empty for a scanner's cloud.
        up: the device's idea of up, unit vector.
        sensor: what saw it.
        samples: some points of each frame, shape (k, 3), which tell how far poses wander.
    """
    kept = clean(voxels, sensor)
    if len(kept) < _MIN_VOXELS or not (len(cameras) or sensor.is_sparse):
        return RoomMeasurement(missing_parts=("everything",))
    if not sensor.is_sparse:
        return _measured(kept, np.eye(3), cameras, up, sensor, samples)
    for phase in _PHASES:
        found = _measured(*_along_walls(kept, up, phase), cameras, up, sensor, samples)
        if found.walls:
            break
    return found


def _measured(
    kept: Voxels,
    turn: NDArray[np.float64],
    cameras: NDArray[np.float64],
    up: NDArray[np.float64],
    sensor: Sensor,
    samples: Sequence[NDArray[np.float64]],
) -> RoomMeasurement:
    seen = _levelled(kept, turn @ up, sensor)
    if seen is None:
        return RoomMeasurement(missing_parts=("floor",))
    turn = seen.turn @ turn
    cameras = cameras @ turn.T
    floor, ceiling, top, points = seen.floor, seen.ceiling, seen.top, seen.points
    visits = [sample @ turn.T for sample in samples]
    floor, ceiling = _wandered(floor, visits), ceiling and _wandered(ceiling, visits)
    lines = [replace(line, wander=wander(visits, np.array([*line.normal, 0.0]), line.rho)) for line in seen.lines()]
    levels = [floor.z] if ceiling is None else [floor.z, ceiling.z]
    flat = np.any([np.abs(points[:, 2] - z) < _LEVEL_M for z in levels], axis=0)
    flood = SPARSE_FLOOD if sensor.is_sparse else DENSE_FLOOD
    plan = draw_plan(lines, cameras[:, :2], points[flat, :2], flood)
    if plan is not None and ceiling is not None and _goes_on(plan, points[np.abs(points[:, 2] - ceiling.z) < _LEVEL_M]):
        plan = None
    if plan is not None and _seen_from_outside(plan, cameras):
        plan = None
    is_flat = plan is None or ceiling is None or sensor.is_sparse or is_level(points, plan.corners, floor.z, ceiling.z)
    report = _report(plan, floor, ceiling, top, _SPARSE_SUPPORT if sensor.is_sparse else _LEAST_SUPPORT)
    if not is_flat:
        report = _without_height(report)
    planes = [(_UP, z) for z in (floor.z, top)] + [(np.array([*line.normal, 0.0]), line.rho) for line in lines]
    return replace(
        report,
        turn=turn,
        floor_z=floor.z,
        top_z=top,
        has_ceiling=ceiling is not None,
        planes=tuple((turn.T @ normal, rho) for normal, rho in planes),
    )


@dataclass(frozen=True, slots=True)
class _Levelled:
    """What was seen, with floor and ceiling, in the levelled world."""

    turn: NDArray[np.float64]
    points: NDArray[np.float64]
    normal: NDArray[np.float64]
    weight: NDArray[np.float64]
    floor: Level
    ceiling: Level | None
    top: float
    sensor: Sensor

    def lines(self) -> list[WallLine]:
        """Of the walls, in the band under the ceiling."""
        band = _band(self.points, self.top, is_ceiling=self.ceiling is not None)
        if self.sensor.is_sparse:
            band = (self.points[:, 2] > self.top - _SPARSE_BOTTOM_M) & (self.points[:, 2] < self.top - _SPARSE_TOP_M)
        return find_lines(self.points[band], self.normal[band], self.weight[band], is_sparse=self.sensor.is_sparse)


def _levelled(kept: Voxels, up: NDArray[np.float64], sensor: Sensor) -> _Levelled | None:
    normal = coarse_normals(kept) if sensor.is_sparse else normals(kept)
    turn = level_rotation(refine_up(up, normal, kept.weight))
    points, normal = kept.center @ turn.T, normal @ turn.T
    floor, ceiling = find_levels(points[:, 2], np.abs(normal[:, 2]), kept.weight)
    if floor is None:
        return None
    top = ceiling.z if ceiling is not None else _wall_top(points, normal)
    return _Levelled(turn, points, normal, kept.weight, floor, ceiling, top, sensor)


def _along_walls(voxels: Voxels, up: NDArray[np.float64], phase: float) -> tuple[Voxels, NDArray[np.float64]]:
    """Fine voxels grouped anew in a grid along the longest wall and the floor, so that it does not matter how the world lies."""
    middle = np.floor(voxels.center.mean(axis=0) / VOXEL_M) * VOXEL_M
    coarse = regrouped(replace(voxels, center=voxels.center - middle))
    seen = _levelled(coarse, up, SCANNER)
    lines = seen.lines() if seen is not None else []
    if seen is None or not lines:
        return replace(coarse, center=coarse.center + middle), np.eye(3)
    x, y = lines[0].along
    about_z = np.array([[x, y, 0.0], [-y, x, 0.0], [0.0, 0.0, 1.0]])
    turn = about_z @ seen.turn
    across = next((line for line in lines if abs(line.along @ lines[0].along) < 0.1), None)  # noqa: PLR2004
    corner = about_z @ np.array([*(lines[0].rho * lines[0].normal), seen.floor.z])
    if across is not None:
        corner[0] = across.rho * float(np.sign(across.normal @ lines[0].along))
    corner -= VOXEL_M * phase
    moved = regrouped(replace(voxels, center=(voxels.center - middle) @ turn.T - corner))
    return replace(moved, center=moved.center + corner + turn @ middle), turn


def _wandered(level: Level, visits: Sequence[NDArray[np.float64]]) -> Level:
    return replace(level, sigma=math.hypot(level.sigma, _WANDER_SHARE * wander(visits, _UP, level.z)))


def _without_height(report: RoomMeasurement) -> RoomMeasurement:
    """A ceiling that slopes or steps has no one height, and so no volume from it."""
    return replace(
        report,
        height=Quantity(),
        volume=Quantity(),
        verdict=Verdict.INCOMPLETE,
        missing_parts=(*report.missing_parts, "level ceiling"),
    )


def _seen_from_outside(plan: Plan, cameras: NDArray[np.float64]) -> bool:
    """Whether people walked where the plan has no room: it is a part of one, or two scans came under one name."""
    if not len(cameras):
        return False
    outside = ~shapely.contains_xy(shapely.Polygon(plan.corners).buffer(_OUTSIDE_M), cameras[:, 0], cameras[:, 1])
    return float(outside.mean()) > _MOST_OUTSIDE


def _goes_on(plan: Plan, ceiling: NDArray[np.float64]) -> bool:
    """Whether ceiling was seen outside of the plan: doors do not show it, so a part of the room must be missing."""
    outside = shapely.distance(Polygon(plan.corners), shapely.points(ceiling[:, :2])) > _OUTSIDE_M
    return int(outside.sum()) * VOXEL_M**2 > _OUTSIDE_M2


def _wall_top(points: NDArray[np.float64], normal: NDArray[np.float64]) -> float:
    upright = np.abs(normal[:, 2]) < 0.3  # noqa: PLR2004 - as for walls
    return float(np.quantile(points[upright, 2], 0.995)) if upright.any() else float(points[:, 2].max())


def _band(points: NDArray[np.float64], top: float, *, is_ceiling: bool) -> NDArray[np.bool_]:
    if is_ceiling:
        return (points[:, 2] > top - _BAND_BOTTOM_M) & (points[:, 2] < top - _BAND_TOP_M)
    return (points[:, 2] > top - _OPEN_BAND_M) & (points[:, 2] < top)


def _report(plan: Plan | None, floor: Level, ceiling: Level | None, top: float, least: float) -> RoomMeasurement:
    sigma_z = _WALL_TOP_SIGMA_M if ceiling is None else math.hypot(floor.sigma, ceiling.sigma)
    plausible = top - floor.z > MIN_HEIGHT_M
    height = Quantity(top - floor.z, sigma_z) if plausible else Quantity()
    missing = [] if ceiling is not None else ["ceiling"]
    plan = plan if plausible else None
    if plan is None or plan.min_support < least:
        weak = [] if plan is None else [n for n, edge in enumerate(plan.edges) if edge.support < least]
        missing += [f"wall {n}" for n in weak] if plan is not None else ["walls"]
        return RoomMeasurement(height=height, missing_parts=tuple(missing), completeness=_completeness(plan))
    shape = Polygon(plan.corners)
    length, width = _sides(plan)
    area_sigma = _area_sigma(plan.edges)
    volume = shape.area * (top - floor.z)
    relative = math.hypot(area_sigma / shape.area, sigma_z / (top - floor.z))
    good = plan.min_support >= _GOOD_SUPPORT and ceiling is not None
    return RoomMeasurement(
        length=length,
        width=width,
        height=height,
        area=Quantity(shape.area, area_sigma),
        volume=Quantity(volume, volume * relative),
        perimeter=Quantity(shape.length, _perimeter_sigma(plan.edges)),
        verdict=Verdict.GOOD if good else Verdict.ESTIMATE,
        confidence=plan.min_support if ceiling is not None else plan.min_support * 0.8,
        completeness=_completeness(plan),
        missing_parts=tuple(missing),
        corners=plan.corners,
        walls=plan.edges,
    )


def _completeness(plan: Plan | None) -> float:
    if plan is None:
        return 0.0
    return sum(edge.support * edge.length for edge in plan.edges) / sum(edge.length for edge in plan.edges)


def _sides(plan: Plan) -> tuple[Quantity, Quantity]:
    """Sides of the smallest rectangle; each is as sure as the walls that bound it."""
    box = shapely.get_coordinates(shapely.minimum_rotated_rectangle(Polygon(plan.corners)))
    sides = [(float(np.linalg.norm(box[n + 1] - box[n])), (box[n + 1] - box[n])) for n in (0, 1)]
    found = [Quantity(size, _extent_sigma(plan, vector / size)) for size, vector in sides]
    long, short = sorted(found, key=lambda side: -(side.value or 0.0))
    others = _rival_sides(plan.corners, sides[0][0] * sides[1][0])
    return _widened(long, [one for one, _ in others]), _widened(short, [other for _, other in others])


def _widened(side: Quantity, rivals: Sequence[float]) -> Quantity:
    """Which of two rectangles is the smallest may hang on a millimetre: then a side is no surer than they agree."""
    value = side.value or 0.0
    return replace(side, sigma=max([side.sigma or 0.0, *(abs(rival - value) for rival in rivals)]))


def _rival_sides(corners: NDArray[np.float64], smallest: float) -> list[tuple[float, float]]:
    """Longer and shorter sides of rectangles around the plan, along any wall, that are hardly larger than the smallest."""
    rivals = []
    for first, last in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        along = (last - first) / np.linalg.norm(last - first)
        one, other = float(np.ptp(corners @ along)), float(np.ptp(corners @ np.array([-along[1], along[0]])))
        if one * other < _RIVAL_AREA * smallest:
            rivals.append((max(one, other), min(one, other)))
    return rivals


def _extent_sigma(plan: Plan, direction: NDArray[np.float64]) -> float:
    """Both ends of an extent lie on corners, and a corner is as sure as the two lines that cross in it."""
    at = plan.corners @ direction
    ends = (int(at.argmin()), int(at.argmax()))
    return math.hypot(*(_corner_sigma(plan.edges[end - 1], plan.edges[end]) for end in ends))


def _corner_sigma(before: Edge, after: Edge) -> float:
    sine = abs(float(before.line.normal[0] * after.line.normal[1] - before.line.normal[1] * after.line.normal[0]))
    return max(before.line.sigma, after.line.sigma) / max(sine, 0.2)


def wall_sigma(walls: Sequence[Edge], number: int) -> float:
    """Standard deviation of a wall's length: it ends on the lines of its neighbours."""
    before, wall, after = walls[number - 1], walls[number], walls[(number + 1) % len(walls)]
    return math.hypot(_corner_sigma(before, wall), _corner_sigma(wall, after))


def _area_sigma(edges: Sequence[Edge]) -> float:
    """A wall that moves by its sigma sweeps its length."""
    return _AREA_SHARE * math.sqrt(sum((edge.length * edge.line.sigma) ** 2 for edge in edges))


def _perimeter_sigma(edges: Sequence[Edge]) -> float:
    return _PERIMETER_SHARE * math.sqrt(sum(edge.line.sigma**2 for edge in edges))
