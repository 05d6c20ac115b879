"""Sliding windows of event time: what the readings up to each one, in (at, seq) order and later than `at - width`, say.

Every result depends on its own window's readings alone, to the last bit, wherever the series begins: sums must be equal
however much history a judge was given. So nothing is subtracted from running totals of floats. Time is cut into blocks
as wide as the window, at multiples of the width since 1970; a window then is a tail of one block and a head of the next
(van Herk 1992, Gil and Werman 1993), and two passes find both for sums, least and greatest alike.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import numpy as np

from processors.rules.model import Flags, Series, Times, Values

ACTIVATION_KELVIN: Final = 10_000.0
"""ΔH/R of mean kinetic temperature: 83.144 kJ/mol over 8.3144 J/(mol K)."""

_ZERO_CELSIUS_KELVIN: Final = 273.15
_HOUR_MS: Final = 3_600_000
_MINUTE_MS: Final = 60_000
_BUDGET_DECIMALS: Final = 6


class Window:
    """The windows of one width over a series, one per reading.

    `first[i]` is the index of the first reading of the window that ends with reading i. Quantities of pairs stand at
    the later reading; the pair that leads into a window counts with the part of it that lies inside.
    """

    def __init__(self, series: Series, width_ms: int) -> None:
        self.series = series
        self.width_ms = width_ms
        self.first: Times = np.searchsorted(series.at_ms, series.at_ms - width_ms, side="right")
        self._block: Times = series.at_ms // width_ms

    def fold(self, quantity: Values, combine: np.ufunc) -> Values:
        """What each window's readings combine to."""
        return self._folded(quantity, quantity, combine)

    def count(self) -> Values:
        """How many readings each window has."""
        count: Values = np.arange(1.0, len(self.first) + 1) - self.first
        return count

    def sum_of_pairs(self, rate: Values, counted: Flags) -> Values:
        """The sum of `rate` times milliseconds over the counted pairs of each window."""
        whole = np.where(counted, rate * self._spacing(), 0.0)
        # A tail takes its pairs at the earlier reading, so it ends with the pair that leads into the next block.
        heads, tails = np.where(self._opens_block(), 0.0, whole), np.append(whole[1:], 0.0)
        return self._folded(heads, tails, np.add) + np.where(counted, rate, 0.0)[self.first] * self._lead_ms()

    def time_of_pairs(self, counted: Flags) -> Times:
        """The milliseconds of the counted pairs of each window; whole numbers, so totals may be subtracted."""
        total: Times = np.cumsum(np.where(counted, self._spacing(), 0))
        inside: Times = total - total[self.first] + np.where(counted[self.first], self._lead_ms(), 0)
        return inside

    def _spacing(self) -> Times:
        return np.diff(self.series.at_ms, prepend=self.series.at_ms[:1])

    def _lead_ms(self) -> Times:
        """How much of the pair into each window's first reading lies inside the window."""
        at = self.series.at_ms
        lead: Times = np.minimum(self._spacing()[self.first], at[self.first] - (at - self.width_ms))
        return lead

    def _opens_block(self) -> Flags:
        return np.diff(self._block, prepend=self._block[:1] - 1) > 0

    def _folded(self, heads: Values, tails: Values, combine: np.ufunc) -> Values:
        head = _running(heads, self._block, combine)
        tail = _running(tails[::-1], self._block[::-1], combine)[::-1][self.first]
        both: Values = combine(tail, head)
        return np.where(self._block[self.first] == self._block, head, both)


def _running(values: Values, blocks: Times, combine: np.ufunc) -> Values:
    """The values of each block so far, combined from the left, one after the other: accumulating never regroups."""
    ends = (np.flatnonzero(np.diff(blocks)) + 1).tolist()
    running = np.empty(len(values))
    for low, high in pairwise([0, *ends, len(values)]):
        combine.accumulate(values[low:high], out=running[low:high])
    return running


def aggregate(function: str, series: Series, width_ms: int) -> Values:
    """A function of the readings of each window; NaN where there is no answer.

    The mean is that of the readings, whatever time lies between them; a rate is from the first to the last.
    """
    window, value = Window(series, width_ms), series.value
    if function == "count":
        return window.count()
    if function == "rate_per_hour":
        hours = (series.at_ms - series.at_ms[window.first]) / _HOUR_MS
        rate: Values = (value - value[window.first]) / np.where(hours > 0, hours, np.nan)
        return rate
    if function in {"min", "max"}:
        return window.fold(value, np.minimum if function == "min" else np.maximum)
    least, greatest = window.fold(value, np.minimum), window.fold(value, np.maximum)
    if function == "range":
        return greatest - least
    # A mean lies between least and greatest: rounding must not lift the mean of equal readings over a bound.
    return np.clip(window.fold(value, np.add) / window.count(), least, greatest)


def mean_kinetic_temperature(series: Series, width_ms: int) -> Values:
    """The mean kinetic temperature in °C of each window, by time; NaN where no time is known.

    A reading stands for the time since the one before it, as far as that lies in the window; gaps have no weight.
    """
    window, counted = Window(series, width_ms), ~series.gap
    kelvin = np.maximum(series.value + _ZERO_CELSIUS_KELVIN, 1.0)
    weight = window.time_of_pairs(counted)
    mean = window.sum_of_pairs(np.exp(-ACTIVATION_KELVIN / kelvin), counted) / np.where(weight > 0, weight, np.nan)
    celsius = ACTIVATION_KELVIN / -np.log(mean) - _ZERO_CELSIUS_KELVIN
    return np.clip(celsius, window.fold(series.value, np.minimum), window.fold(series.value, np.maximum))


def degree_minutes(window: Window, counted: Flags, number: Values, is_upper: bool) -> Values:
    """Degrees beyond the number times minutes over the counted pairs of each window.

    A pair weighs the mean excess of its two ends. Rounded to a millionth, so that 30 minutes of 0.1 degrees are 3.
    """
    excess = window.series.value - number if is_upper else number - window.series.value
    mean_excess = (excess + np.concatenate((excess[:1], excess[:-1]))) / 2
    return np.round(window.sum_of_pairs(mean_excess, counted) / _MINUTE_MS, _BUDGET_DECIMALS)


def first_of_pairs(window: Window, counted: Flags) -> Times:
    """The first reading inside each window that is an end of a counted pair of it; the series' length if none is."""
    index = np.where(counted, np.arange(len(counted)), len(counted))
    next_counted = np.minimum.accumulate(index[::-1])[::-1][window.first]
    first: Times = np.maximum(next_counted - 1, window.first)
    return first
