"""A room is measured the same however the scan was held, shuffled or repeated, and never wrong in silence."""

from __future__ import annotations

import dataclasses
import math
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.scans import add, fuse, truth_of
from ops.simulator.rooms.camera import DepthFrame, walk
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
