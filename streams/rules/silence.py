"""Silence rules: the open gap after a sensor's last reading, judged only when the stream has caught up past the deadline.

Our own outage must not look like a sensor's. So a moment T counts only once the broker has answered for every partition's
end at or after T and the stored positions have passed those ends; a stopped worker or broker answers nothing, and nothing is
judged until both are back and the backlog is committed. One worker at a time holds the lease and watches; who stood still
meanwhile finds in the transaction that would open an episode that it is no longer its turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from core.clock import Clock
from core.kafka import Topic
from core.leases import Lease, hold
from core.postgres import Connection, Pool, is_transient
from processors.rules.amend import Amendment
from processors.rules.judge import Episode, open_silences
from streams.log_ends import AskForEndsOf, LogEnds
from streams.rules import episodes
from streams.rules.book import ABOUT_SILENCE, BookedRule, RuleBook
from streams.rules.episodes import Pair
from streams.rules.hold_up import HoldUp
from streams.rules.judging import HISTORICAL_AFTER_MS, Moment, Touched, rejudge
from streams.rules.sensors import KnownSensor, load_sensors

log = structlog.get_logger()

_LEASE = "silence-watch"
_ANSWER_S = 10.0
_LOOK_AGAIN_ROUNDS = 5
_SENSORS_AT_ONCE = 1000

_Known = Mapping[tuple[int, int], Collection[str]]


@dataclass(frozen=True, slots=True)
class Seen:
    """Where every partition of every readings topic ended at or after a moment."""

    at_ms: int
    logs: Mapping[str, LogEnds]


class SilenceWatch:
    """Runs until cancelled; survives the loss of the broker and of the database.

    Args:
        pool: under the writer role.
        clock: tells the evaluation time T.
        topic: the broker's name of the readings topic.
        alerts_topic: where episodes are published.
        log_ends: asks the broker for the end of every partition of a topic, None if that is not there; raises or hangs while
            the broker is away.
        round_s: between two looks.
        patience_s: how long a topic of other workers may hold judging up before operators are told.
    """

    def __init__(
        self,
        pool: Pool,
        clock: Clock,
        topic: str,
        alerts_topic: str,
        log_ends: AskForEndsOf,
        *,
        round_s: float = 2.0,
        patience_s: float = 60.0,
    ) -> None:
        self._pool = pool
        self._clock = clock
        self._topic = topic
        self._alerts_topic = alerts_topic
        self._log_ends = log_ends
        self._round_s = round_s
        self._patience_s = patience_s
        self._book = RuleBook(ABOUT_SILENCE)

    async def run(self) -> None:
        """Take turns at watching, forever."""
        while True:
            try:
                await hold(self._pool, _LEASE, self._watch)
            except Exception as exc:
                if not is_transient(exc):
                    raise
                log.warning("silence.database_away", error=type(exc).__name__)
            await asyncio.sleep(self._round_s)

    async def _watch(self, lease: Lease) -> None:
        seen, rounds, hold_up = None, 0, HoldUp(self._topic, self._patience_s)
        while True:
            # A round lies between asking for the ends and comparing, in which what was there is fetched and committed.
            async with self._pool.connection() as connection:
                if seen is not None:
                    behind = await self._behind(connection, seen)
                    await hold_up.tell(connection, behind)
                    if not behind:
                        await self._judge(connection, lease, seen.at_ms)
                        seen = None
            rounds = 0 if seen is None else rounds + 1
            if seen is None:
                seen = await self._look()
            elif rounds % _LOOK_AGAIN_ROUNDS == 0:
                seen = await self._look_again(seen, behind)
            await asyncio.sleep(self._round_s)

    async def _look(self) -> Seen | None:
        now_ms, topics = self._clock.now_ms(), await self._topics()
        try:
            ends = {topic: await asyncio.wait_for(self._log_ends(topic), _ANSWER_S) for topic in sorted(topics)}
        except Exception as exc:  # whatever the client raises, the broker did not answer: nothing is judged
            log.warning("silence.broker_away", error=type(exc).__name__)
            return None
        # A topic that is gone brings nothing any more, unless it is this worker's own.
        found = {topic: one for topic, one in ends.items() if one is not None}
        return Seen(now_ms, found) if self._topic in found else None

    async def _look_again(self, seen: Seen, behind: Sequence[str]) -> Seen:
        """The same without logs that are gone: what nobody had read of a topic that was deleted, or made anew, never comes."""
        try:
            ends = {topic: await asyncio.wait_for(self._log_ends(topic), _ANSWER_S) for topic in behind}
        except Exception as exc:  # as above
            log.warning("silence.broker_away", error=type(exc).__name__)
            return seen
        logs = {
            topic: one for topic, one in seen.logs.items() if topic == self._topic or ends.get(topic, one) is not None
        }
        anew = {topic: one for topic, one in ends.items() if one is not None and one.identity != logs[topic].identity}
        return Seen(seen.at_ms, logs | anew)

    async def _topics(self) -> set[str]:
        """All that bring readings into this database: workers with several prefixes may share it, and one watches for all."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT DISTINCT topic FROM weir.stream_position WHERE topic LIKE %s", (f"%{Topic.READINGS.value}",)
            )
            return {topic for (topic,) in await cursor.fetchall()} | {self._topic}

    async def _behind(self, connection: Connection, seen: Seen) -> list[str]:
        """Topics of which something that was there is not committed yet."""
        cursor = await connection.execute(
            "SELECT topic, topic_identity, partition, next_offset FROM weir.stream_position WHERE topic = ANY (%s)",
            (list(seen.logs),),
        )
        reached = {(topic, identity, number): offset for topic, identity, number, offset in await cursor.fetchall()}
        return [
            topic
            for topic, one in seen.logs.items()
            # Of its own topic the worker has a position for every partition as soon as it reads it.
            if (topic == self._topic and not one.ends)
            or any(
                reached.get((topic, one.identity, number), -1 if topic == self._topic else 0) < end
                for number, end in one.ends.items()
            )
        ]

    async def _judge(self, connection: Connection, lease: Lease, now_ms: int) -> None:
        await self._book.refresh(connection)
        for tenant_id, rules in self._book.by_tenant.items():
            waits = [wait for rule in rules if (wait := rule.least_silence_ms) is not None]
            if waits:
                await self._judge_tenant(connection, lease, tenant_id, now_ms, min(waits))
        for pair in await self._ended_since(connection):
            async with connection.transaction():
                await self._end(connection, lease, pair)

    async def _ended_since(self, connection: Connection) -> list[Pair]:
        """What fires on though a version has ended it: it was found for a moment before that, and the version's work was done.

        No reading comes that would end it.
        """
        cursor = await connection.execute(
            "SELECT tenant_id, sensor_no, rule_no, severity, (extract(epoch FROM fired_at) * 1000)::bigint"
            " FROM weir.alert_episode WHERE status = 'firing' AND peak_value IS NULL AND rule_no = ANY (%s)",
            ([booked.rule_no for rules in self._book.by_tenant.values() for booked in rules if booked.ends_silence],),
        )
        now_ms = self._clock.now_ms()
        return [
            Pair(tenant_id, sensor_no, rule_no)
            for tenant_id, sensor_no, rule_no, severity, fired_ms in await cursor.fetchall()
            if (booked := self._book.rule(rule_no)) is not None
            and any(fired_ms < since_ms <= now_ms for since_ms in booked.silence_ends_ms(severity))
        ]

    async def _end(self, connection: Connection, lease: Lease, pair: Pair) -> None:
        await connection.execute("SELECT pg_advisory_xact_lock_shared(weir.frontier_lock())")
        await episodes.lock_sensor(connection, pair.sensor_no)
        await lease.require(connection)
        await self._book.refresh(connection)
        booked, now_ms = self._book.rule(pair.rule_no), self._clock.now_ms()
        last_ms = await _last_heard_ms(connection, pair.sensor_no)
        sensor = (await load_sensors(connection, [pair.sensor_no]))[pair.sensor_no]
        if booked is not None:
            touched = Touched(last_ms, max(last_ms, now_ms))
            await rejudge(connection, pair, booked, sensor.context, touched, Moment(now_ms, self._alerts_topic))

    async def _judge_tenant(
        self, connection: Connection, lease: Lease, tenant_id: str, now_ms: int, least_ms: int
    ) -> None:
        quiet = await _quiet_sensors(connection, tenant_id, now_ms - least_ms)
        for first in range(0, len(quiet), _SENSORS_AT_ONCE):
            part = dict(quiet[first : first + _SENSORS_AT_ONCE])
            known = await _known_silences(connection, part)
            for sensor_no, sensor in (await load_sensors(connection, part)).items():
                if self._new_silences(sensor_no, sensor, part[sensor_no], now_ms, known):
                    async with connection.transaction():
                        await self._open(connection, lease, sensor_no, now_ms)
            await asyncio.sleep(0)

    def _new_silences(
        self, sensor_no: int, sensor: KnownSensor, last_ms: int, now_ms: int, known: _Known
    ) -> list[tuple[BookedRule, Episode]]:
        """What the sensor's rules have found by now and nobody has written down."""
        due = [
            rule
            for rule in self._book.watching(sensor.tenant_id, sensor.watched_as)
            if (wait := rule.least_silence_ms) is not None and last_ms + wait < now_ms
            if rule.has_ladder or (sensor_no, rule.rule_no) not in known
        ]
        context = sensor.context if due else None
        return [
            (rule, one)
            for rule in due
            if context is not None
            for one in open_silences(rule.versions, last_ms, now_ms, context)
            if one.severity not in known.get((sensor_no, rule.rule_no), ())
        ]

    async def _open(self, connection: Connection, lease: Lease, sensor_no: int, now_ms: int) -> None:
        """Judge the sensor under its lock, where nothing comes in between, and write down what is new."""
        # Shared, as every batch holds it: the work that a changed rule makes waits for this, or this sees the change.
        await connection.execute("SELECT pg_advisory_xact_lock_shared(weir.frontier_lock())")
        await episodes.lock_sensor(connection, sensor_no)
        await lease.require(connection)
        await self._book.refresh(connection)
        last_ms = await _last_heard_ms(connection, sensor_no)
        sensor = (await load_sensors(connection, [sensor_no]))[sensor_no]
        known = await _known_silences(connection, [sensor_no])
        amendments = [
            (Pair(booked.tenant_id, sensor_no, booked.rule_no), Amendment(None, one))
            for booked, one in self._new_silences(sensor_no, sensor, last_ms, now_ms, known)
        ]
        await episodes.write_all_amendments(
            connection, amendments, now_ms, now_ms - HISTORICAL_AFTER_MS, self._alerts_topic
        )


async def _quiet_sensors(connection: Connection, tenant_id: str, before_ms: int) -> list[tuple[int, int]]:
    """(sensor_no, time of the last reading) of the tenant's sensors that were last heard before a moment."""
    cursor = await connection.execute(
        "SELECT sensor_no, (extract(epoch FROM last_at) * 1000)::bigint FROM weir.sensor JOIN weir.sensor_state"
        " USING (sensor_no) WHERE tenant_id = %s AND last_at < %s ORDER BY sensor_no",
        (tenant_id, datetime.fromtimestamp(before_ms / 1000, UTC)),
    )
    return await cursor.fetchall()


async def _last_heard_ms(connection: Connection, sensor_no: int) -> int:
    cursor = await connection.execute(
        "SELECT (extract(epoch FROM last_at) * 1000)::bigint FROM weir.sensor_state WHERE sensor_no = %s", (sensor_no,)
    )
    row = await cursor.fetchone()
    assert row is not None  # noqa: S101 - it was quiet, so it had been heard
    return int(row[0])


async def _known_silences(connection: Connection, sensor_nos: Iterable[int]) -> _Known:
    """By sensor_no and rule_no the severities of what the present silence of these sensors has come to already."""
    cursor = await connection.execute(
        "SELECT e.sensor_no, e.rule_no, array_agg(e.severity) FROM weir.alert_episode e"
        " JOIN weir.sensor_state s USING (sensor_no)"
        " WHERE e.sensor_no = ANY (%s) AND e.started_at = s.last_at AND e.status <> 'retracted' AND e.peak_value IS NULL"
        " GROUP BY 1, 2",
        (list(sensor_nos),),
    )
    return {(sensor_no, rule_no): severities for sensor_no, rule_no, severities in await cursor.fetchall()}
