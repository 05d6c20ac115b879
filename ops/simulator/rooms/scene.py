"""What a ray hits in a room: walls with holes, floor, ceiling, boxes of furniture, the corridor behind an open door.

Rays start inside. The first of walls, floor and ceiling that one meets ends it, unless furniture stands before that, there is a
hole in the wall, or a mirror sends it back.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from ops.simulator.rooms.shapes import Mirror, Opening, OpeningKind, Room

# What lies behind an open door: a corridor as deep as this, so that rays through it hit something.
_CORRIDOR_DEPTH_M: Final = 1.6
_NEAREST: Final = 1e-6
# What is computed at a time stays in the processor's cache.
_AT_ONCE: Final = 4096


class Scene:
    """Casts rays into a room."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._first = room.corners
        ways = np.roll(room.corners, -1, axis=0) - room.corners
        self._length = np.linalg.norm(ways, axis=1)
        self._along = ways / self._length[:, None]
        self._out = np.stack([self._along[:, 1], -self._along[:, 0]], axis=1)
        self._rho = (self._out * self._first).sum(axis=1)
        self._start = (self._along * self._first).sum(axis=1)

    def distances(self, origin: NDArray[np.float64], directions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Distance along each ray in units of its direction's length; inf where nothing is hit.

        Args:
            origin: shape (3,), inside of the room.
            directions: shape (n, 3).
        """
        parts = np.array_split(directions, max(1, len(directions) // _AT_ONCE))
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.concatenate([self._cast(origin, part, self._room.mirrors) for part in parts])

    def _cast(
        self, origin: NDArray[np.float64], rays: NDArray[np.float64], mirrors: tuple[Mirror, ...]
    ) -> NDArray[np.float64]:
        wall, number, x = self._walls(origin, rays)
        found = np.fmin(wall, self._flats(origin, rays))
        on_wall = wall <= found
        for box in self._room.furniture:
            half = np.array([*np.array(box.size[:2]) / 2, box.size[2] / 2])
            center = np.array([*box.center, box.bottom + box.size[2] / 2])
            enter = _slabs(center, half, box.yaw, origin, rays)[0]
            nearer = (enter > _NEAREST) & (enter < found)
            found[nearer] = enter[nearer]
            on_wall &= ~nearer
        z = origin[..., 2] + wall * rays[:, 2]
        if not self._room.has_ceiling:
            at = np.atleast_2d(origin)[:, :2] + wall[:, None] * rays[:, :2]
            found[on_wall & (z > self._room.ceiling.height_at(*at.T))] = np.inf
        for hole in self._room.openings:
            through = on_wall & _within(hole, number, x, z)
            found[through] = self._behind(hole, _rows(origin, through), rays[through])
        for mirror in mirrors:
            back = on_wall & _within(mirror, number, x, z)
            if back.any():
                found[back] += self._reflected(mirror, _rows(origin, back), rays[back], wall[back])
        return found

    def _walls(
        self, origin: NDArray[np.float64], rays: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.float64]]:
        """Where each ray leaves the floor plan: distance, number of the wall, metres along that wall."""
        flat, away = origin[..., :2].reshape(-1, 2).T, np.ascontiguousarray(rays[:, :2].T)
        distance = (self._rho[:, None] - self._out @ flat) / (self._out @ away)
        x = (self._along @ flat - self._start[:, None]) + distance * (self._along @ away)
        meets = (distance > _NEAREST) & (x >= -_NEAREST) & (x <= self._length[:, None] + _NEAREST)
        distance = np.where(meets, distance, np.inf)
        number = distance.argmin(axis=0)
        ray = np.arange(len(rays))
        return distance[number, ray], number, x[number, ray]

    def _flats(self, origin: NDArray[np.float64], rays: NDArray[np.float64]) -> NDArray[np.float64]:
        floor = -origin[..., 2] / rays[:, 2]
        nearest = np.where(floor > _NEAREST, floor, np.inf)
        return np.fmin(nearest, self._room.ceiling.distances(origin, rays)) if self._room.has_ceiling else nearest

    def _behind(self, hole: Opening, origin: NDArray[np.float64], rays: NDArray[np.float64]) -> NDArray[np.float64]:
        """Nothing comes back from a window; behind a door there is the far side of a box."""
        if hole.kind is OpeningKind.WINDOW:
            return np.full(len(rays), np.inf)
        along, out = self._along[hole.wall], self._out[hole.wall]
        middle = self._first[hole.wall] + along * (hole.offset + hole.width / 2) + out * _CORRIDOR_DEPTH_M / 2
        half = np.array([hole.width / 2, _CORRIDOR_DEPTH_M / 2, hole.height / 2])
        center = np.array([*middle, hole.sill + hole.height / 2])
        return _slabs(center, half, float(np.arctan2(along[1], along[0])), origin, rays)[1]

    def _reflected(
        self, mirror: Mirror, origin: NDArray[np.float64], rays: NDArray[np.float64], distance: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """How far rays go on after the mirror; two mirrors do not see each other."""
        out = np.array([*self._out[mirror.wall], 0.0])
        turned = rays - 2 * (rays @ out)[:, None] * out
        return self._cast(origin + distance[:, None] * rays, turned, ())


def _rows(origin: NDArray[np.float64], rows: NDArray[np.bool_]) -> NDArray[np.float64]:
    return origin if origin.ndim == 1 else origin[rows]


def _within(
    hole: Opening | Mirror, number: NDArray[np.intp], x: NDArray[np.float64], z: NDArray[np.float64]
) -> NDArray[np.bool_]:
    across = (number == hole.wall) & (x > hole.offset) & (x < hole.offset + hole.width)
    within: NDArray[np.bool_] = across & (z > hole.sill) & (z < hole.sill + hole.height)
    return within


def _slabs(
    center: NDArray[np.float64],
    half: NDArray[np.float64],
    yaw: float,
    origin: NDArray[np.float64],
    rays: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where rays enter and leave an upright box; inf where they miss it."""
    turn = np.array([[np.cos(yaw), np.sin(yaw), 0], [-np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    start, way = turn @ (origin - center).reshape(-1, 3).T, turn @ rays.T
    one, other = (-half[:, None] - start) / way, (half[:, None] - start) / way
    enter, leave = np.fmin(one, other).max(axis=0), np.fmax(one, other).min(axis=0)
    meets = (enter <= leave) & (leave > 0)
    return np.where(meets, enter, np.inf), np.where(meets, leave, np.inf)
