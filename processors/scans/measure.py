"""From a voxel map to a room's measurements, each with its standard deviation, or to what is missing for them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import Polygon

from processors.scans.agreement import wander
from processors.scans.ceiling_parts import ShapedCeiling, shaped_ceiling
from processors.scans.ceilings import CeilingField
from processors.scans.extents import PlanErrors, Quantity, sides
from processors.scans.levelled import DEPTH_CAMERA, SCANNER, Levelled, OwnGrid, Sensor, Surfaces
from processors.scans.levels import MIN_HEIGHT_M, Level, is_level
from processors.scans.mirrors import Folding, rays_of
from processors.scans.plan import DENSE_FLOOD, SPARSE_FLOOD, Edge, Plan, draw_plan
from processors.scans.refine import refined
from processors.scans.result import Verdict
from processors.scans.squares import squared
from processors.scans.voxels import VOXEL_M, Voxels, without_haze
from processors.scans.walls import WallLine

__all__ = ["DEPTH_CAMERA", "SCANNER", "RoomMeasurement", "Sensor", "clean", "measure_room"]

_MIN_POINTS: Final = 4
_SPARSE_SUPPORT: Final = 0.6
# Where planes lie in their voxels: in the middle; where few voxels decide, another grid may see what one does not.
_PHASES: Final = (0.5, 0.25, 0.75, 0.0)
_LEVEL_M: Final = 0.06
# How far walls may lean by a scanner's floor, and how much less than by floor and ceiling if the ceiling slopes.
_STANDING_DEGREES: Final = 1.0
_SURELY_DEGREES: Final = 0.8
_MIN_VOXELS: Final = 200
# How much of its weakest wall must have been seen (measured over more than 100 scans, notes of the trial).
_GOOD_SUPPORT: Final = 0.8
_LEAST_SUPPORT: Final = 0.5
# As for walls.
_WANDER_SHARE: Final = 0.2
_OUTSIDE_M: Final = 0.12
_OUTSIDE_M2: Final = 0.1
_MOST_OUTSIDE: Final = 0.1
_NEXT_ROOM_M2: Final = 2.0
_MOSTLY: Final = 0.5
_WALL_TOP_SIGMA_M: Final = 0.05
_UP: Final = np.array([0.0, 0.0, 1.0])

_Plane: TypeAlias = tuple[NDArray[np.float64], float]


@dataclass(frozen=True, slots=True)
class RoomMeasurement:
    """A room.

    Attributes:
        length: longer side of the smallest rectangle around the floor polygon; `width` the shorter one.
        corners: shape (k, 2), counter-clockwise, in the levelled world.
        walls: the walls between them.
        missing_parts: what to scan again.
        shaped: the ceiling, if it is not level; `height` is that of its highest point, `volume` what lies under it.
        mirrors: numbers of walls in which the room was seen again.
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
    shaped: ShapedCeiling | None = None
    mirrors: tuple[int, ...] = ()
    planes: tuple[tuple[NDArray[np.float64], float], ...] = ()

    def ceiling_at(self, plan: NDArray[np.float64]) -> NDArray[np.float64]:
        """Height of the ceiling over places, shape (n, 2), in the levelled world."""
        return np.full(len(plan), self.top_z) if self.shaped is None else self.shaped.at(plan)


def clean(voxels: Voxels, sensor: Sensor = DEPTH_CAMERA) -> Voxels:
    """Without stray voxels: flying pixels, haze and frames with a wrong pose gather little weight."""
    if not len(voxels):
        return voxels
    if sensor.is_sparse:
        return without_haze(voxels)
    return voxels.take((voxels.count >= _MIN_POINTS) & (voxels.weight >= sensor.cut * np.median(voxels.weight)))


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
    grid, found = OwnGrid(kept, up), RoomMeasurement()
    for regrouped in grid.phases(_PHASES):
        found = _measured(regrouped, grid.turn, cameras, up, sensor, samples)
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
    surfaces = Surfaces(kept, turn @ up, sensor)
    seen = surfaces.levelled()
    if seen is None:
        return RoomMeasurement(missing_parts=("floor",))
    found = _under_level(_Scan(seen, seen.turn @ turn, cameras, samples))
    is_whole = bool(found.walls) and found.has_ceiling and found.height.value is not None
    if is_whole and not sensor.is_sparse:
        return found
    other = surfaces.levelled_by_floor()
    is_level_after_all = other is None or other[1].is_mostly_level
    if other is not None and sensor.is_sparse:
        top = other[0].floor.z + found.height.value if is_whole and found.height.value else math.nan
        is_level_after_all |= _is_level_for_walls(surfaces, seen, *other, top)
    if other is not None and not (sensor.is_sparse and is_level_after_all):
        shaped = _under_field(_Scan(other[0], other[0].turn @ turn, cameras, samples), other[1])
        if shaped is not None:
            return shaped
    if found.height.value is not None and not is_level_after_all:
        return _without_height(found)
    return found if found.walls or found.has_ceiling else replace(found, height=Quantity())


def _is_level_for_walls(
    surfaces: Surfaces, seen: Levelled, by_floor: Levelled, ceiling: CeilingField, top: float
) -> bool:
    """Whether walls speak against a ceiling that is not level; of the floor a scanner sees rings and furniture.

    Args:
        surfaces: of a scanner.
        seen: levelled by floor and ceiling.
        by_floor: levelled by the floor alone.
        ceiling: found in that.
        top: height of the level ceiling, in that; NaN if no room was found under it.
    """
    lean = surfaces.lean(by_floor.turn[2])
    if ceiling.is_mostly_one:
        return surfaces.lean(seen.turn[2]) - lean < _SURELY_DEGREES
    return lean > _STANDING_DEGREES or ceiling.is_mostly_at(top)


class _Scan:
    """What was seen and from where, in the levelled world.

    Args:
        seen: the voxels.
        turn: from the world to the levelled one.
        cameras: in the world.
        samples: of each frame, in the world.
    """

    def __init__(
        self,
        seen: Levelled,
        turn: NDArray[np.float64],
        cameras: NDArray[np.float64],
        samples: Sequence[NDArray[np.float64]],
    ) -> None:
        self.seen = seen
        self.turn = turn
        self.cameras = cameras @ turn.T
        self.visits = [sample @ turn.T for sample in samples]
        self.floor = self.wandered(seen.floor)

    def wandered(self, level: Level) -> Level:
        """With how far it wandered between frames."""
        return replace(level, sigma=self.sigma(level.sigma, _UP, level.z))

    def sigma(self, sigma: float, normal: NDArray[np.float64], rho: float) -> float:
        """Standard deviation of a plane, with how far it wandered between frames."""
        return math.hypot(sigma, _WANDER_SHARE * wander(self.visits, normal, rho))

    def plan(
        self,
        lines: Sequence[WallLine],
        ceiling: Sequence[NDArray[np.float64]],
        top: Callable[[], NDArray[np.float64] | float],
    ) -> tuple[Plan | None, tuple[int, ...]]:
        """The plan around the cameras, and which of its walls have mirrors.

        Args:
            lines: of walls.
            ceiling: voxels of each of its planes, shape (n, 3).
            top: tells its height over all voxels, if that is needed.
        """
        points = self.seen.points
        flat = np.concatenate([points[np.abs(points[:, 2] - self.floor.z) < _LEVEL_M], *ceiling])
        flood = SPARSE_FLOOD if self.seen.sensor.is_sparse else DENSE_FLOOD
        plan = draw_plan(lines, self.cameras[:, :2], flat[:, :2], flood)
        if plan is None or _seen_from_outside(plan, self.cameras):
            return None, ()
        mirrors: list[int] = []
        if not self.seen.sensor.is_sparse:
            plan = refined(plan, self.wall_lines)
            folding = Folding(plan.edges, points, self.floor.z, top(), rays_of(self.cameras, self.visits))
            mirrors = folding.mirrored_walls()
            ceiling = [folding.drop_images(one, mirrors) for one in ceiling]
        goes_on = any(_goes_on(plan, one, is_part=len(ceiling) > 1) for one in ceiling)
        return (None if goes_on else plan), tuple(mirrors)

    def placed(self, report: RoomMeasurement, lines: Sequence[WallLine], tops: Sequence[_Plane]) -> RoomMeasurement:
        """With where it lies in the world."""
        planes = [(_UP, self.floor.z), *tops, *((np.array([*line.normal, 0.0]), line.rho) for line in lines)]
        turned = tuple((self.turn.T @ normal, rho) for normal, rho in planes)
        return replace(report, turn=self.turn, floor_z=self.floor.z, planes=turned)

    def wall_lines(self, lines: Sequence[WallLine]) -> list[WallLine]:
        """With how far they wandered between frames, square where that may be."""
        found = [replace(line, wander=wander(self.visits, np.array([*line.normal, 0.0]), line.rho)) for line in lines]
        return found if self.seen.sensor.is_sparse else squared(found)


def _under_level(scan: _Scan) -> RoomMeasurement:
    """Under a ceiling at one height, if there is one; if it turns out not to be, without a height."""
    seen, floor = scan.seen, scan.floor
    ceiling = seen.ceiling and scan.wandered(seen.ceiling)
    lines = scan.wall_lines(seen.lines())
    at_ceiling = [seen.points[np.abs(seen.points[:, 2] - seen.top) < _LEVEL_M]] if ceiling else []
    plan, mirrors = scan.plan(lines, at_ceiling, lambda: seen.top)
    overhead = _Overhead(seen.top, _WALL_TOP_SIGMA_M, seen.top, is_seen=False)
    if ceiling is not None:
        overhead = replace(overhead, sigma=math.hypot(floor.sigma, ceiling.sigma), is_seen=True)
    elif not (seen.sensor.is_sparse or seen.is_top_sharp):
        overhead = replace(overhead, sigma=None)
    report = _report(plan, floor.z, overhead, seen.sensor)
    if plan and ceiling and not (seen.sensor.is_sparse or is_level(seen.points, plan.corners, floor.z, ceiling.z)):
        report = _without_height(report)
    report = replace(report, top_z=seen.top, has_ceiling=ceiling is not None, mirrors=mirrors)
    return scan.placed(report, lines, [(_UP, seen.top)])


def _under_field(scan: _Scan, ceiling: CeilingField) -> RoomMeasurement | None:
    """Under a ceiling that slopes or steps; None if this is not what was seen."""
    seen, floor = scan.seen, scan.floor
    planes = [(plane.normal, float(plane.normal[2]) * plane.offset) for plane in ceiling.planes]
    ceiling = ceiling.surer([scan.sigma(one.sigma, *plane) for one, plane in zip(ceiling.planes, planes, strict=True)])
    lines = scan.wall_lines(seen.lines_under(ceiling))
    at_ceiling = [ceiling.points[ceiling.plane_of == number] for number in range(len(planes))]
    plan, mirrors = scan.plan(lines, at_ceiling, lambda: ceiling.range_at(seen.points[:, :2])[1])
    if plan is None:
        return None
    wall_sigma = max(edge.line.sigma for edge in plan.edges)
    shaped = shaped_ceiling(ceiling, plan.corners, seen, floor, wall_sigma)
    if shaped is None:
        return None
    area, sigma = Polygon(plan.corners).area, math.hypot(floor.sigma, shaped.highest_sigma)
    mean = floor.z + shaped.volume(floor.z) / area
    overhead = _Overhead(shaped.highest, sigma, mean, mean_sigma=shaped.volume_sigma / area)
    report = _report(plan, floor.z, overhead, seen.sensor)
    report = replace(report, top_z=shaped.highest, has_ceiling=True, mirrors=mirrors, shaped=shaped)
    return scan.placed(report, lines, planes) if report.walls else None


def _without_height(report: RoomMeasurement) -> RoomMeasurement:
    """A ceiling that is neither level nor made of planes has no one height, and so no volume from it."""
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


def _goes_on(plan: Plan, ceiling: NDArray[np.float64], *, is_part: bool = False) -> bool:
    """Whether ceiling was seen outside of the plan: doors do not show it, so a part of the room must be missing."""
    if not len(ceiling):
        return False
    shape, at = Polygon(plan.corners), ceiling[:, :2]
    outside = ~shapely.contains_xy(shape, at[:, 0], at[:, 1])
    outside[outside] = shapely.distance(shape, shapely.points(at[outside])) > _OUTSIDE_M
    # A part that lies outside as a whole is what a door shows of the next room, unless it is large.
    least = _NEXT_ROOM_M2 if is_part and outside.mean() > _MOSTLY else _OUTSIDE_M2
    return int(outside.sum()) * VOXEL_M**2 > least


@dataclass(frozen=True, slots=True)
class _Overhead:
    """The ceiling: highest z and how sure its height above the floor is, mean z (and how sure, if not as sure as that).

    Without a standard deviation it is only as high as anybody looked.
    """

    top: float
    sigma: float | None
    mean: float
    mean_sigma: float | None = None
    is_seen: bool = True


def _report(plan: Plan | None, floor_z: float, overhead: _Overhead, sensor: Sensor) -> RoomMeasurement:
    least = _SPARSE_SUPPORT if sensor.is_sparse else _LEAST_SUPPORT
    plausible = overhead.top - floor_z > MIN_HEIGHT_M
    height = Quantity(overhead.top - floor_z, overhead.sigma) if plausible and overhead.sigma else Quantity()
    missing = [] if overhead.is_seen else ["ceiling"]
    plan = plan if plausible else None
    if plan is None or plan.min_support < least:
        weak = [] if plan is None else [n for n, edge in enumerate(plan.edges) if edge.support < least]
        missing += [f"wall {n}" for n in weak] if plan is not None else ["walls"]
        seen = plan.completeness if plan is not None else 0.0
        return RoomMeasurement(height=height, missing_parts=tuple(missing), completeness=seen)
    shape, errors = Polygon(plan.corners), PlanErrors(plan.edges)
    length, width = sides(errors)
    good = plan.min_support >= _GOOD_SUPPORT and overhead.is_seen
    verdict = Verdict.GOOD if good else Verdict.ESTIMATE
    if length.value is None:
        missing.append("rectangle")
    if length.value is None or height.value is None:
        verdict = Verdict.INCOMPLETE
    return RoomMeasurement(
        length=length,
        width=width,
        height=height,
        area=Quantity(shape.area, errors.area()),
        volume=_volume(shape.area, errors.area(), overhead, floor_z),
        perimeter=Quantity(shape.length, errors.perimeter()),
        verdict=verdict,
        confidence=plan.min_support if overhead.is_seen else plan.min_support * 0.8,
        completeness=plan.completeness,
        missing_parts=tuple(missing),
        corners=plan.corners,
        walls=plan.edges,
    )


def _volume(area: float, sigma: float, overhead: _Overhead, floor_z: float) -> Quantity:
    mean, of_mean = overhead.mean - floor_z, overhead.mean_sigma or overhead.sigma
    return Quantity(area * mean, math.hypot(sigma * mean, of_mean * area)) if of_mean else Quantity()
