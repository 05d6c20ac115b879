"""What is remembered of windows bounds what they come to: never less, whatever batches, late rows and restarts come."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import AsyncConnection

from processors.rules.model import Series
from processors.rules.reach import Added, reach
from processors.rules.windows import aggregate
from streams.rules.recent import RecentWindows
from tests.unit.processors.rules.test_judge_laws import START
from tests.unit.streams.test_rule_screening import Row, columns, reading_from

CLASS_MS = 900_000
FUNCTIONS = ("mean", "range", "count", "rate_per_hour")

spacings = st.sampled_from([1, 200, 1000, 30_000, 112_500, 300_000, 900_000, 5_000_000])
values = st.sampled_from([-3.0, 0.0, 5.0, 5.1, 9.0, 1e12, 1e308])
rows_of_a_sensor = st.lists(st.tuples(spacings, values), min_size=2, max_size=40)


def spaced(steps: list[tuple[int, float]]) -> list[Row]:
    at = START + np.cumsum([step for step, _ in steps])
    return [(int(moment), n, value) for n, (moment, (_, value)) in enumerate(zip(at, steps, strict=True))]


def least_and_greatest(function: str, rows: list[Row], width_ms: int, last: int) -> tuple[float, float]:
    """The judge's own values of the windows that end with the last rows; NaN judges nothing."""
    at, value = np.array([row[0] for row in rows]), np.array([row[2] for row in rows])
    with np.errstate(all="ignore"):
        found = aggregate(function, Series(at, value, np.zeros(len(at), np.bool_)), width_ms)[-last:]
    return float(np.fmin.reduce(found)), float(np.fmax.reduce(found))


@settings(max_examples=300, deadline=None)
@given(
    rows_of_a_sensor,
    st.lists(st.tuples(st.integers(1, 6), st.sampled_from(["", "", "", "restart", "late"])), min_size=1, max_size=15),
    st.sampled_from([1, 60_000, 300_000, 899_999, 900_000]),
)
def test_no_window_comes_to_more_or_less_than_is_said(
    steps: list[tuple[int, float]], course: list[tuple[int, str]], width_ms: int
) -> None:
    rows, known = spaced(steps), list[Row]()
    recent, start = RecentWindows(reading_from(known)), 0
    for size, event in course:
        stored, batch = rows[:start], rows[start : start + size]
        if not batch:
            return
        known[:] = rows[: start + size]
        if event == "restart":
            recent = RecentWindows(reading_from(known))
        if event == "late" and stored:
            recent.add(columns(stored, [stored[0]]))
        step = columns(stored, batch)
        asyncio.run(recent.learn(AsyncConnection.__new__(AsyncConnection), step, [CLASS_MS]))
        held = recent.held(step, CLASS_MS, np.zeros(1, np.intp), width_ms)
        added = Added(step.many, step.least, step.greatest, step.first_ms)
        for function in FUNCTIONS:
            least, greatest = least_and_greatest(function, known, width_ms, len(batch))
            most = [float(reach(function, is_upper, held, added)[0]) for is_upper in (True, False)]
            assert not most[0] < greatest, function
            assert not most[1] < -least, function
        recent.add(step)
        start += size


def test_a_fall_is_not_taken_for_one_in_the_least_possible_time() -> None:
    # 9, 4.9 and 4 a minute apart fall by 5 in two minutes: -150 per hour. By 0.9 in 7.5 s, the rest of the bucket, -432.
    rows, recent = [(0, 0, 9.0), (60_000, 1, 4.9), (120_000, 2, 4.0)], RecentWindows()
    for number in range(2):
        before = columns(rows[:number], [rows[number]])
        asyncio.run(recent.learn(AsyncConnection.__new__(AsyncConnection), before, [CLASS_MS]))
        recent.add(before)
    step = columns(rows[:2], rows[2:])
    held = recent.held(step, CLASS_MS, np.zeros(1, np.intp), CLASS_MS)
    added = Added(step.many, step.least, step.greatest, step.first_ms)

    assert least_and_greatest("rate_per_hour", rows, CLASS_MS, 1) == pytest.approx((-150, -150))
    assert reach("rate_per_hour", True, held, added)[0] >= -150
