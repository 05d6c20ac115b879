"""A room is measured the same however the scan was held, shuffled or repeated, and never wrong in silence."""

from __future__ import annotations

import dataclasses
import math
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.scans import add, fuse, truth_of
from ops.simulator.rooms.camera import DepthFrame, Imperfection, walk
from ops.simulator.rooms.shapes import Room, Shape, make_room
from processors.scans.measure import RoomMeasurement, measure_room
from processors.scans.poses import quaternion, rotation
from processors.scans.result import Verdict
from processors.scans.voxels import VoxelMap

UP = np.array([0.0, 0.0, 1.0])
SEED = 7
LENGTHS = ("length", "width", "height")


@cache
def frames_of(shape: Shape, seed: int = SEED) -> tuple[Room, tuple[DepthFrame, ...]]:
    """A quick scan: a quarter of the pixels, 96 frames."""
    room = make_room(shape, seed)
    return room, tuple(walk(room, seed, frames=96, shrink=2))


def measured(frames: list[DepthFrame], up: NDArray[np.float64] = UP) -> RoomMeasurement:
    return measure_room(fuse(frames).voxels(), np.array([frame.pose[:3] for frame in frames]), up)


def moved(frames: tuple[DepthFrame, ...], turn: NDArray[np.float64], shift: NDArray[np.float64]) -> list[DepthFrame]:
    """The same scan in another world frame."""
    return [
        dataclasses.replace(
            frame, pose=np.array([*(turn @ frame.pose[:3] + shift), *quaternion(turn @ rotation(frame.pose[3:]))])
        )
        for frame in frames
    ]


def about(axis: tuple[float, float, float], degrees: float) -> NDArray[np.float64]:
    half = math.radians(degrees) / 2
    return rotation(np.array([*(np.array(axis) / np.linalg.norm(axis) * math.sin(half)), math.cos(half)]))


@pytest.mark.parametrize(("shape", "seed"), [(Shape.BOX, SEED), (Shape.L, 3), (Shape.HEXAGON, SEED)])
def test_a_room_is_measured_within_a_centimetre(shape: Shape, seed: int) -> None:
    room, frames = frames_of(shape, seed)
    found = measured(list(frames))
    truth = truth_of(room)
    assert found.verdict is not Verdict.INCOMPLETE
    assert len(found.corners) == len(room.corners)
    for name in LENGTHS:
        assert getattr(found, name).value == pytest.approx(truth[name], abs=0.01), name
    assert found.area.value == pytest.approx(truth["area"], rel=0.005)
    assert found.volume.value == pytest.approx(truth["volume"], rel=0.008)


def test_the_order_of_the_frames_does_not_matter_to_the_last_bit() -> None:
    _, frames = frames_of(Shape.BOX)
    in_order, shuffled = VoxelMap(), VoxelMap()
    for frame in frames:
        add(in_order, frame)
    for number, frame in enumerate(np.random.default_rng(1).permutation(np.array(frames, dtype=object))):
        add(shuffled, frame)
        if number % 10 == 0:
            shuffled.voxels()  # looking in between changes nothing
    for one, other in zip(dataclasses.astuple(in_order.voxels()), dataclasses.astuple(shuffled.voxels()), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize(
    ("turn", "shift"),
    [
        (about((0, 0, 1), 33.0), np.zeros(3)),
        (about((1, 0.5, 0), 5.0), np.zeros(3)),
        (np.eye(3), np.array([100.0, -60.0, 3.0])),
    ],
    ids=["turned by 33 degrees", "tilted by 5 degrees", "moved by 100 m"],
)
def test_the_world_frame_does_not_matter(turn: NDArray[np.float64], shift: NDArray[np.float64]) -> None:
    _, frames = frames_of(Shape.BOX)
    plain, other = measured(list(frames)), measured(moved(frames, turn, shift))
    for name in LENGTHS:
        assert getattr(other, name).value == pytest.approx(getattr(plain, name).value, abs=0.005), name


def test_lengths_grow_with_the_world() -> None:
    _, frames = frames_of(Shape.BOX)
    grown = [
        dataclasses.replace(
            frame,
            depth_mm=np.rint(frame.depth_mm * 1.01).astype(np.uint16),
            pose=np.array([*(frame.pose[:3] * 1.01), *frame.pose[3:]]),
        )
        for frame in frames
    ]
    plain, other = measured(list(frames)), measured(grown)
    for name in LENGTHS:
        assert getattr(other, name).value == pytest.approx(getattr(plain, name).value * 1.01, abs=0.005), name


def test_one_wrong_pose_in_twenty_does_no_harm() -> None:
    room = make_room(Shape.BOX, SEED)
    frames = list(walk(room, SEED, frames=96, imperfection=Imperfection(wrong_poses=0.05), shrink=2))
    found, truth = measured(frames), truth_of(room)
    assert found.verdict is not Verdict.INCOMPLETE
    for name in LENGTHS:
        assert getattr(found, name).value == pytest.approx(truth[name], abs=0.02), name


def test_half_a_room_is_incomplete_and_has_no_area() -> None:
    _, frames = frames_of(Shape.BOX)
    eastern = [frame for frame in frames if rotation(frame.pose[3:])[0, 2] > 0]
    found = measured(eastern)
    assert found.verdict is Verdict.INCOMPLETE
    assert found.area.value is None
    assert found.missing_parts


def test_without_a_ceiling_the_height_is_an_estimate_that_says_so() -> None:
    room = make_room(Shape.BOX, SEED, has_ceiling=False)
    found = measured(list(walk(room, SEED, frames=96, shrink=2)))
    assert found.verdict is not Verdict.GOOD
    assert "ceiling" in found.missing_parts
    assert found.height.value == pytest.approx(room.height, abs=0.1)
    assert found.height.sigma == 0.05


@pytest.mark.parametrize("count", [0, 1, 3])
def test_hardly_any_frames_are_incomplete_and_no_error(count: int) -> None:
    _, frames = frames_of(Shape.BOX)
    found = measured(list(frames[:count])) if count else measure_room(VoxelMap().voxels(), np.empty((0, 3)), UP)
    assert found.verdict is Verdict.INCOMPLETE
    assert found.missing_parts
