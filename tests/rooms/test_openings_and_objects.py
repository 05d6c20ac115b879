"""Doors, windows and furniture of a room are found where they are; the glass of a window by what does not come back."""

from __future__ import annotations

import numpy as np
import pytest

from bench.scans import fuse
from ops.simulator.rooms.camera import walk
from ops.simulator.rooms.shapes import OpeningKind, Shape, make_room
from processors.scans.measure import clean, measure_room
from processors.scans.objects import find_objects
from processors.scans.openings import OpeningSearch
from processors.scans.poses import rotation

SEED = 7


def test_door_window_and_furniture_of_a_box_are_found() -> None:
    room = make_room(Shape.BOX, SEED)
    frames = list(walk(room, SEED, shrink=2))
    voxels = fuse(frames).voxels()
    found = measure_room(voxels, np.array([frame.pose[:3] for frame in frames]), np.array([0.0, 0.0, 1.0]))
    assert found.height.value is not None
    search = OpeningSearch(found.walls, 0.0, found.height.value)
    for frame in frames:
        depth = frame.depth_mm.reshape(-1) / 1000
        ends = frame.camera.rays() * np.where(depth > 0, depth, 1.0)[:, None]
        search.add(frame.pose[:3], ends @ rotation(frame.pose[3:]).T + frame.pose[:3], depth > 0)

    openings = {str(one.kind): one for one in search.openings()}
    assert set(openings) == {"door", "window"}
    window = next(one for one in room.openings if one.kind is OpeningKind.WINDOW)
    assert openings["window"].width == pytest.approx(window.width, abs=0.03)
    assert openings["window"].sill == pytest.approx(0.9, abs=0.05)
    # The corridor's walls begin at the jamb, so that a door reads narrower than its 0.9 m.
    assert openings["door"].width == pytest.approx(0.9, abs=0.12)
    assert openings["door"].sill == 0.0

    boxes = find_objects(clean(voxels).center, found.walls, 0.0, found.height.value)
    for box in room.furniture:
        near = [one for one in boxes if np.hypot(*(np.array(one.center[:2]) - box.center)) < 0.15]
        assert len(near) == 1
        assert near[0].size[2] == pytest.approx(box.size[2], abs=0.05)
