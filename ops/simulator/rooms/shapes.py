"""Rooms as numbers: a floor polygon, a height, openings in walls, boxes of furniture. Metres, z up, floor at z = 0."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ops.simulator.rooms.ceilings import Ceiling, CeilingKind, Plane, make_ceiling

_MIN_WIDTH_M: Final = 0.6


class Shape(StrEnum):
    """Floor plans that the generator knows."""

    BOX = "box"
    L = "l"
    T = "t"
    U = "u"
    TRAPEZOID = "trapezoid"
    PENTAGON = "pentagon"
    HEXAGON = "hexagon"
    BAY = "bay"


class OpeningKind(StrEnum):
    """What a hole in a wall is."""

    DOOR = "door"
    WINDOW = "window"
    OPENING = "opening"


@dataclass(frozen=True, slots=True)
class Opening:
    """A rectangular hole in a wall.

    Attributes:
        wall: the wall from corner `wall` to the next one.
        offset: from the wall's first corner to the hole's nearer edge.
        sill: height of its lower edge above the floor.
    """

    kind: OpeningKind
    wall: int
    offset: float
    width: float
    height: float
    sill: float


@dataclass(frozen=True, slots=True)
class Mirror:
    """A rectangle of a wall in which one sees the room again, placed as an opening is."""

    wall: int
    offset: float
    width: float
    height: float
    sill: float


@dataclass(frozen=True, slots=True)
class Box:
    """A piece of furniture that stands on the floor (or on `bottom`)."""

    center: tuple[float, float]
    size: tuple[float, float, float]
    yaw: float
    bottom: float = 0.0


@dataclass(frozen=True, slots=True)
class Room:
    """The truth.

    Attributes:
        corners: shape (k, 2), counter-clockwise, without repeating the first.
        height: of the highest point of the ceiling.
        shaped: the ceiling, if it is not level.
    """

    shape: Shape
    corners: NDArray[np.float64]
    height: float
    openings: tuple[Opening, ...] = ()
    furniture: tuple[Box, ...] = ()
    has_ceiling: bool = True
    yaw: float = field(default=0.0)
    shaped: Ceiling | None = None
    mirrors: tuple[Mirror, ...] = ()

    @property
    def ceiling(self) -> Ceiling:
        """Level or not."""
        return self.shaped or Ceiling((Plane(0.0, 0.0, self.height),))

    @property
    def volume(self) -> float:
        """Between floor and ceiling in m³, exactly."""
        return self.ceiling.volume(self.corners)

    @property
    def area(self) -> float:
        """Floor area in m² (shoelace)."""
        x, y = self.corners.T
        return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2

    @property
    def perimeter(self) -> float:
        """Length of all walls."""
        return float(np.linalg.norm(np.roll(self.corners, -1, axis=0) - self.corners, axis=1).sum())

    def wall(self, number: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """First and last corner of a wall."""
        return self.corners[number], self.corners[(number + 1) % len(self.corners)]


def make_room(
    shape: Shape,
    seed: int,
    *,
    furniture: int = 3,
    openings: int = 2,
    has_ceiling: bool = True,
    ceiling: CeilingKind = CeilingKind.LEVEL,
    mirrors: int = 0,
) -> Room:
    """A plausible room of that shape: sides 2.5 to 8 m, height 2.3 to 3.2 m (4.2 m under a slope), turned by any angle."""
    random = np.random.default_rng([seed, 1])
    corners = _CORNERS[shape](random)
    height = float(random.uniform(2.3, 3.2))
    yaw = float(random.uniform(0, 2 * math.pi))
    turn = np.array([[math.cos(yaw), -math.sin(yaw)], [math.sin(yaw), math.cos(yaw)]])
    corners = (corners - corners.mean(axis=0)) @ turn.T
    shaped = make_ceiling(ceiling, corners, yaw, seed)
    lowest, height = (height, height) if shaped is None else shaped.extremes(corners)
    holes = _openings(random, corners, lowest, openings)
    return Room(
        shape,
        corners,
        height,
        holes,
        _furniture(random, corners, yaw, furniture),
        has_ceiling,
        yaw,
        shaped,
        _mirrors(corners, {hole.wall for hole in holes}, mirrors, seed),
    )


def _sides(random: np.random.Generator) -> tuple[float, float]:
    return float(random.uniform(3.6, 6.5)), float(random.uniform(3.0, 5.0))


def _box(random: np.random.Generator) -> NDArray[np.float64]:
    a, b = _sides(random)
    return np.array([(0, 0), (a, 0), (a, b), (0, b)])


def _l(random: np.random.Generator) -> NDArray[np.float64]:
    a, b = _sides(random)
    c, d = a * random.uniform(0.4, 0.6), b * random.uniform(0.4, 0.6)
    return np.array([(0, 0), (a, 0), (a, d), (c, d), (c, b), (0, b)])


def _t(random: np.random.Generator) -> NDArray[np.float64]:
    a, b = float(random.uniform(5.0, 7.0)), float(random.uniform(4.0, 5.5))
    left, right, d = a * random.uniform(0.25, 0.35), a * random.uniform(0.65, 0.75), b * random.uniform(0.4, 0.6)
    return np.array([(left, 0), (right, 0), (right, d), (a, d), (a, b), (0, b), (0, d), (left, d)])


def _u(random: np.random.Generator) -> NDArray[np.float64]:
    a, b = float(random.uniform(5.5, 7.0)), float(random.uniform(4.0, 5.0))
    left, right, d = a * random.uniform(0.3, 0.36), a * random.uniform(0.64, 0.7), b * random.uniform(0.45, 0.6)
    return np.array([(0, 0), (a, 0), (a, b), (right, b), (right, d), (left, d), (left, b), (0, b)])


def _trapezoid(random: np.random.Generator) -> NDArray[np.float64]:
    a, b = _sides(random)
    return np.array([(0, 0), (a, 0), (a - random.uniform(0.3, 1.0), b), (random.uniform(0.3, 0.9), b)])


def _regular(random: np.random.Generator, corners: int) -> NDArray[np.float64]:
    angles = np.sort(np.arange(corners) * 2 * math.pi / corners + random.uniform(-0.15, 0.15, corners))
    radius = random.uniform(2.2, 3.2)
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _bay(random: np.random.Generator) -> NDArray[np.float64]:
    a, b = _sides(random)
    depth, first, last = random.uniform(0.6, 0.9), a * 0.25, a * 0.75
    return np.array(
        [(0, 0), (a, 0), (a, b), (last, b), (last - 0.6, b + depth), (first + 0.6, b + depth), (first, b), (0, b)]
    )


_CORNERS = {
    Shape.BOX: _box,
    Shape.L: _l,
    Shape.T: _t,
    Shape.U: _u,
    Shape.TRAPEZOID: _trapezoid,
    Shape.PENTAGON: lambda random: _regular(random, 5),
    Shape.HEXAGON: lambda random: _regular(random, 6),
    Shape.BAY: _bay,
}


def _openings(
    random: np.random.Generator, corners: NDArray[np.float64], height: float, count: int
) -> tuple[Opening, ...]:
    """At most one opening a wall, on the longest walls: the first a door, the others windows."""
    lengths = np.linalg.norm(np.roll(corners, -1, axis=0) - corners, axis=1)
    found = []
    for number, wall in enumerate(np.argsort(-lengths, kind="stable")[:count]):
        room = float(lengths[wall]) - 0.8
        if number == 0:
            width, top, sill, kind = min(0.9, room), 2.05, 0.0, OpeningKind.DOOR
        else:
            width, top, sill, kind = min(float(random.uniform(0.9, 1.6)), room), 2.1, 0.9, OpeningKind.WINDOW
        if width < _MIN_WIDTH_M:
            continue
        offset = float(random.uniform(0.4, 0.4 + room - width))
        found.append(Opening(kind, int(wall), offset, width, min(top, height - 0.25) - sill, sill))
    return tuple(found)


def _mirrors(corners: NDArray[np.float64], taken: set[int], count: int, seed: int) -> tuple[Mirror, ...]:
    """On the longest walls without an opening."""
    random = np.random.default_rng([seed, 6])
    lengths = np.linalg.norm(np.roll(corners, -1, axis=0) - corners, axis=1)
    free = [int(wall) for wall in np.argsort(-lengths, kind="stable") if int(wall) not in taken]
    found = []
    for wall in free[:count]:
        width = min(float(random.uniform(0.8, 1.4)), float(lengths[wall]) - 0.8)
        offset = float(random.uniform(0.4, float(lengths[wall]) - 0.4 - width))
        found.append(Mirror(wall, offset, width, float(random.uniform(1.2, 1.6)), 0.4))
    return tuple(found)


def _furniture(random: np.random.Generator, corners: NDArray[np.float64], yaw: float, count: int) -> tuple[Box, ...]:
    """Boxes well inside the polygon: tables, sofas, wardrobes."""
    sizes = [(1.4, 0.8, 0.75), (1.9, 0.9, 0.85), (1.0, 0.6, 1.9), (0.5, 0.5, 0.9)]
    low, high = corners.min(axis=0), corners.max(axis=0)
    boxes: list[Box] = []
    for _ in range(count * 20):
        if len(boxes) == count:
            break
        center = random.uniform(low, high)
        size = sizes[int(random.integers(len(sizes)))]
        reach = math.hypot(size[0], size[1]) / 2
        apart = all(math.dist(center, box.center) > reach + math.hypot(*box.size[:2]) / 2 + 0.3 for box in boxes)
        # The middle stays free for the person who scans.
        if distance_inside(corners, center) > reach + 0.1 and math.hypot(*center) > reach + 0.7 and apart:
            boxes.append(Box((float(center[0]), float(center[1])), size, yaw))
    return tuple(boxes)


def distance_inside(corners: NDArray[np.float64], point: NDArray[np.float64]) -> float:
    """Distance from a point to the nearest wall; negative outside of the polygon."""
    return float(distances_inside(corners, point[None])[0])


def distances_inside(corners: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of points, shape (n, 2), as `distance_inside`."""
    first, last = corners, np.roll(corners, -1, axis=0)
    along, point = last - first, points[:, None]
    share = np.clip(((point - first) * along).sum(axis=2) / (along**2).sum(axis=1), 0, 1)
    distance = np.linalg.norm(first + share[..., None] * along - point, axis=2).min(axis=1)
    x, y = point[..., 0], point[..., 1]
    crosses = (first[:, 1] > y) != (last[:, 1] > y)
    with np.errstate(divide="ignore", invalid="ignore"):
        at = first[:, 0] + (y - first[:, 1]) / along[:, 1] * along[:, 0]
    is_inside = (crosses & (x < at)).sum(axis=1) % 2 == 1
    found: NDArray[np.float64] = np.where(is_inside, distance, -distance)
    return found
