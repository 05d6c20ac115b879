"""The judge: episodes of one rule on one sensor, a pure function of readings and rule versions (INTERFACES §6).

What INTERFACES leaves open is decided so:

- A version judges the readings of its time. A pending run starts again under a new version; a fired one carries over,
  takes the new version's severity and is cleared by the new version's bounds, the clear time starting again.
- Deletion resolves a fired episode at that moment and retracts a pending one. So does, once a reading comes, a version
  that turns the rule into one about silence.
- A pair that leads into a run and one that leads out of it is possible time, gap or not. Of a pair that begins before
  the version only the part after its `effective_from` counts; one that reaches past a deletion does not count.
- Outside its schedule or target a rule neither violates nor holds: the reading counts as clear.
- A reading that does not violate ends a pending run, also within the band of hysteresis.
- The peak of thresholds, exposure and degree-minutes is a reading's value, of aggregates and mean kinetic temperature
  the window's, of a combination the reading's by the direction of its first member.
- A run that ended without firing has no `resolved_at`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from processors.gaps import WINDOW_MS
from processors.rules.model import (
    FIRING,
    PENDING,
    RESOLVED,
    RETRACTED,
    RULE_CHANGED,
    Episode,
    Flags,
    RuleVersion,
    SensorContext,
    Series,
    Span,
    Times,
    Values,
    rungs_of,
    series_of,
    spans_of,
)
from processors.rules.runs import Run
from processors.rules.schedules import in_schedule
from processors.rules.silence import open_silences, silences
from processors.rules.tally import Tally, Totals
from processors.rules.tracks import Scene, Track, track_of
from schemas.rules import (
    SEVERITIES,
    Aggregate,
    Combination,
    Condition,
    DegreeMinutes,
    Exposure,
    MeanKineticTemperature,
    Rule,
    Silence,
)

__all__ = [
    "Carried",
    "Episode",
    "RuleVersion",
    "SensorContext",
    "judge",
    "look_back_ms",
    "open_silences",
]


def judge(
    versions: Sequence[RuleVersion],
    at_ms: Times,
    seq: NDArray[np.int64],
    value: Values,
    context: SensorContext,
    *,
    from_ms: int,
    gap: Flags | None = None,
) -> list[Episode]:
    """All episodes from `from_ms` on, in order.

    Args:
        versions: in the order of their recording.
        at_ms: the readings' times, UTC epoch milliseconds, sorted by (at, seq), each identity once. They begin with the
            last reading at or before `from_ms - look_back_ms(rule)`, for the greatest look-back of the versions.
        seq: the readings' sequence numbers; they matter by the order only.
        value: the readings' values.
        context: the sensor.
        from_ms: judging starts idle at the first reading not before this. The result equals that of judging everything
            if no episode, pending ones included, is open there.
        gap: per reading whether a gap lies before it, where that is known; else the readings tell.

    Returns:
        Episodes by `started_at` and `fired_at`; those that are pending or firing after the last reading come last. Runs
        that ended without firing are `retracted`. Closed silences count if they last beyond `from_ms`; the open one is
        `open_silences`'s. Each rung of a ladder has episodes of its own, told apart by severity.
    """
    if not len(at_ms) == len(seq) == len(value):
        msg = f"{len(at_ms)} times, {len(seq)} sequence numbers and {len(value)} values, expected as many of each"
        raise ValueError(msg)
    series = series_of(at_ms, value, context.declared_interval_ms) if gap is None else Series(at_ms, value, gap)
    found: list[Episode] = []
    for spans in map(spans_of, rungs_of(versions)):
        # Values near the end of floats may overflow to infinity, which compares rightly.
        with np.errstate(all="ignore"):
            found += _Judgement(series, context, from_ms).over(spans)
        found += silences(spans, at_ms, context, from_ms)
    return sorted(found, key=_order)


def judge_on(
    versions: Sequence[RuleVersion],
    at_ms: Times,
    seq: NDArray[np.int64],
    value: Values,
    context: SensorContext,
    begin: Carried | int,
    gap: Flags | None = None,
) -> tuple[list[Episode], Carried | None]:
    """The same of a rule without ladder, going on from a firing episode; and what the next batch can go on from.

    Args:
        versions: as for `judge`.
        at_ms: as for `judge`, beginning with the last reading at or before the one carried from, less the look-back.
        seq: as for `judge`.
        value: as for `judge`.
        context: as for `judge`.
        begin: the episode that was firing, or where judging starts idle. Carried only where all later readings are later
            than every reading it was judged with: another one of the same time may change the gap before it.
        gap: per reading whether a gap lies before it, where that is known.

    Returns:
        The episodes, of which the carried one is the first; equal to judging all from its start. And the firing one to
        carry on: None if none is open, or its condition needs more than one reading's word for where it stands.
    """
    spans = spans_of(versions)
    series = series_of(at_ms, value, context.declared_interval_ms) if gap is None else Series(at_ms, value, gap)
    from_ms = begin if isinstance(begin, int) else begin.at_ms
    judgement = _Judgement(series, context, from_ms)
    if isinstance(begin, Carried):
        first = int(np.searchsorted(at_ms, from_ms))
        first += int(np.searchsorted(seq[first : np.searchsorted(at_ms, from_ms, "right")], begin.seq))
        judgement.begin_with(begin, first)
        spans = [span for span in spans if span.until_ms > from_ms]
    with np.errstate(all="ignore"):
        found = judgement.over(spans)
    closed = silences(spans, at_ms, context, from_ms)
    return sorted(found + closed, key=_order), judgement.carried(seq)


def look_back_ms(rule: Rule) -> int:
    """How far before a reading the readings reach that can change what is said of it: windows, and 24 h for gaps."""
    return max(_window_ms(rung.condition) for rung in rule.rungs) + WINDOW_MS


def _window_ms(condition: Condition) -> int:
    if isinstance(condition, Combination):
        return max(_window_ms(member) for member in condition.members)
    if isinstance(condition, Aggregate | MeanKineticTemperature):
        return condition.window_ms
    return condition.within_ms if isinstance(condition, Exposure | DegreeMinutes) else 0


def _order(one: Episode) -> tuple[bool, int, bool, int, int]:
    is_open = one.status in {PENDING, FIRING}
    return is_open, one.started_at_ms, one.fired_at_ms is None, one.fired_at_ms or 0, SEVERITIES.index(one.severity)


@dataclass(frozen=True, slots=True)
class Carried:
    """A firing episode as of one of its readings, from which judging can go on without those before."""

    at_ms: int
    seq: int
    started_at_ms: int
    fired_at_ms: int
    totals: Totals


@dataclass(slots=True)
class _Open:
    """A run that has not ended, and what it adds up to as far as versions have judged it.

    `before` is what it was when it was carried here; its indices then are those of the reading it is carried from.
    """

    run: Run
    tally: Tally | None
    severity: str
    since_ms: int
    before: Carried | None = None

    def totals(self, last: int) -> Totals:
        """What it adds up to at the reading `last`."""
        assert self.tally is not None  # noqa: S101 - a carried run is judged at its first reading
        totals = self.tally.totals(self.run, last, self.since_ms)
        return totals if self.before is None else totals.after(self.before.totals)


class _Judgement:
    """Judges a series version by version, carrying the open run over."""

    def __init__(self, series: Series, context: SensorContext, from_ms: int) -> None:
        self._series = series
        self._context = context
        self._from_ms = from_ms
        self._judged = 0
        self._open: _Open | None = None
        self._track: Track | None = None
        self._span_from = 0
        self._first = 0
        self._episodes: list[Episode] = []

    def begin_with(self, before: Carried, first: int) -> None:
        """Go on with a firing run from its reading `first`."""
        # Its own lead is counted already: none of the pair before `first` is added.
        self._first, self._open = first, _Open(Run(first, first), None, "", before.at_ms, before)

    def carried(self, seq: NDArray[np.int64]) -> Carried | None:
        """The firing run after the last reading, from the first one of the clear time that runs, or the last one."""
        one, track = self._open, self._track
        if one is None or one.run.fired is None or track is None or track.clear is None:
            return None
        last = self._judged - 1
        open_at = np.flatnonzero(~track.clear[self._span_from : last + 1])
        place = min(self._span_from + int(open_at[-1]) + 1 if len(open_at) else self._span_from, last)
        at = self._series.at_ms
        started, fired = (int(at[one.run.start]), int(at[one.run.fired]))
        if one.before is not None:
            started, fired = one.before.started_at_ms, one.before.fired_at_ms
        return Carried(int(at[place]), int(seq[place]), started, fired, one.totals(place))

    def over(self, spans: Sequence[Span]) -> list[Episode]:
        for span in spans:
            lo, hi = np.searchsorted(self._series.at_ms, [max(span.from_ms, self._from_ms), span.until_ms]).tolist()
            lo = max(lo, self._first)
            if span.rule is None:
                self._stop(span.from_ms, span.gone)
            elif lo < hi and isinstance(span.rule.condition, Silence):
                self._stop(span.from_ms, RULE_CHANGED)
            elif lo < hi:
                self._judge_span(span.from_ms, span.rule, lo, hi)
        if self._open is not None:
            self._add(self._open, PENDING if self._open.run.fired is None else FIRING)
        return self._episodes

    def _judge_span(self, since_ms: int, rule: Rule, lo: int, hi: int) -> None:
        track = track_of(rule.condition, self._scene(rule))
        tally, carried = Tally.of(self._series, track), self._carried()
        for run in track.runs(lo, hi, carried.run if carried else None):
            if carried and run.start == carried.run.start and run.fired == carried.run.fired:
                both = tally if carried.tally is None else carried.tally.continued(tally, lo)
                one = _Open(run, both, rule.severity, carried.since_ms, carried.before)
            else:
                one = _Open(run, tally, rule.severity, since_ms)
            self._settle(one)
        self._judged, self._track, self._span_from = hi, track, lo

    def _scene(self, rule: Rule) -> Scene:
        at_ms = self._series.at_ms
        active = in_schedule(rule.schedule, at_ms, self._context) & self._context.applies(rule.applies_to, at_ms)
        return Scene(self._series, active, self._context)

    def _carried(self) -> _Open | None:
        """The fired run of the version before; a pending one ends with the first reading of the next."""
        if self._open is not None and self._open.run.fired is None:
            self._add(self._open, RETRACTED)
            self._open = None
        return self._open

    def _settle(self, one: _Open) -> None:
        """Keep a run that is still open, add one that has ended."""
        self._open = one if one.run.end is None else None
        if one.run.end is None:
            return
        if one.run.fired is None:
            self._add(one, RETRACTED)
        else:
            self._add(one, RESOLVED, int(self._series.at_ms[one.run.end]))

    def _stop(self, at_ms: int, reason: str) -> None:
        """End what is open because the rule does."""
        if self._open is not None:
            fired = self._open.run.fired is not None
            self._add(self._open, RESOLVED if fired else RETRACTED, at_ms if fired else None, reason)
        self._open = None

    def _add(self, one: _Open, status: str, resolved_ms: int | None = None, reason: str | None = None) -> None:
        at, run, before = self._series.at_ms, one.run, one.before
        totals = one.totals(self._judged - 1 if run.end is None else run.end)
        started_ms = int(at[run.start]) if before is None else before.started_at_ms
        fired_ms = None if run.fired is None else int(at[run.fired]) if before is None else before.fired_at_ms
        peak = totals.peak_at_ms, totals.peak_value
        times = totals.proven_ms, totals.possible_ms
        self._episodes.append(Episode(one.severity, status, started_ms, fired_ms, resolved_ms, *peak, *times, reason))
