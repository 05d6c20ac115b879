"""Silence rules: the open gap after a sensor's last reading, judged only when the stream has caught up past the deadline.

Our own outage must not look like a sensor's. So a moment T counts only once the broker has answered for every partition's
end at or after T and the stored positions have passed those ends; a stopped worker or broker answers nothing, and nothing is
judged until both are back and the backlog is committed. One worker at a time holds the lease and watches; who stood still
meanwhile finds in the transaction that would open an episode that it is no longer its turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from core.clock import Clock
from core.leases import Lease, hold
from core.postgres import Connection, Pool, is_transient
from processors.rules.amend import Amendment
from processors.rules.judge import open_silence
from schemas.rules import Rule, Silence
from streams.rules import episodes
from streams.rules.book import BookedRule, RuleBook
from streams.rules.effect import load_sensors
from streams.rules.episodes import Pair
from streams.rules.judging import HISTORICAL_AFTER_MS

log = structlog.get_logger()

EndOffsets = Callable[[], Awaitable[Mapping[int, int]]]

_LEASE = "silence-watch"
_ROUND_S = 2.0
_MOST_PER_ROUND = 1000


@dataclass(frozen=True, slots=True)
class Seen:
    """Where every partition ended at or after a moment."""

    at_ms: int
    ends: Mapping[int, int]


class SilenceWatch:
    """Runs until cancelled; survives the loss of the broker and of the database.

    Args:
        pool: under the writer role.
        clock: tells the evaluation time T.
        topic: the broker's name of the readings topic.
        alerts_topic: where episodes are published.
        end_offsets: asks the broker for the end of every partition of the topic; raises or hangs while it is away.
    """

    def __init__(self, pool: Pool, clock: Clock, topic: str, alerts_topic: str, end_offsets: EndOffsets) -> None:
        self._pool = pool
        self._clock = clock
        self._topic = topic
        self._alerts_topic = alerts_topic
        self._end_offsets = end_offsets
        self._book = RuleBook()

    async def run(self) -> None:
        """Take turns at watching, forever."""
        while True:
            try:
                await hold(self._pool, _LEASE, self._watch)
            except Exception as exc:
                if not is_transient(exc):
                    raise
                log.warning("silence.database_away", error=type(exc).__name__)
            await asyncio.sleep(_ROUND_S)

    async def _watch(self, lease: Lease) -> None:
        seen: Seen | None = None
        while True:
            # A round lies between asking for the ends and comparing, in which what was there is fetched and committed.
            async with self._pool.connection() as connection:
                if seen is not None and await self._is_caught_up(connection, seen):
                    await self._judge(connection, lease, seen.at_ms)
                    seen = None
            if seen is None:
                seen = await self._look()
            await asyncio.sleep(_ROUND_S)

    async def _look(self) -> Seen | None:
        now_ms = self._clock.now_ms()
        try:
            return Seen(now_ms, await asyncio.wait_for(self._end_offsets(), _ROUND_S * 2))
        except Exception as exc:  # whatever the client raises, the broker did not answer: nothing is judged
            log.warning("silence.broker_away", error=type(exc).__name__)
            return None

    async def _is_caught_up(self, connection: Connection, seen: Seen) -> bool:
        cursor = await connection.execute(
            "SELECT partition, next_offset FROM weir.stream_position WHERE topic = %s", (self._topic,)
        )
        positions: dict[int, int] = dict(await cursor.fetchall())
        return bool(seen.ends) and all(positions.get(partition, -1) >= end for partition, end in seen.ends.items())

    async def _judge(self, connection: Connection, lease: Lease, now_ms: int) -> None:
        await self._book.refresh(connection)
        for booked in (rule for rules in self._book.by_tenant.values() for rule in rules if rule.is_silence):
            for sensor_no in await _silent_sensors(connection, booked, now_ms):
                async with connection.transaction():
                    await self._open(connection, lease, booked.rule_no, sensor_no, now_ms)

    async def _open(self, connection: Connection, lease: Lease, rule_no: int, sensor_no: int, now_ms: int) -> None:
        # Shared, as every batch holds it: the work that a changed rule makes waits for this, or this sees the change.
        await connection.execute("SELECT pg_advisory_xact_lock_shared(weir.frontier_lock())")
        cursor = await connection.execute(
            "SELECT (extract(epoch FROM last_at) * 1000)::bigint FROM weir.sensor_state WHERE sensor_no = %s FOR UPDATE",
            (sensor_no,),
        )
        row = await cursor.fetchone()
        await lease.require(connection)
        await self._book.refresh(connection)
        booked = self._book.rule(rule_no)
        rule = None if row is None or booked is None else _rule_at_deadline(booked, int(row[0]))
        if row is None or booked is None or rule is None or not isinstance(rule.condition, Silence):
            return
        sensor = (await load_sensors(connection, [sensor_no]))[sensor_no]
        episode = open_silence(rule.condition.after_ms, int(row[0]), now_ms, severity=rule.severity)
        if episode is None or not sensor.covered_by(rule.applies_to):
            return
        # Judged again under the sensor's lock: what came meanwhile has closed the gap or it has not.
        stored = await episodes.stored_episodes(connection, sensor_no, booked.rule_no, episode.started_at_ms, None)
        if not stored:
            pair = Pair(booked.tenant_id, sensor_no, booked.rule_no)
            await episodes.write_amendments(
                connection, pair, [Amendment(None, episode)], now_ms, now_ms - HISTORICAL_AFTER_MS, self._alerts_topic
            )


def _rule_at_deadline(booked: BookedRule, last_ms: int) -> Rule | None:
    """The version in force at the deadline that it sets itself."""
    for version in reversed(booked.versions):
        rule = version.rule
        after_ms = rule.condition.after_ms if rule is not None and isinstance(rule.condition, Silence) else 0
        if version.effective_from_ms <= last_ms + after_ms:
            return rule
    return None


async def _silent_sensors(connection: Connection, booked: BookedRule, now_ms: int) -> list[int]:
    """Sensors of the rule's tenant that could be silent by any of its versions and have no open episode of it."""
    least_ms = min(
        version.rule.condition.after_ms
        for version in booked.versions
        if version.rule is not None and isinstance(version.rule.condition, Silence)
    )
    cursor = await connection.execute(
        "SELECT sensor_no FROM weir.sensor JOIN weir.sensor_state USING (sensor_no) WHERE tenant_id = %s AND last_at < %s"
        " AND NOT EXISTS (SELECT FROM weir.alert_episode e WHERE e.sensor_no = sensor.sensor_no AND e.rule_no = %s"
        " AND e.status <> 'retracted' AND e.started_at = sensor_state.last_at) ORDER BY sensor_no LIMIT %s",
        (booked.tenant_id, datetime.fromtimestamp((now_ms - least_ms) / 1000, UTC), booked.rule_no, _MOST_PER_ROUND),
    )
    return [number for (number,) in await cursor.fetchall()]
