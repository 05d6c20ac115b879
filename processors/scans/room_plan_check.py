"""RoomPlan's room beside the measured one: laid over it, its labels taken for our boxes, its numbers compared with ours.

The numbers stay ours. Border: two results in, one out; what a file says is `room_plan`'s.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
import shapely
from numpy.typing import NDArray

from processors.scans.recognizers import Recognized, named
from processors.scans.result import (
    DIMENSIONS,
    Difference,
    FoundObject,
    FoundWall,
    Mistake,
    RoomPlanCheck,
    ScanResult,
    rounded,
)
from processors.scans.room_plan import length_sigma

Points = NDArray[np.float64]

_SIGMAS: Final = 3.0
# Of an opening's width or height as we measure it (the bench's median error is 2 to 3 cm).
_OPENING_SIGMA_M: Final = 0.03
_SAME_PLAN: Final = 0.8
_SAME_OBJECTS: Final = 0.3
_CLEARLY: Final = 0.02
_SAME_THING: Final = 0.2
_ON_WALL_M: Final = 0.3
_PARALLEL: Final = math.cos(math.radians(8))
_OVERLAP: Final = 0.5


@dataclass(frozen=True, slots=True)
class _Move:
    """From RoomPlan's room coordinates into ours: a turn about z, then a shift."""

    angle: float
    shift: Points

    def points(self, plan: Sequence[Sequence[float] | Points]) -> Points:
        c, s = math.cos(self.angle), math.sin(self.angle)
        moved: Points = np.array(plan, dtype=float).reshape(-1, 2) @ np.array([[c, s], [-s, c]]) + self.shift[:2]
        return moved

    def box(self, one: FoundObject) -> FoundObject:
        x, y = (rounded(float(value)) or 0.0 for value in self.points([one.center[:2]])[0])
        z = rounded(one.center[2] + float(self.shift[2])) or 0.0
        return msgspec.structs.replace(one, center=(x, y, z), yaw=rounded((one.yaw + self.angle) % math.pi) or 0.0)


class RoomPlanLabels:
    """RoomPlan's labels as a recognizer: what it saw where one of our boxes is."""

    def __init__(self, seen: Sequence[FoundObject]) -> None:
        self._seen = [one for one in seen if one.label]

    def recognize(self, boxes: Sequence[FoundObject], _cloud: NDArray[np.float32]) -> list[Recognized | None]:
        """The label of what shares most with each box, if that is enough."""
        return [self._of(box) for box in boxes]

    def _of(self, box: FoundObject) -> Recognized | None:
        best = max(self._seen, key=lambda one: _shared(box, one), default=None)
        if best is None or best.label is None or _shared(box, best) < _SAME_THING:
            return None
        return Recognized(best.label, best.confidence or 0.0)


def checked(result: ScanResult, roomplan: ScanResult, cloud: NDArray[np.float32]) -> ScanResult:
    """The measured result with RoomPlan's labels, what only RoomPlan saw, and every difference between the two.

    Args:
        result: measured from frames or clouds.
        roomplan: of `room_plan_result`, of the same room.
        cloud: the cleaned cloud.
    """
    kind, move = _placement(result, roomplan)
    differences = [*_of_dimensions(result, roomplan)]
    if move is not None:
        result = _with_objects(result, [move.box(one) for one in roomplan.objects], cloud)
        differences += [*_of_walls(result, roomplan, move), *_of_openings(result, roomplan, move)]
    known = roomplan.roomplan or RoomPlanCheck()
    check = RoomPlanCheck(version=known.version, placement=kind, labels=known.labels, differences=tuple(differences))
    warnings = result.warnings + (() if all(one.agrees for one in differences) else (Mistake.ROOMPLAN_DISAGREES,))
    return msgspec.structs.replace(result, roomplan=check, warnings=warnings)


def _with_objects(result: ScanResult, seen: Sequence[FoundObject], cloud: NDArray[np.float32]) -> ScanResult:
    labelled = named(result, RoomPlanLabels(seen), cloud)
    alone = [one for one in seen if all(_shared(box, one) < _SAME_THING for box in result.objects)]
    return msgspec.structs.replace(labelled, objects=(*labelled.objects, *alone))


def _footprint(one: FoundObject) -> shapely.Polygon:
    along = np.array([math.cos(one.yaw), math.sin(one.yaw)]) * one.size[0] / 2
    across = np.array([-math.sin(one.yaw), math.cos(one.yaw)]) * one.size[1] / 2
    center = np.array(one.center[:2])
    return shapely.Polygon(
        [center + along + across, center - along + across, center - along - across, center + along - across]
    )


def _shared(one: FoundObject, other: FoundObject) -> float:
    """Volume that both boxes fill, by the mean of their volumes: 0 to 1."""
    low = max(box.center[2] - box.size[2] / 2 for box in (one, other))
    high = min(box.center[2] + box.size[2] / 2 for box in (one, other))
    both = _footprint(one).intersection(_footprint(other)).area * max(0.0, high - low)
    return float(2 * both / (math.prod(one.size) + math.prod(other.size)))


def _placement(result: ScanResult, roomplan: ScanResult) -> tuple[str, _Move | None]:
    """How RoomPlan's room lies in ours. One session, one world; another session's is fitted if there is one way only."""
    shared = _shared_world(result, roomplan)
    if _fit(result, roomplan, shared) >= (
        _SAME_PLAN if result.floor_polygon and roomplan.floor_polygon else _SAME_OBJECTS
    ):
        return "shared", shared
    ways = sorted(
        (
            (_fit(result, roomplan, move) + _objects_fit(result, roomplan, move), n, move)
            for n, move in enumerate(_moves(result, roomplan))
            if _fit(result, roomplan, move) >= _SAME_PLAN
        ),
        reverse=True,
        key=lambda way: way[:2],
    )
    others = [score for score, _, move in ways[1:] if abs(math.sin((move.angle - ways[0][2].angle) / 2)) > 0.1]  # noqa: PLR2004 - 12 degrees
    if not ways or (others and others[0] > ways[0][0] - _CLEARLY):
        return "none", None
    return "fitted", ways[0][2]


def _shared_world(result: ScanResult, roomplan: ScanResult) -> _Move:
    """As the two placements in one world say."""
    ours, theirs = np.array(result.placement.rotation), np.array(roomplan.placement.rotation)
    turn = ours @ theirs.T
    shift = np.array(result.placement.translation) - turn @ np.array(roomplan.placement.translation)
    return _Move(math.atan2(turn[1, 0], turn[0, 0]), shift)


def _moves(result: ScanResult, roomplan: ScanResult) -> Iterator[_Move]:
    """Ways to lay a wall of RoomPlan's on one of ours of about its length."""
    for mine, theirs in itertools.product(result.walls, roomplan.walls):
        if abs(mine.length - theirs.length) > _SIGMAS * length_sigma(theirs.length):
            continue
        angle = _heading(mine) - _heading(theirs)
        turned = _Move(angle, np.zeros(3)).points([_middle(theirs)])[0]
        yield _Move(angle, np.array([*(_middle(mine) - turned), 0.0]))


def _heading(wall: FoundWall) -> float:
    return math.atan2(wall.end[1] - wall.start[1], wall.end[0] - wall.start[0])


def _middle(wall: FoundWall) -> Points:
    middle: Points = (np.array(wall.start) + np.array(wall.end)) / 2
    return middle


def _fit(result: ScanResult, roomplan: ScanResult, move: _Move) -> float:
    """Area that both plans cover of what either does; without plans what their objects share."""
    if not result.floor_polygon or not roomplan.floor_polygon:
        return _objects_fit(result, roomplan, move)
    mine, theirs = shapely.Polygon(result.floor_polygon), shapely.Polygon(move.points(roomplan.floor_polygon))
    return float(mine.intersection(theirs).area / mine.union(theirs).area)


def _objects_fit(result: ScanResult, roomplan: ScanResult, move: _Move) -> float:
    seen = [move.box(one) for one in roomplan.objects]
    if not seen or not result.objects:
        return 0.0
    return sum(max(_shared(box, one) for one in seen) for box in result.objects) / len(result.objects)


def _difference(what: str, mine: float, theirs: float, sigma: float) -> Difference:
    off = mine - theirs
    return Difference(
        what=what,
        measured=mine,
        roomplan=theirs,
        difference=rounded(off) or 0.0,
        sigma=rounded(sigma) or 0.0,
        agrees=abs(off) <= _SIGMAS * sigma,
    )


def _of_dimensions(result: ScanResult, roomplan: ScanResult) -> Iterator[Difference]:
    for name in DIMENSIONS:
        mine, theirs = getattr(result.room_dimensions, name), getattr(roomplan.room_dimensions, name)
        if mine is not None and theirs is not None:
            sigmas = [getattr(one.uncertainty, name) or 0.0 for one in (result, roomplan)]
            yield _difference(name, mine, theirs, math.hypot(*sigmas))


def _of_walls(result: ScanResult, roomplan: ScanResult, move: _Move) -> Iterator[Difference]:
    theirs = [(wall, move.points([wall.start, wall.end])) for wall in roomplan.walls]
    for number, wall in enumerate(result.walls):
        same = [other for other, ends in theirs if _is_same_wall(wall, ends)]
        if len(same) == 1:
            sigma = math.hypot(wall.uncertainty, same[0].uncertainty)
            yield _difference(f"wall {number}", wall.length, same[0].length, sigma)


def _is_same_wall(wall: FoundWall, ends: Points) -> bool:
    start, way = np.array(wall.start), np.array(wall.end) - np.array(wall.start)
    along = way / np.linalg.norm(way)
    other = (ends[1] - ends[0]) / np.linalg.norm(ends[1] - ends[0])
    away = np.abs((ends - start) @ np.array([-along[1], along[0]]))
    low, high = np.sort((ends - start) @ along)
    overlap = min(float(high), wall.length) - max(float(low), 0.0)
    return bool(along @ other > _PARALLEL and away.max() < _ON_WALL_M and overlap > _OVERLAP * wall.length)


def _of_openings(result: ScanResult, roomplan: ScanResult, move: _Move) -> Iterator[Difference]:
    """Width and height of the openings of one kind that lie nearest to each other, if near enough to be the same."""
    counts: dict[str, int] = {}
    for opening in result.openings:
        counts[opening.kind] = counts.get(opening.kind, 0) + 1
        at = _center(result.walls[opening.wall], opening.offset + opening.width / 2)
        rivals = [
            (
                float(
                    np.linalg.norm(move.points([_center(roomplan.walls[one.wall], one.offset + one.width / 2)])[0] - at)
                ),
                n,
            )
            for n, one in enumerate(roomplan.openings)
            if one.kind == opening.kind
        ]
        if not rivals or min(rivals)[0] > opening.width / 2:
            continue
        same = roomplan.openings[min(rivals)[1]]
        for name in ("width", "height"):
            mine, theirs = getattr(opening, name), getattr(same, name)
            sigma = math.hypot(_OPENING_SIGMA_M, length_sigma(theirs))
            yield _difference(f"{opening.kind} {counts[opening.kind]} {name}", mine, theirs, sigma)


def _center(wall: FoundWall, offset: float) -> Points:
    start, end = np.array(wall.start), np.array(wall.end)
    at: Points = start + (end - start) / wall.length * offset
    return at
