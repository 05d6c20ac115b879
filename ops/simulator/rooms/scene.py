"""What a ray hits in a room: walls with holes, floor, ceiling, boxes of furniture, the corridor behind an open door."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ops.simulator.rooms.shapes import Opening, OpeningKind, Room

# What lies behind an open door: a corridor as deep as this, so that rays through it hit something.
_CORRIDOR_DEPTH_M: Final = 1.6
_NEAREST: Final = 1e-6


class Scene:
    """Casts rays into a room."""

    def __init__(self, room: Room) -> None:
        self._room = room

    def distances(self, origin: NDArray[np.float64], directions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Distance along each ray in units of its direction's length; inf where nothing is hit.

        Args:
            origin: shape (3,).
            directions: shape (n, 3).
        """
        nearest = np.full(len(directions), np.inf)
        with np.errstate(divide="ignore", invalid="ignore"):
            for hits in self._hits(origin, directions):
                np.fmin(nearest, np.where(hits > _NEAREST, hits, np.inf), out=nearest)
        return nearest

    def _hits(self, origin: NDArray[np.float64], rays: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
        room = self._room
        yield _flat(room, 0.0, origin, rays)
        if room.has_ceiling:
            yield _flat(room, room.height, origin, rays, room.slope)
        for number in range(len(room.corners)):
            yield _wall(room, number, origin, rays)
        for box in room.furniture:
            size = np.array([*np.array(box.size[:2]) / 2, box.size[2] / 2])
            center = np.array([*box.center, box.bottom + box.size[2] / 2])
            yield _slabs(center, size, box.yaw, origin, rays)[0]
        for opening in room.openings:
            if opening.kind is not OpeningKind.WINDOW:
                yield _corridor(room, opening, origin, rays)


def _flat(
    room: Room, z: float, origin: NDArray[np.float64], rays: NDArray[np.float64], slope: float = 0.0
) -> NDArray[np.float64]:
    distance = (z - slope * origin[0] - origin[2]) / (rays[:, 2] + slope * rays[:, 0])
    at = origin[:2] + distance[:, None] * rays[:, :2]
    return np.where(_within(room.corners, at), distance, np.inf)


def _within(corners: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Even-odd rule; at: shape (n, 2)."""
    inside = np.zeros(len(at), dtype=bool)
    for first, last in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        crosses = (first[1] > at[:, 1]) != (last[1] > at[:, 1])
        inside ^= crosses & (at[:, 0] < first[0] + (at[:, 1] - first[1]) / (last[1] - first[1]) * (last[0] - first[0]))
    return inside


def _wall(room: Room, number: int, origin: NDArray[np.float64], rays: NDArray[np.float64]) -> NDArray[np.float64]:
    first, last = room.wall(number)
    length = float(np.linalg.norm(last - first))
    along = (last - first) / length
    normal = np.array([along[1], -along[0]])
    distance = (normal @ (first - origin[:2])) / (rays[:, :2] @ normal)
    x = (origin[:2] - first) @ along + distance * (rays[:, :2] @ along)
    z = origin[2] + distance * rays[:, 2]
    solid = (x >= 0) & (x <= length) & (z >= 0) & (z <= room.height)
    for hole in (opening for opening in room.openings if opening.wall == number):
        through = (x > hole.offset) & (x < hole.offset + hole.width)
        solid &= ~(through & (z > hole.sill) & (z < hole.sill + hole.height))
    return np.where(solid, distance, np.inf)


def _slabs(
    center: NDArray[np.float64],
    half: NDArray[np.float64],
    yaw: float,
    origin: NDArray[np.float64],
    rays: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where rays enter and leave an upright box; inf where they miss it."""
    turn = np.array([[np.cos(yaw), np.sin(yaw), 0], [-np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    start, way = turn @ (origin - center), rays @ turn.T
    one, other = (-half - start) / way, (half - start) / way
    enter, leave = np.fmin(one, other).max(axis=1), np.fmax(one, other).min(axis=1)
    meets = (enter <= leave) & (leave > 0)
    return np.where(meets, enter, np.inf), np.where(meets, leave, np.inf)


def _corridor(
    room: Room, opening: Opening, origin: NDArray[np.float64], rays: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The far side of the box behind a door, for rays that go through the door."""
    first, last = room.wall(opening.wall)
    along = (last - first) / np.linalg.norm(last - first)
    outwards = np.array([along[1], -along[0]])
    middle = first + along * (opening.offset + opening.width / 2) + outwards * _CORRIDOR_DEPTH_M / 2
    half = np.array([opening.width / 2, _CORRIDOR_DEPTH_M / 2, opening.height / 2])
    center = np.array([*middle, opening.sill + opening.height / 2])
    enter, leave = _slabs(center, half, float(np.arctan2(along[1], along[0])), origin, rays)
    distance = (outwards @ (first - origin[:2])) / (rays[:, :2] @ outwards)
    # Entered through the door itself and not through a side.
    return np.where(np.isfinite(enter) & (np.abs(enter - distance) < _NEAREST * 100), leave, np.inf)
