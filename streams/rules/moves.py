"""Sensors that moved, and units and sites whose numbers, hours or expected intervals changed: judge again what that concerns.

As with changed rules (`streams.rules.work`): every batch that may not know of the change has ended before anything is looked
at. A row of work is one sensor from one moment on; it is done with the transaction that judges.
"""

from __future__ import annotations

from collections.abc import Mapping

import structlog

from core.clock import Clock
from core.leases import Lease
from core.postgres import Connection
from streams.rules import episodes
from streams.rules.book import BookedRule, RuleBook, only_tenants
from streams.rules.episodes import Pair
from streams.rules.judging import Moment, Task, Touched, rejudge_all
from streams.rules.sensors import KnownSensor, load_sensors

log = structlog.get_logger()

_MOST_ROWS = 1000


class PlaceWorker:
    """Judges sensors again by all their rules."""

    def __init__(self, clock: Clock, alerts_topic: str) -> None:
        self._clock = clock
        self._topic = alerts_topic

    async def judge(self, connection: Connection, lease: Lease, work_ids: list[int]) -> None:
        """Do the rows of work; the batches that ran when they were found have ended."""
        await connection.execute("SELECT weir.begin_place_jobs(%s)", (work_ids,))
        book = RuleBook(only_tenants(await _tenants_of(connection, work_ids)))
        await book.refresh(connection)
        for sensor_no, (from_ms, rows) in (await _by_sensor(connection, work_ids)).items():
            async with connection.transaction():
                await episodes.lock_sensor(connection, sensor_no)
                await lease.require(connection)
                sensor = (await load_sensors(connection, [sensor_no]))[sensor_no]
                rules = await _rules(connection, book, sensor_no, sensor)
                now_ms = self._clock.now_ms()
                tasks = [
                    Task(
                        Pair(sensor.tenant_id, sensor_no, booked.rule_no),
                        booked,
                        sensor.context,
                        Touched(from_ms, max(from_ms, now_ms)),
                    )
                    for booked in rules
                ]
                await rejudge_all(connection, tasks, Moment(now_ms, self._topic))
                await connection.execute(
                    "UPDATE weir.place_work SET done_at = clock_timestamp() WHERE work_id = ANY (%s)", (rows,)
                )
        log.info("place_work.done", rows=len(work_ids))


async def _rules(connection: Connection, book: RuleBook, sensor_no: int, sensor: KnownSensor) -> list[BookedRule]:
    """Rules that watch the sensor now or at any time, and those that did before the change and found something."""
    cursor = await connection.execute(
        "SELECT DISTINCT rule_no FROM weir.alert_episode WHERE sensor_no = %s AND status <> 'retracted'", (sensor_no,)
    )
    found = {number: book.rule(number) for (number,) in await cursor.fetchall()}
    found |= {booked.rule_no: booked for booked in book.watching(sensor.tenant_id, sensor.watched_as)}
    return [booked for _, booked in sorted(found.items()) if booked is not None]


async def open_place_work(connection: Connection) -> list[int]:
    """The oldest rows that nobody has done."""
    cursor = await connection.execute(
        "SELECT work_id FROM weir.place_work WHERE done_at IS NULL ORDER BY work_id LIMIT %s", (_MOST_ROWS,)
    )
    return [number for (number,) in await cursor.fetchall()]


async def _by_sensor(connection: Connection, work_ids: list[int]) -> Mapping[int, tuple[int, list[int]]]:
    """Per sensor from when on it is judged, and the rows that this does."""
    cursor = await connection.execute(
        "SELECT sensor_no, (extract(epoch FROM min(from_at)) * 1000)::bigint, array_agg(work_id) FROM weir.place_work"
        " WHERE work_id = ANY (%s) GROUP BY sensor_no ORDER BY sensor_no",
        (work_ids,),
    )
    return {sensor_no: (from_ms, rows) for sensor_no, from_ms, rows in await cursor.fetchall()}


async def _tenants_of(connection: Connection, work_ids: list[int]) -> list[str]:
    cursor = await connection.execute(
        "SELECT DISTINCT tenant_id FROM weir.place_work WHERE work_id = ANY (%s)", (work_ids,)
    )
    return [tenant_id for (tenant_id,) in await cursor.fetchall()]
