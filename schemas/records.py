"""One record of readings (INTERFACES §4): its limits, its strict shape, and what exactly is wrong with any other.

Border: a single record's bytes to readings. schemas.readings puts the readings of many records into columns and judges
there what needs no pass of its own (printable names, finite values, texts that are times).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, islice
from typing import Annotated, Final, TypeGuard

import msgspec

from schemas import senml
from schemas.errors import Reason, Rejected

MAX_RECORD_BYTES: Final = 1_048_576
MAX_READINGS: Final = 10_000
MAX_SENSOR_NAME: Final = 128
MAX_SEQ: Final = 2**31 - 1
MAX_NESTING: Final = 64
"""Levels of a record; deeper is undecodable. Far below the interpreter's limit, which depends on who is calling."""

_CONTAINERS: Final = frozenset((dict, list, tuple))

JSON: Final = "application/json"
MSGPACK: Final = "application/msgpack"
SENML_JSON: Final = "application/senml+json"


class Reading(msgspec.Struct, gc=False):
    """A reading of the right types; its name, value and time are still to be judged."""

    sensor: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_SENSOR_NAME)]
    at: str | int | float
    value: float
    seq: Annotated[int, msgspec.Meta(ge=0, le=MAX_SEQ)] = 0


class _Record(msgspec.Struct, gc=False):
    readings: Annotated[list[Reading], msgspec.Meta(min_length=1, max_length=MAX_READINGS)]


class StrictReading(Reading, forbid_unknown_fields=True, gc=False):
    """A reading without a further field."""


class StrictRecord(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A record exactly as documented: every reading of the right types, and no field beyond.

    Nothing in it is skipped over, so msgspec looks at every byte, and nothing in it can be nested deeply.
    """

    readings: Annotated[list[StrictReading], msgspec.Meta(min_length=1, max_length=MAX_READINGS)]
    sent_at: str | int | float | msgspec.UnsetType = msgspec.UNSET


_strict_json = msgspec.json.Decoder(StrictRecord).decode
STRICT_DECODERS: Final[dict[str | None, Callable[[bytes], StrictRecord]]] = {
    None: _strict_json,
    JSON: _strict_json,
    MSGPACK: msgspec.msgpack.Decoder(StrictRecord).decode,
}
"""By content-type as most devices spell it. A decoder raises ValueError on anything but a `StrictRecord`."""


@dataclass(slots=True)
class CarefulRecord:
    """A record whose readings were judged one by one."""

    readings: list[Reading] = field(default_factory=list)
    indexes: list[int] = field(default_factory=list)
    refused: list[tuple[int, str | None, Reason, str]] = field(default_factory=list)
    """Index, sensor (if its name is valid), reason and detail of each refused reading."""


def decode_carefully(value: bytes, content_type: str | None) -> CarefulRecord:
    """Decode any record, whatever it looks like. Further fields are tolerated, and the last of equal keys counts.

    Raises:
        Rejected: the record as a whole.
    """
    if len(value) > MAX_RECORD_BYTES:
        detail = f"record has {len(value)} bytes, at most {MAX_RECORD_BYTES} are allowed; send several records"
        raise Rejected(Reason.TOO_LARGE, detail)
    decode = _DECODERS.get(_media_type(content_type))
    if decode is None:
        raise Rejected(Reason.UNSUPPORTED_FORMAT, f"content-type is none of {', '.join(_DECODERS)}")
    return decode(value)


def is_valid_name(sensor: object) -> TypeGuard[str]:
    """Whether it can be a sensor's name: 1 to 128 printable characters."""
    return isinstance(sensor, str) and 0 < len(sensor) <= MAX_SENSOR_NAME and sensor.isprintable()


@lru_cache(maxsize=256)
def _media_type(content_type: str | None) -> str:
    """`Application/JSON; charset=utf-8` is `application/json`: parameters change nothing in these formats."""
    return (content_type or "").partition(";")[0].strip().lower() or JSON


def _decode_json(value: bytes) -> CarefulRecord:
    most_levels = value.count(b"{") + value.count(b"[")  # cheap, and enough to acquit nearly every record
    return _judge_document(_parsed(msgspec.json.decode, value, "JSON", most_levels))


def _decode_msgpack(value: bytes) -> CarefulRecord:
    return _judge_document(_parsed(msgspec.msgpack.decode, value, "MessagePack", len(value)))


def _decode_senml(value: bytes) -> CarefulRecord:
    pack = _parsed(senml.decode, value, "JSON", value.count(b"{") + value.count(b"["))
    if not isinstance(pack, list):
        raise Rejected(Reason.WRONG_SHAPE, "SenML pack is not an array")
    return _judge_each(senml.resolve(pack))


_DECODERS: Final[dict[str, Callable[[bytes], CarefulRecord]]] = {
    JSON: _decode_json,
    MSGPACK: _decode_msgpack,
    SENML_JSON: _decode_senml,
}


def _parsed(parse: Callable[[bytes], object], value: bytes, notation: str, most_levels: int) -> object:
    detail = f"not valid {notation}, a number out of range, or nested more than {MAX_NESTING} levels deep"
    try:
        document = parse(value)
    except (ValueError, RecursionError) as error:
        raise Rejected(Reason.UNDECODABLE, detail) from error
    if most_levels > MAX_NESTING and _nests_deeply(document):
        raise Rejected(Reason.UNDECODABLE, detail)
    return document


def _nests_deeply(document: object) -> bool:
    """Level by level, not recursively: what is measured must not be able to exhaust the stack."""
    level = [document]
    for _ in range(MAX_NESTING):
        level = [child for node in level for child in _children(node) if type(child) in _CONTAINERS]
        if not level:
            return False
    return True


def _children(node: object) -> Iterable[object]:
    if isinstance(node, dict):  # MessagePack allows arrays as keys
        return chain(node, node.values())
    return node if isinstance(node, list | tuple) else ()


def _judge_document(document: object) -> CarefulRecord:
    try:
        readings = msgspec.convert(document, _Record).readings  # in one go if only further fields were in the way
    except ValueError:
        return _judge_each(enumerate(_readings_of(document)))
    return CarefulRecord(readings, list(range(len(readings))))


def _judge_each(candidates: Iterable[tuple[int, object]]) -> CarefulRecord:
    """Judge plain objects (or the `Rejected` that one already is), each with its index."""
    present = list(islice(candidates, MAX_READINGS + 1))
    if not present:
        raise Rejected(Reason.EMPTY, "record holds no readings; at least one is expected")
    if len(present) > MAX_READINGS:
        detail = f"record holds more than {MAX_READINGS} readings; send several records"
        raise Rejected(Reason.TOO_MANY_READINGS, detail)
    judged = CarefulRecord()
    for index, candidate in present:
        try:
            judged.readings.append(_judge(candidate))
            judged.indexes.append(index)
        except Rejected as refusal:
            name = _name_given(candidate)
            judged.refused.append((index, name, refusal.reason, refusal.detail))
    return judged


def _name_given(candidate: object) -> str | None:
    """The sensor's name in what was refused, if it is a valid one."""
    sensor = candidate.get("sensor") if isinstance(candidate, dict) else getattr(candidate, "sensor", None)
    return sensor if is_valid_name(sensor) else None


def _readings_of(document: object) -> list[object]:
    readings = document.get("readings") if isinstance(document, dict) else None
    if not isinstance(readings, list):
        raise Rejected(Reason.WRONG_SHAPE, "record is not an object with a list named readings")
    return readings


def _judge(candidate: object) -> Reading:
    """What the strict structs check, field by field, so that the refusal can name it."""
    if isinstance(candidate, Rejected):
        raise candidate
    if not isinstance(candidate, dict):
        raise Rejected(Reason.WRONG_SHAPE, "reading is not an object")
    try:
        sensor, value, at = candidate["sensor"], candidate["value"], candidate["at"]
    except KeyError as missing:
        raise Rejected(Reason.WRONG_SHAPE, f"reading lacks {missing}; sensor, at and value are required") from missing
    return Reading(_sensor(sensor), _at(at), _value(value), _seq(candidate.get("seq", 0)))


def _sensor(sensor: object) -> str:
    if not isinstance(sensor, str):
        raise Rejected(Reason.INVALID_SENSOR, f"sensor is {_kind(sensor)}, expected a string")
    if not 0 < len(sensor) <= MAX_SENSOR_NAME:
        detail = f"sensor name has {len(sensor)} characters, expected 1 to {MAX_SENSOR_NAME}"
        raise Rejected(Reason.INVALID_SENSOR, detail)
    return sensor


def _at(at: object) -> str | int | float:
    if isinstance(at, str | int | float) and not isinstance(at, bool):
        return at
    detail = f"at is {_kind(at)}, expected an RFC 3339 time with an offset or epoch milliseconds"
    raise Rejected(Reason.INVALID_TIME, detail)


def _value(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise Rejected(Reason.INVALID_VALUE, f"value is {_kind(value)}, expected a finite number")
    try:
        return float(value)
    except OverflowError as error:
        raise Rejected(Reason.INVALID_VALUE, "value is beyond the range of a double") from error


def _seq(seq: object) -> int:
    if isinstance(seq, int) and not isinstance(seq, bool) and 0 <= seq <= MAX_SEQ:
        return seq
    raise Rejected(Reason.INVALID_SEQ, f"seq is not an integer from 0 to {MAX_SEQ}; leave it out if there is none")


def _kind(found: object) -> str:
    """What was found, in words that do not repeat the payload."""
    kinds = {bool: "a boolean", str: "a string", dict: "an object", list: "an array", type(None): "null"}
    return kinds.get(type(found), "a number" if isinstance(found, int | float) else "of a foreign type")
