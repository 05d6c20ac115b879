"""What a rule is: conditions, bounds, schedules and targets as frozen dataclasses, and durations (INTERFACES §6).

`schemas.rules` makes them from documents; import from there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

SEVERITIES: Final = ("critical", "major", "minor", "warning", "info")
BOUNDS: Final = ("above", "at_or_above", "below", "at_or_below")
FUNCTIONS: Final = ("mean", "min", "max", "count", "range", "rate_per_hour")
DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
TARGETS: Final = ("all", "sensor_id", "unit_id", "site_id", "unit_kind")
MAX_WINDOW_MS: Final = 400 * 86_400_000

_UNIT_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000, "y": 31_536_000_000}
_DURATION = re.compile(r"(?:[0-9]+(?:ms|[smhdwy]))+")
_DURATION_PART = re.compile(r"([0-9]+)(ms|[smhdwy])")


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
    """When a rule judges, in local time; without a time zone in that of the sensor's site at each time."""

    timezone: str | None
    weekly: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Target:
    """Which sensors a rule is for; `value` is empty for `all`."""

    kind: str
    value: str = ""


@dataclass(frozen=True, slots=True)
class Rung:
    """A further severity of a rule, with a condition of its own."""

    severity: str
    condition: Condition


@dataclass(frozen=True, slots=True)
class Rule:
    """A parsed rule document."""

    name: str
    applies_to: Target
    severity: str
    condition: Condition
    schedule: Schedule | None
    effective_from_ms: int | None
    ladder: tuple[Rung, ...] = ()

    @property
    def rungs(self) -> tuple[Rule, ...]:
        """A rule without a ladder for each severity, the rule's own first."""
        if not self.ladder:
            return (self,)
        alone = replace(self, ladder=())
        return alone, *(replace(alone, severity=one.severity, condition=one.condition) for one in self.ladder)


def parse_duration_ms(text: object, path: str, *, least_ms: int = 0) -> int:
    """A Prometheus style duration such as `1h30m`, in milliseconds.

    Raises:
        RuleError: it is none, or shorter than `least_ms`.
    """
    if not isinstance(text, str) or (text != "0" and not _DURATION.fullmatch(text)):
        raise RuleError(path, f"found {shown(text)}, expected a duration such as 30s, 15m, 4h or 30d, never negative")
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


def shown(value: object) -> str:
    """What was found, bounded; rules hold no secrets."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"  # noqa: PLR2004
