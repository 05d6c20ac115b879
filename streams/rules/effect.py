"""Rules on the hot path: after the readings are stored, judge the pairs for which anything could have changed.

Most readings change nothing: a live reading within bounds, of a sensor without an open episode. The screen finds the rest
with comparisons only; those pairs are judged again from stored readings, in the same transaction, so an episode commits
with the reading that caused it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.postgres import Connection
from processors.rules.model import SensorContext
from schemas.rules import Attribute, Combination, Condition, Rule, Silence, Target, Threshold
from sinks.timescale import binary
from sinks.timescale.writer import BatchTransaction
from streams.readings import Stored
from streams.rules import episodes
from streams.rules.book import BookedRule, RuleBook
from streams.rules.episodes import Pair
from streams.rules.judging import Moment, Touched, rejudge


@dataclass(frozen=True, slots=True)
class KnownSensor:
    """What rules ask of a sensor."""

    sensor_id: str
    unit_id: str | None
    site_id: str | None
    declared_interval_ms: int | None

    def covered_by(self, target: Target) -> bool:
        """Whether a rule for this target watches the sensor."""
        match target.kind:
            case "all":
                return True
            case "sensor_id":
                return target.value == self.sensor_id
            case "unit_id":
                return target.value == self.unit_id
            case "site_id":
                return target.value == self.site_id
            case _:
                return False


@dataclass(frozen=True, slots=True)
class SensorRows:
    """The changed readings of one sensor within a batch."""

    sensor_no: int
    tenant_id: str
    touched: Touched
    least: float
    greatest: float
    # The newest stored time before the batch, and whether any of the rows is not newer.
    newest_ms: int
    has_late: bool


class EvaluateRules:
    """The effect that turns stored readings into episodes."""

    def __init__(self, alerts_topic: str) -> None:
        self._topic = alerts_topic
        self._book = RuleBook()
        self._sensors: dict[int, KnownSensor] = {}

    async def apply(self, transaction: BatchTransaction, stored: Stored) -> None:
        """Judge what the batch touched."""
        connection = transaction.connection
        if transaction.generation != self._book.seen_generation:
            if await self._book.refresh(connection):
                self._sensors.clear()
            self._book.seen_generation = transaction.generation
        groups = [group for group in _by_sensor(stored) if self._book.rules_of(group.tenant_id)]
        if not groups:
            return
        await self._learn_sensors(connection, groups)
        numbers = np.array([group.sensor_no for group in groups], dtype=np.int32)
        open_pairs = await episodes.open_pairs(connection, numbers)
        moment = Moment(stored.received_ms, self._topic)
        for group in groups:
            await self._judge_sensor(connection, group, open_pairs, moment)

    async def _judge_sensor(
        self, connection: Connection, group: SensorRows, open_pairs: set[tuple[int, int]], moment: Moment
    ) -> None:
        sensor = self._sensors[group.sensor_no]
        is_locked = False
        for booked in self._book.rules_of(group.tenant_id):
            is_open = (group.sensor_no, booked.rule_no) in open_pairs
            if not (is_open or _may_change(booked, group, sensor)):
                continue
            if not is_locked:
                await episodes.lock_sensor(connection, group.sensor_no)
                is_locked = True
            pair = Pair(group.tenant_id, group.sensor_no, booked.rule_no)
            await rejudge(connection, pair, booked, context_of(sensor), group.touched, moment)

    async def _learn_sensors(self, connection: Connection, groups: list[SensorRows]) -> None:
        unknown = [group.sensor_no for group in groups if group.sensor_no not in self._sensors]
        if unknown:
            self._sensors |= await load_sensors(connection, unknown)


async def load_sensors(connection: Connection, sensor_nos: list[int]) -> dict[int, KnownSensor]:
    """What rules ask of these sensors."""
    binary.register(connection)
    cursor = await connection.execute(
        "SELECT sensor_no, sensor_id, unit_id, site_id, expected_interval_ms FROM weir.sensor WHERE sensor_no = ANY (%s)",
        (binary.Int4Array(np.array(sensor_nos, dtype=np.int32)),),
    )
    return {row[0]: KnownSensor(*row[1:]) for row in await cursor.fetchall()}


def context_of(sensor: KnownSensor) -> SensorContext:
    """The sensor as the judge asks for it."""

    def applies(target: Target, at_ms: NDArray[np.int64]) -> NDArray[np.bool_]:
        return np.full(len(at_ms), sensor.covered_by(target))

    def attribute(_wanted: Attribute, at_ms: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.full(len(at_ms), np.nan)

    return SensorContext(sensor.declared_interval_ms, applies, attribute)


def _by_sensor(stored: Stored) -> Iterator[SensorRows]:
    changed = np.flatnonzero(stored.changed)
    if not len(changed):
        return
    rows = stored.rows.take(changed)
    starts = np.flatnonzero(np.append(True, rows.sensor_no[1:] != rows.sensor_no[:-1]))
    ends = np.append(starts[1:], len(rows)) - 1
    least = np.minimum.reduceat(rows.value, starts)
    greatest = np.maximum.reduceat(rows.value, starts)
    newest = stored.newest_ms[changed]
    codes = stored.tenant_code[changed]
    for number, (first, last) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        from_ms = int(rows.at_ms[first])
        yield SensorRows(
            int(rows.sensor_no[first]),
            stored.tenant_ids[int(codes[first])],
            Touched(from_ms, int(rows.at_ms[last])),
            float(least[number]),
            float(greatest[number]),
            int(newest[first]),
            from_ms <= int(newest[first]),
        )


def _may_change(booked: BookedRule, group: SensorRows, sensor: KnownSensor) -> bool:
    """Sound, not exact: False only where no version of the rule could open anything for these readings."""
    if group.has_late:
        return True
    return any(
        version.rule is not None and sensor.covered_by(version.rule.applies_to) and _may_open(version.rule, group)
        for version in booked.versions
    )


def _may_open(rule: Rule, group: SensorRows) -> bool:
    return _condition_may_open(rule.condition, group)


def _condition_may_open(condition: Condition, group: SensorRows) -> bool:
    match condition:
        case Threshold(bound=bound):
            if isinstance(bound.number, Attribute):
                return True
            return group.greatest >= bound.number if bound.is_upper else group.least <= bound.number
        case Silence(after_ms=after_ms):
            return group.touched.to_ms - group.newest_ms > after_ms
        case Combination(members=members):
            return any(_condition_may_open(member, group) for member in members)
        case _:
            return True  # what lies in its window decides
