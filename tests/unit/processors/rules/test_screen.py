"""The screen names every pair whose episodes a batch changes, and not many others."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from processors.rules.judge import RuleVersion
from processors.rules.screen import Rows, Screen
from schemas.rules import Attribute
from tests.unit.processors.rules.judging import rule
from tests.unit.processors.rules.test_judge_laws import declared, histories, judged, readings

HOT = {"type": "threshold", "above": 8.0, "for": "30m"}
COLD = {"type": "threshold", "at_or_below": 2.0}
MEAN = {"type": "aggregate", "function": "mean", "window": "1h", "above": 6.0}


def screen_of(*conditions: Mapping[str, object]) -> Screen:
    """Every condition as a rule of its own, all on sensor 1."""
    count = len(conditions)
    return Screen([[rule(one).condition] for one in conditions], np.ones(count, np.int64), np.arange(count))


def rows(
    values: Sequence[float],
    *,
    sensor: int = 1,
    late: bool = False,
    spacing_ms: int = 0,
    extremes: tuple[float, float] | None = None,
) -> Rows:
    count = len(values)
    return Rows(
        np.full(count, sensor),
        np.array(values, np.float64),
        np.full(count, late),
        np.full(count, spacing_ms),
        np.full(count, extremes[0]) if extremes else None,
        np.full(count, extremes[1]) if extremes else None,
    )


class TestTests:
    def test_a_threshold_is_touched_by_a_row_at_its_number(self) -> None:
        screen = screen_of(HOT, COLD)

        assert screen.touched(rows([5.0, 7.9])) == []
        assert screen.touched(rows([5.0, 8.5])) == [(1, 0)]
        assert screen.touched(rows([2.0])) == [(1, 1)]

    def test_a_mean_is_touched_when_any_reading_of_its_window_could_lift_it(self) -> None:
        assert screen_of(MEAN).touched(rows([5.0], extremes=(4.0, 5.9))) == []
        assert screen_of(MEAN).touched(rows([5.0], extremes=(4.0, 6.5))) == [(1, 0)]
        assert screen_of(MEAN).touched(rows([5.0])) == [(1, 0)]

    def test_a_budget_may_be_found_spent_by_a_reading_that_is_not_beyond_it(self) -> None:
        exposure = {"type": "exposure", "above": 8, "budget": "10h", "within": "7d"}

        assert screen_of(exposure).touched(rows([5.0], extremes=(4.0, 9.0))) == [(1, 0)]
        assert screen_of(exposure).touched(rows([5.0], extremes=(4.0, 7.9))) == []

    @pytest.mark.parametrize("function", ["count", "rate_per_hour"])
    def test_what_readings_do_not_tell_by_their_values_is_always_judged(self, function: str) -> None:
        aggregate = {"type": "aggregate", "function": function, "window": "1h", "above": 1000}

        assert screen_of(aggregate).touched(rows([5.0], extremes=(5.0, 5.0))) == [(1, 0)]

    def test_a_combination_is_touched_by_any_member(self) -> None:
        both = screen_of({"type": "all_of", "conditions": [HOT, COLD]})

        assert both.touched(rows([1.0])) == [(1, 0)]
        assert both.touched(rows([5.0])) == []

    def test_silence_is_touched_by_a_reading_after_it(self) -> None:
        screen = screen_of({"type": "silence", "after": "10m"})

        assert screen.touched(rows([5.0], spacing_ms=599_999)) == []
        assert screen.touched(rows([5.0], spacing_ms=600_001)) == [(1, 0)]

    def test_a_late_row_touches_every_pair_of_its_sensor(self) -> None:
        assert screen_of(HOT, COLD).touched(rows([5.0], late=True)) == [(1, 0), (1, 1)]

    def test_what_is_active_is_touched_by_any_row_of_its_sensor(self) -> None:
        assert screen_of(HOT, COLD).touched(rows([5.0]), {(1, 1), (2, 0)}) == [(1, 1)]

    def test_a_sensor_without_rules_touches_nothing(self) -> None:
        assert screen_of(HOT).touched(rows([50.0], sensor=7)) == []
        assert screen_of().touched(rows([50.0])) == []
        assert screen_of(HOT).touched(rows([])) == []


class TestAttributes:
    CONDITION = {"type": "threshold", "below": {"attribute": "min_celsius", "of": "site"}}  # noqa: RUF012

    def test_an_attribute_of_unknown_range_is_always_judged(self) -> None:
        assert screen_of(self.CONDITION).touched(rows([5.0])) == [(1, 0)]

    def test_the_weakest_number_it_ever_was_is_the_test_and_an_absent_one_none(self) -> None:
        def range_of(sensor_no: int, _attribute: Attribute) -> tuple[float, float] | None:
            return (1.0, 3.0) if sensor_no == 1 else None

        screen = Screen([[rule(self.CONDITION).condition]], np.array([1, 2]), np.array([0, 0]), range_of)

        assert screen.touched(rows([2.9])) == [(1, 0)]
        assert screen.touched(rows([3.1])) == []
        assert screen.touched(rows([-40.0], sensor=2)) == []


@settings(max_examples=200, deadline=None)
@given(histories, readings(), declared, st.integers(0, 39), st.integers(1, 3))
def test_what_is_not_touched_does_not_change(
    versions: list[RuleVersion], series: list[tuple[int, int, float]], declared_ms: int | None, cut: int, size: int
) -> None:
    stored, batch = series[:cut], series[cut : cut + size]
    if not batch:
        return
    before = judged(versions, stored, declared_ms)
    active = {(1, 0)} if before and before[-1].status in {"pending", "firing"} else set()
    said = [rung.condition for one in versions if one.rule for rung in one.rule.rungs]
    screen = Screen([said], np.array([1]), np.array([0]), lambda *_: (6.0, 8.0))

    if screen.touched(rows_after(stored, batch), active):
        return
    assert repr(judged(versions, stored + batch, declared_ms)) == repr(before)


def rows_after(stored: Sequence[tuple[int, int, float]], batch: Sequence[tuple[int, int, float]]) -> Rows:
    """The batch with all there is to know of it."""
    at = np.array([row[0] for row in [*stored, *batch]], np.int64)
    value = np.array([row[2] for row in [*stored, *batch]], np.float64)
    new = slice(len(stored), None)
    least: NDArray[np.float64] = np.minimum.accumulate(value)
    greatest: NDArray[np.float64] = np.maximum.accumulate(value)
    late = np.zeros(len(batch), np.bool_)
    spacing = np.diff(at, prepend=at[:1])
    return Rows(np.ones(len(batch), np.int64), value[new], late, spacing[new], least[new], greatest[new])


def test_a_hundred_thousand_rules_over_ten_thousand_sensors_screen_a_batch_in_milliseconds() -> None:
    sensors, many = 10_000, 10
    pair_sensor, pair_rule = np.repeat(np.arange(sensors), many), np.arange(sensors * many)
    kinds: list[Mapping[str, object]] = [
        HOT,
        COLD,
        MEAN,
        {"type": "silence", "after": "1h"},
        {"type": "preset", "name": "who-fridge"},
    ]
    parsed = [rule(one).condition for one in kinds]
    screen = Screen([[parsed[n % 5]] for n in range(sensors * many)], pair_sensor, pair_rule)
    value = np.random.default_rng(1).uniform(3, 7, sensors)
    nothing = np.zeros(sensors, np.bool_)
    batch = Rows(np.arange(sensors), value, nothing, np.full(sensors, 60_000), value - 0.5, np.full(sensors, 5.9))

    started = time.process_time()
    touched = screen.touched(batch)

    assert touched == []
    assert time.process_time() - started < 0.25  # 10 ms here; generous for busy machines
