"""SenML (RFC 8428, JSON) resolved into plain readings.

Border: applies base fields, makes times epoch milliseconds and temperatures celsius. Whether a name, value or time is
acceptable is judged elsewhere, by the same code as for every other format.

Numbers are kept as written (decimals, not doubles) until base and own value are added: 1276020076.001 s is then exactly
…076.001, while the nearest double lies below it and would be floored to …076.000.

Where the RFC leaves a choice:
- A time below 2^28 s is relative to "now". A result must not depend on the moment of decoding, so it is refused.
- `K` becomes celsius. Any other registered unit (RFC 8428, RFC 8798) is taken to be the sensor's own. An unregistered
  one, `degF` for example, is refused: storing its numbers as celsius would be wrong without a trace.
- An entry of base fields alone sets the base for the next ones; with none after it, it dangles and is refused.
- `ut` and sums are not readings; names may hold whatever a sensor name may, not only the RFC's smaller alphabet.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Context, Decimal
from typing import TypeAlias, TypeGuard

import msgspec

from schemas.errors import Reason, Rejected

SUPPORTED_VERSION = 10
FIRST_ABSOLUTE_S = 2**28
"""RFC 8428 §4.5.3: a smaller time is relative to now."""

_PRIMARY_UNITS = (
    "m kg g s A K cd mol Hz rad sr N Pa J W C V F Ohm S Wb T H Cel lm lx Bq Gy Sv kat m2 m3 l m/s m/s2 m3/s l/s W/m2 "
    "cd/m2 bit bit/s lat lon pH dB dBW Bspl count / % %RH %EL EL 1/s 1/min beat/min beats S/m "
    "B VA VAs var vars J/m kg/m3 deg"
)
_SECONDARY_UNITS = (
    "ms min h MHz kW kVA kvar Ah Wh kWh varh kvarh kVAh Wh/km KiB GB Mbit/s B/s MB/s mV mA dBm ug/m3 mm/h m/h ppm /100 "
    "/1000 hPa mm cm km km/h"
)

Number: TypeAlias = int | Decimal
Resolved: TypeAlias = dict[str, object]
"""One reading in the fields of the JSON format: `sensor`, `at` (epoch ms), `value`."""

_KNOWN_UNITS = frozenset(f"{_PRIMARY_UNITS} {_SECONDARY_UNITS}".split())
_KELVIN_AT_ZERO_CELSIUS = Decimal("273.15")
_OTHER_VALUES = ("vs", "vb", "vd")
_BASE_LABELS = frozenset(("bn", "bt", "bu", "bv", "bs", "bver"))
_REGULAR_LABELS = frozenset(("n", "u", "v", "vs", "vb", "vd", "s", "t", "ut"))
# 60 digits hold any plausible time to 40 decimals; beyond that, rounding down keeps the floor to milliseconds exact.
_EXACT = Context(prec=60, rounding=ROUND_FLOOR, traps=[])


class EntryRejected(Rejected):
    """An entry is no reading.

    Attributes:
        sensor: the name that it gives, if it gives one.
    """

    def __init__(self, refusal: Rejected, sensor: str | None) -> None:
        super().__init__(refusal.reason, refusal.detail)
        self.sensor = sensor


@dataclass(slots=True)
class _Base:
    """The base fields in force: each holds until an entry sets it again."""

    name: str = ""
    unit: str = ""
    time: Number = 0
    value: Number = 0
    version: Number | None = None

    def take(self, entry: dict[str, object]) -> None:
        """Adopt an entry's base fields.

        Raises:
            Rejected: one has the wrong type or version; all that follows would rest on it, so the pack is refused.
        """
        if not entry.keys() & _BASE_LABELS:
            return
        self.name = _text(entry, "bn", self.name)
        self.unit = _text(entry, "bu", self.unit)
        self.time = _number(entry, "bt", self.time)
        self.value = _number(entry, "bv", self.value)
        if "bver" in entry:
            self._check_version(_number(entry, "bver", SUPPORTED_VERSION))

    def _check_version(self, version: Number) -> None:
        if version > SUPPORTED_VERSION:
            detail = f"SenML version above {SUPPORTED_VERSION}; send bver {SUPPORTED_VERSION} or none"
            raise Rejected(Reason.UNSUPPORTED_FORMAT, detail)
        if self.version not in (None, version):
            raise Rejected(Reason.WRONG_SHAPE, "one SenML pack names two versions; every bver must be the same")
        self.version = version


def decode(value: bytes) -> object:
    """JSON with its fractions as written.

    Raises:
        ValueError: not JSON, or a number out of the range of a double.
        RecursionError: nested too deeply for the interpreter.
    """
    return _DECODER.decode(value)


def resolve(pack: list[object]) -> Iterator[tuple[int, Resolved | Rejected]]:
    """Each reading of a pack, or why it is none, with its index in the pack.

    Raises:
        Rejected: while iterating; the whole pack must not be used.
    """
    base = _Base()
    dangling: int | None = None
    for index, entry in enumerate(pack):
        if not isinstance(entry, dict):
            yield index, Rejected(Reason.WRONG_SHAPE, "SenML entry is not an object")
            continue
        _check_labels(entry)
        base.take(entry)
        if _only_sets_the_base(entry):
            dangling = index
        else:
            dangling = None
            yield index, _resolve_entry(entry, base)
    if dangling is not None:
        yield dangling, Rejected(Reason.WRONG_SHAPE, "dangling SenML base: no entry with a value follows it")


def _check_labels(entry: dict[str, object]) -> None:
    if any(label.endswith("_") for label in entry):  # RFC 8428 §4.4; this version knows no such label
        detail = "SenML label ending in '_' must be understood and is not; send the pack without it"
        raise Rejected(Reason.UNSUPPORTED_FORMAT, detail)


def _only_sets_the_base(entry: dict[str, object]) -> bool:
    return not _BASE_LABELS.isdisjoint(entry) and _REGULAR_LABELS.isdisjoint(entry)


def _resolve_entry(entry: dict[str, object], base: _Base) -> Resolved | Rejected:
    name: str | None = None
    try:
        name = _name(entry, base)
        return {"sensor": name, "value": _value(entry, base), "at": _at_ms(entry, base)}
    except Rejected as refusal:
        return EntryRejected(refusal, name)


def _name(entry: dict[str, object], base: _Base) -> str:
    own = entry.get("n", "")
    if not isinstance(own, str):
        raise Rejected(Reason.INVALID_SENSOR, "SenML n is not a string")
    if not base.name + own:
        raise Rejected(Reason.INVALID_SENSOR, "neither bn nor n names the sensor; at least one must")
    return base.name + own


def _value(entry: dict[str, object], base: _Base) -> float:
    others = [label for label in _OTHER_VALUES if label in entry]
    if "v" in entry and others:
        raise Rejected(Reason.WRONG_SHAPE, f"both v and {others[0]} in one SenML entry; exactly one value is allowed")
    if "v" not in entry and others:
        raise Rejected(Reason.INVALID_VALUE, f"{others[0]} is not a number; only numeric values (v) are readings")
    if "v" not in entry and "s" in entry:
        raise Rejected(Reason.INVALID_VALUE, "a sum (s) without a value; only numeric values (v) are readings")
    if "v" not in entry:
        raise Rejected(Reason.WRONG_SHAPE, "SenML entry without a value; v is required")
    own = entry["v"]
    if not _is_number(own):
        raise Rejected(Reason.INVALID_VALUE, "SenML v is not a number")
    return float(_in_celsius(_EXACT.add(base.value, own), entry.get("u", base.unit)))


def _in_celsius(value: Decimal, unit: object) -> Decimal:
    if unit == "K":
        return _EXACT.subtract(value, _KELVIN_AT_ZERO_CELSIUS)
    if unit == "" or (isinstance(unit, str) and unit in _KNOWN_UNITS):
        return value
    detail = "unit is not in the SenML registry (RFC 8428, RFC 8798); temperatures are Cel or K"
    raise Rejected(Reason.INVALID_VALUE, detail)


def _at_ms(entry: dict[str, object], base: _Base) -> int:
    own = entry.get("t", 0)
    if not _is_number(own):
        raise Rejected(Reason.INVALID_TIME, "SenML t is not a number of seconds")
    seconds = _EXACT.add(base.time, own)
    if seconds < FIRST_ABSOLUTE_S:
        detail = "time is relative to now (below 2^28 s); send bt or t as seconds since 1970-01-01T00:00:00Z"
        raise Rejected(Reason.INVALID_TIME, detail)
    return math.floor(_EXACT.multiply(seconds, 1_000))


def _text(entry: dict[str, object], label: str, otherwise: str) -> str:
    found = entry.get(label, otherwise)
    if not isinstance(found, str):
        raise Rejected(Reason.WRONG_SHAPE, f"SenML {label} is not a string")
    return found


def _number(entry: dict[str, object], label: str, otherwise: Number) -> Number:
    found = entry.get(label, otherwise)
    if not _is_number(found):
        raise Rejected(Reason.WRONG_SHAPE, f"SenML {label} is not a number")
    return found


def _is_number(found: object) -> TypeGuard[Number]:
    return isinstance(found, int | Decimal) and not isinstance(found, bool)


def _exact(text: str) -> Decimal:
    nearest = float(text)
    if math.isinf(nearest):
        msg = "number out of range"
        raise ValueError(msg)
    return Decimal(text) if nearest else Decimal(0)  # what underflows may have an exponent that decimals refuse


_DECODER = msgspec.json.Decoder(float_hook=_exact)
