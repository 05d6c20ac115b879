"""Judging a rule again over an interval of stored readings, and writing what that amends.

The one way for live readings, back-fill and changed rules alike: find an idle moment to begin at, read what the rule's
windows need, judge, compare with the stored episodes, write the difference. Late readings cost the touched interval only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.postgres import Connection
from processors.rules.amend import Amendment, StoredEpisode, amend
from processors.rules.judge import judge, look_back_ms, open_silences
from processors.rules.model import Episode, SensorContext
from schemas.rules import Aggregate, Combination, Condition, Rule, Threshold
from streams.rules import episodes
from streams.rules.book import BookedRule
from streams.rules.episodes import Pair
from streams.rules.growth import write_growth

_DAY_MS = 86_400_000
# Found this long after it happened, an episode is history: nobody is woken for it.
HISTORICAL_AFTER_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Touched:
    """The readings of one sensor that changed: from the first one's time to the last one's.

    Where all of them are later than every reading before, `idle_ms` is the time of the newest of those: what was judged
    up to it stands, so whatever is not open there begins idle, and nothing follows the last one.
    """

    from_ms: int
    to_ms: int
    idle_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Moment:
    """When the judging happens and where its results are published."""

    now_ms: int
    alerts_topic: str


@dataclass(frozen=True, slots=True)
class Task:
    """A rule to judge on a sensor, where its readings changed."""

    pair: Pair
    booked: BookedRule
    context: SensorContext
    touched: Touched

    @property
    def rules(self) -> list[Rule]:
        """What the versions say, rung by rung."""
        return self.booked.rules

    @property
    def back_ms(self) -> int:
        """How far before a reading others say something of it."""
        return max(look_back_ms(rule) for rule in self.rules)

    @property
    def unfired_ms(self) -> int:
        """How long a run can last without firing: judging that much earlier begins idle or inside a stored episode."""
        return max(_longest_unfired_ms(rule, self.context.declared_interval_ms) for rule in self.rules)

    @property
    def from_ms(self) -> int:
        """Where to begin unless an episode covers that moment."""
        if self.touched.idle_ms is not None:
            return self.touched.idle_ms
        return self.touched.from_ms - self.unfired_ms - self.back_ms

    def to_ms(self, widening: int, now_ms: int) -> int | None:
        """How far the changed readings reach, or more; None is to the end."""
        to_ms = self.touched.to_ms + widening * (_DAY_MS + self.back_ms + self.unfired_ms)
        return None if self.touched.idle_ms is not None or to_ms >= now_ms else to_ms


async def rejudge(
    connection: Connection, pair: Pair, booked: BookedRule, context: SensorContext, touched: Touched, moment: Moment
) -> int:
    """Judge one rule on one sensor where its readings changed; returns how many episodes that amended.

    The caller holds the sensor's lock (`episodes.lock_sensors`, or its state row updated in this transaction).
    """
    return await rejudge_all(connection, [Task(pair, booked, context, touched)], moment)


async def rejudge_all(connection: Connection, tasks: Sequence[Task], moment: Moment) -> int:
    """Judge many pairs with a handful of queries; the caller holds the sensors' locks."""
    amended, widening = 0, 1
    open_tasks = [task for task in tasks if task.rules]
    while open_tasks:
        wanted = [episodes.Stretch(task.pair, task.from_ms, task.to_ms(widening, moment.now_ms)) for task in open_tasks]
        wanted = await episodes.covering_stretches(connection, wanted)
        amendments, cut = await _judged(connection, open_tasks, wanted, moment.now_ms)
        await write_growth(connection, [one for _, one in amendments if one.is_growth], moment.now_ms)
        told = [(pair, one) for pair, one in amendments if not one.is_growth]
        await episodes.write_all_amendments(
            connection, told, moment.now_ms, moment.now_ms - HISTORICAL_AFTER_MS, moment.alerts_topic
        )
        amended += len(amendments)
        open_tasks, widening = cut, widening * 4
    return amended


async def _judged(
    connection: Connection, tasks: Sequence[Task], stretches: Sequence[episodes.Stretch], now_ms: int
) -> tuple[list[tuple[Pair, Amendment]], list[Task]]:
    """The amendments of each task, and the tasks whose stretch cuts an episode: those need more readings."""
    readings = await episodes.histories(
        connection, [(one, task.back_ms) for task, one in zip(tasks, stretches, strict=True)]
    )
    stored_of = await episodes.stored_episodes_of(connection, stretches)
    found: list[tuple[Pair, Amendment]] = []
    cut: list[Task] = []
    for task, stretch, series, stored in zip(tasks, stretches, readings, stored_of, strict=True):
        booked = task.booked
        judged = judge(booked.versions, series.at_ms, series.seq, series.value, task.context, from_ms=stretch.from_ms)
        if booked.is_silence:
            judged = [*judged, *_still_silent(task, stored, series.at_ms, now_ms)]
        if stretch.to_ms is not None and _is_open_at_end(judged, [one.episode for one in stored], stretch.to_ms):
            cut.append(task)
            continue
        retraction = _retraction(booked, stored, series.at_ms)
        found += [
            (task.pair, amendment) for amendment in amend(stored, judged, retraction, by_severity=booked.has_ladder)
        ]
    return found, cut


def _still_silent(task: Task, stored: Sequence[StoredEpisode], at_ms: NDArray[np.int64], now_ms: int) -> list[Episode]:
    """The open silences after the last reading as the versions have it now: judging sees closed ones only.

    What was stored of them tells until when the sensor is known to have been silent; whether it was later, the watch finds.
    """
    last_ms = int(at_ms[-1]) if len(at_ms) else 0
    fired = (one.episode.fired_at_ms for one in stored if one.episode.started_at_ms == last_ms)
    known_ms = max((moment for moment in fired if moment is not None), default=None)
    if known_ms is None:
        return []
    found = open_silences(task.booked.versions, last_ms, now_ms, task.context)
    return [one for one in found if one.fired_at_ms is not None and one.fired_at_ms <= known_ms]


def _retraction(booked: BookedRule, stored: Sequence[StoredEpisode], at_ms: NDArray[np.int64]) -> str:
    """Why what is not found again is taken back: readings fill a silence, or else what was judged has changed."""
    spans = [(one.episode.started_at_ms, one.episode.fired_at_ms or 0) for one in stored] if booked.is_silence else []
    filled = any(
        np.searchsorted(at_ms, fired, "right") > np.searchsorted(at_ms, start, "right") for start, fired in spans
    )
    return "data_recovered" if filled else "corrected"


def _is_open_at_end(judged: list[Episode], stored: list[Episode], to_ms: int) -> bool:
    """Whether the interval's end cuts an episode, so that more readings are needed to judge it."""
    return any(
        episode.status != "retracted" and (episode.resolved_at_ms is None or episode.resolved_at_ms >= to_ms)
        for episode in (*judged, *stored)
    )


def _longest_unfired_ms(rule: Rule, declared_interval_ms: int | None) -> int:
    """How long a run can last without firing: judging that much earlier begins idle or inside a stored episode."""
    return _unfired_ms(rule.condition, max(_DAY_MS, 3 * (declared_interval_ms or 0)))


def _unfired_ms(condition: Condition, spacing_ms: int) -> int:
    if isinstance(condition, Threshold):
        counted = condition.consecutive * spacing_ms if condition.consecutive > 1 else 0
        return condition.for_ms + counted
    if isinstance(condition, Aggregate):
        return condition.for_ms
    if isinstance(condition, Combination):
        return max(_unfired_ms(member, spacing_ms) for member in condition.members)
    return 0
