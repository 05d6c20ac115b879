"""What each reading says to a condition: whether it violates, how bad it is, and the runs that follow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from processors.rules.model import Flags, SensorContext, Series, Values
from processors.rules.runs import Level, Run, combined_runs, hold_runs, level_runs
from processors.rules.windows import Window, aggregate, degree_minutes, first_of_pairs, mean_kinetic_temperature
from schemas.rules import (
    Aggregate,
    Bound,
    Clear,
    Combination,
    Condition,
    DegreeMinutes,
    Exposure,
    MeanKineticTemperature,
    Threshold,
)

RunFinder = Callable[[int, int, Run | None], list[Run]]
"""Finds the runs among the readings `lo` to `hi`, from idle or from the fired run of the version before."""


@dataclass(frozen=True, slots=True)
class Track:
    """A condition over a series; arrays are per reading.

    Args:
        violating: what pairs are counted by.
        shown: the judged value, of which the worst is an episode's peak.
        is_upper: whether greater values are worse.
        runs: see `RunFinder`.
        clear: what a fired run's clear time is counted by; None where a run cannot be carried from one reading alone.
    """

    violating: Flags
    shown: Values
    is_upper: bool
    runs: RunFinder
    clear: Flags | None = None


@dataclass(frozen=True, slots=True)
class Scene:
    """A series, when the rule judges it, and the sensor."""

    series: Series
    active: Flags
    context: SensorContext

    def beyond(self, bound: Bound, value: Values) -> Flags:
        """Whether a value is beyond the bound; nothing is beyond an attribute that is absent, and NaN never is."""
        return compare(bound.kind, value, self.number(bound))

    def number(self, bound: Bound) -> Values:
        """The bound's number at each reading."""
        if isinstance(bound.number, float):
            return np.full(len(self.series.at_ms), bound.number)
        return self.context.attribute(bound.number, self.series.at_ms)


def compare(kind: str, value: Values, number: Values) -> Flags:
    """The comparison that a bound names."""
    if kind == "above":
        return value > number
    if kind == "at_or_above":
        return value >= number
    return value < number if kind == "below" else value <= number


def track_of(condition: Condition, scene: Scene) -> Track:
    """The track of any condition but silence, which is about what lies between readings."""
    series = scene.series
    if isinstance(condition, Threshold):
        return _level_track(scene, series.value, condition, condition.consecutive)
    if isinstance(condition, Aggregate):
        return _level_track(scene, aggregate(condition.function, series, condition.window_ms), condition)
    if isinstance(condition, MeanKineticTemperature):
        return _level_track(scene, mean_kinetic_temperature(series, condition.window_ms), Threshold(condition.bound))
    if isinstance(condition, Exposure | DegreeMinutes):
        return _budget_track(scene, condition)
    if isinstance(condition, Combination):
        return _combined_track(scene, condition)
    msg = f"{type(condition).__name__} is judged between readings, by processors.rules.silence"
    raise TypeError(msg)


def _level_track(scene: Scene, value: Values, condition: Threshold | Aggregate, consecutive: int = 1) -> Track:
    """A value, judged reading by reading."""
    violating = scene.beyond(condition.bound, value) & scene.active
    clear = _clear(scene, condition.clear, value, violating)
    clear_ms = condition.clear.for_ms + condition.keep_firing_ms
    level = Level(violating, clear, condition.for_ms, consecutive, clear_ms)
    return Track(
        violating,
        value,
        condition.bound.is_upper,
        lambda lo, hi, run: level_runs(level, scene.series, lo, hi, run),
        clear,
    )


def _clear(scene: Scene, clear: Clear, value: Values, violating: Flags) -> Flags:
    """Whether readings count towards clearing: never while violating, always where the rule does not judge.

    A bound whose attribute is absent falls back to "not violating", or nothing could end the episode.
    """
    if clear.bound is None:
        return ~violating
    holds = scene.beyond(clear.bound, value) | np.isnan(scene.number(clear.bound)) | ~scene.active
    return holds & ~violating


def _budget_track(scene: Scene, condition: Exposure | DegreeMinutes) -> Track:
    """Time or degree-minutes beyond a bound, of which a window has a budget.

    Readings beyond the bound violate; the condition holds at readings where the proven pairs in the window (at its
    edge, the part inside) reach the budget. The run then started with the first reading inside the window of a pair
    that counted.
    """
    series, bound = scene.series, condition.bound
    violating = scene.beyond(bound, series.value) & scene.active
    counted = violating & ~series.gap
    counted[1:] &= violating[:-1]
    counted[:1] = False
    window = Window(series, condition.within_ms)
    if isinstance(condition, Exposure):
        holds = window.time_of_pairs(counted) >= condition.budget_ms
    else:
        holds = degree_minutes(window, counted, scene.number(bound), bound.is_upper) >= condition.budget
    start = first_of_pairs(window, counted)
    hold = holds & scene.active
    return Track(
        violating,
        series.value,
        bound.is_upper,
        lambda lo, hi, run: hold_runs(hold, start, lo, hi, run),
        # Whether it holds is told by each reading alone, so any will do to go on from.
        np.zeros_like(hold),
    )


def _combined_track(scene: Scene, condition: Combination) -> Track:
    """Members judged each for itself; the first gives the direction in which the reading's value is worst."""
    members = [track_of(member, scene) for member in condition.members]
    combine = np.logical_and if condition.every else np.logical_or
    violating: Flags = combine.reduce([member.violating for member in members])

    def runs(lo: int, hi: int, carried: Run | None) -> list[Run]:
        found = [member.runs(lo, hi, carried) for member in members]
        return combined_runs(found, condition.every, lo, hi, carried)

    return Track(violating, scene.series.value, members[0].is_upper, runs)
