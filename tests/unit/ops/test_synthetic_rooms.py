"""The truth of synthetic rooms is exact, and rays see the room that it is the truth of."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from numpy.typing import NDArray

from ops.simulator.rooms.ceilings import CeilingKind
from ops.simulator.rooms.scene import Scene
from ops.simulator.rooms.shapes import Room, Shape, make_room

SEED = 7


def places(room: Room, count: int = 20_000) -> NDArray[np.float64]:
    """Evenly spread over the floor."""
    random = np.random.default_rng(1)
    some = random.uniform(room.corners.min(axis=0), room.corners.max(axis=0), (count, 2))
    inside: NDArray[np.float64] = some[shapely.contains_xy(shapely.Polygon(room.corners), some[:, 0], some[:, 1])]
    return inside


@pytest.mark.parametrize("shape", [Shape.BOX, Shape.U, Shape.HEXAGON])
@pytest.mark.parametrize("kind", list(CeilingKind))
def test_the_volume_is_the_floor_times_the_mean_height(shape: Shape, kind: CeilingKind) -> None:
    room = make_room(shape, SEED, ceiling=kind)
    heights = room.ceiling.height_at(*places(room).T)
    assert room.volume == pytest.approx(room.area * float(heights.mean()), rel=0.005)
    lowest, highest = room.ceiling.extremes(room.corners)
    assert lowest - 1e-9 <= heights.min() < lowest + 0.1
    assert highest - 0.1 < heights.max() <= highest + 1e-9
    assert room.height == pytest.approx(highest)
    assert lowest >= 2.3
    assert highest <= 4.2 + 1e-9


@pytest.mark.parametrize("kind", list(CeilingKind))
def test_rays_that_go_straight_up_meet_the_ceiling_over_them(kind: CeilingKind) -> None:
    room = make_room(Shape.L, SEED, ceiling=kind, furniture=0, openings=0)
    scene, up = Scene(room), np.array([[0.0, 0.0, 1.0]])
    for x, y in places(room, 40):
        distance = scene.distances(np.array([x, y, 1.0]), up)[0]
        assert distance == pytest.approx(float(room.ceiling.height_at(x, y)) - 1.0)


@pytest.mark.parametrize("kind", list(CeilingKind))
def test_no_ray_leaves_a_room_without_windows(kind: CeilingKind) -> None:
    room = make_room(Shape.U, SEED, ceiling=kind, furniture=0, openings=0)
    rays = np.random.default_rng(2).normal(size=(2_000, 3))
    origin = np.array([*places(room, 50)[0], 1.4])
    ends = origin + rays * Scene(room).distances(origin, rays)[:, None]
    assert shapely.contains_xy(shapely.Polygon(room.corners).buffer(1e-6), ends[:, 0], ends[:, 1]).all()
    assert (ends[:, 2] > -1e-6).all()
    assert (ends[:, 2] < room.height + 1e-6).all()


def test_a_mirror_shows_the_room_again_behind_its_wall() -> None:
    room = make_room(Shape.BOX, SEED, furniture=0, mirrors=1)
    mirror = room.mirrors[0]
    first, last = room.wall(mirror.wall)
    along = (last - first) / np.linalg.norm(last - first)
    out = np.array([along[1], -along[0], 0.0])
    middle = np.array([*(first + along * (mirror.offset + mirror.width / 2)), mirror.sill + mirror.height / 2])
    origin = middle - 1.0 * out
    seen = Scene(room).distances(origin, out[None])[0]
    back = Scene(room).distances(origin, -out[None])[0]
    # One metre to the mirror, one metre back to where one stands, and on to what is behind.
    assert seen == pytest.approx(2.0 + back)
    assert room.mirrors[0].wall not in {opening.wall for opening in room.openings}
