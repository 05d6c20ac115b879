"""What stands in a room: a box from the floor to its top, and nothing of walls, floor or ceiling."""

from __future__ import annotations

import numpy as np
import pytest

from processors.scans.objects import find_objects
from processors.scans.plan import Edge
from processors.scans.walls import WallLine

BOX = np.array([[0.0, 0.0], [5.0, 0.0], [5.0, 4.0], [0.0, 4.0]])
STEP = 0.04


def walls() -> tuple[Edge, ...]:
    found = []
    for first, last in zip(BOX, np.roll(BOX, -1, axis=0), strict=True):
        along = (last - first) / np.linalg.norm(last - first)
        normal = np.array([along[1], -along[0]])
        found.append(Edge(first, last, WallLine(normal, float(normal @ first), 0.0, np.arange(80)), 1.0))
    return tuple(found)


def voxels(low: tuple[float, float, float], size: tuple[float, float, float]) -> np.ndarray:
    axes = [start + np.arange(0, length + STEP / 2, STEP) for start, length in zip(low, size, strict=True)]
    return np.stack([axis.ravel() for axis in np.meshgrid(*axes)], axis=1)


def test_a_table_is_a_box_from_the_floor_to_its_top() -> None:
    # Its underside was not seen; neither the picture on the wall nor the lamp at the ceiling is an object.
    table = voxels((1.0, 1.0, 1.2), (1.2, 0.6, 0.6))
    others = [voxels((4.92, 1.0, 1.5), (0.04, 1.0, 1.0)), voxels((3.0, 2.0, 3.4), (0.4, 0.4, 0.08))]
    (box,) = find_objects(np.concatenate([table, *others]), walls(), 1.0, 3.5)

    # 1 m of floor, then 0.8 m of table.
    assert box.size == pytest.approx((1.2, 0.6, 0.8))
    assert box.center == pytest.approx((1.6, 1.3, 1.4))
    assert min(box.yaw, np.pi - box.yaw) == pytest.approx(0.0, abs=1e-6)
