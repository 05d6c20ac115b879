"""The screen of the hot path, with its stand-ins and its memory of windows, misses no pair that judging would change."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from psycopg import AsyncConnection

from processors.rules.judge import Episode, RuleVersion, judge
from processors.rules.places import Place
from schemas.rules import parse_rule
from sinks.timescale.batch_columns import ReadingColumns
from streams.rules.book import BookedRule
from streams.rules.recent import ReadBuckets, RecentWindows, SensorColumns
from streams.rules.screening import Screening, takes_over_between, window_class_ms
from streams.rules.sensors import KnownSensor
from tests.unit.processors.rules.test_judge_laws import MINUTE, START, histories, readings

Row = tuple[int, int, float]
NEVER_MS = np.iinfo(np.int64).min

# The limit is 8, then absent for a while, then 6; the unit named `late` is entered, left, and entered again.
PLACES = (
    Place(0, "early", unit_attributes={"max": 8.0}),
    Place(START + 6 * MINUTE, "early", timezone="Europe/Berlin"),
    Place(START + 8 * MINUTE, "late", timezone="Europe/Berlin"),
    Place(START + 12 * MINUTE, "early", unit_attributes={"max": 6.0}),
    Place(START + 25 * MINUTE, "late", unit_attributes={"max": 7.0}),
)
SENSOR = KnownSensor("sen_1", "ten_1", None, PLACES)


def booked(versions: list[RuleVersion]) -> BookedRule:
    return BookedRule(7, "ten_1", tuple(versions))


def columns(stored: list[Row], batch: list[Row]) -> SensorColumns:
    """The batch of sensor 1 as the effect sums it up."""
    newest = stored[-1][0] if stored else NEVER_MS
    at = [row[0] for row in batch]
    before = at[0] if newest == NEVER_MS else newest
    spacing = max(np.diff([before, *at]).tolist())
    value = [row[2] for row in batch]
    numbers = ([one] for one in (at[0], at[-1], newest, spacing))
    first, last, newest_ms, spacing_ms = (np.array(one, np.int64) for one in numbers)
    late = np.array([newest != NEVER_MS and at[0] <= newest])
    return SensorColumns(
        np.array([1], np.int32),
        first,
        last,
        np.array([min(value)]),
        np.array([max(value)]),
        newest_ms,
        late,
        spacing_ms,
        np.array([len(stored)], np.int64),
        ReadingColumns(
            np.ones(len(batch), np.int32),
            np.array([row[1] for row in batch], np.int32),
            np.array(at, np.int64),
            np.array(value, np.float64),
        ),
        np.zeros(1, np.intp),
    )


def judged(versions: list[RuleVersion], rows: list[Row]) -> list[Episode]:
    at, seq = (np.array([row[place] for row in rows], np.int64) for place in (0, 1))
    value = np.array([row[2] for row in rows], np.float64)
    return judge(versions, at, seq, value, SENSOR.context, from_ms=0)


def reading_from(rows: list[Row]) -> ReadBuckets:
    """The buckets of sensor 1 as they are read from a store with these rows."""

    async def read(
        _connection: object, _sensor_no: object, newest_ms: NDArray[np.int64], class_ms: int, bucket_ms: int
    ) -> NDArray[np.float64]:
        newest = int(newest_ms[0])
        found: dict[int, list[float]] = {}
        for at, _, value in rows:
            if newest - class_ms < at <= newest:
                found.setdefault(at // bucket_ms, []).append(value)
        return np.array([(1, n, min(one), max(one), sum(one), len(one)) for n, one in found.items()]).reshape(-1, 6)

    return read


def take(screening: Screening, recent: RecentWindows, batch: SensorColumns) -> set[tuple[int, int]]:
    """What the batch touches, as the effect asks for it; the readers here ask nothing of the connection."""
    asyncio.run(recent.learn(AsyncConnection.__new__(AsyncConnection), batch, sorted(screening.windows_ms)))
    touched = screening.touched(batch, recent)
    recent.add(batch)
    return touched


@settings(max_examples=300, deadline=None)
@given(histories, readings(), st.lists(st.integers(1, 6), min_size=1, max_size=12))
def test_a_batch_that_touches_nothing_changes_no_episode(
    versions: list[RuleVersion], series: list[Row], sizes: list[int]
) -> None:
    screening = Screening(lambda _number, wanted: SENSOR.whereabouts.range_of(wanted))
    rule, known = booked(versions), list[Row]()
    recent = RecentWindows(reading_from(known))
    screening.add([(1, rule)])
    start = 0
    for size in sizes:
        stored, batch = series[:start], series[start : start + size]
        if not batch:
            return
        row = columns(stored, batch)
        # A batch's rows are stored before they are judged.
        known[:] = series[: start + size]
        touched = take(screening, recent, row)
        newest = int(row.newest_ms[0])
        taken_over = stored and takes_over_between(rule, SENSOR, newest, int(row.last_ms[0]))
        before = judged(versions, stored)
        is_open = bool(before) and before[-1].status in {"pending", "firing"}
        if not (touched or taken_over or is_open):
            assert repr(judged(versions, stored + batch)) == repr(before)
        start += size


def test_a_limit_that_falls_below_what_a_window_holds_is_seen_though_the_newest_reading_is_within_it() -> None:
    # The greatest of the hour is 7: within the limit of 8, beyond the limit of 6 that holds from minute 12 on.
    bound = {"attribute": "max", "of": "unit"}
    condition = {"type": "aggregate", "function": "max", "window": "1h", "above": bound}
    versions = [RuleVersion(0, parse_rule({"name": "r", "severity": "major", "condition": condition}))]
    rows = [(START + n * MINUTE, n, 7.0 if n == 5 else 5.0) for n in range(14)]
    rule, screening = booked(versions), Screening(lambda _number, wanted: SENSOR.whereabouts.range_of(wanted))
    screening.add([(1, rule)])

    assert not judged(versions, rows[:12])
    assert [one.fired_at_ms for one in judged(versions, rows[:13])] == [START + 12 * MINUTE]
    assert not screening.touched(columns(rows[:12], rows[12:13]), RecentWindows())
    assert takes_over_between(rule, SENSOR, rows[11][0], rows[12][0])
    assert not takes_over_between(rule, SENSOR, rows[12][0], rows[13][0])


def exposure(above: float) -> list[RuleVersion]:
    condition = {"type": "exposure", "above": above, "budget": "4h", "within": "30d"}
    return [RuleVersion(0, parse_rule({"name": "r", "severity": "major", "condition": condition}))]


def mean(above: float) -> list[RuleVersion]:
    condition = {"type": "aggregate", "function": "mean", "window": "15m", "above": above}
    return [RuleVersion(0, parse_rule({"name": "r", "severity": "major", "condition": condition}))]


def touched_by(versions: list[RuleVersion], rows: list[Row]) -> list[bool]:
    """Whether each reading, a batch of its own, touches the rule."""
    screening, recent = Screening(), RecentWindows()
    screening.add([(1, booked(versions))])
    found = []
    for number, row in enumerate(rows):
        found.append(bool(take(screening, recent, columns(rows[:number], [row]))))
    return found


def test_a_budget_is_judged_by_readings_beyond_its_bound_only() -> None:
    values = [5.0, 9.0, 5.0, 5.0]
    rows = [(n * 60_000, n, value) for n, value in enumerate(values)]

    assert touched_by(exposure(8.0), rows) == [False, True, False, False]


def test_a_mean_is_judged_while_its_window_could_come_to_it_and_not_because_one_reading_is_beyond() -> None:
    # One reading a minute; means of 15 min. One of 9 among fives is a mean of 7 at the most: (5 + 9) / 2.
    values = [9.0 if n == 1 else 5.0 for n in range(40)]
    assert not any(touched_by(mean(8.0), [(n * 60_000, n, value) for n, value in enumerate(values)]))

    # From minute 20 on all are 9: 12 of them and 3 fives are 8.2 in minute 31, 11 and 4 fives are 7.93 in minute 30.
    values = [5.0 if n < 20 else 9.0 for n in range(40)]
    touched = touched_by(mean(8.0), [(n * 60_000, n, value) for n, value in enumerate(values)])
    assert all(touched[31:])
    # A bucket holds two readings at the most: so many of the fives may have left the window or not.
    assert not any(touched[:29])


@pytest.mark.parametrize(
    ("aggregate", "values"),
    [
        ({"function": "count", "above": 18.0}, [5.0]),
        ({"function": "count", "below": 2.0}, [5.0]),
        ({"function": "rate_per_hour", "above": 8.0}, [5.0, 5.5]),
        ({"function": "rate_per_hour", "below": -8.0}, [5.0, 5.5]),
        ({"function": "range", "below": 0.5}, [5.0, 6.0]),
        ({"function": "range", "above": 2.0}, [5.0, 6.0]),
        ({"function": "min", "above": 8.0}, [7.0, 9.0, 7.0, 7.0]),
        ({"function": "max", "below": 2.0}, [7.0]),
    ],
    ids=lambda value: "" if isinstance(value, list) else "-".join(map(str, value.values())),
)
def test_a_window_that_cannot_come_to_the_number_is_not_judged(
    aggregate: dict[str, object], values: list[float]
) -> None:
    versions = [of({"type": "aggregate", "window": "15m", **aggregate})]
    rows = [(n * 60_000, n, values[n % len(values)]) for n in range(60)]

    # Once a window is full: a reading that is beyond by itself (9 above 8) is judged.
    touched = touched_by(versions, rows)[20:]
    assert touched == [row[2] == 9.0 for row in rows[20:]]


def test_a_window_that_comes_to_the_very_number_is_judged_also_by_a_batch_of_several_rows() -> None:
    counts = [of({"type": "aggregate", "function": "count", "window": "15m", "at_or_above": 4})]
    rows = [(n * 1000, n, 5.0) for n in range(4)]
    assert touched_by(counts, rows) == [False, False, False, True]

    screening, recent = Screening(), RecentWindows()
    screening.add([(1, booked(counts))])
    assert take(screening, recent, columns([], rows))


def test_buckets_of_a_sensor_are_forgotten_when_something_happened_to_it_elsewhere() -> None:
    recent, batch = RecentWindows(), columns([], [(0, 0, 5.0)])
    screening = Screening()
    screening.add([(1, booked(mean(8.0)))])
    take(screening, recent, batch)
    later, place = columns([(0, 0, 5.0)], [(60_000, 1, 6.0)]), np.zeros(1, np.intp)
    held = recent.held(later, 900_000, place, 900_000)
    assert (held.known.tolist(), held.edge.tolist(), held.count.tolist()) == ([True], [0], [1])

    recent.forget(np.array([1], np.int32))

    assert recent.held(later, 900_000, place, 900_000).known.tolist() == [False]


def of(condition: Mapping[str, object], from_ms: int = 0) -> RuleVersion:
    return RuleVersion(from_ms, parse_rule({"name": "r", "severity": "major", "condition": condition}))


def test_a_version_takes_over_with_the_reading_of_its_moment() -> None:
    budget = {"type": "exposure", "above": 8.0, "budget": "4h"}
    rule = booked([of(budget), of(budget, from_ms=100)])

    def at(after_ms: int, to_ms: int) -> bool:
        return takes_over_between(rule, KnownSensor("sen_1", "ten_1", None, ()), after_ms, to_ms)

    # Also where only what begins is screened by another condition.
    begins = booked([of({"type": "threshold", "above": 8.0}), of(budget, from_ms=100)])
    assert takes_over_between(begins, KnownSensor("sen_1", "ten_1", None, ()), 50, 100)
    assert [at(50, 99), at(50, 100), at(99, 150), at(100, 150)] == [False, True, True, False]


def test_the_widest_window_of_all_that_a_rule_says_is_remembered() -> None:
    def mean_of(window: str) -> dict[str, object]:
        return {"type": "aggregate", "function": "mean", "window": window, "above": 8.0}

    either = {"type": "any_of", "conditions": [mean_of("10m"), mean_of("5h")]}
    assert window_class_ms(booked([of(mean_of("10m"))])) == 900_000
    assert window_class_ms(booked([of(either)])) == 21_600_000
    assert window_class_ms(booked([of(mean_of("5h")), of(mean_of("10m"))])) == 21_600_000
    # Rows tell enough of a threshold, and of a budget, also where both are members.
    budget = {"type": "exposure", "above": 8.0, "budget": "4h"}
    both = {"type": "any_of", "conditions": [{"type": "threshold", "above": 8.0}, budget]}
    assert (
        window_class_ms(booked([of({"type": "threshold", "above": 8.0})])) == window_class_ms(booked([of(both)])) == 0
    )


def test_pairs_that_come_one_by_one_are_all_screened() -> None:
    hot, average = booked([of({"type": "threshold", "above": 8.0})]), replace(booked(mean(8.0)), rule_no=8)
    screening, one = Screening(), columns([], [(0, 0, 9.0)])
    for number in range(1, 61):
        screening.add([(number, hot), (number, average)])

    for number in range(1, 61):
        batch = replace(one, sensor_no=np.array([number], np.int32))
        assert screening.touched(batch, RecentWindows()) == {(number, 7), (number, 8)}
    assert len(screening.windows_ms) == 1
