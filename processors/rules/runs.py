"""The run machine: from what each reading says to runs, with indices of readings in place of times.

Pure bookkeeping, one pass over the readings. A pending run is contiguous by nature (a reading that does not violate or
a gap ends it), so its proven time is the distance from its first reading; what a fired run proves is `judge`'s to add.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from processors.rules.model import Flags, Series, Times


@dataclass(slots=True)
class Run:
    """Indices of the first violating reading, the one that fired and the one that ended it (None: not so far).

    `known` is the reading from which the run is known of, where that is not its first: a budget that is reached says
    of earlier readings that the run started there.
    """

    start: int
    fired: int | None = None
    end: int | None = None
    known: int | None = None


@dataclass(frozen=True, slots=True)
class Level:
    """What each reading says to a condition with durations, and the durations."""

    violating: Flags
    clear: Flags
    for_ms: int
    consecutive: int
    clear_ms: int


def level_runs(level: Level, series: Series, lo: int, hi: int, carried: Run | None) -> list[Run]:
    """The runs among the readings `lo` to `hi`, beginning idle or with a fired run of the version before.

    Between violating and clear lies the band of hysteresis: there a pending run ends and the clear time of a fired one
    starts again.
    """
    run = Run(carried.start, carried.fired) if carried else None
    runs = [run] if run else []
    columns = (series.at_ms, series.gap, level.violating, level.clear)
    readings = zip(range(lo, hi), *(column[lo:hi].tolist() for column in columns), strict=True)
    clear_since: int | None = None
    for i, at, gap, violating, clear in readings:
        if violating:
            clear_since = None
            if run is None or (run.fired is None and gap):
                run = _next_run(runs, i)
            if run.fired is None and _is_reached(level, series, run, i):
                run.fired = i
        elif run is None:
            continue
        elif run.fired is None:
            run.end, run = i, None
        elif not clear:
            clear_since = None
        else:
            clear_since = at if clear_since is None or gap else clear_since
            if at - clear_since >= level.clear_ms:
                run.end, run, clear_since = i, None, None
    return runs


def _is_reached(level: Level, series: Series, run: Run, i: int) -> bool:
    """Whether a pending run lasts long enough at reading `i` to fire."""
    lasted = int(series.at_ms[i] - series.at_ms[run.start])
    return lasted >= level.for_ms and i - run.start + 1 >= level.consecutive


def _next_run(runs: list[Run], i: int) -> Run:
    """A run that starts at reading `i`; one that is still open ends there."""
    if runs and runs[-1].end is None:
        runs[-1].end = i
    runs.append(Run(i))
    return runs[-1]


def hold_runs(hold: Flags, start: Times, lo: int, hi: int, carried: Run | None) -> list[Run]:
    """The runs of a condition that holds or not at each reading, with where what it holds for started."""
    edge = np.diff(hold[lo:hi].astype(np.int8), prepend=np.int8(carried is not None))
    runs = [Run(carried.start, carried.fired)] if carried else []
    for i in (np.flatnonzero(edge) + lo).tolist():
        if hold[i]:
            runs.append(Run(int(start[i]), i, known=i))
        else:
            runs[-1].end = i
    return runs


def combined_runs(members: Sequence[Sequence[Run]], every: bool, lo: int, hi: int, carried: Run | None) -> list[Run]:
    """The runs of a combination: fired while any or every member's is, pending while some member has an open run.

    A run starts where the earliest of the open members' runs did, so that judging again from there finds the same.
    """
    fired, start = _states(members, hi)
    hold = (np.logical_and if every else np.logical_or).reduce(fired)
    run = Run(carried.start, carried.fired) if carried else None
    runs = [run] if run else []
    for i, (holds, begun) in enumerate(zip(hold[lo:].tolist(), start[lo:].tolist(), strict=True), lo):
        if run is not None and (not holds if run.fired is not None else begun != run.start):
            run.end, run = i, None
        if run is None and begun < hi:
            run = Run(begun)
            runs.append(run)
        if run is not None and run.fired is None and holds:
            run.fired = i
    return runs


def _states(members: Sequence[Sequence[Run]], hi: int) -> tuple[Flags, Times]:
    """Per member and reading whether it has fired; per reading the earliest start of open runs, `hi` where none is."""
    fired = np.zeros((len(members), hi), np.bool_)
    start = np.full((len(members), hi), hi, np.int64)
    for n, runs in enumerate(members):
        for run in runs:
            start[n, run.start if run.known is None else run.known : run.end] = run.start
            if run.fired is not None:
                fired[n, run.fired : run.end] = True
    return fired, start.min(axis=0)
