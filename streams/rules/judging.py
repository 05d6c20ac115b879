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
from processors.rules.judge import Carried, judge, judge_on, look_back_ms, open_silences
from processors.rules.model import FIRING, Episode, Flags, SensorContext
from schemas.rules import Aggregate, Combination, Condition, Rule, Threshold
from streams.rules import episodes
from streams.rules.book import BookedRule
from streams.rules.episodes import Pair
from streams.rules.growth import write_growth
from streams.rules.histories import FOREVER_MS, SensorHistory, read_histories
from streams.rules.memory import Firing, Memory

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

    @property
    def reads_back_ms(self) -> int:
        """How far back to read: whether what follows nothing is a gap, a declared interval tells without 24 h."""
        declared = self.is_live and self.context.declared_interval_ms is not None
        return self.window_ms if declared else self.window_ms + _DAY_MS

    @property
    def is_live(self) -> bool:
        """Whether nothing follows what changed."""
        return self.touched.idle_ms is not None

    @property
    def is_carried(self) -> bool:
        """Whether a firing episode of it may be judged on from batch to batch."""
        return self.is_live and not self.booked.is_silence and not self.booked.has_ladder

    @property
    def window_ms(self) -> int:
        """How far before a reading its windows reach, and the pair that leads into it."""
        return self.back_ms - _DAY_MS + 1

    def to_ms(self, widening: int, now_ms: int) -> int | None:
        """How far the changed readings reach, or more; None is to the end."""
        to_ms = self.touched.to_ms + widening * (_DAY_MS + self.back_ms + self.unfired_ms)
        return None if self.is_live or to_ms >= now_ms else to_ms


async def rejudge(
    connection: Connection, pair: Pair, booked: BookedRule, context: SensorContext, touched: Touched, moment: Moment
) -> int:
    """Judge one rule on one sensor where its readings changed; returns how many episodes that amended.

    The caller holds the sensor's lock (`episodes.lock_sensors`, or its state row updated in this transaction).
    """
    return await rejudge_all(connection, [Task(pair, booked, context, touched)], moment)


async def rejudge_all(
    connection: Connection, tasks: Sequence[Task], moment: Moment, memory: Memory | None = None
) -> int:
    """Judge many pairs with a handful of queries; the caller holds the sensors' locks.

    Args:
        connection: in the caller's transaction.
        tasks: of any pairs, each once.
        moment: when this happens.
        memory: what is remembered of the sensors of the batch that is judged; None where there is no batch.
    """
    amended, widening = 0, 1
    alert_ids: list[str] = []
    open_tasks = [task for task in tasks if task.rules]
    while open_tasks:
        trials = await _trials(connection, open_tasks, memory, widening, moment.now_ms)
        amendments, cut = await _judged(connection, trials, memory, moment.now_ms)
        await write_growth(connection, [one for _, one in amendments if one.is_growth], moment.now_ms)
        told = [(pair, one) for pair, one in amendments if not one.is_growth]
        alert_ids += await episodes.amend_episodes(connection, told, moment.now_ms, moment.now_ms - HISTORICAL_AFTER_MS)
        amended += len(amendments)
        open_tasks, widening = cut, widening * 4
    if alert_ids:  # once: it locks the tenants' live heads, in their order, until the commit
        await episodes.announce(connection, alert_ids, moment.alerts_topic)
    return amended


@dataclass(frozen=True, slots=True)
class _Trial:
    """A task with the stretch of its time that is judged, from idle or from the firing episode at its start."""

    task: Task
    stretch: episodes.Stretch
    firing: Firing | None

    @property
    def begin(self) -> Carried | int:
        return self.stretch.from_ms if self.firing is None else self.firing.carried

    @property
    def reads_from_ms(self) -> int:
        return self.stretch.from_ms if self.firing is None else self.firing.carried.at_ms


async def _trials(
    connection: Connection, tasks: Sequence[Task], memory: Memory | None, widening: int, now_ms: int
) -> list[_Trial]:
    """Where to begin: where a firing episode was left, or else where nothing is open."""
    found, others = [], []
    for task in tasks:
        pair = task.pair
        firing = memory.firing(pair.sensor_no, task.booked) if memory is not None and task.is_carried else None
        if firing is None:
            others.append(task)
        else:
            found.append(_Trial(task, episodes.Stretch(pair, firing.carried.started_at_ms, None), firing))
    wanted = [episodes.Stretch(task.pair, task.from_ms, task.to_ms(widening, now_ms)) for task in others]
    covering = await episodes.covering_stretches(connection, wanted)
    return [*found, *(_Trial(task, stretch, None) for task, stretch in zip(others, covering, strict=True))]


async def _judged(
    connection: Connection, trials: Sequence[_Trial], memory: Memory | None, now_ms: int
) -> tuple[list[tuple[Pair, Amendment]], list[Task]]:
    """The amendments of each trial, and the tasks that must be tried again: with more readings, or from idle."""
    readings = await _readings(connection, trials, memory)
    stored_of = await episodes.stored_episodes_of(connection, [trial.stretch for trial in trials])
    found: list[tuple[Pair, Amendment]] = []
    again: list[Task] = []
    for trial, (series, gap), stored in zip(trials, readings, stored_of, strict=True):
        task, booked = trial.task, trial.task.booked
        if trial.firing is not None:
            stored = [one for one in stored if one.episode.status == FIRING]  # noqa: PLW2901 - the others ended before
        if trial.firing is not None and [one.episode for one in stored] != [trial.firing.episode]:
            # Somebody has judged it meanwhile.
            _note(memory, task, None, None)
            again.append(task)
            continue
        judged, carried = _judge(trial, series, gap)
        if booked.is_silence:
            judged = [*judged, *_still_silent(task, stored, series.at_ms, now_ms)]
        to_ms = trial.stretch.to_ms
        if to_ms is not None and _is_open_at_end(judged, [one.episode for one in stored], to_ms):
            again.append(task)
            continue
        _note(memory, task, carried, judged[-1] if judged else None)
        retraction = _retraction(booked, stored, series.at_ms)
        found += [
            (task.pair, amendment) for amendment in amend(stored, judged, retraction, by_severity=booked.has_ladder)
        ]
    return found, again


def _judge(trial: _Trial, series: SensorHistory, gap: Flags | None) -> tuple[list[Episode], Carried | None]:
    versions, context = trial.task.booked.versions, trial.task.context
    if trial.task.is_carried:
        return judge_on(versions, series.at_ms, series.seq, series.value, context, trial.begin, gap)
    from_ms = trial.stretch.from_ms
    return judge(versions, series.at_ms, series.seq, series.value, context, from_ms=from_ms, gap=gap), None


def _note(memory: Memory | None, task: Task, carried: Carried | None, episode: Episode | None) -> None:
    if memory is not None and task.is_carried:
        memory.note(task.pair.sensor_no, task.booked, carried, episode)


async def _readings(
    connection: Connection, trials: Sequence[_Trial], memory: Memory | None
) -> list[tuple[SensorHistory, Flags | None]]:
    """What each trial judges, and its gaps where they are known: from memory, else from the store, each sensor once."""
    recalled = [_recalled(trial, memory) for trial in trials]
    asked = [trial for trial, one in zip(trials, recalled, strict=True) if one is None]
    spans: dict[int, tuple[int, int]] = {}
    for trial in asked:
        since, until = spans.get(trial.task.pair.sensor_no, (FOREVER_MS, 0))
        to_ms = FOREVER_MS if trial.stretch.to_ms is None else trial.stretch.to_ms
        spans[trial.task.pair.sensor_no] = min(since, trial.reads_from_ms - trial.task.reads_back_ms), max(until, to_ms)
    read = await read_histories(connection, spans)
    _keep(memory, asked, spans, read)
    return [
        one
        or (
            read[trial.task.pair.sensor_no].stretch(
                trial.reads_from_ms - trial.task.reads_back_ms, trial.stretch.to_ms
            ),
            None,
        )
        for trial, one in zip(trials, recalled, strict=True)
    ]


def _recalled(trial: _Trial, memory: Memory | None) -> tuple[SensorHistory, Flags | None] | None:
    task = trial.task
    if memory is None or not task.is_live:
        return None
    declared_ms = task.context.declared_interval_ms
    found = memory.recall(task.pair.sensor_no, trial.reads_from_ms, task.window_ms, declared_ms)
    return None if found is None else (found.readings, found.gap)


def _keep(
    memory: Memory | None,
    trials: Sequence[_Trial],
    spans: dict[int, tuple[int, int]],
    read: dict[int, SensorHistory],
) -> None:
    """Remember what was read of sensors whose newest readings are among it."""
    if memory is None:
        return
    needed: dict[int, int] = {}
    for trial in trials:
        number, from_ms = trial.task.pair.sensor_no, trial.reads_from_ms - trial.task.window_ms
        if trial.task.is_live:
            needed[number] = min(needed.get(number, from_ms), from_ms)
    for number, needed_ms in needed.items():
        memory.keep(number, spans[number][0], read[number], needed_ms)


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
