"""Synthetic rooms as RoomPlan would export them: the JSON of a `CapturedRoom`, of iOS 16 and 17."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ops.simulator.rooms.shapes import Room
from schemas.room_plan import CapturedRoom, decode_room_plan

Document = dict[str, Any]

# z up to y up: the inverse of (x, y, z) -> (-z, -x, y).
_Y_UP = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, 1.0], [-1.0, 0.0, 0.0]])
LABELS = ("sofa", "washerDryer", "table", "bed")


def placed(along: NDArray[np.float64], center: NDArray[np.float64]) -> list[float]:
    """The transform of something upright whose x axis runs along a direction of the plan; both in the z-up world."""
    x = np.array([*along, 0.0])
    up = np.array([0.0, 0.0, 1.0])
    axes = _Y_UP @ np.stack([x, up, np.cross(x, up)], axis=1)
    columns = np.eye(4)
    columns[:3, :3], columns[:3, 3] = axes, _Y_UP @ center
    return [float(value) for value in columns.T.reshape(-1)]


def element(kind: str, sizes: tuple[float, float, float], transform: list[float], **more: Any) -> Document:
    inner = {"isOpen": False} if kind == "door" else {}
    return {
        "identifier": f"{kind}-{len(more)}",
        "category": {kind: inner},
        "confidence": {"high": {}},
        "dimensions": [float(size) for size in sizes],
        "transform": transform,
    } | more


def room_plan(
    room: Room,
    *,
    ios: int = 17,
    turn: float = 0.0,
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0),
    scale: float = 1.0,
) -> Document:
    """The room as RoomPlan sees it without any error, in a world that is turned about z and shifted, or all too large."""
    c, s = math.cos(turn), math.sin(turn)
    about = np.array([[c, -s], [s, c]])

    def at(plan: Sequence[float] | NDArray[np.float64], z: float) -> NDArray[np.float64]:
        moved: NDArray[np.float64] = np.array([*(about @ (np.array(plan) * scale)), z * scale]) + np.array(shift)
        return moved

    walls: list[Document] = []
    holes: dict[str, list[Document]] = {"doors": [], "windows": [], "openings": []}
    for n in range(len(room.corners)):
        first, last = room.wall(n)
        length = float(np.linalg.norm(last - first))
        along = (last - first) / length
        transform = placed(about @ along, at((first + last) / 2, room.height / 2))
        walls.append(element("wall", (length * scale, room.height * scale, 0.0), transform, identifier=f"wall-{n}"))
        for hole in (one for one in room.openings if one.wall == n):
            middle = first + along * (hole.offset + hole.width / 2)
            where = placed(about @ along, at(middle, hole.sill + hole.height / 2))
            parent = {"parentIdentifier": f"wall-{n}"} if ios >= 17 else {}
            sizes = (hole.width * scale, hole.height * scale, 0.0)
            holes[f"{hole.kind.value}s"].append(element(hole.kind.value, sizes, where, **parent))
    objects = [
        element(
            LABELS[n % len(LABELS)],
            (box.size[0] * scale, box.size[2] * scale, box.size[1] * scale),
            placed(
                about @ np.array([math.cos(box.yaw), math.sin(box.yaw)]), at(box.center, box.bottom + box.size[2] / 2)
            ),
        )
        for n, box in enumerate(room.furniture)
    ]
    document: Document = {"walls": walls, **holes, "objects": objects}
    if ios >= 17:
        corners = [[float(-y * scale), float(-x * scale), 0.0] for x, y in room.corners]
        floor = _floor(corners, about, shift)
        more = {"version": 2, "story": 0, "floors": [floor], "sections": [], "coreModel": "AAAA"}
        document |= more
    return document


def _floor(corners: list[list[float]], about: NDArray[np.float64], shift: tuple[float, float, float]) -> Document:
    """A floor lies on its back: its own x and y span the plan."""
    local = np.array([[0.0, -1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])  # its x is -y of the world, its y is -x
    turned = np.eye(3)
    turned[:2, :2] = about
    columns = np.eye(4)
    columns[:3, :3], columns[:3, 3] = _Y_UP @ turned @ local, _Y_UP @ np.array(shift)
    transform = [float(value) for value in columns.T.reshape(-1)]
    return element("floor", (1.0, 1.0, 0.0), transform, polygonCorners=corners)


def captured(document: Document) -> CapturedRoom:
    """As it is read from its file."""
    return decode_room_plan(json.dumps(document).encode())
