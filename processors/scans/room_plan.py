"""A room as RoomPlan saw it, as our own result: used when no frames came, and to check what was measured from frames.

RoomPlan estimates surfaces with neural networks and tells no error. Nothing better than "1 to 2 %, 1 to 2 cm a wall" is
published, so every length is given 2 cm and 1 % of itself as one standard deviation, more where RoomPlan itself is unsure, and
the verdict is never better than `estimate`. World: y up to z up as the device library does, (x, y, z) -> (-z, -x, y).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import msgspec
import numpy as np
import shapely
from numpy.typing import NDArray

from processors.scans.extents import Quantity
from processors.scans.measure import RoomMeasurement
from processors.scans.objects import ObjectBox
from processors.scans.openings import Opening, OpeningKind
from processors.scans.plan import Edge
from processors.scans.report import document
from processors.scans.result import FoundObject, RoomPlanCheck, ScanResult, Verdict, rounded
from processors.scans.walls import WallLine
from schemas.room_plan import CapturedRoom, Element

Points = NDArray[np.float64]

_Z_UP: Final = np.array([[0.0, 0.0, -1.0], [-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
_LENGTH_M: Final = 0.02
_LENGTH_SHARE: Final = 0.01
# How much wider where RoomPlan is less sure, and what that says of a label.
_WIDER: Final = {"high": 1.0, "medium": 1.5, "low": 2.0}
_CONFIDENCE: Final = {"high": 0.9, "medium": 0.6, "low": 0.3}
# Ends of neighbouring walls lie on each other but for their thickness.
_JOINT_M: Final = 0.4
_PARALLEL_SINE: Final = math.sin(math.radians(10))
_STRAIGHT_M: Final = 0.01
_LEAST_AREA_M2: Final = 0.5
_LEVEL_M: Final = 0.1
_ON_WALL_M: Final = 0.35
_FLOOR_SILL_M: Final = 0.15


@dataclass(frozen=True, slots=True)
class _Upright:
    """A wall, door, window or opening: where its foot runs on the plan, and between which heights it stands."""

    first: Points
    last: Points
    low: float
    high: float
    certainty: str

    @property
    def length(self) -> float:
        return float(np.linalg.norm(self.last - self.first))


def room_plan_result(room: CapturedRoom) -> ScanResult:
    """What a file says of its room, in our form: verdict `estimate`, or `incomplete` where its walls do not close."""
    walls = [_upright(one) for one in room.walls if one.dimensions[0] > 0 and one.dimensions[1] > 0]
    corners = _floor_plan(walls, room.floors)
    measurement = _measurement(walls, corners)
    boxes = [_box(one) for one in room.objects]
    result = document(
        measurement,
        rejected={},
        openings=_openings(room, measurement),
        objects=[box for box in boxes if box is not None],
    )
    share = _wider(walls)
    known = [one for one, box in zip(room.objects, boxes, strict=True) if box is not None]
    return msgspec.structs.replace(
        result,
        walls=tuple(
            msgspec.structs.replace(wall, uncertainty=_rounded_sigma(wall.length, share)) for wall in result.walls
        ),
        objects=tuple(_labelled(one, element) for one, element in zip(result.objects, known, strict=True)),
        roomplan=RoomPlanCheck(version=room.version, is_source=True, placement="shared", labels=len(known)),
    )


def length_sigma(length: float, share: float = 1.0) -> float:
    """Standard deviation of a length of RoomPlan's, in metres."""
    return share * math.hypot(_LENGTH_M, _LENGTH_SHARE * length)


def _rounded_sigma(length: float, share: float) -> float:
    return rounded(length_sigma(length, share)) or 0.0


def _labelled(one: FoundObject, element: Element) -> FoundObject:
    confidence = _CONFIDENCE.get(element.certainty or "", _CONFIDENCE["low"])
    return msgspec.structs.replace(
        one, label=element.label, confidence=confidence if element.label else None, source="roomplan"
    )


def _placed(one: Element) -> tuple[Points, Points]:
    """Rotation and position of an element in the z-up world."""
    columns = np.array(one.transform).reshape(4, 4)
    turn: Points = _Z_UP @ columns[:3, :3].T
    position: Points = _Z_UP @ columns[3, :3]
    return turn, position


def _upright(one: Element) -> _Upright:
    turn, position = _placed(one)
    width, height, _ = one.dimensions
    outline = np.array(one.polygon_corners) if len(one.polygon_corners) > 2 else None  # noqa: PLR2004 - an area needs three
    if outline is None:
        outline = np.array([(x, y, 0.0) for x in (-width / 2, width / 2) for y in (-height / 2, height / 2)])
    seen = outline @ turn.T + position
    along = turn[:2, 0] / max(float(np.linalg.norm(turn[:2, 0])), 1e-9)
    at = (seen[:, :2] - position[:2]) @ along
    first, last = position[:2] + at.min() * along, position[:2] + at.max() * along
    return _Upright(first, last, float(seen[:, 2].min()), float(seen[:, 2].max()), one.certainty or "low")


def _floor_plan(walls: Sequence[_Upright], floors: Sequence[Element]) -> Points:
    """Counter-clockwise corners, shape (k, 2), from the walls, else from the floor that RoomPlan made of them; maybe none."""
    for corners in (_chained(walls), *map(_floor_corners, floors)):
        if len(corners) < 3:  # noqa: PLR2004
            continue
        shape = shapely.simplify(shapely.Polygon(corners), _STRAIGHT_M)
        if shape.is_valid and shape.area > _LEAST_AREA_M2:
            return _without_straight(shapely.get_coordinates(shapely.geometry.polygon.orient(shape).exterior)[:-1])
    return np.empty((0, 2))


def _without_straight(ring: Points) -> Points:
    """Without a corner in the middle of a wall, where the ring happens to begin."""
    off = [
        shapely.distance(shapely.LineString([ring[n - 1], ring[(n + 1) % len(ring)]]), shapely.Point(ring[n]))
        for n in range(len(ring))
    ]
    return ring[np.array(off) > _STRAIGHT_M]


def _floor_corners(floor: Element) -> Points:
    turn, position = _placed(floor)
    corners: Points = np.array(floor.polygon_corners).reshape(-1, 3) @ turn.T + position
    return corners[:, :2]


def _chained(walls: Sequence[_Upright]) -> Points:
    """Corners of the ring that begins with the longest wall, each wall followed by the one that begins nearest to its end."""
    free = sorted(walls, key=lambda wall: -wall.length)
    if not free:
        return np.empty((0, 2))
    chain = [(free[0].first, free[0].last)]
    free = free[1:]
    while np.linalg.norm(chain[-1][1] - chain[0][0]) > _JOINT_M or len(chain) < 3:  # noqa: PLR2004
        ends = [
            (float(np.linalg.norm(end - chain[-1][1])), n, turned)
            for n, wall in enumerate(free)
            for turned, end in enumerate((wall.first, wall.last))
        ]
        if not ends or min(ends)[0] > _JOINT_M:
            return np.empty((0, 2))
        _, n, turned = min(ends)
        wall = free.pop(n)
        chain.append((wall.last, wall.first) if turned else (wall.first, wall.last))
    return np.array([_joint(before, after) for before, after in zip([chain[-1], *chain[:-1]], chain, strict=True)])


def _joint(before: tuple[Points, Points], after: tuple[Points, Points]) -> Points:
    """Where two walls meet: on both lines, or half-way between their ends if they run on in one line."""
    u, v = before[1] - before[0], after[1] - after[0]
    cross = float(u[0] * v[1] - u[1] * v[0])
    middle: Points = (before[1] + after[0]) / 2
    if abs(cross) < _PARALLEL_SINE * float(np.linalg.norm(u) * np.linalg.norm(v)):
        return middle
    gap = after[0] - before[0]
    corner: Points = before[0] + (gap[0] * v[1] - gap[1] * v[0]) / cross * u
    return corner if float(np.linalg.norm(corner - middle)) < 2 * _JOINT_M else middle


def _wider(walls: Sequence[_Upright]) -> float:
    """How unsure RoomPlan is of its walls, by their lengths."""
    total = sum(wall.length for wall in walls)
    return sum(wall.length * _WIDER.get(wall.certainty, 2.0) for wall in walls) / total if total else _WIDER["low"]


def _measurement(walls: Sequence[_Upright], corners: Points) -> RoomMeasurement:
    if not walls:
        return RoomMeasurement(missing_parts=("everything",))
    floor, top = (float(np.median([getattr(wall, name) for wall in walls])) for name in ("low", "high"))
    share = _wider(walls)
    is_level = max(abs(wall.high - top) for wall in walls) < _LEVEL_M
    height = Quantity(top - floor, length_sigma(top - floor, share)) if is_level else Quantity()
    missing = () if is_level else ("level ceiling",)
    base = RoomMeasurement(floor_z=floor, top_z=top, has_ceiling=True, height=height, missing_parts=("walls", *missing))
    if not len(corners):
        return base
    total = sum(wall.length for wall in walls)
    shape = shapely.Polygon(corners)
    return replace(
        _with_extents(base, shape, share),
        verdict=Verdict.ESTIMATE if is_level else Verdict.INCOMPLETE,
        confidence=sum(wall.length * _CONFIDENCE.get(wall.certainty, 0.3) for wall in walls) / total,
        completeness=min(1.0, total / shape.length),
        missing_parts=missing,
        corners=corners,
        walls=tuple(_edge(first, last) for first, last in zip(corners, np.roll(corners, -1, axis=0), strict=True)),
    )


def _with_extents(base: RoomMeasurement, shape: shapely.Polygon, share: float) -> RoomMeasurement:
    """Everything on the plan, and the volume above it."""
    box = shapely.get_coordinates(shapely.minimum_rotated_rectangle(shape))
    width, length = sorted(float(np.linalg.norm(box[n + 1] - box[n])) for n in (0, 1))
    sigmas = length_sigma(length, share), length_sigma(width, share)
    relative = math.hypot(sigmas[0] / length, sigmas[1] / width)
    volume = Quantity()
    if base.height.value is not None and base.height.sigma is not None:
        space = shape.area * base.height.value
        volume = Quantity(space, space * math.hypot(relative, base.height.sigma / base.height.value))
    return replace(
        base,
        length=Quantity(length, sigmas[0]),
        width=Quantity(width, sigmas[1]),
        area=Quantity(shape.area, shape.area * relative),
        perimeter=Quantity(shape.length, 2 * math.hypot(*sigmas)),
        volume=volume,
    )


def _edge(first: Points, last: Points) -> Edge:
    along = (last - first) / np.linalg.norm(last - first)
    outwards = np.array([along[1], -along[0]])
    return Edge(first, last, WallLine(outwards, float(outwards @ first), _LENGTH_M, np.empty(0, dtype=np.int64)), 1.0)


def _openings(room: CapturedRoom, measured: RoomMeasurement) -> list[Opening]:
    """Doors, windows and passages on the walls that they lie in; without walls nowhere."""
    kinds = ((OpeningKind.DOOR, room.doors), (OpeningKind.WINDOW, room.windows), (OpeningKind.OPENING, room.openings))
    found = [_opening(kind, _upright(one), measured) for kind, elements in kinds for one in elements]
    return [one for one in found if one is not None]


def _opening(kind: OpeningKind, hole: _Upright, measured: RoomMeasurement) -> Opening | None:
    middle = (hole.first + hole.last) / 2
    away = [
        shapely.distance(shapely.LineString([wall.first, wall.last]), shapely.Point(middle)) for wall in measured.walls
    ]
    if not away or min(away) > _ON_WALL_M:
        return None
    number = int(np.argmin(away))
    wall = measured.walls[number]
    ends = np.sort(
        np.array([hole.first - wall.first, hole.last - wall.first]) @ ((wall.last - wall.first) / wall.length)
    )
    offset = float(np.clip(ends[0], 0, wall.length))
    sill = hole.low - measured.floor_z
    sill = 0.0 if sill < _FLOOR_SILL_M else sill
    return Opening(kind, number, offset, hole.length, hole.high - measured.floor_z - sill, sill)


def _box(one: Element) -> ObjectBox | None:
    turn, (x, y, z) = _placed(one)
    across, up, deep = one.dimensions
    if min(across, up, deep) <= 0:
        return None
    length, width, axis = (across, deep, turn[:, 0]) if across >= deep else (deep, across, turn[:, 2])
    yaw = float(np.arctan2(axis[1], axis[0]) % math.pi)
    return ObjectBox((float(x), float(y), float(z)), (length, width, up), yaw)
