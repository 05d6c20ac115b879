"""The screen of the hot path, with its stand-ins and its memory of windows, misses no pair that judging would change."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import AsyncConnection

from processors.rules.judge import Episode, RuleVersion, judge
from processors.rules.places import Place
from schemas.rules import parse_rule
from sinks.timescale.batch_columns import ReadingColumns
from streams.rules.book import BookedRule
from streams.rules.recent import RecentExtremes, SensorColumns
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


async def remember(recent: RecentExtremes, batch: SensorColumns, windows_ms: set[int]) -> None:
    """Nothing is asked of the connection: the sensor was followed from its first reading on."""
    await recent.remember(AsyncConnection.__new__(AsyncConnection), batch, sorted(windows_ms))


@settings(max_examples=300, deadline=None)
@given(histories, readings(), st.lists(st.integers(1, 6), min_size=1, max_size=12))
def test_a_batch_that_touches_nothing_changes_no_episode(
    versions: list[RuleVersion], series: list[Row], sizes: list[int]
) -> None:
    screening = Screening(lambda _number, wanted: SENSOR.whereabouts.range_of(wanted))
    recent, rule = RecentExtremes(), booked(versions)
    screening.add([(1, rule)])
    start = 0
    for size in sizes:
        stored, batch = series[:start], series[start : start + size]
        if not batch:
            return
        row = columns(stored, batch)
        asyncio.run(remember(recent, row, screening.windows_ms))
        touched = screening.touched(row, recent)
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
    assert not screening.touched(columns(rows[:12], rows[12:13]), RecentExtremes())
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
    screening, recent = Screening(), RecentExtremes()
    screening.add([(1, booked(versions))])
    found = []
    for number, row in enumerate(rows):
        batch = columns(rows[:number], [row])
        asyncio.run(remember(recent, batch, screening.windows_ms))
        found.append(bool(screening.touched(batch, recent)))
    return found


def test_a_budget_is_judged_by_readings_beyond_its_bound_only() -> None:
    values = [5.0, 9.0, 5.0, 5.0]
    rows = [(n * 60_000, n, value) for n, value in enumerate(values)]

    assert touched_by(exposure(8.0), rows) == [False, True, False, False]


def test_a_mean_is_judged_until_the_window_has_surely_passed_what_could_lift_it() -> None:
    # One reading a minute, hot at minute 1: windows of 15 min hold it until minute 15, two generations at most 31.
    rows = [(n * 60_000, n, 9.0 if n == 1 else 5.0) for n in range(40)]
    touched = touched_by(mean(8.0), rows)

    assert touched[1:16] == [True] * 15
    assert not touched[0]
    assert not any(touched[32:])


def test_extremes_of_a_sensor_are_forgotten_when_something_happened_to_it_elsewhere() -> None:
    recent, batch = RecentExtremes(), columns([], [(0, 0, 5.0)])
    asyncio.run(remember(recent, batch, {900_000}))
    assert [one.tolist() for one in recent.around(batch, 900_000)] == [[5.0], [5.0]]

    recent.forget(np.array([1], np.int32))

    assert [one.tolist() for one in recent.around(batch, 900_000)] == [[-math.inf], [math.inf]]


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
        assert screening.touched(batch, RecentExtremes()) == {(number, 7), (number, 8)}
    assert len(screening.windows_ms) == 1
