"""Whatever goes wrong with a scan, no number of it is wrong in silence, and what it was is said by name."""

from __future__ import annotations

import dataclasses
from functools import cache

import msgspec
import numpy as np
import pytest

from bench.scans import truth_of
from ops.simulator.rooms.camera import Imperfection
from ops.simulator.rooms.shapes import Room, Shape, make_room
from processors.scans.pipeline import ScanMap, measure_scan
from processors.scans.poses import rotation
from processors.scans.result import DIMENSIONS, Mistake, ScanResult, Verdict
from schemas.scan_frames import DepthFrame, PointsFrame, ScanFrame
from tests.rooms.recordings import SEED, mapped, posed, reader, record, recording, turned_world

FRAMES = recording(Shape.BOX)
LENGTHS = ("length", "width", "height")
replace = msgspec.structs.replace


def measured(frames: list[DepthFrame]) -> ScanResult:
    """As a preview: with fewer frames for the openings, which nothing here is about."""
    return measure_scan(mapped(frames), reader(frames), ended=False)


@cache
def plain() -> ScanResult:
    return measured(FRAMES)


def assert_nothing_measured(result: ScanResult) -> None:
    assert result.verdict is Verdict.INCOMPLETE
    assert result.missing_parts
    assert result.room_dimensions.area is None
    assert result.room_dimensions.volume is None


def assert_honest(result: ScanResult, room: Room) -> None:
    """Right within 5 cm, or not said."""
    for name in LENGTHS:
        value = getattr(result.room_dimensions, name)
        assert value is None or abs(value - truth_of(room)[name]) < 0.05, name
    if result.room_dimensions.area is None:
        assert result.verdict is Verdict.INCOMPLETE
        assert result.missing_parts


@pytest.mark.parametrize("count", [0, 1, 3])
def test_hardly_any_frames(count: int) -> None:
    assert_nothing_measured(measured(FRAMES[:count]))


def test_nothing_but_zeros() -> None:
    result = measured([replace(frame, depth=bytes(len(frame.depth))) for frame in FRAMES[:10]])
    assert_nothing_measured(result)
    assert {one.reason for one in result.frames.rejected} == {"no_valid_depth"}


def test_tracking_that_was_lost_in_between() -> None:
    lost = [replace(frame, tracking="lost") if 30 <= frame.seq < 40 else frame for frame in FRAMES]
    result = measured(lost)
    assert {one.seq for one in result.frames.rejected if one.reason == "tracking_lost"} == set(range(30, 40))
    assert_honest(result, make_room(Shape.BOX, SEED))


def test_reverse_order_gives_the_same_result() -> None:
    assert measured(FRAMES[::-1]) == plain()


def test_half_the_frames() -> None:
    assert_honest(measured(FRAMES[::2]), make_room(Shape.BOX, SEED))


def test_half_a_room() -> None:
    assert_nothing_measured(measured([frame for frame in FRAMES if rotation(np.array(frame.pose[3:]))[0, 2] > 0]))


@pytest.mark.parametrize("share", [0.05, 0.2])
def test_wrong_poses_are_left_out_by_name(share: float) -> None:
    result = measured(recording(Shape.BOX, SEED, Imperfection(wrong_poses=share)))
    assert_honest(result, make_room(Shape.BOX, SEED))
    reasons = [one.reason for one in result.frames.rejected]
    assert set(reasons) <= {"pose_jump", "disagrees_with_other_frames"}
    assert len(reasons) >= share * len(FRAMES) / 2


def test_drift_widens_the_error_bars() -> None:
    drifting = measured(recording(Shape.BOX, SEED, Imperfection(drift_m=0.05)))
    assert_honest(drifting, make_room(Shape.BOX, SEED))
    steady = plain()
    assert (drifting.uncertainty.length or 0) > (steady.uncertainty.length or 0)


def test_no_ceiling() -> None:
    room = make_room(Shape.BOX, SEED, has_ceiling=False)
    result = measured(record(room))
    assert result.verdict is not Verdict.GOOD
    assert "ceiling" in result.missing_parts
    assert result.uncertainty.height == 0.05


def test_a_mirror_is_named_and_shows_no_room_behind_its_wall() -> None:
    room = make_room(Shape.BOX, SEED, mirrors=1)
    frames = record(room)
    result = measure_scan(mapped(frames), reader(frames))
    assert Mistake.MIRROR in result.warnings
    assert Mistake.MIRROR not in plain().warnings
    assert result.verdict is Verdict.GOOD
    for name in LENGTHS:
        assert getattr(result.room_dimensions, name) == pytest.approx(truth_of(room)[name], abs=0.02), name
    # It is no window; the door and the window of other walls are still there.
    assert sorted(one.kind for one in result.openings) == ["door", "window"]


def test_a_hall_larger_than_the_sensor_s_reach() -> None:
    room = make_room(Shape.BOX, SEED, furniture=0, openings=0)
    hall = dataclasses.replace(room, corners=room.corners * 3.5, height=6.0)
    assert_nothing_measured(measured(record(hall)))


def test_an_open_door_adds_no_corridor() -> None:
    room = make_room(Shape.BOX, SEED, openings=1, furniture=0)
    result = measured(record(room))
    assert result.room_dimensions.area == pytest.approx(room.area, rel=0.01)


def test_poses_the_wrong_way_round() -> None:
    inverse = []
    for frame in FRAMES:
        turn = rotation(np.array(frame.pose[3:]))
        inverse.append(posed(frame, -turn.T @ np.array(frame.pose[:3]), turn.T))
    result = measured(inverse)
    assert_nothing_measured(result)
    assert Mistake.INVERSE_POSE in result.warnings


@pytest.mark.parametrize("count", [8, 16, 24, 32])
def test_whoever_has_only_turned_about_so_far_is_not_taken_for_wrong(count: int) -> None:
    frames = recording(Shape.HEXAGON, 2)[:count]

    assert measured(frames).warnings == ()


def test_a_world_that_is_y_up_is_measured_upright_and_said() -> None:
    z_to_y = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    result = measured(turned_world(FRAMES, z_to_y))
    assert Mistake.Y_UP_WORLD in result.warnings
    assert_honest(result, make_room(Shape.BOX, SEED))
    assert Mistake.Y_UP_WORLD not in plain().warnings


def test_millimetres_for_metres_in_poses_and_in_clouds() -> None:
    result = measured(turned_world(FRAMES, np.eye(3), scale=1000.0))
    assert_nothing_measured(result)
    assert Mistake.MILLIMETRES_AS_METRES in result.warnings
    scan_map = ScanMap()
    scan_map.add_cloud([np.random.default_rng(3).uniform(0, 4000, (5000, 3))])
    result = measure_scan(scan_map, no_frames)
    assert_nothing_measured(result)
    assert Mistake.MILLIMETRES_AS_METRES in result.warnings


def test_metres_for_millimetres_in_depth_images() -> None:
    whole = [np.frombuffer(frame.depth, dtype="<u2") // 1000 for frame in FRAMES[:12]]
    result = measured([replace(f, depth=one.tobytes()) for f, one in zip(FRAMES, whole, strict=False)])
    assert_nothing_measured(result)
    assert result.warnings == (Mistake.METRES_AS_MILLIMETRES,)


def test_millimetres_for_metres_in_a_scanner_s_sweeps() -> None:
    # Beyond the kilometre that a scanner may see; nearer ones would be taken for a hall, which closes nowhere.
    far = np.random.default_rng(3).uniform(1500, 4000, (500, 3)).astype("<f4").tobytes()
    pose = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
    sweeps = [PointsFrame(seq=n, captured_at=100 * n, pose=pose, points=far, points_encoding="f32") for n in range(4)]
    result = measure_scan(mapped(sweeps), reader(sweeps))
    assert_nothing_measured(result)
    assert {one.reason for one in result.frames.rejected} == {"points_out_of_reach"}
    assert result.warnings == (Mistake.MILLIMETRES_AS_METRES,)


def test_intrinsics_of_the_colour_image() -> None:
    result = measured([replace(f, fx=f.fx * 7.5, fy=f.fy * 7.5, cx=f.cx * 7.5, cy=f.cy * 7.5) for f in FRAMES[:12]])
    assert_nothing_measured(result)
    assert result.warnings == (Mistake.COLOUR_INTRINSICS,)


def test_points_at_a_thousand_million_metres_and_nan_rows_are_dropped() -> None:
    cloud = np.random.default_rng(3).uniform(-1, 1, (1000, 3))
    spoilt = np.concatenate([[[np.nan] * 3, [1e9, 0, 0], [0, 0, 0]], cloud])
    scan_map = ScanMap()
    assert scan_map.add_cloud([spoilt]) == 1000
    assert scan_map.cloud_dropped == 3
    assert_nothing_measured(measure_scan(scan_map, no_frames))


def no_frames(seq: int) -> ScanFrame:
    raise KeyError(seq)


def test_numbers_come_with_their_error_or_not_at_all() -> None:
    for result in (plain(), measured(FRAMES[:1])):
        for name in DIMENSIONS:
            value, sigma = getattr(result.room_dimensions, name), getattr(result.uncertainty, name)
            assert (value is None) == (sigma is None)
            assert sigma is None or sigma > 0


def test_frames_of_a_scan_taken_again_elsewhere_do_not_mix_in_silence() -> None:
    other = [replace(frame, seq=frame.seq + 96) for frame in recording(Shape.L, 3)]
    both = [*FRAMES, *other]
    assert_nothing_measured(measured(both[::2]))
