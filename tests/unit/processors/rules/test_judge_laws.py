"""The judge equals the reference on whatever readings, gaps, versions and conditions; and the laws that follow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from processors.rules.judge import Episode, RuleVersion, SensorContext, judge, look_back_ms
from schemas.rules import (
    Aggregate,
    Attribute,
    Bound,
    Clear,
    Combination,
    Condition,
    DegreeMinutes,
    Exposure,
    MeanKineticTemperature,
    Rule,
    Rung,
    Schedule,
    Silence,
    Span,
    Target,
    Threshold,
)
from tests.unit.processors.rules import reference, reference_world

MINUTE = 60_000
HOUR = 3_600_000
START = 1_711_839_600_000  # 2024-03-30T23:00:00Z, two hours before Europe's clocks change

SPACINGS = [MINUTE] * 10 + [0, 1, 30_000, 2 * MINUTE, 2 * MINUTE, 3 * MINUTE, 16 * MINUTE, HOUR, 7 * HOUR]
WIDTHS = [MINUTE, 3 * MINUTE, 10 * MINUTE, HOUR, 24 * HOUR]
WAITS = [0, 1, MINUTE, 2 * MINUTE, 5 * MINUTE, HOUR]

QUARTERS = st.sampled_from([*range(16, 41), *[34] * 12, *[26] * 6])  # 8.5 and 6.5 often, so that runs last

numbers = st.one_of(st.sampled_from([5.0, 7.5, 8.0]), st.just(Attribute("max", "unit")))
kinds = st.sampled_from(["above", "at_or_above", "below", "at_or_below"])
bounds = st.builds(Bound, kinds, numbers)
clears = st.builds(Clear, st.none() | bounds, st.sampled_from(WAITS))
waits = st.sampled_from(WAITS)

thresholds = st.builds(Threshold, bounds, waits, st.sampled_from([1, 1, 2, 4]), clears, st.sampled_from([0, 0, MINUTE]))
functions = st.sampled_from(["mean", "min", "max", "count", "range", "rate_per_hour"])
aggregates = st.builds(
    Aggregate, functions, st.sampled_from(WIDTHS), bounds, waits, clears, st.sampled_from([0, MINUTE])
)
exposures = st.builds(Exposure, bounds, st.sampled_from([1, MINUTE, 3 * MINUTE, HOUR]), st.sampled_from(WIDTHS))
degrees = st.builds(DegreeMinutes, bounds, st.sampled_from([0.5, 3.0, 20.0]), st.sampled_from(WIDTHS))
kinetics = st.builds(MeanKineticTemperature, bounds, st.sampled_from(WIDTHS))
simple = st.one_of(thresholds, thresholds, aggregates, exposures, degrees, kinetics)
combinations = st.builds(Combination, st.booleans(), st.lists(simple, min_size=1, max_size=3).map(tuple))
silent = st.builds(Silence, st.sampled_from([30_000, MINUTE, 2 * MINUTE, HOUR]))
conditions = st.one_of(simple, simple, combinations, silent)

schedules = st.none() | st.builds(
    lambda zone, days, start, end: Schedule(zone, (Span(frozenset(days), start, end),)),
    st.sampled_from(["Europe/Berlin", None]),
    st.sets(st.integers(0, 6), min_size=1),
    st.sampled_from([0, 60, 150, 600]),
    st.sampled_from([0, 120, 180, 1440]),
)
targets = st.sampled_from([Target("all"), Target("all"), Target("unit_id", "late")])
severities = st.sampled_from(["critical", "minor"])
ladders = (
    st.just(()) | st.just(()) | st.builds(Rung, st.sampled_from(["major", "info"]), conditions).map(lambda one: (one,))
)
rules = st.builds(Rule, st.just("r"), targets, severities, conditions, schedules, st.none(), ladders)


@st.composite
def readings(draw: st.DrawFn) -> list[tuple[int, int, float]]:
    least = draw(st.sampled_from([0, 12, 25]))
    steps = draw(st.lists(st.tuples(st.sampled_from(SPACINGS), QUARTERS), min_size=least, max_size=40))
    at, found = START, []
    for n, (spacing, quarters) in enumerate(steps):
        at += spacing
        found.append((at, n, quarters / 4))
    return found


moments = st.one_of(
    st.just(START - HOUR), st.integers(0, 40).map(lambda n: START + n * MINUTE), st.just(START + 5 * HOUR)
)
versions_of = st.lists(
    st.builds(RuleVersion, moments, st.one_of(rules, rules, rules, st.none())), min_size=2, max_size=4
)
single = rules.map(lambda rule: [RuleVersion(0, rule)])
histories = st.one_of(single, versions_of)
declared = st.sampled_from([None, None, MINUTE, 10 * MINUTE])


def applies(target: Target, at: int) -> bool:
    """The sensor comes to the unit named `late` ten minutes in."""
    return target.kind == "all" or at >= START + 10 * MINUTE


def attribute(_attribute: Attribute, at: int) -> float:
    """8, then absent for a while, then 6."""
    return 8.0 if at < START + 8 * MINUTE else math.nan if at < START + 12 * MINUTE else 6.0


def timezone(at: int) -> str:
    """The site moves to Berlin's time six minutes in."""
    return "UTC" if at < START + 6 * MINUTE else "Europe/Berlin"


def context(declared_ms: int | None) -> SensorContext:
    def applies_at(target: Target, at_ms: NDArray[np.int64]) -> NDArray[np.bool_]:
        return np.array([applies(target, at) for at in at_ms.tolist()], np.bool_)

    def attribute_at(one: Attribute, at_ms: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.array([attribute(one, at) for at in at_ms.tolist()], np.float64)

    def timezone_at(at_ms: NDArray[np.int64]) -> NDArray[np.str_]:
        return np.array([timezone(at) for at in at_ms.tolist()], np.str_)

    return SensorContext(declared_ms, applies_at, attribute_at, timezone_at)


def judged(
    versions: Sequence[RuleVersion], rows: Sequence[tuple[int, int, float]], declared_ms: int | None, from_ms: int = 0
) -> list[Episode]:
    at = np.array([row[0] for row in rows], np.int64)
    seq = np.array([row[1] for row in rows], np.int64)
    value = np.array([row[2] for row in rows], np.float64)
    return judge(versions, at, seq, value, context(declared_ms), from_ms=from_ms)


def rounded(episodes: list[Episode]) -> list[Episode]:
    """Peaks to nine decimals, absent ones comparable: the two judges add in different orders."""
    return [
        replace(one, peak_value=math.inf if math.isnan(one.peak_value) else round(one.peak_value, 9))
        for one in episodes
    ]


@settings(max_examples=200, deadline=None)
@given(histories, readings(), declared)
def test_the_judge_finds_what_the_reference_finds(
    versions: list[RuleVersion], rows: list[tuple[int, int, float]], declared_ms: int | None
) -> None:
    world = reference_world.World(rows, declared_ms, applies, attribute, timezone)

    assert rounded(judged(versions, rows, declared_ms)) == rounded(reference.judge(versions, world, 0))


def look_back(versions: Sequence[RuleVersion]) -> int:
    return max((look_back_ms(one.rule) for one in versions if one.rule), default=0)


@settings(max_examples=200, deadline=None)
@given(histories, readings(), declared, st.integers(1, 39))
def test_judging_from_where_nothing_is_open_with_no_more_than_the_look_back_finds_the_same_to_the_last_bit(
    versions: list[RuleVersion], rows: list[tuple[int, int, float]], declared_ms: int | None, cut: int
) -> None:
    rows = [(at, seq, value / 3) for at, seq, value in rows]  # sums that do not come out even
    cut = min(cut, len(rows) - 1)
    if cut < 1 or rows[cut - 1][0] == rows[cut][0]:
        return
    from_ms = rows[cut][0]
    before = judged([one for one in versions if one.effective_from_ms <= from_ms], rows[:cut], declared_ms)
    if any(one.status in {"pending", "firing"} for one in before):
        return
    needed = [n for n, row in enumerate(rows) if row[0] <= from_ms - look_back(versions)]
    tail = judged(versions, rows[needed[-1] if needed else 0 :], declared_ms, from_ms)

    known = {repr(one) for one in before}
    later = [one for one in judged(versions, rows, declared_ms) if repr(one) not in known]
    # a silence that lasts until the cut belongs to judging from before it
    assert repr([one for one in later if not (is_silence(one) and one.started_at_ms < from_ms)]) == repr(tail)


def is_silence(one: Episode) -> bool:
    return math.isnan(one.peak_value)


@settings(max_examples=200, deadline=None)
@given(simple, readings(), declared)
def test_a_combination_of_one_is_that_one(
    condition: Condition, rows: list[tuple[int, int, float]], declared_ms: int | None
) -> None:
    def episodes(judged_condition: Condition) -> list[Episode]:
        rule = Rule("r", Target("all"), "major", judged_condition, None, None)
        return [replace(one, peak_at_ms=0, peak_value=0) for one in judged([RuleVersion(0, rule)], rows, declared_ms)]

    # but for the peak: a combination shows readings, an aggregate what the window says
    assert episodes(Combination(False, (condition,))) == episodes(condition)


@settings(max_examples=200, deadline=None)
@given(histories, readings(), declared)
def test_times_are_in_order_and_what_is_proven_is_possible(
    versions: list[RuleVersion], rows: list[tuple[int, int, float]], declared_ms: int | None
) -> None:
    for one in judged(versions, rows, declared_ms):
        fired, resolved = one.fired_at_ms or one.started_at_ms, one.resolved_at_ms or rows[-1][0]
        assert one.started_at_ms <= fired <= resolved
        assert 0 <= one.proven_ms <= one.possible_ms
