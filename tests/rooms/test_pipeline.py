"""Frames become one document, whatever order, repetition or process they come by."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest

from ops.simulator.rooms.ceilings import CeilingKind
from ops.simulator.rooms.shapes import Shape, make_room
from processors.scans.pipeline import ScanMap, measure_scan
from processors.scans.result import ScanResult, Verdict
from schemas.scan_frames import EndFrame, PointsFrame
from tests.rooms.recordings import SEED, mapped, measured, reader, recording

FRAMES = recording(Shape.BOX)


def test_the_document_has_all_measured_members_of_a_closed_room() -> None:
    result = measured(FRAMES)
    room = make_room(Shape.BOX, SEED)
    assert result.verdict is not Verdict.INCOMPLETE
    assert result.room_dimensions.height == pytest.approx(room.height, abs=0.01)
    assert result.room_dimensions.area == pytest.approx(room.area, rel=0.005)
    assert result.frames.accepted >= 0.95 * len(FRAMES)
    # The longest wall lies on the x axis and starts at the origin.
    assert result.floor_polygon[0] == (0.0, 0.0)
    assert result.floor_polygon[1] == (result.walls[0].length, 0.0)
    assert len(result.walls) == len(result.floor_polygon) == 4
    assert all(0 < wall.uncertainty < 0.05 for wall in result.walls)
    assert {one.kind for one in result.openings} == {"door", "window"}
    assert len(result.objects) >= 1
    assert ScanResult.from_document(json.loads(json.dumps(result.to_document()))) == result


def test_any_order_and_repetition_give_the_same_bytes() -> None:
    in_order = mapped(FRAMES)
    shuffled = ScanMap()
    for count, number in enumerate(np.random.default_rng(1).permutation(2 * len(FRAMES))):
        frame = FRAMES[number % len(FRAMES)]
        shuffled.add(frame.seq, frame)
        if count == 60:
            measure_scan(shuffled, reader(FRAMES), ended=False)  # looking in between changes nothing
    assert shuffled.to_bytes() == in_order.to_bytes()
    assert measure_scan(shuffled, reader(FRAMES)) == measure_scan(in_order, reader(FRAMES))


def test_another_process_goes_on_where_one_stopped() -> None:
    first = mapped(FRAMES[:50])
    second = ScanMap.from_bytes(first.to_bytes())
    for frame in FRAMES[50:]:
        second.add(frame.seq, frame)
    assert second.to_bytes() == mapped(FRAMES).to_bytes()
    other_version = msgspec.msgpack.encode([0, [], {}, 0, 0])
    with pytest.raises(ValueError, match="build it again"):
        ScanMap.from_bytes(other_version)


def test_each_frame_that_takes_no_part_has_its_reason() -> None:
    scan_map = ScanMap()
    good = FRAMES[0]
    assert scan_map.add(0, good).accepted
    replace = msgspec.structs.replace
    zeros = bytes(len(good.depth))
    reasons = [
        scan_map.add(1, replace(good, seq=1, tracking="lost")).reason,
        scan_map.add(2, replace(good, seq=2, depth=zeros)).reason,
        scan_map.add(3, replace(good, seq=3, fx=good.fx * 7.5, fy=good.fy * 7.5)).reason,
        scan_map.add(4, replace(good, seq=4, depth=b"\x03\x00" * (len(zeros) // 2))).reason,
        scan_map.add(5, replace(good, seq=5, confidence=zeros[::2], confidence_encoding="raw")).reason,
    ]
    assert reasons == [
        "tracking_lost",
        "no_valid_depth",
        "impossible_intrinsics",
        "depth_not_in_millimetres",
        "nothing_in_range",
    ]
    assert scan_map.add(6, EndFrame(seq=6, frames=6)).accepted
    assert [note.seq for note in scan_map.notes] == [0, 1, 2, 3, 4, 5]


def test_the_sweeps_of_a_scanner_are_measured_as_well() -> None:
    result = measured(_sweeps())
    room = make_room(Shape.BOX, SEED)
    assert result.verdict is not Verdict.INCOMPLETE
    assert result.room_dimensions.height == pytest.approx(room.height, abs=0.02)
    assert result.room_dimensions.area == pytest.approx(room.area, rel=0.01)


def test_a_scanner_s_gable_has_its_height_and_volume() -> None:
    result = measured(_sweeps(CeilingKind.GABLE))
    room = make_room(Shape.BOX, SEED, furniture=0, ceiling=CeilingKind.GABLE)
    assert result.ceiling.kind == "sloped"
    assert result.room_dimensions.height == pytest.approx(room.height, abs=0.02)
    assert result.room_dimensions.volume == pytest.approx(room.volume, rel=0.005)


def test_a_step_that_a_scanner_stands_under_and_cannot_see_gives_no_volume() -> None:
    result = measured(_sweeps(CeilingKind.STEPPED))
    assert result.verdict is Verdict.INCOMPLETE
    assert result.missing_parts == ("level ceiling",)
    assert result.room_dimensions.volume is None
    assert result.room_dimensions.area is not None


def _sweeps(ceiling: CeilingKind = CeilingKind.LEVEL) -> list[PointsFrame]:
    """A scanner in the middle of the room that sees all around, noise 5 mm."""
    from ops.simulator.rooms.scene import Scene

    random = np.random.default_rng(5)
    room = make_room(Shape.BOX, SEED, furniture=0, ceiling=ceiling)
    origin = np.array([0.1, 0.2, 1.3])
    frames = []
    for seq in range(6):
        rays = random.normal(size=(10_000, 3))
        rays /= np.linalg.norm(rays, axis=1)[:, None]
        distance = Scene(room).distances(origin, rays)
        own = (rays * (distance + random.normal(0, 0.005, len(rays)))[:, None])[np.isfinite(distance)]
        frames.append(
            PointsFrame(
                seq=seq,
                captured_at=1_760_000_000_000 + 100 * seq,
                pose=(*(float(number) for number in origin), 0.0, 0.0, 0.0, 1.0),  # type: ignore[arg-type]
                points=own.astype("<f4").tobytes(),
                points_encoding="f32",
            )
        )
    return frames
