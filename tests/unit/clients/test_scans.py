"""A scan's records leave the device numbered without holes, in order, keyed by the scan, whatever happens in between."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from weir_device import LEVEL, BufferFull, Intrinsics, KeyframeRule, Pose, PublisherClosed, Scan, ScanPublisher
from weir_device.scan_records import PART_BYTES

from schemas.scan_frames import PartFrame, frame_type
from tests.unit.clients.fake_broker import FakeBroker

NOW_MS = 1_795_377_600_000
VIEW = Intrinsics(4, 3, 3.0, 3.0, 1.5, 1.0)
IMAGE = np.full((3, 4), 1000, dtype=np.uint16)
PATIENCE_S = 60.0


def publisher(broker: FakeBroker, **options: Any) -> ScanPublisher:
    return ScanPublisher(
        device_id="phone-1", secret="s", bootstrap_servers="127.0.0.1:1", link=broker, now_ms=lambda: NOW_MS, **options
    )


def at(x: float) -> Pose:
    return Pose((x, 0.0, 1.5), (0.0, 0.0, 0.0, 1.0))


def walk_a_hundred_metres(scan: Scan) -> None:
    for x in range(100):
        scan.depth(IMAGE, VIEW, at(x))


def test_frames_are_numbered_and_keyed_by_the_scan_and_the_end_counts_them() -> None:
    broker = FakeBroker()
    with publisher(broker) as device:
        scan = device.scan("scan_1", gravity=LEVEL)
        scan.location(48.2, 16.4)
        scan.depth(IMAGE, VIEW, at(0.0))
        scan.points(np.array([[1.0, 2.0, 3.0]]), at(0.5))
        scan.rgb(b"\xff\xd8", VIEW, at(0.5))
        scan.motion([[NOW_MS, 0, 0, 9.81, 0, 0, 0]])
        scan.audio(b"\0", encoding="pcm16", sample_rate_hz=44_100)

        assert scan.end() == 6

    frames = broker.frames()
    assert [frame_type(each) for each in frames] == ["location", "depth", "points", "rgb", "motion", "audio", "end"]
    assert [each.seq for each in frames] == list(range(7))
    assert {record.key for record in broker.records} == {b"scan_1"}
    assert {record.content_type for record in broker.records} == {"application/msgpack"}
    assert (frames[1].captured_at, frames[1].gravity, frames[6].frames) == (NOW_MS, (0, 0, -1), 6)


def test_a_scan_without_a_name_gets_one_of_its_own() -> None:
    with publisher(FakeBroker()) as device:
        assert device.scan().scan_id != device.scan().scan_id


def test_only_keyframes_are_sent_unless_every_frame_is_wanted() -> None:
    broker = FakeBroker()
    with publisher(broker) as device:
        scan = device.scan("a", keyframes=KeyframeRule(moved_m=0.1))
        sent = [scan.depth(IMAGE, VIEW, at(x), at=NOW_MS) for x in (0.0, 0.05, 0.11, 0.15, 0.22)]
        lost = scan.depth(IMAGE, VIEW, at(9.0), at=NOW_MS, tracking="lost")
        every = device.scan("b", every_frame=True)
        all_sent = [every.depth(IMAGE, VIEW, at(0.0), at=NOW_MS) for _ in range(3)]

    assert sent == [True, False, True, False, True]
    assert (lost, scan.skipped, scan.next_seq) == (False, 3, 3)
    assert all_sent == [True, True, True]


def test_what_waited_for_the_broker_is_sent_first_and_in_order(tmp_path: Path) -> None:
    away = FakeBroker(away=True)
    first = publisher(away, buffer_dir=tmp_path)
    scan = first.scan("scan_1", every_frame=True)
    for x in range(3):
        scan.depth(IMAGE, VIEW, at(x))
    assert first.close(timeout_s=0).buffered == 3

    broker = FakeBroker()
    with publisher(broker, buffer_dir=tmp_path) as second:
        scan = second.scan("scan_1", next_seq=scan.next_seq)
        scan.end()

    assert [frame.seq for frame in broker.frames()] == [0, 1, 2, 3]
    assert {record.key for record in broker.records} == {b"scan_1"}


def test_a_frame_that_finds_no_room_leaves_no_hole() -> None:
    broker = FakeBroker(away=True)
    device = publisher(broker, buffer_max_bytes=1000)
    scan = device.scan("scan_1", every_frame=True)
    with pytest.raises(BufferFull):
        walk_a_hundred_metres(scan)
    accepted = scan.next_seq
    broker.come_back()
    device.flush(PATIENCE_S)
    scan.depth(IMAGE, VIEW, at(0))
    device.close(PATIENCE_S)

    assert accepted > 0
    assert [frame.seq for frame in broker.frames()] == list(range(accepted + 1))


def test_a_file_is_cut_into_parts_that_make_it_up_again(tmp_path: Path) -> None:
    content = np.random.default_rng(1).bytes(2 * PART_BYTES + 1)
    path = tmp_path / "room.ply"
    path.write_bytes(content)
    broker = FakeBroker()
    with publisher(broker, buffer_max_bytes=PART_BYTES + 1000) as device:  # waits for the broker after each
        file_id = device.scan("scan_1").file(path)

    parts = broker.frames()
    assert all(isinstance(part, PartFrame) for part in parts)
    assert b"".join(part.data for part in parts) == content
    assert [(part.index, part.total, part.seq) for part in parts] == [(0, 3, 0), (1, 3, 1), (2, 3, 2)]
    assert {(part.file_id, part.name) for part in parts} == {(file_id, "room.ply")}
    assert {part.sha256 for part in parts} == {hashlib.sha256(content).hexdigest()}


def test_a_large_photograph_travels_as_a_file() -> None:
    broker = FakeBroker()
    with publisher(broker) as device:
        device.scan("scan_1").rgb(b"\xff\xd8" * PART_BYTES, VIEW, at(0))

    *parts, image = broker.frames()
    assert [part.total for part in parts] == [2, 2]
    assert image.file_id == parts[0].file_id
    assert image.image is None


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.ply"
    path.touch()
    with publisher(FakeBroker()) as device, pytest.raises(ValueError, match="empty"):
        device.scan("scan_1").file(path)


def test_nothing_follows_the_end() -> None:
    with publisher(FakeBroker()) as device:
        scan = device.scan("scan_1")
        scan.end()
        with pytest.raises(PublisherClosed, match="has ended"):
            scan.location(48.2, 16.4)


@pytest.mark.parametrize("scan_id", ["a\nb", "ä" * 65])
def test_a_scan_id_that_is_no_key_is_refused(scan_id: str) -> None:
    with publisher(FakeBroker()) as device, pytest.raises(ValueError, match="scan id"):
        device.scan(scan_id).end()
