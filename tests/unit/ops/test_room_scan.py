"""A simulated room scan: the same seed gives the same records, and disorder loses none."""

from __future__ import annotations

import threading
from collections import Counter

import pytest
from weir_device import ScanPublisher

from ops.simulator.room_scan import FRAMES, RoomScan, frames, longest_ms, publish, timed
from ops.simulator.rooms.shapes import Shape
from processors.scans import codec
from schemas.scan_frames import DepthFrame, EndFrame, decode_scan_frame, frame_type
from tests.unit.clients.fake_broker import FakeBroker

START_MS = 1_795_377_600_000
SMALL = RoomScan(seed=3, shape=Shape.L, frames=12, shrink=8)


def publisher(broker: FakeBroker) -> ScanPublisher:
    return ScanPublisher(device_id="phone-1", secret="s", bootstrap_servers="127.0.0.1:1", link=broker)


def values(scan: RoomScan) -> list[bytes]:
    return [value for _, value in timed(scan, START_MS)]


def test_a_scan_is_numbered_from_its_place_to_its_end() -> None:
    found = [decode_scan_frame(value) for value in values(SMALL)]

    assert [frame_type(frame) for frame in found] == ["location", *["depth"] * 12, "end"]
    assert [frame.seq for frame in found] == list(range(14))
    assert isinstance(found[-1], EndFrame)


def test_its_images_show_something_at_times_that_grow() -> None:
    images = [frame for value in values(SMALL) if isinstance(frame := decode_scan_frame(value), DepthFrame)]
    times = [image.captured_at for image in images]

    assert all(codec.depth_mm(image).any() for image in images)
    assert times[0] == START_MS
    assert times == sorted(set(times))
    assert times[-1] - START_MS <= longest_ms(SMALL)
    assert {image.gravity for image in images} == {(0.0, 0.0, -1.0)}


def test_the_same_seed_gives_the_same_bytes_and_another_one_others() -> None:
    assert values(SMALL) == values(RoomScan(seed=3, shape=Shape.L, frames=12, shrink=8))
    assert values(SMALL) != values(RoomScan(seed=4, shape=Shape.L, frames=12, shrink=8))


def test_all_frames_of_a_whole_scan_can_be_had_by_seed() -> None:
    whole = frames(3, START_MS, shape=Shape.L)

    assert decode_scan_frame(next(whole)).seq == 0
    assert decode_scan_frame(next(whole)).captured_at == START_MS
    assert FRAMES == 120


def test_disorder_loses_nothing_and_invents_nothing() -> None:
    ordered = values(SMALL)
    disordered = values(RoomScan(seed=3, shape=Shape.L, frames=12, shrink=8, disorder=0.3))
    counts = Counter(disordered)

    assert set(counts) == set(ordered)
    assert max(counts.values()) == 2
    assert list(dict.fromkeys(disordered)) != ordered
    times = [after_ms for after_ms, _ in timed(RoomScan(frames=12, shrink=8, disorder=0.3), START_MS)]
    assert times == sorted(times)


def test_a_scan_is_published_whole() -> None:
    broker = FakeBroker()
    with publisher(broker) as device:
        sent = publish(device, "scan_1", timed(SMALL, START_MS), threading.Event(), fast=True)

    assert sent == 14
    assert [record.value for record in broker.records] == values(SMALL)
    assert {record.key for record in broker.records} == {b"scan_1"}


@pytest.mark.parametrize("fast", [True, False])
def test_a_stop_ends_it_without_an_end(*, fast: bool) -> None:
    stop = threading.Event()
    stop.set()
    broker = FakeBroker()
    with publisher(broker) as device:
        assert publish(device, "scan_1", timed(SMALL, START_MS), stop, fast=fast) == 0
