"""A measured room as the result document: numbers rounded once, coordinates in the room's own frame."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from processors.scans.ceiling_parts import CeilingPart as ShapedPart
from processors.scans.extents import PlanErrors
from processors.scans.measure import RoomMeasurement
from processors.scans.objects import ObjectBox
from processors.scans.openings import Opening
from processors.scans.result import (
    DIMENSIONS,
    Ceiling,
    CeilingPart,
    FoundObject,
    FoundOpening,
    FoundWall,
    FrameCounts,
    Mistake,
    Placement,
    RejectedFrame,
    ScanResult,
    Values,
    rounded,
    rounded_sigma,
)


def document(
    room: RoomMeasurement,
    *,
    rejected: Mapping[int, str],
    accepted: int = 0,
    points: int = 0,
    openings: Sequence[Opening] = (),
    objects: Sequence[ObjectBox] = (),
    warnings: Sequence[Mistake] = (),
) -> ScanResult:
    """The document of a room.

    Args:
        room: as measured.
        rejected: reasons by seq.
        accepted: frames measured from.
        points: points measured from.
        openings: of the room's walls, numbered as those.
        objects: in the levelled world.
        warnings: likely mistakes.
    """
    placement, first = _placement(room)
    walls, errors = [*room.walls[first:], *room.walls[:first]], PlanErrors(room.walls)
    return ScanResult(
        frames=FrameCounts(accepted=accepted, rejected=tuple(RejectedFrame(*one) for one in sorted(rejected.items()))),
        points=points,
        room_dimensions=Values(**{name: rounded(getattr(room, name).value) for name in DIMENSIONS}),
        uncertainty=Values(**{name: rounded_sigma(getattr(room, name).sigma) for name in DIMENSIONS}),
        verdict=room.verdict,
        confidence=_share(room.confidence),
        completeness=_share(room.completeness),
        missing_parts=room.missing_parts,
        warnings=tuple(warnings),
        floor_polygon=tuple(_place(placement, room, wall.first) for wall in walls),
        walls=tuple(_wall(placement, room, errors, (first + n) % len(walls)) for n in range(len(walls))),
        openings=tuple(
            sorted((_opening(one, first, len(walls)) for one in openings), key=lambda o: (o.wall, o.offset))
        ),
        objects=tuple(_object(placement, room, box) for box in objects),
        ceiling=_ceiling(placement, room),
        placement=placement,
    )


def _ceiling(placement: Placement, room: RoomMeasurement) -> Ceiling:
    height, shaped = rounded(room.height.value), room.shaped
    if not room.has_ceiling:
        return Ceiling()
    if height is None:
        return Ceiling(kind="uneven")
    if shaped is None:
        return Ceiling(kind="level", lowest=height, highest=height, mean=height)
    return Ceiling(
        kind="sloped" if shaped.is_sloped else "stepped",
        lowest=_exact(shaped.lowest - room.floor_z),
        highest=height,
        mean=_exact((room.volume.value or 0.0) / (room.area.value or 1.0)),
        parts=tuple(_ceiling_part(placement, room, part) for part in shaped.parts),
    )


def _ceiling_part(placement: Placement, room: RoomMeasurement, part: ShapedPart) -> CeilingPart:
    corners = [_from_level(placement, room, corner) for corner in part.corners]
    return CeilingPart(
        corners=tuple((_exact(x), _exact(y), _exact(z)) for x, y, z in corners),
        lowest=_exact(min(corner[2] for corner in corners)),
        highest=_exact(max(corner[2] for corner in corners)),
        slope=_exact(part.plane.slope),
        area=_exact(part.shape.area),
    )


def _placement(room: RoomMeasurement) -> tuple[Placement, int]:
    """The longest wall lies on the x axis, starting at the origin. Without walls the levelled world, floor at zero."""
    turn, origin, first = room.turn, np.array([0.0, 0.0, room.floor_z]), 0
    if room.walls:
        first = max(range(len(room.walls)), key=lambda n: room.walls[n].length)
        wall = room.walls[first]
        x, y = (wall.last - wall.first) / wall.length
        about_z = np.array([[x, y, 0.0], [-y, x, 0.0], [0.0, 0.0, 1.0]])
        turn = about_z @ turn
        origin = about_z @ np.array([*wall.first, room.floor_z])
    rows = tuple((float(row[0]), float(row[1]), float(row[2])) for row in turn)
    return Placement(rotation=rows, translation=(float(-origin[0]), float(-origin[1]), float(-origin[2]))), first


def _from_level(placement: Placement, room: RoomMeasurement, point: NDArray[np.float64]) -> NDArray[np.float64]:
    moved: NDArray[np.float64] = np.array(placement.rotation) @ (room.turn.T @ point) + np.array(placement.translation)
    return moved


def _place(placement: Placement, room: RoomMeasurement, corner: NDArray[np.float64]) -> tuple[float, float]:
    x, y, _ = _from_level(placement, room, np.array([*corner, room.floor_z]))
    return _exact(x), _exact(y)


def _wall(placement: Placement, room: RoomMeasurement, errors: PlanErrors, number: int) -> FoundWall:
    wall = room.walls[number]
    return FoundWall(
        start=_place(placement, room, wall.first),
        end=_place(placement, room, wall.last),
        length=_exact(wall.length),
        uncertainty=rounded_sigma(errors.wall(number)) or 0.0,
        seen=_share(wall.support),
    )


def _opening(opening: Opening, first: int, walls: int) -> FoundOpening:
    return FoundOpening(
        kind=opening.kind.value,
        wall=(opening.wall - first) % walls,
        offset=_exact(opening.offset),
        width=_exact(opening.width),
        height=_exact(opening.height),
        sill=_exact(opening.sill),
    )


def _object(placement: Placement, room: RoomMeasurement, box: ObjectBox) -> FoundObject:
    x, y, z = _from_level(placement, room, np.array(box.center))
    axis = np.array(placement.rotation) @ (room.turn.T @ np.array([math.cos(box.yaw), math.sin(box.yaw), 0.0]))
    length, width, height = box.size
    return FoundObject(
        center=(_exact(x), _exact(y), _exact(z)),
        size=(_exact(length), _exact(width), _exact(height)),
        yaw=_exact(math.atan2(axis[1], axis[0]) % math.pi),
    )


def _exact(number: float) -> float:
    return rounded(number) or 0.0


def _share(share: float) -> float:
    return round(min(max(share, 0.0), 1.0), 2) + 0.0
