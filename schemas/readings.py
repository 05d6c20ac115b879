"""Readings on the wire (INTERFACES §4): the bytes of many records to columns, and back.

Border: form only. Whose record it is, whether it was signed, and whether a time is admissible is decided elsewhere.
Nothing here reads a clock, and a record decodes to the same readings and refusals whatever batch it travels in.

Two ways through, one verdict. A record of the strict shape is decoded in one pass of msgspec. Any other is decoded to
plain objects and judged with care; what passes becomes the same structs. What needs no pass per record is then judged
for all readings at once, in columns. Records are never joined into one document: the bytes of one device could
otherwise forge another's reading.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Final, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from schemas import rfc3339
from schemas.errors import Reason, Rejected
from schemas.records import (
    MAX_READINGS,
    MAX_RECORD_BYTES,
    MAX_SENSOR_NAME,
    MAX_SEQ,
    STRICT_DECODERS,
    Reading,
    StrictReading,
    StrictRecord,
    decode_carefully,
    is_valid_name,
)

__all__ = [
    "EARLIEST_MS",
    "FUTURE_TOLERANCE_MS",
    "MAX_READINGS",
    "MAX_RECORD_BYTES",
    "MAX_SENSOR_NAME",
    "MAX_SEQ",
    "DecodedBatch",
    "ReadingRefusal",
    "RecordRefusal",
    "decode_batch",
    "encode_record",
]

EARLIEST_MS: Final = 1_262_304_000_000
"""2010-01-01T00:00:00.000Z: an earlier reading is quarantined."""

FUTURE_TOLERANCE_MS: Final = 300_000
"""5 min: how far ahead of the worker's time a reading may be."""

_NOT_FINITE: Final = "value is NaN or infinite, expected a finite number"
_LOCAL_TIME: Final = "at is a local time without an offset; end it with Z or ±hh:mm"
_NO_TIME: Final = "at is neither an RFC 3339 time (2026-11-22T20:00:00.000Z) nor epoch milliseconds, years 0001 to 9999"


@dataclass(frozen=True, slots=True)
class RecordRefusal:
    """A whole record was refused."""

    record: int
    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class ReadingRefusal:
    """One reading of a record was refused; `sensor` is its name if that is a valid one."""

    record: int
    index: int
    sensor: str | None
    reason: Reason
    detail: str


@dataclass(slots=True)
class DecodedBatch:
    """The well-formed readings of a batch as columns of one length, in record order, then index order.

    Attributes:
        record: which input record.
        index: the reading's place within its record.
        sensor: the sensor's name within its device.
        at_ms: epoch milliseconds, floored.
        value: finite; -0.0 appears as 0.0.
        seq: 0 where the record gave none.
        record_refusals: in record order.
        reading_refusals: in record order, then index order.
    """

    record: NDArray[np.int32]
    index: NDArray[np.int32]
    sensor: list[str]
    at_ms: NDArray[np.int64]
    value: NDArray[np.float64]
    seq: NDArray[np.int32]
    record_refusals: list[RecordRefusal]
    reading_refusals: list[ReadingRefusal]


@dataclass(slots=True)
class _Gathered:
    """What the passes over single records leave for the pass over columns."""

    readings: list[Sequence[Reading]] = field(default_factory=list)  # of each record; empty if it was refused
    indexes: dict[int, list[int]] = field(default_factory=dict)  # of records that lost a reading; others count from 0
    record_refusals: list[RecordRefusal] = field(default_factory=list)
    reading_refusals: list[ReadingRefusal] = field(default_factory=list)


def decode_batch(values: Sequence[bytes], content_types: Sequence[str | None]) -> DecodedBatch:
    """Decode many records; what is wrong with one ends in the refusals, never in an exception.

    Args:
        values: each record's bytes; b"" for a record without a value.
        content_types: one for each record; None or blank means JSON.
    """
    gathered = _Gathered()
    for value, content_type in zip(values, content_types, strict=True):
        decode = STRICT_DECODERS.get(content_type)
        if decode is not None and len(value) <= MAX_RECORD_BYTES:
            try:
                gathered.readings.append(decode(value).readings)
                continue
            except ValueError:  # not that shape: the careful way accepts more and finds out what, exactly, is wrong
                pass
        _gather_carefully(gathered, value, content_type)
    return _judge_columns(gathered)


def encode_record(readings: Sequence[tuple[str, int, float, int]], sent_at_ms: int | None = None) -> bytes:
    """One record in JSON, of (sensor, epoch ms, value, seq) each; names and counts are not checked.

    Raises:
        ValueError: a value is not finite, or a time lies outside the years 0001 to 9999.
    """
    if not all(math.isfinite(value) for _, _, value, _ in readings):
        msg = "a value is NaN or infinite, which JSON cannot say; leave that reading out"
        raise ValueError(msg)
    rows = [StrictReading(sensor, rfc3339.format_ms(at_ms), value, seq) for sensor, at_ms, value, seq in readings]
    sent_at = msgspec.UNSET if sent_at_ms is None else rfc3339.format_ms(sent_at_ms)
    return msgspec.json.encode(StrictRecord(rows, sent_at))


def _gather_carefully(gathered: _Gathered, value: bytes, content_type: str | None) -> None:
    record = len(gathered.readings)
    try:
        judged = decode_carefully(value, content_type)
    except Rejected as refusal:
        gathered.readings.append([])
        gathered.record_refusals.append(RecordRefusal(record, refusal.reason, refusal.detail))
        return
    gathered.readings.append(judged.readings)
    if not judged.refused and judged.indexes[-1] == len(judged.indexes) - 1:
        return
    gathered.indexes[record] = judged.indexes
    gathered.reading_refusals += [ReadingRefusal(record, *refused) for refused in judged.refused]


def _judge_columns(gathered: _Gathered) -> DecodedBatch:
    readings = list(chain.from_iterable(gathered.readings))
    record, index = _places(gathered)
    sensor = [reading.sensor for reading in readings]
    value = np.array([reading.value for reading in readings], np.float64) + 0.0  # -0.0 + 0.0 is 0.0
    seq = np.array([reading.seq for reading in readings], np.int32)
    at = [reading.at for reading in readings]
    at_ms, is_time = _epoch_ms(at)

    kept = _printable(sensor) & np.isfinite(value) & is_time
    columns = DecodedBatch(
        record, index, sensor, at_ms, value, seq, gathered.record_refusals, gathered.reading_refusals
    )
    return columns if kept.all() else _without(columns, np.flatnonzero(~kept), readings)


def _without(columns: DecodedBatch, refused: NDArray[np.intp], readings: list[Reading]) -> DecodedBatch:
    """Move rows from the columns to the refusals."""
    verdicts = _explain([readings[row] for row in refused.tolist()])
    places = zip(columns.record[refused].tolist(), columns.index[refused].tolist(), verdicts, strict=True)
    refusals = [
        *columns.reading_refusals,
        *(ReadingRefusal(record, index, *verdict) for record, index, verdict in places),
    ]
    refusals.sort(key=lambda refusal: (refusal.record, refusal.index))
    rows = np.delete(np.arange(len(readings)), refused)
    return DecodedBatch(
        columns.record[rows],
        columns.index[rows],
        [columns.sensor[row] for row in rows.tolist()],
        columns.at_ms[rows],
        columns.value[rows],
        columns.seq[rows],
        columns.record_refusals,
        refusals,
    )


def _places(gathered: _Gathered) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Record and index of every reading."""
    counts = np.fromiter(map(len, gathered.readings), np.int32, len(gathered.readings))
    ends = np.cumsum(counts, dtype=np.int32)
    record = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    index = np.arange(len(record), dtype=np.int32) - np.repeat(ends - counts, counts)
    for careful, indexes in gathered.indexes.items():
        index[ends[careful] - counts[careful] : ends[careful]] = indexes
    return record, index


def _printable(sensors: list[str]) -> NDArray[np.bool_]:
    if "".join(sensors).isprintable():  # true of the whole exactly if true of each
        return np.ones(len(sensors), np.bool_)
    return np.array([sensor.isprintable() for sensor in sensors], np.bool_)


def _epoch_ms(at: list[str | int | float]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Times of either notation as epoch milliseconds, and which of them are times in the years 0001 to 9999."""
    try:
        return rfc3339.parse(cast("list[str]", at))  # nearly always right, and cheaper than looking first
    except TypeError:
        is_text = np.array([isinstance(each, str) for each in at], np.bool_)
    at_ms, is_time = np.empty(len(at), np.int64), np.empty(len(at), np.bool_)
    at_ms[is_text], is_time[is_text] = rfc3339.parse([each for each in at if isinstance(each, str)])
    at_ms[~is_text], is_time[~is_text] = _floored([each for each in at if not isinstance(each, str)])
    return at_ms, is_time


def _floored(numbers: list[int | float]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    try:
        floored = np.floor(np.array(numbers, np.float64))  # exact: a time in range has 48 bits of milliseconds
    except OverflowError:  # an integer beyond the range of a double
        floored = np.floor([each if abs(each) < 2**63 else math.nan for each in numbers])
    is_time = (floored >= rfc3339.MIN_MS) & (floored <= rfc3339.MAX_MS)
    return np.where(is_time, floored, 0).astype(np.int64), is_time


def _explain(readings: list[Reading]) -> list[tuple[str | None, Reason, str]]:
    """Sensor, reason and detail of readings that a column refused, by the first wrong one of name, value and time."""
    _, lacks_offset = rfc3339.parse([f"{reading.at}Z" for reading in readings])
    verdicts: list[tuple[str | None, Reason, str]] = []
    for reading, local in zip(readings, lacks_offset.tolist(), strict=True):
        if not is_valid_name(reading.sensor):
            verdicts.append((None, Reason.INVALID_SENSOR, "sensor name has characters that cannot be printed"))
        elif not math.isfinite(reading.value):
            verdicts.append((reading.sensor, Reason.INVALID_VALUE, _NOT_FINITE))
        else:
            verdicts.append((reading.sensor, Reason.INVALID_TIME, _LOCAL_TIME if local else _NO_TIME))
    return verdicts
