"""Scans of whoever did not walk evenly about: turned on the spot, set up a tripod here and there, or wrote no times down."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from ops.simulator.rooms.camera import Camera
from ops.simulator.rooms.scene import Scene
from ops.simulator.rooms.shapes import Room, Shape
from processors.scans.pipeline import ScanMap, measure_scan
from processors.scans.poses import quaternion
from processors.scans.result import Mistake, ScanResult, Verdict
from schemas.scan_frames import DepthFrame

CAMERA = Camera(96, 72, 79.5)
SMALLER = Room(Shape.BOX, np.array([(0.0, 0.0), (4.0, 0.0), (4.0, 3.0), (0.0, 3.0)]), 2.4)
ROOM = Room(Shape.BOX, np.array([(0.0, 0.0), (5.2, 0.0), (5.2, 4.1), (0.0, 4.1)]), 2.5)
MIDDLE = [(2.6, 2.05)]
PLACES = [(1.3, 1.0), (3.9, 1.0), (3.9, 3.1), (1.3, 3.1)]
STARTED = 1_795_377_600_000


def looking(yaw_deg: float, pitch_deg: float) -> NDArray[np.float64]:
    """Axes of the image (right, down, forward) as columns."""
    yaw, pitch = math.radians(yaw_deg), math.radians(pitch_deg)
    forward = np.array([math.cos(yaw) * math.cos(pitch), math.sin(yaw) * math.cos(pitch), math.sin(pitch)])
    right = np.array([math.sin(yaw), -math.cos(yaw), 0.0])
    return np.stack([right, np.cross(forward, right), forward], axis=1)


def turning(
    places: Sequence[tuple[float, float]],
    step_deg: int,
    pitches: Sequence[float],
    step_ms: int,
    until_deg: int = 360,
    room: Room = ROOM,
) -> list[DepthFrame]:
    """At each place a turn for each pitch, 1.4 m above the floor; depth with noise of 4 mm."""
    random, scene = np.random.default_rng(1), Scene(room)
    views = [(x, y, yaw, pitch) for x, y in places for pitch in pitches for yaw in range(0, until_deg, step_deg)]
    frames = []
    for seq, (x, y, yaw, pitch) in enumerate(views):
        turn = looking(yaw, pitch)
        depth = scene.distances(np.array([x, y, 1.4]), CAMERA.rays() @ turn.T)
        qx, qy, qz, qw = (float(number) for number in quaternion(turn))
        frames.append(DepthFrame(
            seq=seq, captured_at=STARTED + seq * step_ms, width=96, height=72, fx=79.5, fy=79.5, cx=47.5, cy=35.5,
            pose=(x, y, 1.4, qx, qy, qz, qw), depth_encoding="raw16",
            depth=np.rint(1000 * (depth + random.normal(0, 0.004, depth.shape))).astype("<u2").tobytes(),
        ))  # fmt: skip
    return frames


def measured(frames: list[DepthFrame]) -> ScanResult:
    scan_map = ScanMap()
    for frame in frames:
        scan_map.add(frame.seq, frame)
    return measure_scan(scan_map, frames.__getitem__)


def assert_whole(result: ScanResult) -> None:
    found = result.room_dimensions
    assert (found.length, found.width, found.height) == pytest.approx((5.2, 4.1, 2.5), abs=0.01)
    assert found.area == pytest.approx(21.32, abs=0.05)  # 5.2 · 4.1
    assert result.verdict is Verdict.GOOD


def test_who_turned_on_the_spot_saw_the_ceiling_seldom_but_well_enough() -> None:
    # The walls' middle is in all three turns, the ceiling in one: half of all voxels weigh more than any of the ceiling's.
    result = measured(turning(MIDDLE, 10, (-25, 0, 25), step_ms=300))

    assert_whole(result)
    assert result.frames.rejected == ()


@pytest.mark.parametrize("step_ms", [0, 100])
def test_who_turned_faster_than_people_or_wrote_no_times_down_is_measured_all_the_same(step_ms: int) -> None:
    result = measured(turning(MIDDLE, 30, (-35, 0, 35), step_ms))

    assert_whole(result)
    assert result.frames.rejected == ()


def test_a_tripod_that_stood_here_and_there_did_not_jump() -> None:
    result = measured(turning(PLACES, 20, (-25, 25), step_ms=33))

    assert_whole(result)
    assert result.frames.rejected == ()


def test_of_a_tripod_that_stood_at_two_places_both_count() -> None:
    # From one of them the far corner is beyond the sensor's reach.
    frames = turning([(1.0, 1.0), (4.2, 3.1)], 20, (-25, 25), step_ms=33)

    assert {one.reason for one in measured(frames).frames.rejected} <= {"pose_jump"}
    assert_whole(measured(frames))


def test_a_smaller_room_within_is_no_other_place_of_the_same() -> None:
    one = turning(PLACES, 20, (-25, 0, 25), step_ms=100)
    other = turning([(1.0, 1.0), (3.0, 1.0), (3.0, 2.0), (1.0, 2.0)], 20, (-25, 0, 25), step_ms=100, room=SMALLER)
    mixed = [frame for pair in zip(one, other, strict=True) for frame in pair]

    result = measured([msgspec.structs.replace(frame, seq=seq) for seq, frame in enumerate(mixed)])

    assert result.verdict is Verdict.INCOMPLETE or len(result.frames.rejected) >= len(other) / 2


def test_who_looked_one_way_all_the_time_is_not_taken_for_one_with_a_world_that_is_y_up() -> None:
    result = measured(turning(PLACES, 20, (-25, 0, 25), step_ms=1_000, until_deg=20))

    assert Mistake.Y_UP_WORLD not in result.warnings
