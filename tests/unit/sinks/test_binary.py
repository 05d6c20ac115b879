"""PostgreSQL's binary formats, byte for byte."""

from __future__ import annotations

import struct

import numpy as np

from sinks.timescale.binary import (
    FLOAT8,
    INT4,
    INT8,
    Int4Array,
    TextArray,
    TimestampArray,
    copy_buffer,
    epoch_ms,
    timestamps,
)


def test_a_copy_buffer_has_signature_rows_and_trailer() -> None:
    buffer = copy_buffer([(INT4, np.array([7], dtype=np.int32)), (FLOAT8, np.array([1.5])), (INT8, 9)])

    row = struct.pack(">hiiidiq", 3, 4, 7, 8, 1.5, 8, 9)
    assert buffer == b"PGCOPY\n\xff\r\n\x00" + bytes(8) + row + b"\xff\xff"


def test_an_array_has_one_dimension_no_nulls_and_lower_bound_one() -> None:
    payload = Int4Array(np.array([1, 2], dtype=np.int32)).payload

    assert payload == struct.pack(">iiiii", 1, 0, 23, 2, 1) + struct.pack(">iiii", 4, 1, 4, 2)


def test_an_empty_array_is_well_formed() -> None:
    assert TimestampArray(np.zeros(0, dtype=np.int64)).payload == struct.pack(">iiiii", 1, 0, 1184, 0, 1)


def test_texts_are_counted_in_bytes_and_may_repeat() -> None:
    payload = TextArray(["", "ab", "ü"], np.array([1, 0, 2, 1])).payload

    texts = struct.pack(">i2sii2si2s", 2, b"ab", 0, 2, "ü".encode(), 2, b"ab")
    assert payload == struct.pack(">iiiii", 1, 0, 25, 4, 1) + texts


def test_timestamps_count_microseconds_from_2000() -> None:
    # 2000-01-01T00:00:00.001Z is epoch 946 684 800 001 ms.
    at_ms = np.array([946_684_800_001, 0], dtype=np.int64)

    assert timestamps(at_ms).tolist() == [1000, -946_684_800_000_000]
    assert epoch_ms(timestamps(at_ms)).tolist() == at_ms.tolist()
