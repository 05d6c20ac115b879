"""Payloads of scan frames: every encoding gives the image back, and nothing unpacks to more than its frame declares."""

from __future__ import annotations

import math
import struct
import tracemalloc
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.scans import codec
from schemas.errors import Reason, Rejected
from schemas.scan_frames import DepthFrame, PointsFrame, decode_scan_frame
from tests.unit.processors.scans.scan_records import delta16, depth, png16, points, record, zstd

IMAGE = [[1_000, 1_010, 0], [65_535, 1, 40_000]]
ENCODINGS = ["raw16", "png16", "delta16-zstd"]
NAN = math.nan

images = st.integers(1, 6).flatmap(
    lambda width: st.lists(
        st.lists(st.integers(0, 65_535), min_size=width, max_size=width), min_size=1, max_size=6
    ).filter(lambda image: any(map(any, image)))
)


def depth_frame(*, image: Any = IMAGE, encoding: str = "raw16", **changes: Any) -> DepthFrame:
    frame = decode_scan_frame(record(depth(image, encoding, **changes)))
    assert isinstance(frame, DepthFrame)
    return frame


def points_frame(rows: Any, encoding: str = "f32", **changes: Any) -> PointsFrame:
    frame = decode_scan_frame(record(points(rows, encoding, **changes)))
    assert isinstance(frame, PointsFrame)
    return frame


def reason_of(frame: DepthFrame | PointsFrame) -> Reason:
    with pytest.raises(Rejected) as refusal:
        unpack(frame)
    return refusal.value.reason


def unpack(frame: DepthFrame | PointsFrame) -> None:
    if isinstance(frame, PointsFrame):
        codec.points_m(frame)
    else:
        codec.confidence(frame)
        codec.depth_mm(frame)


@pytest.mark.parametrize("encoding", ENCODINGS)
@given(image=images)
def test_an_image_of_a_foreign_encoder_decodes_equal(encoding: str, image: list[list[int]]) -> None:
    decoded = codec.depth_mm(depth_frame(image=image, encoding=encoding))

    assert decoded.dtype == np.uint16
    assert decoded.tolist() == image


@pytest.mark.parametrize("encoding", ["raw", "zstd"])
def test_confidence_decodes_in_rows(encoding: str) -> None:
    levels = bytes([0, 1, 2, 2, 1, 0])
    data = levels if encoding == "raw" else zstd(levels)
    found = codec.confidence(depth_frame(confidence=data, confidence_encoding=encoding))

    assert found is not None
    assert found.tolist() == [[0, 1, 2], [2, 1, 0]]
    assert codec.confidence(depth_frame()) is None


@pytest.mark.parametrize("encoding", ["f32", "i16mm", "f32+zstd", "i16mm+zstd"])
@given(rows=st.lists(st.lists(st.integers(-32_768, 32_767), min_size=3, max_size=3).filter(any), min_size=1))
def test_points_of_a_foreign_encoder_decode_to_metres(encoding: str, rows: list[list[int]]) -> None:
    metres = [[each / 1000 for each in row] for row in rows]
    decoded = codec.points_m(points_frame(metres, encoding))

    assert decoded.dtype == np.float64
    if encoding.startswith("i16mm"):
        assert decoded.tolist() == metres
    else:
        assert np.abs(decoded - metres).max() <= 32.8 * 2**-24  # half a unit in the last place of a float


def test_points_that_cannot_be_any_are_dropped_and_counted() -> None:
    rows = [[NAN, 0, 0], [1, 2, 3], [0, 0, 0], [1e9, 0, 0], [4, 5, 6], [7, 8, 9], [0, 0, 1], [math.inf, 0, 0]]
    read = codec.read_points(points_frame(rows))

    assert read.points.tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9], [0, 0, 1]]
    assert (read.non_finite, read.out_of_reach, read.no_return) == (2, 1, 1)


SIX = zstd(bytes(6))
REFUSED_DEPTH: dict[str, tuple[dict[str, Any], Reason]] = {
    "all zeros": ({"image": [[0, 0], [0, 0]]}, Reason.NO_VALID_DEPTH),
    "zstd of nothing": ({"depth": b"", "depth_encoding": "delta16-zstd"}, Reason.CORRUPT_PAYLOAD),
    "zstd cut off": ({"depth": zstd(delta16(IMAGE))[:-3], "depth_encoding": "delta16-zstd"}, Reason.CORRUPT_PAYLOAD),
    "zstd without size cut off": (
        {"depth": zstd(delta16(IMAGE), declare_size=False)[:-3], "depth_encoding": "delta16-zstd"},
        Reason.CORRUPT_PAYLOAD,
    ),
    "zstd and more": ({"depth": zstd(delta16(IMAGE)) + b"x", "depth_encoding": "delta16-zstd"}, Reason.CORRUPT_PAYLOAD),
    "raw as delta": ({"depth_encoding": "delta16-zstd"}, Reason.CORRUPT_PAYLOAD),
    "half an image": ({"depth": SIX, "depth_encoding": "delta16-zstd"}, Reason.WRONG_LENGTH),
    "an empty image": ({"depth": zstd(b""), "depth_encoding": "delta16-zstd"}, Reason.WRONG_LENGTH),
    "one byte more": ({"depth": zstd(bytes(13)), "depth_encoding": "delta16-zstd"}, Reason.DECOMPRESSION_BOMB),
    "raw as PNG": ({"depth_encoding": "png16"}, Reason.CORRUPT_PAYLOAD),
    "half a PNG": ({"depth": png16(IMAGE)[:-30], "depth_encoding": "png16"}, Reason.CORRUPT_PAYLOAD),
    "the head of a PNG": ({"depth": png16(IMAGE)[:33], "depth_encoding": "png16"}, Reason.CORRUPT_PAYLOAD),
    "a PNG of 60 000": ({"depth": png16(IMAGE, width=60_000), "depth_encoding": "png16"}, Reason.INVALID_SIZE),
    "a PNG of 8 bits": ({"depth": png16(IMAGE, bits=8), "depth_encoding": "png16"}, Reason.UNKNOWN_ENCODING),
    "confidence of 3": ({"confidence": b"\0\1\2\3\0\0", "confidence_encoding": "raw"}, Reason.INVALID_CONFIDENCE),
    "confidence cut off": ({"confidence": SIX[:-2], "confidence_encoding": "zstd"}, Reason.CORRUPT_PAYLOAD),
    "confidence too short": ({"confidence": zstd(b"\0"), "confidence_encoding": "zstd"}, Reason.WRONG_LENGTH),
    "a bomb": ({"confidence": zstd(bytes(10**8)), "confidence_encoding": "zstd"}, Reason.DECOMPRESSION_BOMB),
}


@pytest.mark.parametrize("what", REFUSED_DEPTH)
def test_a_wrong_image_is_refused_by_its_own_reason(what: str) -> None:
    changes, reason = REFUSED_DEPTH[what]

    assert reason_of(depth_frame(**changes)) is reason


REFUSED_POINTS: dict[str, tuple[Any, dict[str, Any], Reason]] = {
    "no points": ([], {}, Reason.NO_VALID_POINTS),
    "all zeros": ([[0, 0, 0]] * 4, {}, Reason.NO_VALID_POINTS),
    "mostly NaN": ([[NAN, 1, 1], [1, NAN, 1], [1, 1, 1]], {}, Reason.NON_FINITE_POINTS),
    "far away": ([[1e9, 1, 1], [1, -1e9, 1], [1, 1, 1]], {}, Reason.POINTS_OUT_OF_REACH),
    "half a point": ([], {"points": zstd(bytes(13)), "points_encoding": "f32+zstd"}, Reason.WRONG_LENGTH),
    "no zstd": ([], {"points": bytes(12), "points_encoding": "f32+zstd"}, Reason.CORRUPT_PAYLOAD),
    "a bomb": ([], {"points": zstd(bytes(10**8)), "points_encoding": "i16mm+zstd"}, Reason.DECOMPRESSION_BOMB),
}


@pytest.mark.parametrize("what", REFUSED_POINTS)
def test_wrong_points_are_refused_by_their_own_reason(what: str) -> None:
    rows, changes, reason = REFUSED_POINTS[what]

    assert reason_of(points_frame(rows, **changes)) is reason


@pytest.mark.parametrize("declare_size", [True, False])
def test_a_bomb_takes_no_memory(declare_size: bool) -> None:
    frame = depth_frame(depth=zstd(bytes(10**8), declare_size=declare_size), depth_encoding="delta16-zstd")
    tracemalloc.start()
    try:
        assert reason_of(frame) is Reason.DECOMPRESSION_BOMB
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 1_000_000


def test_a_window_beyond_eight_mebibytes_is_refused() -> None:
    # Magic, no size declared, a window of 2^(10 + 21) bytes, then an empty last block.
    greedy = struct.pack("<I", 0xFD2FB528) + bytes([0x00, 21 << 3]) + b"\x01\x00\x00"

    assert reason_of(depth_frame(depth=greedy, depth_encoding="delta16-zstd")) is Reason.CORRUPT_PAYLOAD


@given(st.sampled_from(ENCODINGS[1:]), st.integers(0, 10**6), st.integers(0, 255))
def test_a_damaged_payload_is_refused_or_an_image_of_the_declared_size(encoding: str, place: int, byte: int) -> None:
    data = bytearray(depth(IMAGE, encoding)["depth"])
    data[place % len(data)] = byte
    with suppress(Rejected):
        assert codec.depth_mm(depth_frame(depth=bytes(data), depth_encoding=encoding)).shape == (2, 3)
