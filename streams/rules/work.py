"""Rules that changed: judge the stored readings that the change concerns, while the stream goes on.

A batch that began before the change committed may not know it. So the work waits for every such batch to end (they hold
the frontier lock, shared) before it looks at what is stored; batches that begin later know the rule themselves. Nothing
falls in between. One worker at a time holds the lease of this work and does it sensor by sensor, each in a transaction of
its own that asks for the lease: who stood still meanwhile must not judge by the rule as it was.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import structlog

from core.clock import Clock
from core.leases import Lease, hold
from core.postgres import Connection, Pool, is_transient
from streams.rules import episodes
from streams.rules.book import BookedRule, RuleBook, only_rule
from streams.rules.episodes import Pair
from streams.rules.judging import Moment, Touched, rejudge
from streams.rules.moves import PlaceWorker, open_place_work
from streams.rules.sensors import load_sensors

log = structlog.get_logger()

_LEASE = "rule-work"
_IDLE_S = 0.3
_RETRY_S = 2.0


@dataclass(frozen=True, slots=True)
class Work:
    """One change of a rule, from the moment on that it concerns."""

    work_id: int
    rule_no: int
    tenant_id: str
    from_ms: int


class RuleWorker:
    """Takes open work one by one; survives the loss of the database."""

    def __init__(self, pool: Pool, clock: Clock, alerts_topic: str) -> None:
        self._pool = pool
        self._clock = clock
        self._topic = alerts_topic
        self._places = PlaceWorker(clock, alerts_topic)

    async def run(self) -> None:
        """Take turns at doing the work, forever."""
        while True:
            try:
                await hold(self._pool, _LEASE, self._work_until_failure)
            except Exception as exc:
                if not is_transient(exc):
                    raise
                log.warning("rule_work.database_away", error=type(exc).__name__)
            await asyncio.sleep(_RETRY_S)

    async def _work_until_failure(self, lease: Lease) -> None:
        async with self._pool.connection() as connection:
            while True:
                work = await _next_work(connection)
                moved = [] if work is not None else await open_place_work(connection)
                if work is not None:
                    await self._do(connection, lease, work)
                elif moved:
                    await _wait_for_running_batches(connection)
                    await self._places.judge(connection, lease, moved)
                else:
                    await asyncio.sleep(_IDLE_S)

    async def _do(self, connection: Connection, lease: Lease, work: Work) -> None:
        await _wait_for_running_batches(connection)
        book = RuleBook(only_rule(work.rule_no))
        await book.refresh(connection)
        booked = book.rule(work.rule_no)
        sensors = [] if booked is None else await _sensors_of(connection, booked)
        await connection.execute(
            "UPDATE weir.rule_work SET sensors_total = %s WHERE work_id = %s", (len(sensors), work.work_id)
        )
        open_sensors = await _open_sensors(connection, work.rule_no)
        for number, (sensor_no, newest_ms) in enumerate(sensors):
            if booked is not None and (newest_ms >= work.from_ms or sensor_no in open_sensors):
                await self._judge(connection, lease, work, booked, sensor_no, newest_ms)
            await connection.execute(
                "UPDATE weir.rule_work SET sensors_done = %s WHERE work_id = %s", (number + 1, work.work_id)
            )
        await lease.require(connection)
        await connection.execute("UPDATE weir.rule_work SET done_at = now() WHERE work_id = %s", (work.work_id,))
        log.info("rule_work.done", rule_no=work.rule_no, sensors=len(sensors))

    async def _judge(
        self, connection: Connection, lease: Lease, work: Work, booked: BookedRule, sensor_no: int, newest_ms: int
    ) -> None:
        async with connection.transaction():
            await episodes.lock_sensor(connection, sensor_no)
            await lease.require(connection)
            sensors = await load_sensors(connection, [sensor_no])
            touched = Touched(work.from_ms, max(newest_ms, self._clock.now_ms()))
            pair = Pair(work.tenant_id, sensor_no, work.rule_no)
            moment = Moment(self._clock.now_ms(), self._topic)
            await rejudge(connection, pair, booked, sensors[sensor_no].context, touched, moment)


async def _next_work(connection: Connection) -> Work | None:
    cursor = await connection.execute(
        "SELECT work_id, rule_no, tenant_id, (extract(epoch FROM from_at) * 1000)::bigint FROM weir.rule_work"
        " WHERE done_at IS NULL ORDER BY work_id LIMIT 1"
    )
    row = await cursor.fetchone()
    return None if row is None else Work(*row)


async def _wait_for_running_batches(connection: Connection) -> None:
    """Every batch that began before this moment has ended when this returns."""
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(weir.frontier_lock())")


async def _open_sensors(connection: Connection, rule_no: int) -> set[int]:
    """Sensors with an open episode of the rule: a change after their last reading still concerns these."""
    cursor = await connection.execute(
        "SELECT sensor_no FROM weir.alert_episode WHERE rule_no = %s AND status IN ('pending', 'firing')", (rule_no,)
    )
    return {number for (number,) in await cursor.fetchall()}


async def _sensors_of(connection: Connection, booked: BookedRule) -> list[tuple[int, int]]:
    """(sensor_no, newest reading's time) of the sensors that have readings and that the rule watches or has episodes of."""
    cursor = await connection.execute(
        "SELECT sensor_no, (extract(epoch FROM last_at) * 1000)::bigint, EXISTS (SELECT FROM weir.alert_episode e"
        " WHERE e.sensor_no = s.sensor_no AND e.rule_no = %s AND e.status <> 'retracted')"
        " FROM weir.sensor s JOIN weir.sensor_state USING (sensor_no) WHERE tenant_id = %s ORDER BY sensor_no",
        (booked.rule_no, booked.tenant_id),
    )
    found = await cursor.fetchall()
    known = await load_sensors(connection, [number for number, _, _ in found])
    return [
        (number, newest)
        for number, newest, was_found in found
        if was_found or known[number].watched_as & booked.watched
    ]
