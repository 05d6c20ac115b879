"""What a run adds up to: peak, proven and possible time, from what its readings say, pair by pair."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from processors.rules.model import Flags, Series, Values
from processors.rules.runs import Run
from processors.rules.tracks import Track


@dataclass(frozen=True, slots=True)
class Totals:
    """When the peak was, its value, how bad that is (NaN: no reading violated), and the two times."""

    peak_at_ms: int
    peak_value: float
    badness: float
    proven_ms: int
    possible_ms: int

    def after(self, before: Totals) -> Totals:
        """These and what the run added up to before; of equal peaks the earlier one."""
        peak = self if self.badness > before.badness or np.isnan(before.badness) else before
        if np.isnan(self.badness):
            peak = before
        return Totals(
            peak.peak_at_ms,
            peak.peak_value,
            peak.badness,
            before.proven_ms + self.proven_ms,
            before.possible_ms + self.possible_ms,
        )


class Tally:
    """Totals of any run over a series; prefix sums make one run cost the same as another.

    Args:
        series: the readings.
        violating: what pairs are counted by, per reading.
        shown: the judged value, per reading.
        badness: the greater the worse, per reading.
    """

    def __init__(self, series: Series, violating: Flags, shown: Values, badness: Values) -> None:
        self._series, self._violating, self._shown, self._badness = series, violating, shown, badness
        self._worst = np.where(violating, badness, -np.inf)
        spacing = np.diff(series.at_ms, prepend=series.at_ms[:1])
        both, either = violating.copy(), violating.copy()
        both[1:] &= violating[:-1]
        either[1:] |= violating[:-1]
        self._spacing = spacing
        self._proven = np.cumsum(np.where(both & ~series.gap, spacing, 0))
        self._possible = np.cumsum(np.where(either, spacing, 0))

    @classmethod
    def of(cls, series: Series, track: Track) -> Tally:
        """The tally of what one version says."""
        return cls(series, track.violating, track.shown, track.shown if track.is_upper else -track.shown)

    def continued(self, later: Tally, lo: int) -> Tally:
        """This tally up to reading `lo`, a later version's from there on."""
        violating = np.concatenate((self._violating[:lo], later._violating[lo:]))
        shown = np.concatenate((self._shown[:lo], later._shown[lo:]))
        badness = np.concatenate((self._badness[:lo], later._badness[lo:]))
        return Tally(self._series, violating, shown, badness)

    def totals(self, run: Run, last: int, since_ms: int) -> Totals:
        """What the run adds up to over the pairs up to reading `last`.

        The pair that leads into it counts from `since_ms` on, when the version that found it came into force; a run
        that was found by looking back before that is not cut.
        """
        at, start = self._series.at_ms, run.start
        lead_ms = 0
        if start > 0:
            lead_ms = int(at[start] - (at[start - 1] if at[start] < since_ms else max(int(at[start - 1]), since_ms)))
        peak = self._peak(start, max(last if run.end is None else run.end - 1, start))
        proven_ms = int(self._proven[last] - self._proven[start])
        possible_ms = int(self._possible[last] - self._possible[start])
        if not self._violating[start]:
            lead_ms = 0
        badness = float(self._badness[peak]) if self._violating[peak] else np.nan
        return Totals(int(at[peak]), float(self._shown[peak]), badness, proven_ms, possible_ms + lead_ms)

    def _peak(self, start: int, last: int) -> int:
        """The worst violating reading; members of a combination may hold where no reading violates it."""
        peak = start + int(self._worst[start : last + 1].argmax())
        if self._violating[peak]:
            return peak
        return start + int(np.nan_to_num(self._badness[start : last + 1], nan=-np.inf).argmax())
