"""Readings and records as they travel: validation, JSON, signatures.

Border: bytes only; nothing here knows of Kafka, disks or clocks. One bad reading could cost its whole record at the
other end, so whatever could make a record undecodable is refused here, at the call that brought it.
"""

from __future__ import annotations

import hashlib
import hmac
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from numbers import Real
from operator import index
from typing import SupportsIndex

import msgspec

MAX_READINGS = 10_000
"""A record with more is refused whole."""

MAX_RECORD_BYTES = 900 * 1024
"""Kept below the 1 MiB at which a record is refused, so that key, headers and framing fit too."""

MAX_SCAN_ID = 128
MAX_SCAN_RECORD_BYTES = MAX_RECORD_BYTES - MAX_SCAN_ID - 1
"""What waits on disk carries its key."""

MAX_SENSOR_NAME = 128
MAX_SEQ = 2**31 - 1

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_MIN_AT_MS = (datetime(1, 1, 1, tzinfo=UTC) - _EPOCH) // _MILLISECOND
_MAX_AT_MS = (datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC) - _EPOCH) // _MILLISECOND
_HEAD = b'{"readings":['
_ENVELOPE_BYTES = len(_HEAD) + len(b'],"sent_at":') + len(str(_MIN_AT_MS)) + len(b"}")


class Kind(IntEnum):
    """What a buffered entry holds. The numbers are on disk: never change them."""

    READING = 0
    JSON_RECORD = 1
    MSGPACK_RECORD = 2
    SENML_RECORD = 3
    SCAN_RECORD = 4


CONTENT_TYPES = {
    Kind.JSON_RECORD: "application/json",
    Kind.MSGPACK_RECORD: "application/msgpack",
    Kind.SENML_RECORD: "application/senml+json",
    Kind.SCAN_RECORD: "application/msgpack",
}
_KINDS = {CONTENT_TYPES[kind]: kind for kind in (Kind.JSON_RECORD, Kind.MSGPACK_RECORD, Kind.SENML_RECORD)}


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that waits in a buffer: a reading, or a record that the caller made himself."""

    kind: Kind
    readings: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Record:
    """One Kafka record, still unsigned; its key is the device id unless it has one of its own."""

    content_type: str
    readings: int
    value: bytes
    key: bytes | None = None


class _Reading(msgspec.Struct, omit_defaults=True):
    sensor: str
    at: int
    value: float
    seq: int = 0


_encode = msgspec.json.Encoder().encode


def reading_entry(sensor: str, value: float, at: datetime | int, seq: int) -> Entry:
    """A reading, checked and encoded.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: the other end could not accept it: a name that is empty, too long or not printable, a value that is
            not finite, a time without an offset or outside the years 0001 to 9999, a seq outside 0 to 2^31-1.
    """
    _check_sensor(sensor)
    reading = _Reading(sensor, epoch_ms(at), _finite(sensor, value), _checked_seq(sensor, seq))
    return Entry(Kind.READING, 1, _encode(reading))


def record_entry(value: bytes, content_type: str, readings: int) -> Entry:
    """A record that is sent byte for byte.

    Raises:
        ValueError: unknown content type, or outside the limits of one record.
    """
    kind = _KINDS.get(content_type)
    if kind is None:
        msg = f"content type {content_type!r} is unknown; expected one of {', '.join(_KINDS)}"
        raise ValueError(msg)
    if not 1 <= readings <= MAX_READINGS:
        msg = f"a record holds 1 to {MAX_READINGS} readings, got {readings}; split it"
        raise ValueError(msg)
    if len(value) > MAX_RECORD_BYTES:
        msg = f"a record holds at most {MAX_RECORD_BYTES} bytes, got {len(value)}; split it"
        raise ValueError(msg)
    return Entry(kind, readings, bytes(value))


def scan_entry(scan_id: str, value: bytes) -> Entry:
    """A scan's record, which is keyed by the scan and sent byte for byte; it counts as one reading.

    Raises:
        ValueError: the scan id is not 1 to 128 bytes of printable text, or the record is too large.
    """
    key = scan_id.encode()
    if not 1 <= len(key) <= MAX_SCAN_ID or not scan_id.isprintable():
        msg = f"scan id {scan_id[:40]!r} must be 1 to {MAX_SCAN_ID} bytes of printable text"
        raise ValueError(msg)
    if len(value) > MAX_SCAN_RECORD_BYTES:
        msg = f"a scan's record holds at most {MAX_SCAN_RECORD_BYTES} bytes, got {len(value)}; send less at once"
        raise ValueError(msg)
    return Entry(Kind.SCAN_RECORD, 1, bytes([len(key)]) + key + value)


def entry_record(entry: Entry) -> Record:
    """The record of an entry that is one by itself."""
    if entry.kind is not Kind.SCAN_RECORD:
        return Record(CONTENT_TYPES[entry.kind], entry.readings, entry.data)
    end = 1 + entry.data[0]
    return Record(CONTENT_TYPES[entry.kind], entry.readings, entry.data[end:], entry.data[1:end])


def readings_record(readings: Sequence[bytes], sent_at_ms: int) -> Record:
    """Join encoded readings into one JSON record."""
    value = b'%b%b],"sent_at":%d}' % (_HEAD, b",".join(readings), sent_at_ms)
    return Record(CONTENT_TYPES[Kind.JSON_RECORD], len(readings), value)


def joined_bytes(readings_bytes: int, readings: int) -> int:
    """Upper bound of `readings_record` for readings of so many bytes in all."""
    return _ENVELOPE_BYTES + readings_bytes + readings


def epoch_ms(at: datetime | int) -> int:
    """A time as epoch milliseconds, floored.

    Raises:
        TypeError: neither a datetime nor an integer.
        ValueError: a datetime without offset, or outside the years 0001 to 9999.
    """
    if not isinstance(at, datetime):
        at_ms = _integer("at (an aware datetime or epoch milliseconds)", at)
    elif at.utcoffset() is None:
        msg = f"time {at.isoformat()} has no offset; make it aware, e.g. datetime.now(UTC)"
        raise ValueError(msg)
    else:
        at_ms = (at - _EPOCH) // _MILLISECOND
    if not _MIN_AT_MS <= at_ms <= _MAX_AT_MS:
        msg = f"time {at_ms} ms is outside the years 0001 to 9999; epoch milliseconds are expected"
        raise ValueError(msg)
    return at_ms


def sign(secret: bytes, key: bytes, value: bytes) -> str:
    """Hex HMAC-SHA256 of key, a zero byte, value."""
    return hmac.new(secret, b"%b\0%b" % (key, value), hashlib.sha256).hexdigest()


def _check_sensor(sensor: str) -> None:
    if not isinstance(sensor, str):
        msg = f"sensor must be a str, got {type(sensor).__name__}"
        raise TypeError(msg)
    if not 1 <= len(sensor) <= MAX_SENSOR_NAME or not sensor.isprintable():
        shown = ascii(sensor[:40])
        msg = f"sensor name {shown} ({len(sensor)} characters) must be 1 to {MAX_SENSOR_NAME} printable characters"
        raise ValueError(msg)


def _finite(sensor: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        msg = f"value of {sensor!r} must be a number, got {type(value).__name__}"
        raise TypeError(msg)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        msg = f"value of {sensor!r} must be finite, got {number}"
        raise ValueError(msg)
    return number


def _checked_seq(sensor: str, seq: int) -> int:
    number = _integer(f"seq of {sensor!r}", seq)
    if not 0 <= number <= MAX_SEQ:
        msg = f"seq of {sensor!r} must be 0 to {MAX_SEQ}, got {number}"
        raise ValueError(msg)
    return number


def _integer(what: str, found: SupportsIndex) -> int:
    """Any integer type (numpy's too) as an int; a bool is a slip, a float would be rounded in silence."""
    if isinstance(found, bool) or not hasattr(found, "__index__"):
        msg = f"{what} must be an integer, got {type(found).__name__}"
        raise TypeError(msg)
    return index(found)
