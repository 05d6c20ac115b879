"""Scan frames on the wire: what is documented is accepted, everything else refused by name."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import Reason, Rejected
from schemas.scan_frames import (
    MAX_PART_BYTES,
    MAX_RECORD_BYTES,
    MAX_SEQ,
    DepthFrame,
    EndFrame,
    PartFrame,
    PointsFrame,
    RgbFrame,
    decode_scan_frame,
    encode_scan_frame,
    frame_type,
)
from tests.unit.processors.scans.scan_records import CAPTURED_AT, POSE, depth, points, record, zstd

IMAGE = [[1_000, 1_010, 0], [1_020, 1_030, 65_535]]
PART = {"type": "part", "seq": 4, "file_id": "f1", "index": 0, "total": 2, "sha256": "aB" * 32, "data": b"x"}
END = {"type": "end", "seq": 5, "frames": 5}
NAN, INF = math.nan, math.inf


def reason_of(fields: object) -> Reason:
    value = fields if isinstance(fields, bytes) else record(fields)
    with pytest.raises(Rejected) as refusal:
        decode_scan_frame(value)
    return refusal.value.reason


def test_a_depth_frame_has_the_documented_fields() -> None:
    fields = depth(IMAGE, seq=7, confidence=bytes(6), confidence_encoding="raw", tracking="limited")
    frame = decode_scan_frame(record({**fields, "gravity": [0.0, 0.0, -1.0]}))

    assert isinstance(frame, DepthFrame)
    assert (frame_type(frame), frame.seq, frame.captured_at) == ("depth", 7, CAPTURED_AT)
    assert (frame.width, frame.height, frame.fx, frame.cx, frame.cy) == (3, 2, 212.0, 1.0, 0.5)
    assert (frame.pose, frame.gravity, frame.tracking) == (tuple(POSE), (0.0, 0.0, -1.0), "limited")
    assert (len(frame.depth), frame.depth_encoding, frame.confidence) == (12, "raw16", bytes(6))


def test_points_parts_and_the_end_have_the_documented_fields() -> None:
    cloud, part, end = (decode_scan_frame(record(each)) for each in (points([[1, 2, 3]]), PART, END))

    assert isinstance(cloud, PointsFrame)
    assert (cloud.points_encoding, len(cloud.points)) == ("f32", 12)
    assert isinstance(part, PartFrame)
    assert (part.file_id, part.index, part.total, part.sha256, part.data) == ("f1", 0, 2, "aB" * 32, b"x")
    bare = decode_scan_frame(record({**PART, "sha256": b"\xab" * 32}))
    assert isinstance(bare, PartFrame)
    assert part.file_digest == bare.file_digest == b"\xab" * 32
    assert isinstance(end, EndFrame)
    assert end.frames == 5


@pytest.mark.parametrize("kind", ["rgb", "motion", "location", "audio"])
def test_other_sensors_need_a_type_and_a_seq_only(kind: str) -> None:
    frame = decode_scan_frame(record({"type": kind, "seq": 0, "samples": [[1, {"x": None}]], "jpeg": b"..."}))

    assert (frame_type(frame), frame.captured_at) == (kind, None)


def test_a_colour_image_tells_where_it_was_taken() -> None:
    placed = {"pose": POSE, "width": 1920, "height": 1440, "fx": 1590.0, "fy": 1590.0, "cx": 959.5, "cy": 719.5}
    frame = decode_scan_frame(record({"type": "rgb", "seq": 0, "image": b"\xff\xd8", **placed}))

    assert isinstance(frame, RgbFrame)
    assert (frame.pose, frame.width, frame.fx, frame.image) == (tuple(POSE), 1920, 1590.0, b"\xff\xd8")
    assert reason_of({"type": "rgb", "seq": 0, "fx": 1590.0}) is Reason.INVALID_INTRINSICS
    assert reason_of({"type": "rgb", "seq": 0, "pose": [*POSE[:6], 2.0]}) is Reason.INVALID_POSE


def test_unknown_fields_are_passed_over() -> None:
    assert decode_scan_frame(record({**END, "battery": [1, {"a": 2}]})) == EndFrame(seq=5, frames=5)


@given(seq=st.integers(0, MAX_SEQ), pose=st.tuples(*[st.floats(-1e4, 1e4)] * 3), turn=st.floats(-7, 7))
def test_what_is_encoded_decodes_equal(seq: int, pose: tuple[float, float, float], turn: float) -> None:
    fields = depth(IMAGE, seq=seq, pose=[*pose, 0.0, 0.0, math.sin(turn), math.cos(turn)])
    frame = decode_scan_frame(record(fields))

    assert decode_scan_frame(encode_scan_frame(frame)) == frame


@given(st.binary(max_size=200))
def test_any_bytes_are_a_frame_or_refused(value: bytes) -> None:
    with suppress(Rejected):
        assert decode_scan_frame(value).seq >= 0


REFUSED: dict[str, tuple[Any, Reason]] = {
    "no MessagePack": (b"\xc1", Reason.UNDECODABLE),
    "nothing": (b"", Reason.UNDECODABLE),
    "cut off": (record(END)[:-1], Reason.UNDECODABLE),
    "something after it": (record(END) + b"\0", Reason.UNDECODABLE),
    "nested without end": (b"\x83\xa4type\xa6motion\xa3seq\x01\xa1x" + b"\x91" * 100_000 + b"\xc0", Reason.UNDECODABLE),
    "a list": ([END], Reason.WRONG_SHAPE),
    "numbers as keys": ({1: 2}, Reason.WRONG_SHAPE),
    "no type": ({"seq": 0}, Reason.WRONG_SHAPE),
    "another type": ({"type": "mesh", "seq": 0}, Reason.UNKNOWN_TYPE),
    "a type that is a number": ({"type": 1, "seq": 0}, Reason.UNKNOWN_TYPE),
    "no seq": ({"type": "motion"}, Reason.WRONG_SHAPE),
    "a negative seq": ({"type": "motion", "seq": -1}, Reason.INVALID_SEQ),
    "a huge seq": ({"type": "motion", "seq": MAX_SEQ + 1}, Reason.INVALID_SEQ),
    "a seq that is a boolean": ({"type": "motion", "seq": True}, Reason.INVALID_SEQ),
    "a seq that is a fraction": ({"type": "motion", "seq": 0.5}, Reason.INVALID_SEQ),
    "seconds": (depth(IMAGE, captured_at=CAPTURED_AT // 1000), Reason.INVALID_TIME),
    "a time with fractions": (depth(IMAGE, captured_at=CAPTURED_AT + 0.5), Reason.INVALID_TIME),
    "60 000 x 60 000 pixels": (depth(IMAGE, width=60_000, height=60_000), Reason.INVALID_SIZE),
    "8 000 x 8 000 pixels": (depth(IMAGE, width=8_000, height=8_000), Reason.INVALID_SIZE),
    "no pixels": (depth(IMAGE, width=0), Reason.INVALID_SIZE),
    "another size than the bytes": (depth(IMAGE, width=4), Reason.WRONG_LENGTH),
    "no focal length": (depth(IMAGE, fx=0.0), Reason.INVALID_INTRINSICS),
    "a NaN focal length": (depth(IMAGE, fy=NAN), Reason.INVALID_INTRINSICS),
    "an infinite center": (depth(IMAGE, cx=INF), Reason.INVALID_INTRINSICS),
    "intrinsics as text": (depth(IMAGE, cy="95.5"), Reason.INVALID_INTRINSICS),
    "six numbers of a pose": (depth(IMAGE, pose=POSE[:6]), Reason.INVALID_POSE),
    "a NaN position": (depth(IMAGE, pose=[NAN, *POSE[1:]]), Reason.INVALID_POSE),
    "an infinite position": (points([[1, 2, 3]], pose=[INF, *POSE[1:]]), Reason.INVALID_POSE),
    "a position in millimetres of far away": (depth(IMAGE, pose=[1e6, *POSE[1:]]), Reason.INVALID_POSE),
    "a quaternion of length 2": (depth(IMAGE, pose=[*POSE[:6], 2.0]), Reason.INVALID_POSE),
    "a quaternion of zeros": (points([[1, 2, 3]], pose=[0.0] * 7), Reason.INVALID_POSE),
    "a NaN quaternion": (depth(IMAGE, pose=[*POSE[:6], NAN]), Reason.INVALID_POSE),
    "gravity in m/s²": (depth(IMAGE, gravity=[0.0, 0.0, -9.81]), Reason.INVALID_GRAVITY),
    "gravity of two numbers": (depth(IMAGE, gravity=[0.0, -1.0]), Reason.INVALID_GRAVITY),
    "another tracking state": (depth(IMAGE, tracking="good"), Reason.WRONG_SHAPE),
    "another depth encoding": (depth(IMAGE, depth_encoding="jpeg"), Reason.UNKNOWN_ENCODING),
    "another confidence encoding": (depth(IMAGE, confidence=b"", confidence_encoding="rle"), Reason.UNKNOWN_ENCODING),
    "confidence without encoding": (depth(IMAGE, confidence=bytes(6)), Reason.UNKNOWN_ENCODING),
    "confidence of another size": (depth(IMAGE, confidence=b"\0", confidence_encoding="raw"), Reason.WRONG_LENGTH),
    "another points encoding": (points([[1, 2, 3]], points_encoding="f64"), Reason.UNKNOWN_ENCODING),
    "half a point": (points([[1, 2, 3]], points=bytes(11)), Reason.WRONG_LENGTH),
    "a part without a hash": ({key: each for key, each in PART.items() if key != "sha256"}, Reason.WRONG_SHAPE),
    "a hash that is none": ({**PART, "sha256": "x" * 64}, Reason.INVALID_PART),
    "a hash and a line feed": ({**PART, "sha256": "a" * 64 + "\n"}, Reason.INVALID_PART),
    "a part beyond the last": ({**PART, "index": 2}, Reason.INVALID_PART),
    "a part with half a hash": ({**PART, "sha256": b"\xab" * 16}, Reason.INVALID_PART),
    "an empty part": ({**PART, "data": b""}, Reason.INVALID_PART),
    "a part too large": ({**PART, "data": bytes(MAX_PART_BYTES + 1)}, Reason.INVALID_PART),
    "a file id that is not printable": ({**PART, "file_id": "a\0b"}, Reason.INVALID_PART),
    "an image's file id with a NUL": ({"type": "rgb", "seq": 0, "file_id": "a\0b"}, Reason.INVALID_PART),
    "an image's file id that fits no index": ({"type": "rgb", "seq": 0, "file_id": "a" * 129}, Reason.INVALID_PART),
    "an end that counts itself": ({**END, "frames": 6}, Reason.INVALID_END),
    "more than a record holds": (bytes(MAX_RECORD_BYTES + 1), Reason.TOO_LARGE),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_wrong_is_refused_by_its_own_reason(what: str) -> None:
    fields, reason = REFUSED[what]

    assert reason_of(fields) is reason


def test_a_refusal_says_what_was_expected_and_repeats_nothing_of_the_payload() -> None:
    with pytest.raises(Rejected, match="depth_encoding is not valid; expected raw16, png16 or delta16-zstd") as refusal:
        decode_scan_frame(record(depth(IMAGE, depth_encoding="secret-7")))

    assert "secret-7" not in str(refusal.value)


def test_the_largest_part_fits_a_record() -> None:
    value = record({**PART, "file_id": "f" * 128, "name": "n" * 255, "data": bytes(MAX_PART_BYTES)})

    assert len(value) < MAX_RECORD_BYTES
    assert isinstance(decode_scan_frame(value), PartFrame)


def test_a_payload_is_not_unpacked() -> None:
    bomb = zstd(bytes(100_000_000))  # 3 kB

    assert isinstance(decode_scan_frame(record(depth(IMAGE, depth=bomb, depth_encoding="delta16-zstd"))), DepthFrame)
