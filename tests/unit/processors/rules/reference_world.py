"""What the second judge of rules sees at one reading: gaps, windows, schedules, and whether a condition is violated there."""

from __future__ import annotations

import math
import statistics
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from schemas.rules import (
    Aggregate,
    Attribute,
    Bound,
    Combination,
    Condition,
    DegreeMinutes,
    Exposure,
    MeanKineticTemperature,
    Rule,
    Schedule,
    Silence,
    Target,
    Threshold,
)

DAY = 86_400_000


@dataclass
class World:
    """Everything there is to know: readings as (at, seq, value) in order, and the sensor's surroundings."""

    readings: Sequence[tuple[int, int, float]]
    declared_ms: int | None = None
    applies: Callable[[Target, int], bool] = lambda target, at: True
    attribute: Callable[[Attribute, int], float] = lambda attribute, at: math.nan
    timezone: Callable[[int], str] = lambda at: "UTC"

    def at(self, i: int) -> int:
        return self.readings[i][0]

    def value(self, i: int) -> float:
        return self.readings[i][2]

    def __post_init__(self) -> None:
        self.times = [at for at, _, _ in self.readings]
        self.gaps: dict[int, bool] = {}

    def gap(self, i: int) -> bool:
        """Whether the pair (i - 1, i) is a gap; asked for so often that the answer is kept."""
        if i not in self.gaps:
            self.gaps[i] = i > 0 and self.at(i) - self.at(i - 1) > 3 * self.expected(i)
        return self.gaps[i]

    def expected(self, i: int) -> float:
        """The expected interval in the 24 h that end at reading i, all readings of its moment included."""
        if self.declared_ms is not None:
            return self.declared_ms
        recent = self.times[bisect_right(self.times, self.at(i) - DAY) : bisect_right(self.times, self.at(i))]
        if len(recent) < 4:
            return 300_000
        spacings = [b - a for a, b in pairwise(recent)]
        return statistics.median(spacings) or statistics.median([s for s in spacings if s] or [300_000])

    def judges(self, rule: Rule, moment: int) -> bool:
        return in_schedule(rule.schedule, moment, self.timezone(moment)) and self.applies(rule.applies_to, moment)

    def beyond(self, bound: Bound, value: float, moment: int) -> bool:
        number = bound.number if isinstance(bound.number, float) else self.attribute(bound.number, moment)
        if bound.kind == "above":
            return value > number
        if bound.kind == "at_or_above":
            return value >= number
        if bound.kind == "below":
            return value < number
        return value <= number

    def window(self, i: int, width: int) -> list[int]:
        return [j for j in range(i + 1) if self.at(j) > self.at(i) - width]


def in_schedule(schedule: Schedule | None, moment: int, site_zone: str) -> bool:
    if schedule is None:
        return True
    zone = ZoneInfo(schedule.timezone or site_zone)
    local = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=moment)).astimezone(zone)
    minute = local.hour * 60 + local.minute
    for span in schedule.weekly:
        starts_today, started_yesterday = local.weekday() in span.days, (local.weekday() - 1) % 7 in span.days
        if span.start < span.end and starts_today and span.start <= minute < span.end:
            return True
        if span.start >= span.end and (
            (starts_today and minute >= span.start) or (started_yesterday and minute < span.end)
        ):
            return True
    return False


def judged_value(world: World, condition: Condition, i: int) -> float:
    """What a level condition compares, and an episode's peak shows."""
    if isinstance(condition, Aggregate):
        inside = world.window(i, condition.window_ms)
        values = [world.value(j) for j in inside]
        hours = (world.at(inside[-1]) - world.at(inside[0])) / 3_600_000
        return {
            "mean": lambda: sum(values) / len(values),
            "min": lambda: min(values),
            "max": lambda: max(values),
            "count": lambda: float(len(values)),
            "range": lambda: max(values) - min(values),
            "rate_per_hour": lambda: (values[-1] - values[0]) / hours if hours else math.nan,
        }[condition.function]()
    if isinstance(condition, MeanKineticTemperature):
        return kinetic(world, i, condition.window_ms)
    return world.value(i)


def kinetic(world: World, i: int, width: int) -> float:
    """Each reading for the time since the one before it, as far as that is inside the window and no gap."""
    inside = world.window(i, width)
    weights = [clipped(world, j, i, width) if j and not world.gap(j) else 0 for j in inside]
    if not sum(weights):
        return math.nan
    terms = [w * math.exp(-10_000 / (world.value(j) + 273.15)) for w, j in zip(weights, inside, strict=True)]
    celsius = 10_000 / -math.log(sum(terms) / sum(weights)) - 273.15
    values = [world.value(j) for j in inside]
    return min(max(celsius, min(values)), max(values))


def clipped(world: World, j: int, i: int, width: int) -> int:
    """The part of the pair (j - 1, j) inside the window that ends with reading i."""
    return world.at(j) - max(world.at(j - 1), world.at(i) - width)


def violates(world: World, rule: Rule, condition: Condition, i: int) -> bool:
    """Whether reading i violates, as pairs are counted by."""
    if isinstance(condition, Combination):
        return (all if condition.every else any)(violates(world, rule, one, i) for one in condition.members)
    assert not isinstance(condition, Silence)
    beyond = world.beyond(condition.bound, judged_value(world, condition, i), world.at(i))
    return beyond and world.judges(rule, world.at(i))


def is_clear(world: World, rule: Rule, condition: Condition, i: int) -> bool:
    if violates(world, rule, condition, i):
        return False
    bound = condition.clear.bound if isinstance(condition, Threshold | Aggregate) else None
    if bound is None or not world.judges(rule, world.at(i)):
        return True
    if isinstance(bound.number, Attribute) and math.isnan(world.attribute(bound.number, world.at(i))):
        return True
    return world.beyond(bound, judged_value(world, condition, i), world.at(i))


def contributing(world: World, rule: Rule, condition: Exposure | DegreeMinutes, i: int) -> list[int]:
    """The later readings of pairs that count towards a budget at reading i."""
    return [
        j
        for j in world.window(i, condition.within_ms)
        if j and not world.gap(j) and all(violates(world, rule, condition, k) for k in (j - 1, j))
    ]


def spent(world: World, rule: Rule, condition: Exposure | DegreeMinutes, i: int) -> float:
    pairs = contributing(world, rule, condition, i)
    if isinstance(condition, Exposure):
        return sum(clipped(world, j, i, condition.within_ms) for j in pairs)
    total = 0.0
    for j in pairs:
        excess = [abs(world.value(k) - number(world, condition.bound, k)) for k in (j - 1, j)]
        total += sum(excess) / 2 * clipped(world, j, i, condition.within_ms) / 60_000
    return round(total, 6)


def number(world: World, bound: Bound, i: int) -> float:
    return bound.number if isinstance(bound.number, float) else world.attribute(bound.number, world.at(i))


def shown(world: World, rule: Rule, j: int) -> float:
    return judged_value(world, rule.condition, j)


def is_upper(condition: Condition) -> bool:
    if isinstance(condition, Combination):
        return is_upper(condition.members[0])
    assert not isinstance(condition, Silence)
    return condition.bound.kind in {"above", "at_or_above"}
