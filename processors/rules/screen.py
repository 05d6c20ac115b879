"""Which (sensor, rule) pairs a batch could change: all others need no judging.

For a pair without an open or pending episode, and rows later than everything stored of their sensor, a rule can only
begin something if a necessary test holds for some row. Tests ask for more than nothing and less than the rule, never
the other way: each is "some quantity reaches a number". What the caller does not know of its rows counts as reaching
any number. A pair with an open or pending episode, or with a late row, is always touched: a late row moves gaps and
windows for a day and more after it.

A combination can begin something as soon as one member can. Of a rule with several versions every version is asked.
What a window comes to the extremes tell roughly; who knows more of the window asks its hits again (`Hits.doubtful`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from processors.rules.model import Flags, Times, Values
from schemas.rules import (
    Aggregate,
    Attribute,
    Bound,
    Combination,
    Condition,
    Silence,
    Threshold,
)

Numbers = NDArray[np.int64]
AttributeRange = Callable[[int, Attribute], tuple[float, float] | None]
"""Least and greatest number that the attribute ever was for a sensor; None where it never was."""

_QUANTITIES: Final = ("value", "-value", "greatest", "-least", "range", "spacing", "anything")
_ROW_UP, _ROW_DOWN, _WINDOW_UP, _WINDOW_DOWN, _WINDOW_RANGE, _SPACING, _ANYTHING = range(len(_QUANTITIES))


@dataclass(frozen=True, slots=True)
class Rows:
    """A batch's rows; None is "not known".

    Args:
        sensor_no: whose reading each row is.
        value: the readings.
        late: whether the row is not later than every stored reading of its sensor, or than a row before it here.
        spacing_ms: the time since the sensor's reading before; of its first one, 0.
        least: the least value of the sensor in the widest window of its rules that ends with the row, or in more.
        greatest: the greatest value there.
    """

    sensor_no: Numbers
    value: Values
    late: Flags
    spacing_ms: Times | None = None
    least: Values | None = None
    greatest: Values | None = None


@dataclass(frozen=True, slots=True)
class _Test:
    """A quantity that must reach a number; an attribute's number differs by sensor.

    With an aggregate, that of its windows must reach the number too.
    """

    quantity: int
    number: float | Attribute
    sign: float = 1.0
    aggregate: Aggregate | None = None


@dataclass(frozen=True, slots=True)
class Hits:
    """Tests that hold, one entry each: whose, by which rule, the number, and of which aggregate (an index; -1 is none)."""

    sensor_no: Numbers
    rule: Numbers
    number: NDArray[np.float64]
    aggregate: Numbers
    aggregates: Sequence[Aggregate]

    @property
    def pairs(self) -> set[tuple[int, int]]:
        """(sensor_no, rule index) of all of them."""
        return set(zip(self.sensor_no.tolist(), self.rule.tolist(), strict=True))

    def doubtful(self) -> Iterator[tuple[Aggregate, NDArray[np.intp]]]:
        """Each aggregate and the entries whose windows, if more is known of them, may prove that they do not hold."""
        for index in np.unique(self.aggregate[self.aggregate >= 0]).tolist():
            yield self.aggregates[index], np.flatnonzero(self.aggregate == index)

    def without(self, entries: NDArray[np.intp]) -> Hits:
        """All but these entries."""
        kept = np.delete(np.arange(len(self.rule)), entries)
        columns = (self.sensor_no[kept], self.rule[kept], self.number[kept], self.aggregate[kept])
        return Hits(*columns, self.aggregates)


class Screen:
    """The tests of many pairs, sorted by sensor.

    Args:
        conditions: per rule index, what the rule's versions say.
        sensor_no: per pair, the sensor.
        rule_index: per pair, the index in `rules`.
        attribute_range: bounds of attributes; without it rules on attributes are always judged.
    """

    def __init__(
        self,
        conditions: Sequence[Sequence[Condition]],
        sensor_no: Numbers,
        rule_index: Numbers,
        attribute_range: AttributeRange | None = None,
    ) -> None:
        said, distinct = _numbered(conditions)
        tests = [[test for condition in every for test in _tests(condition)] for every in distinct]
        order = np.lexsort((rule_index, sensor_no))
        sensors, indices = sensor_no[order], rule_index[order]
        many = np.array([len(one) for one in tests], np.int64)[said[indices]]
        self._sensor: Numbers = np.repeat(sensors, many)
        self._rule: Numbers = np.repeat(indices, many)
        flat = [test for one in tests for test in one]
        first = np.concatenate(([0], np.cumsum([len(one) for one in tests]))).astype(np.int64)
        # The n-th test of a pair is the n-th of its rule.
        within = np.arange(len(self._rule)) - np.repeat(np.cumsum(many) - many, many)
        which = first[said[self._rule]] + within
        self._quantity: Numbers = np.array([test.quantity for test in flat], np.int64)[which]
        self._number = _numbers(flat, which, self._sensor, attribute_range)
        self._aggregates = list(dict.fromkeys(test.aggregate for test in flat if test.aggregate is not None))
        index = {aggregate: number for number, aggregate in enumerate(self._aggregates)}
        aggregate = [-1 if one.aggregate is None else index[one.aggregate] for one in flat]
        self._aggregate: Numbers = np.array(aggregate, np.int64)[which]

    def touched(self, rows: Rows, active: Collection[tuple[int, int]] = ()) -> list[tuple[int, int]]:
        """The pairs (sensor_no, rule index) that must be judged again, sorted.

        Args:
            rows: of any sensors, in any order.
            active: the pairs that have an open or pending episode.
        """
        in_batch = set(rows.sensor_no.tolist())
        return sorted(self.hits(rows).pairs | {pair for pair in active if pair[0] in in_batch})

    def hits(self, rows: Rows) -> Hits:
        """The tests that hold for these rows; of a sensor with a late row all do, whatever its windows come to."""
        present, reached, late = _reached(rows)
        start, stop = (np.searchsorted(self._sensor, present, side=side) for side in ("left", "right"))
        many = stop - start
        of_sensor = np.repeat(np.arange(len(present)), many)
        test = np.arange(len(of_sensor)) + np.repeat(start - (np.cumsum(many) - many), many)
        hit = late[of_sensor] | (reached[self._quantity[test], of_sensor] >= self._number[test])
        found, is_late = test[hit], late[of_sensor[hit]]
        aggregate = np.where(is_late, -1, self._aggregate[found])
        return Hits(self._sensor[found], self._rule[found], self._number[found], aggregate, self._aggregates)


def _numbered(conditions: Sequence[Sequence[Condition]]) -> tuple[Numbers, list[Sequence[Condition]]]:
    """What is said, each once, and per rule its index: most of a hundred thousand rules say the same as others."""
    places: dict[tuple[int, ...], int] = {}
    said = [places.setdefault(tuple(map(id, every)), len(places)) for every in conditions]
    first = dict(zip(reversed(said), reversed(conditions), strict=True))
    return np.array(said, np.int64), [first[place] for place in range(len(places))]


def _reached(rows: Rows) -> tuple[Numbers, NDArray[np.float64], Flags]:
    """Per sensor in the batch: its number, the most that each quantity reaches, and whether a row is late."""
    present, sensor = np.unique(rows.sensor_no, return_inverse=True)
    unknown = np.full(len(rows.value), np.inf)
    least = -unknown if rows.least is None else rows.least
    greatest = unknown if rows.greatest is None else rows.greatest
    spacing = unknown if rows.spacing_ms is None else rows.spacing_ms.astype(np.float64)
    reached = np.full((len(_QUANTITIES), len(present)), -np.inf)
    quantities = (rows.value, -rows.value, greatest, -least, greatest - least, spacing, unknown)
    for most, quantity in zip(reached, quantities, strict=True):
        np.maximum.at(most, sensor, quantity)
    late = np.zeros(len(present), np.bool_)
    late[sensor[rows.late]] = True
    return present, reached, late


def _numbers(
    tests: Sequence[_Test], which: Numbers, sensor: Numbers, attribute_range: AttributeRange | None
) -> NDArray[np.float64]:
    """What must be reached, per pair's test."""
    fixed = [test.sign * test.number if isinstance(test.number, float) else -np.inf for test in tests]
    numbers = np.array(fixed, np.float64)[which]
    if attribute_range is None:
        return numbers
    varies = np.array([isinstance(test.number, Attribute) for test in tests], np.bool_)[which]
    for n in np.flatnonzero(varies):
        test = tests[which[n]]
        if isinstance(test.number, Attribute):
            between = attribute_range(int(sensor[n]), test.number)
            # Nothing violates an attribute that never was: a number that nothing reaches.
            numbers[n] = np.nan if between is None else min(test.sign * one for one in between)
    return numbers


def _tests(condition: Condition) -> list[_Test]:
    """The tests of which one must hold before the condition can begin anything."""
    if isinstance(condition, Combination):
        return [test for member in condition.members for test in _tests(member)]
    if isinstance(condition, Silence):
        return [_Test(_SPACING, float(condition.after_ms))]
    if isinstance(condition, Threshold):
        return [_of_bound(condition.bound, _ROW_UP, _ROW_DOWN)]
    if isinstance(condition, Aggregate):
        return [_of_aggregate(condition)]
    # A row that is not beyond the bound can find a budget spent: the first of a version, or of a schedule's day.
    return [_of_bound(condition.bound, _WINDOW_UP, _WINDOW_DOWN)]


def _of_aggregate(condition: Aggregate) -> _Test:
    bound, function = condition.bound, condition.function
    if function in {"min", "max"} and bound.is_upper == (function == "min"):
        # The newest reading is in the window: it must be beyond the bound, or the window's extreme is not.
        return _of_bound(bound, _ROW_UP, _ROW_DOWN)
    if function in {"min", "max"}:
        return _of_bound(bound, _WINDOW_UP, _WINDOW_DOWN)
    if function == "mean":
        # A mean can cross a bound because an old reading leaves the window.
        return _of_bound(bound, _WINDOW_UP, _WINDOW_DOWN, condition)
    if function == "range" and bound.is_upper:
        return _of_bound(bound, _WINDOW_RANGE, _WINDOW_RANGE, condition)
    return _of_bound(bound, _ANYTHING, _ANYTHING, condition)


def _of_bound(bound: Bound, up: int, down: int, aggregate: Aggregate | None = None) -> _Test:
    if bound.is_upper:
        return _Test(up, bound.number, aggregate=aggregate)
    return _Test(down, bound.number, -1.0, aggregate)
