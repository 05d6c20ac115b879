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
from processors.rules.amend import StoredEpisode, amend
from processors.rules.judge import judge, look_back_ms
from processors.rules.model import Episode, SensorContext
from schemas.rules import Aggregate, Combination, Condition, Rule, Threshold
from streams.rules import episodes
from streams.rules.book import BookedRule
from streams.rules.episodes import Pair

_DAY_MS = 86_400_000
# Found this long after it happened, an episode is history: nobody is woken for it.
HISTORICAL_AFTER_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Touched:
    """The readings of one sensor that changed: from the first one's time to the last one's."""

    from_ms: int
    to_ms: int


@dataclass(frozen=True, slots=True)
class Moment:
    """When the judging happens and where its results are published."""

    now_ms: int
    alerts_topic: str


async def rejudge(
    connection: Connection, pair: Pair, booked: BookedRule, context: SensorContext, touched: Touched, moment: Moment
) -> int:
    """Judge one rule on one sensor where its readings changed; returns how many episodes that amended.

    The caller holds the sensor's lock (`episodes.lock_sensor`, or its state row updated in this transaction).
    """
    rules = [version.rule for version in booked.versions if version.rule is not None]
    if not rules:
        return 0
    back_ms = max(look_back_ms(rule) for rule in rules)
    unfired_ms = max(_longest_unfired_ms(rule, context.declared_interval_ms) for rule in rules)
    from_ms = await episodes.covering_start_ms(
        connection, pair.sensor_no, pair.rule_no, touched.from_ms - unfired_ms - back_ms
    )
    reach_ms = _DAY_MS + back_ms + unfired_ms
    while True:
        to_ms = None if touched.to_ms + reach_ms >= moment.now_ms else touched.to_ms + reach_ms
        readings = await episodes.history(connection, pair.sensor_no, from_ms - back_ms, to_ms)
        judged = judge(booked.versions, readings.at_ms, readings.seq, readings.value, context, from_ms=from_ms)
        stored = await episodes.stored_episodes(connection, pair.sensor_no, pair.rule_no, from_ms, to_ms)
        if booked.is_silence:
            judged = [*judged, *_still_silent(stored, readings.at_ms)]
        if to_ms is None or not _is_open_at_end(judged, [one.episode for one in stored], to_ms):
            break
        reach_ms *= 4
    amendments = amend(stored, judged, "data_recovered" if booked.is_silence else "corrected")
    await episodes.write_amendments(
        connection, pair, amendments, moment.now_ms, moment.now_ms - HISTORICAL_AFTER_MS, moment.alerts_topic
    )
    return len(amendments)


def _still_silent(stored: Sequence[StoredEpisode], at_ms: NDArray[np.int64]) -> list[Episode]:
    """The open silence after the last reading: judging sees closed ones only, and nothing has ended this one."""
    return [
        one.episode
        for one in stored
        if one.episode.resolved_at_ms is None and len(at_ms) and one.episode.started_at_ms == at_ms[-1]
    ]


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
