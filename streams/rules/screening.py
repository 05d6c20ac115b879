"""The screen over the pairs that a worker has met: built once per sensor and rule, asked with columns.

A pair is screened by rules that can begin no later than the real ones: where the newest reading alone can begin a run (a
budget is spent, an extreme is reached, only by a row beyond the bound), a plain threshold stands for the condition, and
windows are remembered for the others only (`recent`): what they hold bounds what an aggregate can come to. That leaves
out what a new version or a schedule begins by itself: a version that takes over between two readings touches its pairs, as
does a move of the sensor to other numbers, and rules with schedules are screened by their windows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from processors.rules.reach import Added, reach
from processors.rules.screen import AttributeRange, Hits, Rows, Screen
from schemas.rules import (
    Aggregate,
    Combination,
    Condition,
    DegreeMinutes,
    Exposure,
    MeanKineticTemperature,
    Rule,
    Threshold,
)
from streams.rules.book import BookedRule
from streams.rules.recent import RecentWindows, SensorColumns
from streams.rules.sensors import KnownSensor

_MOST_PARTS = 16
_CLASSES_MS = (900_000, 3_600_000, 21_600_000, 86_400_000, 604_800_000)
_FOREVER_MS = 1 << 62


@dataclass(frozen=True, slots=True)
class _Part:
    """Pairs that were added together; of one class of windows, 0 for rows alone."""

    window_ms: int
    rule_nos: list[int]
    rule_index: NDArray[np.int64]
    sensor_no: NDArray[np.int64]
    screen: Screen


class Screening:
    """Screens of all pairs, in parts that grow with the sensors and rules that are met.

    Args:
        attribute_range: what the screen asks of attributes, of any sensor that is added; None: rules on attributes are
            always judged.
    """

    def __init__(self, attribute_range: AttributeRange | None = None) -> None:
        self._attribute_range = attribute_range
        self._parts: list[_Part] = []
        self._rules: dict[int, BookedRule] = {}

    def add(self, pairs: Iterable[tuple[int, BookedRule]]) -> None:
        """Screen these (sensor, rule) pairs from now on.

        A pair that is there already, by older versions, keeps those tests too: judged more often than needed at worst.
        """
        by_window: dict[int, list[tuple[int, BookedRule]]] = {}
        for sensor_no, booked in pairs:
            by_window.setdefault(window_class_ms(booked), []).append((sensor_no, booked))
        for window_ms, found in by_window.items():
            self._rules |= {booked.rule_no: booked for _, booked in found}
            sensors = np.array([sensor_no for sensor_no, _ in found], np.int64)
            self._append(window_ms, sensors, [booked.rule_no for _, booked in found])

    def _append(self, window_ms: int, sensors: NDArray[np.int64], rule_nos: Sequence[int]) -> None:
        """Join the small parts of the class, so that batches ask few."""
        numbers = np.array(rule_nos, np.int64)
        same = [part for part in self._parts if part.window_ms == window_ms]
        if len(same) >= _MOST_PARTS:
            sensors = np.concatenate([sensors, *(part.sensor_no for part in same)])
            numbers = np.concatenate([numbers, *(np.array(part.rule_nos)[part.rule_index] for part in same)])
            both = np.unique(np.stack([sensors, numbers]), axis=1)
            sensors, numbers = both[0], both[1]
            self._parts = [part for part in self._parts if part.window_ms != window_ms]
        distinct, index = np.unique(numbers, return_inverse=True)
        known = [self._rules[number] for number in distinct.tolist()]
        screen = Screen([_screened(booked) for booked in known], sensors, index, self._attribute_range)
        self._parts.append(_Part(window_ms, distinct.tolist(), index, sensors, screen))

    @property
    def windows_ms(self) -> set[int]:
        """The classes of windows that `touched` asks for."""
        return {part.window_ms for part in self._parts} - {0}

    def touched(self, batch: SensorColumns, recent: RecentWindows) -> set[tuple[int, int]]:
        """The pairs (sensor_no, rule_no) for which the batch could change something, were none of them open."""
        found: set[tuple[int, int]] = set()
        for window_ms in {part.window_ms for part in self._parts}:
            rows = _rows(batch, recent, window_ms)
            for part in self._parts:
                if part.window_ms == window_ms:
                    hits = _confirmed(part.screen.hits(rows), batch, recent, window_ms)
                    found |= {(sensor_no, part.rule_nos[index]) for sensor_no, index in hits.pairs}
        return found


def _confirmed(hits: Hits, batch: SensorColumns, recent: RecentWindows, window_ms: int) -> Hits:
    """The hits but for those whose windows cannot come to what they must."""
    gone = [np.zeros(0, np.intp)]
    for aggregate, entries in hits.doubtful():
        place = np.searchsorted(batch.sensor_no, hits.sensor_no[entries])
        held = recent.held(batch, window_ms, place, aggregate.window_ms)
        added = Added(batch.many[place], batch.least[place], batch.greatest[place], batch.first_ms[place])
        reached = reach(aggregate.function, aggregate.bound.is_upper, held, added)
        # What is not a number says nothing.
        gone.append(entries[reached < hits.number[entries]])
    return hits.without(np.concatenate(gone))


def takes_over_between(booked: BookedRule, sensor: KnownSensor, after_ms: int, to_ms: int) -> bool:
    """Whether what begins in (after, to] could be missed, a version or another place: a stand-in says nothing of it.

    What is still to come and deletes the rule, or takes a rung from its ladder, has resolved at its own time what was
    firing at `after`; any reading before it may undo that.
    """
    later = [version for version in booked.versions if version.effective_from_ms > after_ms]
    begins = any(version.effective_from_ms <= to_ms for version in later) or sensor.moves_between(after_ms, to_ms)
    return any(booked.may_end_with(version) for version in later) or (begins and has_stand_in(booked))


def has_stand_in(booked: BookedRule) -> bool:
    """Whether some version is screened by another condition than its own."""
    return any(_stand_in(rule) != rule.condition for rule in booked.rules)


def window_class_ms(booked: BookedRule) -> int:
    """The class of windows whose extremes the rule's screen needs; 0 where rows tell enough."""
    widths = [_remembered_ms(condition) for condition in _screened(booked)]
    widest = max(widths, default=0)
    return 0 if widest == 0 else next((one for one in _CLASSES_MS if widest <= one), _FOREVER_MS)


def _rows(batch: SensorColumns, recent: RecentWindows, window_ms: int) -> Rows:
    """Each sensor's least and greatest row stand for all its rows."""
    low, high = batch.least, batch.greatest
    if window_ms:
        low, high = recent.around(batch, window_ms)
    return Rows(
        np.repeat(batch.sensor_no.astype(np.int64), 2),
        np.column_stack((batch.least, batch.greatest)).reshape(-1),
        np.repeat(batch.has_late, 2),
        np.repeat(batch.spacing_ms, 2),
        np.repeat(low, 2),
        np.repeat(high, 2),
    )


def _screened(booked: BookedRule) -> list[Condition]:
    return [_stand_in(rule) for rule in booked.rules]


def _stand_in(rule: Rule) -> Condition:
    return rule.condition if rule.schedule is not None else _simpler(rule.condition)


# One object for all that are the same, as the book has one for them.
@lru_cache(maxsize=10_000)
def _simpler(condition: Condition) -> Condition:
    if isinstance(condition, Combination):
        members = tuple(_simpler(member) for member in condition.members)
        same = all(one is other for one, other in zip(members, condition.members, strict=True))
        return condition if same else replace(condition, members=members)
    if isinstance(condition, Exposure | DegreeMinutes):
        return Threshold(condition.bound)
    if isinstance(condition, Aggregate) and condition.function == ("max" if condition.bound.is_upper else "min"):
        # A window's extreme in the direction of the bound crosses it by the newest reading.
        return Threshold(condition.bound)
    return condition


def _remembered_ms(condition: Condition) -> int:
    if isinstance(condition, Combination):
        return max(_remembered_ms(member) for member in condition.members)
    if isinstance(condition, Exposure | DegreeMinutes):
        return condition.within_ms
    return condition.window_ms if isinstance(condition, Aggregate | MeanKineticTemperature) else 0
