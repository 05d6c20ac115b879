"""What each reading says to a condition: whether it violates, how bad it is, and the runs that follow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from processors.rules.model import Flags, SensorContext, Series, Values
from processors.rules.runs import Level, Run, level_runs
from schemas.rules import Bound, Clear, Condition, Threshold

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
    """

    violating: Flags
    shown: Values
    is_upper: bool
    runs: RunFinder


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
    if isinstance(condition, Threshold):
        value = scene.series.value
        return _level_track(scene, value, condition, condition.consecutive)
    raise NotImplementedError(condition)


def _level_track(scene: Scene, value: Values, condition: Threshold, consecutive: int) -> Track:
    """A value, judged reading by reading."""
    violating = scene.beyond(condition.bound, value) & scene.active
    clear = _clear(scene, condition.clear, value, violating)
    clear_ms = condition.clear.for_ms + condition.keep_firing_ms
    level = Level(violating, clear, condition.for_ms, consecutive, clear_ms)
    return Track(
        violating, value, condition.bound.is_upper, lambda lo, hi, run: level_runs(level, scene.series, lo, hi, run)
    )


def _clear(scene: Scene, clear: Clear, value: Values, violating: Flags) -> Flags:
    """Whether readings count towards clearing: never while violating, always where the rule does not judge.

    A bound whose attribute is absent falls back to "not violating", or nothing could end the episode.
    """
    if clear.bound is None:
        return ~violating
    holds = scene.beyond(clear.bound, value) | np.isnan(scene.number(clear.bound)) | ~scene.active
    return holds & ~violating
