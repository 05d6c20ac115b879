"""Files of readings, as people have them: CSV, NDJSON and SenML, read line by line whatever their size.

Border: text in, readings or complaints with line numbers out. What a reading may be (names, finite values, times) is
the device library's to judge; here only what the text says is found out. Times are resolved for many lines at once.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Context, Decimal
from enum import StrEnum
from itertools import islice
from pathlib import PurePath
from typing import TypeAlias

import msgspec

from schemas import rfc3339
from schemas.errors import Misconfigured

_CHUNK_LINES = 1_000
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_OFFSET = re.compile(r"([Zz]|[+-]\d\d:\d\d)$", re.ASCII)
_DATE_LENGTH = len("2026-11-22")
_TIME_COLUMNS = ("at", "timestamp")
_RECORD_FIELD = b'"readings"'


class Format(StrEnum):
    """Forms of a file."""

    CSV = "csv"
    NDJSON = "ndjson"
    SENML = "senml"


class TimeUnit(StrEnum):
    """What a time counts that is a plain number since 1970-01-01T00:00:00Z."""

    SECONDS = "s"
    MILLISECONDS = "ms"
    MICROSECONDS = "us"
    NANOSECONDS = "ns"


_FLOORING = Context(prec=60, rounding=ROUND_FLOOR)
_IN_MS = {
    TimeUnit.SECONDS: Decimal(1_000),
    TimeUnit.MILLISECONDS: Decimal(1),
    TimeUnit.MICROSECONDS: Decimal("0.001"),
    TimeUnit.NANOSECONDS: Decimal("0.000001"),
}
_FORMATS = {
    ".csv": Format.CSV,
    ".ndjson": Format.NDJSON,
    ".jsonl": Format.NDJSON,
    ".senml": Format.SENML,
    ".json": Format.SENML,
}


@dataclass(frozen=True, slots=True)
class FileReading:
    """One line's reading."""

    line: int
    sensor: str
    at_ms: int
    value: float
    seq: int


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is no reading."""

    line: int
    problem: str


@dataclass(frozen=True, slots=True)
class TimeReading:
    """How times are to be read.

    Attributes:
        assume_utc: a time without an offset is UTC; otherwise it is refused.
        unit: of plain numbers.
    """

    assume_utc: bool = False
    unit: TimeUnit = TimeUnit.MILLISECONDS


@dataclass(frozen=True, slots=True)
class _Line:
    """A line whose time is still text."""

    line: int
    sensor: str
    at: str
    value: float
    seq: int


_Found: TypeAlias = _Line | BadLine


@dataclass(frozen=True, slots=True)
class _Columns:
    """Where things stand in a CSV row, and how many fields it has."""

    at: int
    value: int
    sensor: int | None
    seq: int | None
    count: int


class _Object(msgspec.Struct, forbid_unknown_fields=True):
    at: msgspec.Raw
    value: float
    sensor: str | None = None
    seq: int = 0


class _Record(msgspec.Struct, forbid_unknown_fields=True):
    """A line in the shape of a Kafka record (INTERFACES §4)."""

    readings: list[msgspec.Raw]
    sent_at: msgspec.Raw = msgspec.Raw()


_decode_object = msgspec.json.Decoder(_Object).decode
_decode_record = msgspec.json.Decoder(_Record).decode


def format_of(file: str, chosen: Format | None) -> Format:
    """The form of a file: as chosen, else by its suffix.

    Raises:
        Misconfigured: neither says it.
    """
    found = chosen or _FORMATS.get(PurePath(file).suffix.lower())
    if found is None:
        name = "standard input" if file == "-" else file
        msg = f"the format of {name} is unknown; pass --format csv, ndjson or senml"
        raise Misconfigured(msg)
    return found


def csv_readings(
    stream: Iterable[str], sensor: str | None, times: TimeReading, note: Callable[[str], None]
) -> Iterator[FileReading | BadLine]:
    """Readings of a CSV file whose header names `at` or `timestamp`, `value` and perhaps `sensor` and `seq`.

    Args:
        stream: lines with their ends, as of a file opened with newline="".
        sensor: for a file without such a column.
        times: how to read its times.
        note: told about columns that are not used.

    Raises:
        Misconfigured: the header lacks a column.
    """
    rows = csv.reader(stream)
    names = [name.strip().lower() for name in next(rows, [])]
    columns = _columns(names, sensor)
    unused = [name for name in names if name not in (*_TIME_COLUMNS, "value", "sensor", "seq")]
    if unused:
        note(f"columns not used: {', '.join(unused)}")
    return _with_times(_csv_lines(rows, columns, sensor or ""), times)


def ndjson_readings(stream: Iterable[str], sensor: str | None, times: TimeReading) -> Iterator[FileReading | BadLine]:
    """Readings of a file with one object in a line; blank lines mean nothing.

    An object is a reading, `{"at", "value", "sensor"?, "seq"?}`, or a record of several, `{"readings": […], "sent_at"?}`.
    """
    return _with_times(_ndjson_lines(stream, sensor), times)


def _columns(names: list[str], sensor: str | None) -> _Columns:
    places = {name: place for place, name in enumerate(names)}
    time_columns = [name for name in _TIME_COLUMNS if name in places]
    if len(time_columns) != 1 or "value" not in places or len(places) < len(names):
        shown = ", ".join(names) or "nothing"
        expected = "at (or timestamp) and value, each once, optionally sensor and seq"
        msg = f"line 1: the header names {shown}; expected {expected}"
        raise Misconfigured(msg)
    if "sensor" not in places and not sensor:
        msg = "the file has no sensor column; pass --sensor NAME"
        raise Misconfigured(msg)
    at = places[time_columns[0]]
    return _Columns(at, places["value"], places.get("sensor"), places.get("seq"), len(names))


def _csv_lines(rows: Iterator[list[str]], columns: _Columns, sensor: str) -> Iterator[_Found]:
    while True:
        line = rows.line_num + 1  # type: ignore[attr-defined]  # csv.reader has it; its type has no public name
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as exc:
            yield BadLine(line, f"not CSV: {exc}")
            continue
        if row:
            yield _csv_line(line, row, columns, sensor)


def _csv_line(line: int, row: list[str], columns: _Columns, sensor: str) -> _Found:
    if len(row) != columns.count:
        return BadLine(line, f"has {len(row)} fields, the header has {columns.count}")
    value = row[columns.value].strip()
    seq = "" if columns.seq is None else row[columns.seq].strip()
    if not _NUMBER.fullmatch(value):
        return BadLine(line, f"value {value[:40]!r} is not a number")
    if seq and not (seq.isascii() and seq.isdigit()):
        return BadLine(line, f"seq {seq[:40]!r} is not a whole number")
    name = "" if columns.sensor is None else row[columns.sensor]
    return _Line(line, name or sensor, row[columns.at].strip(), float(value), int(seq or 0))


def _ndjson_lines(stream: Iterable[str], sensor: str | None) -> Iterator[_Found]:
    for line, text in enumerate(stream, start=1):
        if not text.strip():
            continue
        try:
            encoded = text.encode()
        except UnicodeEncodeError:  # bytes that are no UTF-8 were read as surrogates
            yield BadLine(line, "not UTF-8")
            continue
        yield from _ndjson_readings(line, encoded, sensor)


def _ndjson_readings(line: int, text: bytes, sensor: str | None) -> Iterator[_Found]:
    """The one reading of a line, or those of the record that it is."""
    try:
        yield _ndjson_reading(line, _decode_object(text), sensor)
    except msgspec.DecodeError as exc:
        try:
            readings = _decode_record(text).readings
        except msgspec.DecodeError as of_record:
            yield BadLine(line, f"not a reading: {of_record if _RECORD_FIELD in text else exc}")
            return
        yield from (_of_record(line, index, reading, sensor) for index, reading in enumerate(readings))


def _of_record(line: int, index: int, text: msgspec.Raw, sensor: str | None) -> _Found:
    try:
        found = _ndjson_reading(line, _decode_object(text), sensor)
    except msgspec.DecodeError as exc:
        found = BadLine(line, f"not a reading: {exc}")
    return BadLine(line, f"reading {index}: {found.problem}") if isinstance(found, BadLine) else found


def _ndjson_reading(line: int, found: _Object, sensor: str | None) -> _Found:
    name = found.sensor or sensor
    if name is None:
        return BadLine(line, "names no sensor; add one, or pass --sensor NAME")
    return _Line(line, name, _text_of(found.at), found.value, found.seq)


def _text_of(at: msgspec.Raw) -> str:
    """A number as it was written, so that no digit is lost; a string's content."""
    text = bytes(at).decode()
    return str(msgspec.json.decode(at)) if text.startswith('"') else text


def _with_times(lines: Iterator[_Found], times: TimeReading) -> Iterator[FileReading | BadLine]:
    while chunk := list(islice(lines, _CHUNK_LINES)):
        resolved = iter(_epoch_ms([found.at for found in chunk if isinstance(found, _Line)], times))
        for found in chunk:
            if isinstance(found, BadLine):
                yield found
                continue
            at = next(resolved)
            if isinstance(at, str):
                yield BadLine(found.line, at)
            else:
                yield FileReading(found.line, found.sensor, at, found.value, found.seq)


def _epoch_ms(texts: list[str], times: TimeReading) -> list[int | str]:
    """Each text's time, or what is wrong with it."""
    read = [_number_or_notation(text, times) for text in texts]
    at_ms, valid = rfc3339.parse([found if isinstance(found, str) else "" for found in read])
    return [
        found if isinstance(found, int) else int(ms) if ok else _what_is_wrong(text, found)
        for text, found, ms, ok in zip(texts, read, at_ms, valid, strict=True)
    ]


def _number_or_notation(text: str, times: TimeReading) -> int | str:
    """A number as milliseconds; any other text as RFC 3339 has it: with a "T", and an offset if one may be assumed."""
    if _NUMBER.fullmatch(text):
        return int(_FLOORING.multiply(Decimal(text), _IN_MS[times.unit]).to_integral_value(ROUND_FLOOR))
    if text[_DATE_LENGTH : _DATE_LENGTH + 1] == " ":
        text = f"{text[:_DATE_LENGTH]}T{text[_DATE_LENGTH + 1 :]}"
    return text if _OFFSET.search(text) or not times.assume_utc else f"{text}Z"


def _what_is_wrong(text: str, notation: str) -> str:
    _, valid = rfc3339.parse([f"{notation}Z"])
    if valid[0]:
        return f"time {text!r} has no offset; add one (Z, +01:00), or pass --assume-utc if the file's times are UTC"
    return f"time {text[:40]!r} is not RFC 3339 (2026-11-22T20:00:00.000Z) and not a number"
