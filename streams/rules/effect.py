"""Rules on the hot path: after the readings are stored, judge the pairs for which anything could have changed.

Most readings change nothing: a live reading within bounds, of a sensor without an open episode. The screen finds the rest
with comparisons of whole columns; those pairs are judged again from stored readings, in the same transaction, so an
episode commits with the reading that caused it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from core.postgres import Connection
from schemas.rules import Attribute
from sinks.timescale.writer import BatchTransaction
from streams.readings import Stored
from streams.rules import episodes
from streams.rules.book import BookedRule, RuleBook
from streams.rules.episodes import Pair
from streams.rules.judging import Moment, Task, Touched, rejudge_all
from streams.rules.memory import Memory
from streams.rules.recent import RecentWindows, SensorColumns
from streams.rules.screening import Screening, has_stand_in, takes_over_between
from streams.rules.sensors import KnownSensor, load_sensors

_NEVER_MS = int(np.iinfo(np.int64).min)
# No reading is older: times before 2010 are refused.
_EARLIEST_MS = 1_262_304_000_000


class EvaluateRules:
    """The effect that turns stored readings into episodes. Batches of several partitions may be under way at once."""

    def __init__(self, alerts_topic: str) -> None:
        self._topic = alerts_topic
        self._book = RuleBook()
        self._seen_generation = -1
        self._sensors: dict[int, KnownSensor] = {}
        self._screening = Screening(self._range_of)
        self._recent = RecentWindows()
        self._memory = Memory()
        # When versions of rules with stand-ins take over, sorted.
        self._takeovers: NDArray[np.int64] = np.zeros(0, np.int64)
        self._last_deletion_ms = _NEVER_MS
        # By sensor number, when it last is elsewhere, or among other numbers.
        self._last_move_ms: NDArray[np.int64] = np.zeros(0, np.int64)
        self._learning = asyncio.Lock()

    async def apply(self, transaction: BatchTransaction, stored: Stored) -> None:
        """Judge what the batch touched."""
        connection = transaction.connection
        async with self._learning:
            await self._follow_rules(connection, transaction.generation)
            batch = columns_of(stored)
            if not len(batch.sensor_no) or not self._book.by_tenant:
                return
            transaction.on_rollback.append(lambda: self._forget(batch.sensor_no))
            self._recent.forget(self._memory.follow(batch))
            await self._meet_sensors(connection, batch.sensor_no)
        await self._recent.learn(connection, batch, sorted(self._screening.windows_ms))
        touched = self._screening.touched(batch, self._recent) | self._taken_over(batch)
        self._recent.add(batch)
        touched |= await episodes.open_pairs(connection, batch.sensor_no, batch.sensor_no[batch.has_late])
        if touched:
            moment = Moment(stored.received_ms, self._topic)
            # The batch has moved the sensors' states, so nobody else judges them before it commits.
            await rejudge_all(connection, list(self._tasks(batch, sorted(touched))), moment, self._memory)

    def _forget(self, sensor_no: NDArray[np.int32]) -> None:
        self._memory.forget(sensor_no)
        self._recent.forget(sensor_no)

    async def _follow_rules(self, connection: Connection, generation: int) -> None:
        if generation == self._seen_generation:
            return
        if await self._book.refresh(connection):
            await self._meet_again(connection)
            self._memory.forget_firing()
            self._takeovers, self._last_deletion_ms = _takeovers(self._book)
        self._seen_generation = generation

    async def _meet_sensors(self, connection: Connection, sensor_no: NDArray[np.int32]) -> None:
        """Screen the pairs of sensors that were not met before."""
        unknown = [number for number in sensor_no.tolist() if number not in self._sensors]
        if unknown:
            met = await load_sensors(connection, unknown)
            self._place(met)
            self._screening.add((number, booked) for number, one in met.items() for booked in self._rules_for(one))

    def _place(self, met: Mapping[int, KnownSensor]) -> None:
        self._sensors |= met
        size, highest = len(self._last_move_ms), max(met, default=-1)
        if highest >= size:
            self._last_move_ms = np.append(self._last_move_ms, np.full(2 * (highest + 1) - size, _NEVER_MS))
        for number, sensor in met.items():
            self._last_move_ms[number] = max((place.from_ms for place in sensor.places), default=_NEVER_MS)

    def _range_of(self, sensor_no: int, wanted: Attribute) -> tuple[float, float] | None:
        return self._sensors[sensor_no].whereabouts.range_of(wanted)

    async def _meet_again(self, connection: Connection) -> None:
        """Rules or what they apply to changed: screen what that adds. What it takes away is judged in vain, if at all."""
        if not self._sensors:
            return
        known, met = dict(self._sensors), await load_sensors(connection, list(self._sensors))
        self._place(met)
        changed = {booked.rule_no for booked in self._book.changed}
        self._screening.add(
            (number, booked)
            for number, one in met.items()
            for booked in (self._rules_for(one) if changed or one != known.get(number) else ())
            if booked.rule_no in changed or one != known.get(number)
        )

    def _rules_for(self, sensor: KnownSensor) -> list[BookedRule]:
        """The rules of which any version covers the sensor."""
        return self._book.watching(sensor.tenant_id, sensor.watched_as)

    def _taken_over(self, batch: SensorColumns) -> set[tuple[int, int]]:
        """Pairs of which a version takes over, or the sensor moves, between the newest reading before the batch and its last."""
        before, until = (
            np.searchsorted(self._takeovers, one, side="right") for one in (batch.newest_ms, batch.last_ms)
        )
        may_be = (before < until) | (batch.newest_ms < self._last_deletion_ms)
        may_be |= batch.newest_ms < self._last_move_ms[batch.sensor_no]
        places = np.flatnonzero(may_be & (batch.newest_ms != _NEVER_MS))
        return {
            (number, booked.rule_no)
            for place, number in zip(places.tolist(), batch.sensor_no[places].tolist(), strict=True)
            for booked in self._rules_for(self._sensors[number])
            if takes_over_between(booked, self._sensors[number], int(batch.newest_ms[place]), int(batch.last_ms[place]))
        }

    def _tasks(self, batch: SensorColumns, touched: Sequence[tuple[int, int]]) -> Iterator[Task]:
        places = np.searchsorted(batch.sensor_no, [sensor_no for sensor_no, _ in touched]).tolist()
        for (sensor_no, rule_no), place in zip(touched, places, strict=True):
            sensor, booked = self._sensors[sensor_no], self._book.rule(rule_no)
            if booked is None or not booked.versions:
                continue
            newest_ms = int(batch.newest_ms[place])
            # A sensor's first readings begin its history, and nothing is later than what is not late.
            idle_ms = None if batch.has_late[place] else max(newest_ms, _EARLIEST_MS)
            where = Touched(int(batch.first_ms[place]), int(batch.last_ms[place]), idle_ms)
            yield Task(Pair(sensor.tenant_id, sensor_no, rule_no), booked, sensor.context, where)


def _takeovers(book: RuleBook) -> tuple[NDArray[np.int64], int]:
    """When versions of rules with stand-ins begin, sorted; and the last time at which one may end what is firing."""
    every = [booked for rules in book.by_tenant.values() for booked in rules]
    begins = {version.effective_from_ms for booked in every if has_stand_in(booked) for version in booked.versions}
    deleted = (one.effective_from_ms for booked in every for one in booked.versions if booked.may_end_with(one))
    return np.array(sorted(begins), np.int64), max(deleted, default=_NEVER_MS)


def columns_of(stored: Stored) -> SensorColumns:
    """The changed readings, one row per sensor."""
    changed = np.flatnonzero(stored.changed)
    rows, newest = stored.rows.take(changed), stored.newest_ms[changed]
    is_first = np.append(True, rows.sensor_no[1:] != rows.sensor_no[:-1])[: len(rows)]
    starts = np.flatnonzero(is_first)
    if not len(starts):
        none = np.zeros(0, np.int64)
        empty = none.astype(np.bool_)
        return SensorColumns(rows.sensor_no, none, none, rows.value, rows.value, none, empty, none, none, rows, starts)
    last = rows.at_ms[np.append(starts[1:], len(rows)) - 1]
    first, newest = rows.at_ms[starts], newest[starts]
    # Before a sensor's first reading there is no gap.
    before = np.where(newest == _NEVER_MS, first, newest)
    spacing = np.where(is_first, 0, np.diff(rows.at_ms, prepend=rows.at_ms[:1]))
    spacing[starts] = first - before
    return SensorColumns(
        rows.sensor_no[starts],
        first,
        last,
        np.minimum.reduceat(rows.value, starts),
        np.maximum.reduceat(rows.value, starts),
        newest,
        (first <= newest) & (newest != _NEVER_MS),
        np.maximum.reduceat(spacing, starts),
        stored.version[changed][starts],
        rows,
        starts,
    )
