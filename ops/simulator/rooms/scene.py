"""A room as triangles, and what a ray hits: Embree through Open3D's RaycastingScene."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ops.simulator.rooms.shapes import Box, OpeningKind, Room

# What lies behind an open door: a corridor as deep as this, so that rays through it hit something.
_CORRIDOR_DEPTH_M: Final = 1.6


class Scene:
    """Casts rays into a room. Importing Open3D happens here and not before."""

    def __init__(self, room: Room) -> None:
        import open3d as o3d  # noqa: PLC0415 - half a second and system libraries, only where frames are made

        self._o3d = o3d
        self._scene = o3d.t.geometry.RaycastingScene()
        for vertices, triangles in _surfaces(room):
            self._scene.add_triangles(
                o3d.core.Tensor(vertices.astype(np.float32)), o3d.core.Tensor(triangles.astype(np.uint32))
            )

    def distances(self, origin: NDArray[np.float64], directions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Distance along each ray in units of its direction's length; inf where nothing is hit.

        Args:
            directions: shape (n, 3).
        """
        rays = np.empty((len(directions), 6), dtype=np.float32)
        rays[:, :3], rays[:, 3:] = origin, directions
        answer: Any = self._scene.cast_rays(self._o3d.core.Tensor(rays))
        hits: NDArray[np.float64] = answer["t_hit"].numpy().astype(np.float64)
        return hits


Surface = tuple[NDArray[np.float64], NDArray[np.int64]]


def _surfaces(room: Room) -> list[Surface]:
    surfaces = [_flat(room, 0.0)]
    if room.has_ceiling:
        surfaces.append(_flat(room, room.height))
    for number in range(len(room.corners)):
        surfaces.extend(_wall(room, number))
    surfaces.extend(_solid(_box_corners(box), box.bottom, box.bottom + box.size[2]) for box in room.furniture)
    return surfaces


def _flat(room: Room, z: float) -> Surface:
    corners = room.corners
    return np.column_stack([corners, np.full(len(corners), z)]), _ears(corners)


def _ears(corners: NDArray[np.float64]) -> NDArray[np.int64]:
    """Triangles of a simple counter-clockwise polygon, by cutting ears."""
    left = list(range(len(corners)))
    triangles = []
    while len(left) > 3:
        for place in range(len(left)):
            a, b, c = left[place - 1], left[place], left[(place + 1) % len(left)]
            others = [corners[n] for n in left if n not in (a, b, c)]
            if _turn(corners[a], corners[b], corners[c]) > 0 and not any(
                _is_within(p, corners[a], corners[b], corners[c]) for p in others
            ):
                triangles.append((a, b, c))
                left.pop(place)
                break
        else:
            msg = "the polygon crosses itself or is not counter-clockwise"
            raise ValueError(msg)
    return np.array([*triangles, left])


def _turn(a: NDArray[np.float64], b: NDArray[np.float64], c: NDArray[np.float64]) -> float:
    return float((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]))


def _is_within(p: NDArray[np.float64], *corners: NDArray[np.float64]) -> bool:
    a, b, c = corners
    return _turn(a, b, p) >= 0 and _turn(b, c, p) >= 0 and _turn(c, a, p) >= 0


def _wall(room: Room, number: int) -> list[Surface]:
    first, last = room.wall(number)
    length = float(np.linalg.norm(last - first))
    along = (last - first) / length
    outwards = np.array([along[1], -along[0]])
    holes = [opening for opening in room.openings if opening.wall == number]
    cuts = sorted({0.0, length, *(edge for hole in holes for edge in (hole.offset, hole.offset + hole.width))})
    surfaces = []
    for left, right in zip(cuts, cuts[1:], strict=False):
        hole = next((h for h in holes if h.offset <= (left + right) / 2 <= h.offset + h.width), None)
        bands = [(0.0, room.height)] if hole is None else [(0.0, hole.sill), (hole.sill + hole.height, room.height)]
        a, b = first + along * left, first + along * right
        surfaces.extend(_rectangle(a, b, low, high) for low, high in bands if high - low > 1e-6)
        if hole is not None and hole.kind is not OpeningKind.WINDOW:
            corridor = np.array([a, a + outwards * _CORRIDOR_DEPTH_M, b + outwards * _CORRIDOR_DEPTH_M, b])
            surfaces.append(_solid(corridor, -0.001, hole.height))
    return surfaces


def _rectangle(a: NDArray[np.float64], b: NDArray[np.float64], low: float, high: float) -> Surface:
    return np.array([(*a, low), (*b, low), (*b, high), (*a, high)]), np.array([(0, 1, 2), (0, 2, 3)])


def _box_corners(box: Box) -> NDArray[np.float64]:
    turn = np.array([[np.cos(box.yaw), -np.sin(box.yaw)], [np.sin(box.yaw), np.cos(box.yaw)]])
    half = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * np.array(box.size[:2]) / 2
    return half @ turn.T + np.array(box.center)


def _solid(corners: NDArray[np.float64], low: float, high: float) -> Surface:
    """Sides, top and bottom over a quadrangle; for a corridor its entrance side is left open by the caller's wall."""
    vertices = np.array([(*corner, z) for z in (low, high) for corner in corners])
    sides = [(n, (n + 1) % 4, 4 + (n + 1) % 4, 4 + n) for n in range(4 if low >= 0 else 3)]
    faces = [(0, 1, 2, 3), (4, 5, 6, 7), *sides]
    return vertices, np.array([triangle for a, b, c, d in faces for triangle in ((a, b, c), (a, c, d))])
