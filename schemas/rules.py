"""Rule documents (INTERFACES §6): parsing with explanations, durations, presets.

A document is plain JSON; `parse_rule` turns it into frozen dataclasses or says which part is wrong, what was found, what
was expected and how to mend it. Nothing here judges readings: that is `processors.rules`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

SEVERITIES: Final = ("critical", "major", "minor", "warning", "info")
BOUNDS: Final = ("above", "at_or_above", "below", "at_or_below")
FUNCTIONS: Final = ("mean", "min", "max", "count", "range", "rate_per_hour")
DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
TARGETS: Final = ("all", "sensor_id", "unit_id", "site_id", "unit_kind")
MAX_WINDOW_MS: Final = 400 * 86_400_000

_UNIT_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000, "y": 31_536_000_000}
_DURATION = re.compile(r"(?:\d+(?:ms|[smhdwy]))+")
_DURATION_PART = re.compile(r"(\d+)(ms|[smhdwy])")
_CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)|24:00")
_MAX_NAME = 200
_MAX_MEMBERS = 20


class RuleError(ValueError):
    """A rule document that cannot be used.

    Args:
        path: where in the document, such as `condition.clear.for`.
        detail: what was found, what was expected, how to mend it.
    """

    def __init__(self, path: str, detail: str) -> None:
        super().__init__(f"{path}: {detail}")
        self.path = path
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Attribute:
    """A number that a unit or site holds, read as of the reading's time."""

    name: str
    of: str


Number = float | Attribute


@dataclass(frozen=True, slots=True)
class Bound:
    """A comparison with a number; `kind` is one of `BOUNDS`."""

    kind: str
    number: Number

    @property
    def is_upper(self) -> bool:
        """Whether greater values are worse."""
        return self.kind in {"above", "at_or_above"}


@dataclass(frozen=True, slots=True)
class Clear:
    """When a fired episode ends: the bound holds for `for_ms`. Without a bound: not violating."""

    bound: Bound | None = None
    for_ms: int = 0


@dataclass(frozen=True, slots=True)
class Threshold:
    """A reading beyond a bound."""

    bound: Bound
    for_ms: int = 0
    consecutive: int = 1
    clear: Clear = Clear()
    keep_firing_ms: int = 0


@dataclass(frozen=True, slots=True)
class Aggregate:
    """A function of the readings in the window that ends at each reading."""

    function: str
    window_ms: int
    bound: Bound
    for_ms: int = 0
    clear: Clear = Clear()
    keep_firing_ms: int = 0


@dataclass(frozen=True, slots=True)
class Exposure:
    """Cumulative time beyond a bound within a window."""

    bound: Bound
    budget_ms: int
    within_ms: int


@dataclass(frozen=True, slots=True)
class DegreeMinutes:
    """Cumulative excess over a bound, in degrees times minutes, within a window."""

    bound: Bound
    budget: float
    within_ms: int


@dataclass(frozen=True, slots=True)
class MeanKineticTemperature:
    """Mean kinetic temperature of the window that ends at each reading, in °C."""

    bound: Bound
    window_ms: int


@dataclass(frozen=True, slots=True)
class Silence:
    """No reading for longer than `after_ms`."""

    after_ms: int


@dataclass(frozen=True, slots=True)
class Combination:
    """Holds while any or all of its members hold."""

    every: bool
    members: tuple[Condition, ...]


Condition = Threshold | Aggregate | Exposure | DegreeMinutes | MeanKineticTemperature | Silence | Combination


@dataclass(frozen=True, slots=True)
class Span:
    """Minutes of local time on some days of the week (0 = Monday), half open; past midnight when `end <= start`."""

    days: frozenset[int]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a rule judges, in local time."""

    timezone: str
    weekly: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Target:
    """Which sensors a rule is for; `value` is empty for `all`."""

    kind: str
    value: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """A parsed rule document."""

    name: str
    applies_to: Target
    severity: str
    condition: Condition
    schedule: Schedule | None
    effective_from_ms: int | None


def parse_rule(document: object) -> Rule:
    """Understand a rule document.

    Raises:
        RuleError: the first part that cannot be used.
    """
    fields = _object(document, "rule", {"name", "applies_to", "severity", "effective_from", "condition", "schedule"})
    name = fields.get("name")
    if not isinstance(name, str) or not 0 < len(name) <= _MAX_NAME or not name.isprintable():
        raise RuleError(path="name", detail=f"expected 1 to {_MAX_NAME} printable characters; give the rule a name")
    severity = fields.get("severity")
    if severity not in SEVERITIES:
        raise RuleError(path="severity", detail=f"found {_shown(severity)}, expected one of {', '.join(SEVERITIES)}")
    schedule = fields.get("schedule")
    return Rule(
        name,
        _target(fields.get("applies_to", {"all": True})),
        str(severity),
        parse_condition(fields.get("condition"), "condition"),
        None if schedule is None else _schedule(schedule),
        _effective_from(fields.get("effective_from")),
    )


def parse_condition(document: object, path: str) -> Condition:
    """Understand a condition.

    Raises:
        RuleError: the first part that cannot be used.
    """
    if not isinstance(document, Mapping):
        raise RuleError(path, f"found {_shown(document)}, expected an object with a type")
    kind = document.get("type")
    parse = _CONDITIONS.get(kind) if isinstance(kind, str) else None
    if parse is None:
        raise RuleError(path=f"{path}.type", detail=f"found {_shown(kind)}, expected one of {', '.join(_CONDITIONS)}")
    return parse(document, path)


def parse_duration_ms(text: object, path: str, *, least_ms: int = 0) -> int:
    """A Prometheus style duration such as `1h30m`, in milliseconds.

    Raises:
        RuleError: it is none, or shorter than `least_ms`.
    """
    if not isinstance(text, str) or (text != "0" and not _DURATION.fullmatch(text)):
        raise RuleError(path, f"found {_shown(text)}, expected a duration such as 30s, 15m, 4h or 30d, never negative")
    total = sum(int(amount) * _UNIT_MS[unit] for amount, unit in _DURATION_PART.findall(text))
    if not least_ms <= total <= MAX_WINDOW_MS:
        raise RuleError(path, f"found {text}, expected {format_duration(least_ms)} to {format_duration(MAX_WINDOW_MS)}")
    return total


def format_duration(duration_ms: int) -> str:
    """The shortest Prometheus style text of a duration."""
    parts = []
    for unit in ("d", "h", "m", "s", "ms"):
        amount, duration_ms = divmod(duration_ms, _UNIT_MS[unit])
        if amount:
            parts.append(f"{amount}{unit}")
    return "".join(parts) or "0s"


def _object(document: object, path: str, known: set[str]) -> Mapping[str, Any]:
    if not isinstance(document, Mapping):
        raise RuleError(path, f"found {_shown(document)}, expected an object")
    unknown = sorted(set(document) - known)
    if unknown:
        raise RuleError(
            path, f"unknown field {unknown[0]!r}, known are {', '.join(sorted(known))}; correct or remove it"
        )
    return document


def _shown(value: object) -> str:
    """What was found, bounded; rules hold no secrets."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"  # noqa: PLR2004


def _target(document: object) -> Target:
    fields = _object(document, "applies_to", set(TARGETS))
    if len(fields) != 1:
        raise RuleError(path="applies_to", detail=f"expected exactly one of {', '.join(TARGETS)}")
    [(kind, value)] = fields.items()
    if kind == "all":
        if value is not True:
            raise RuleError(path="applies_to.all", detail="expected true")
        return Target("all")
    if not isinstance(value, str) or not value:
        raise RuleError(path=f"applies_to.{kind}", detail=f"found {_shown(value)}, expected an id")
    return Target(kind, value)


def _effective_from(value: object) -> int | None:
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise RuleError(
            path="effective_from", detail=f"found {_shown(value)}, expected an RFC 3339 time with an offset"
        )
    return math.floor((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1000)


def _number(value: object, path: str) -> Number:
    if isinstance(value, Mapping):
        fields = _object(value, path, {"attribute", "of"})
        name, of = fields.get("attribute"), fields.get("of", "unit")
        if not isinstance(name, str) or not name or of not in {"unit", "site"}:
            raise RuleError(path, 'expected {"attribute": "<name>", "of": "unit" or "site"}')
        return Attribute(name, str(of))
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise RuleError(path, f"found {_shown(value)}, expected a finite number or an attribute")
    return float(value)


def _bound(document: Mapping[str, Any], path: str) -> Bound:
    present = [kind for kind in BOUNDS if kind in document]
    if len(present) != 1:
        raise RuleError(path, f"has {len(present)} bounds, expected exactly one of {', '.join(BOUNDS)}")
    return Bound(present[0], _number(document[present[0]], f"{path}.{present[0]}"))


def _for_ms(document: Mapping[str, Any], path: str, field: str = "for") -> int:
    return parse_duration_ms(document[field], f"{path}.{field}") if field in document else 0


def _clear(document: Mapping[str, Any], path: str, bound: Bound) -> Clear:
    if "clear" not in document:
        return Clear()
    path = f"{path}.clear"
    fields = _object(document["clear"], path, {*BOUNDS, "for"})
    for_ms = _for_ms(fields, path)
    if not any(kind in fields for kind in BOUNDS):
        return Clear(None, for_ms)
    clear = _bound(fields, path)
    _require_other_side(clear, bound, path)
    return Clear(clear, for_ms)


def _require_other_side(clear: Bound, bound: Bound, path: str) -> None:
    """Clearing must lie on the good side: a clear bound that also violates would resolve what it fires."""
    side = "below or at_or_below" if bound.is_upper else "above or at_or_above"
    if clear.is_upper == bound.is_upper:
        raise RuleError(path, f"clears {clear.kind} but the rule fires {bound.kind}; use {side}")
    if isinstance(clear.number, float) and isinstance(bound.number, float):
        beyond = clear.number > bound.number if bound.is_upper else clear.number < bound.number
        if beyond:
            raise RuleError(
                path, f"clears {clear.kind} {clear.number}, which is on the wrong side of {bound.kind} {bound.number}"
            )


def _threshold(document: Mapping[str, Any], path: str) -> Threshold:
    fields = _object(document, path, {"type", *BOUNDS, "for", "consecutive", "clear", "keep_firing_for"})
    consecutive = fields.get("consecutive", 1)
    if isinstance(consecutive, bool) or not isinstance(consecutive, int) or not 1 <= consecutive <= 10_000:  # noqa: PLR2004
        raise RuleError(path=f"{path}.consecutive", detail=f"found {_shown(consecutive)}, expected 1 to 10000 readings")
    bound = _bound(fields, path)
    return Threshold(
        bound, _for_ms(fields, path), consecutive, _clear(fields, path, bound), _for_ms(fields, path, "keep_firing_for")
    )


def _aggregate(document: Mapping[str, Any], path: str) -> Aggregate:
    fields = _object(document, path, {"type", "function", "window", *BOUNDS, "for", "clear", "keep_firing_for"})
    function = fields.get("function")
    if function not in FUNCTIONS:
        raise RuleError(
            path=f"{path}.function", detail=f"found {_shown(function)}, expected one of {', '.join(FUNCTIONS)}"
        )
    bound = _bound(fields, path)
    return Aggregate(
        str(function),
        parse_duration_ms(fields.get("window"), f"{path}.window", least_ms=1000),
        bound,
        _for_ms(fields, path),
        _clear(fields, path, bound),
        _for_ms(fields, path, "keep_firing_for"),
    )


def _budget_and_within(fields: Mapping[str, Any], path: str) -> tuple[int, int]:
    budget = parse_duration_ms(fields.get("budget"), f"{path}.budget", least_ms=1)
    within = parse_duration_ms(fields.get("within", "30d"), f"{path}.within", least_ms=1000)
    if budget > within:
        raise RuleError(
            path=f"{path}.budget", detail=f"{format_duration(budget)} does not fit into {format_duration(within)}"
        )
    return budget, within


def _exposure(document: Mapping[str, Any], path: str) -> Exposure:
    fields = _object(document, path, {"type", *BOUNDS, "budget", "within"})
    return Exposure(_bound(fields, path), *_budget_and_within(fields, path))


def _degree_minutes(document: Mapping[str, Any], path: str) -> DegreeMinutes:
    fields = _object(document, path, {"type", *BOUNDS, "budget", "within"})
    budget = _number(fields.get("budget"), f"{path}.budget")
    if isinstance(budget, Attribute) or budget <= 0:
        raise RuleError(
            path=f"{path}.budget", detail=f"found {_shown(fields.get('budget'))}, expected degree-minutes above 0"
        )
    within = parse_duration_ms(fields.get("within", "30d"), f"{path}.within", least_ms=1000)
    return DegreeMinutes(_bound(fields, path), budget, within)


def _mean_kinetic(document: Mapping[str, Any], path: str) -> MeanKineticTemperature:
    fields = _object(document, path, {"type", *BOUNDS, "window"})
    window = parse_duration_ms(fields.get("window"), f"{path}.window", least_ms=1000)
    return MeanKineticTemperature(_bound(fields, path), window)


def _silence(document: Mapping[str, Any], path: str) -> Silence:
    fields = _object(document, path, {"type", "after"})
    return Silence(parse_duration_ms(fields.get("after"), f"{path}.after", least_ms=1000))


def _combination(document: Mapping[str, Any], path: str) -> Combination:
    fields = _object(document, path, {"type", "conditions"})
    members = fields.get("conditions")
    if not isinstance(members, list) or not 1 <= len(members) <= _MAX_MEMBERS:
        raise RuleError(path=f"{path}.conditions", detail=f"expected a list of 1 to {_MAX_MEMBERS} conditions")
    parsed = tuple(parse_condition(one, f"{path}.conditions[{n}]") for n, one in enumerate(members))
    if any(isinstance(one, Silence | Combination) for one in parsed):
        raise RuleError(
            path=f"{path}.conditions", detail="silence and combinations cannot be members; make rules of their own"
        )
    return Combination(fields["type"] == "all_of", parsed)


def _preset(document: Mapping[str, Any], path: str) -> Condition:
    fields = _object(document, path, {"type", "name"})
    name = fields.get("name")
    expanded = PRESETS.get(name) if isinstance(name, str) else None
    if expanded is None:
        raise RuleError(path=f"{path}.name", detail=f"found {_shown(name)}, expected one of {', '.join(PRESETS)}")
    return parse_condition(expanded, path)


_CONDITIONS: Final[dict[str, Callable[[Mapping[str, Any], str], Condition]]] = {
    "threshold": _threshold,
    "aggregate": _aggregate,
    "exposure": _exposure,
    "degree_minutes": _degree_minutes,
    "mean_kinetic_temperature": _mean_kinetic,
    "silence": _silence,
    "any_of": _combination,
    "all_of": _combination,
    "preset": _preset,
}

# Numbers and sources: docs/presets.md.
PRESETS: Final[dict[str, Mapping[str, Any]]] = {
    "food-code-4h": {"type": "threshold", "above": 5.0, "for": "4h"},
    "food-code-6h": {
        "type": "any_of",
        "conditions": [
            {"type": "threshold", "above": 5.0, "for": "6h"},
            {"type": "threshold", "above": 21.0},
        ],
    },
    "who-fridge": {
        "type": "any_of",
        "conditions": [
            {"type": "threshold", "above": 8.0, "for": "10h"},
            {"type": "threshold", "at_or_below": -0.5, "for": "1h"},
        ],
    },
    "who-freezer": {"type": "threshold", "above": -15.0, "for": "1h"},
    "who-shipping-type-1": {
        "type": "any_of",
        "conditions": [
            {"type": "threshold", "at_or_above": 45.0, "for": "1h"},
            {"type": "exposure", "at_or_above": 30.0, "budget": "10h", "within": "60d"},
            {"type": "threshold", "at_or_below": -0.5, "for": "1h"},
        ],
    },
    "usp-cold-chain": {
        "type": "any_of",
        "conditions": [
            {"type": "threshold", "above": 15.0},
            {"type": "exposure", "above": 8.0, "budget": "24h", "within": "30d"},
            {"type": "mean_kinetic_temperature", "above": 8.0, "window": "24h"},
            {"type": "threshold", "below": 2.0, "for": "1h"},
        ],
    },
    "usp-room-temperature": {
        "type": "any_of",
        "conditions": [
            {"type": "threshold", "above": 40.0},
            {"type": "exposure", "above": 30.0, "budget": "24h", "within": "30d"},
            {"type": "mean_kinetic_temperature", "above": 25.0, "window": "30d"},
            {"type": "threshold", "below": 15.0, "for": "1h"},
        ],
    },
}


def _schedule(document: object) -> Schedule:
    fields = _object(document, "schedule", {"timezone", "weekly"})
    zone = fields.get("timezone", "UTC")
    try:
        ZoneInfo(str(zone))
    except (ZoneInfoNotFoundError, ValueError) as exc:
        raise RuleError(
            path="schedule.timezone", detail=f"found {_shown(zone)}, expected a zone such as Europe/Berlin"
        ) from exc
    weekly = fields.get("weekly")
    if not isinstance(weekly, list) or not weekly:
        raise RuleError(
            path="schedule.weekly", detail="expected a list of {days, from, to}; leave the schedule out to judge always"
        )
    return Schedule(str(zone), tuple(_span(one, f"schedule.weekly[{n}]") for n, one in enumerate(weekly)))


def _span(document: object, path: str) -> Span:
    fields = _object(document, path, {"days", "from", "to"})
    days = fields.get("days", list(DAYS))
    if not isinstance(days, list) or not days or any(day not in DAYS for day in days):
        raise RuleError(path=f"{path}.days", detail=f"found {_shown(days)}, expected a list of {', '.join(DAYS)}")
    start, end = (_minutes(fields.get(name), f"{path}.{name}") for name in ("from", "to"))
    return Span(frozenset(DAYS.index(day) for day in days), start, end)


def _minutes(value: object, path: str) -> int:
    if not isinstance(value, str) or not _CLOCK.fullmatch(value):
        raise RuleError(path, f"found {_shown(value)}, expected a time of day such as 06:00 or 24:00")
    hours, minutes = value.split(":")
    return int(hours) * 60 + int(minutes)
