"""What open episodes grow to: kept in their rows with every batch, told as a version some time later.

Peak, proven and possible time of a firing episode move with nearly every reading. The row is right at once and for good;
only telling (version, history, topic) waits, longer the older the episode is (migration `episode_growth`). One worker at a
time tells, skipping what a batch holds.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from datetime import UTC, datetime

import structlog

from core.clock import Clock
from core.postgres import Connection, Pool, is_transient
from processors.rules.amend import Amendment
from streams.rules import episodes

log = structlog.get_logger()

_LOCK = 5931870416
_ROUND_S = 1.0
_RETRY_S = 2.0
_AT_ONCE = 500


class GrowthTeller:
    """Runs until cancelled; survives the loss of the database."""

    def __init__(self, pool: Pool, clock: Clock, alerts_topic: str) -> None:
        self._pool = pool
        self._clock = clock
        self._topic = alerts_topic

    async def run(self) -> None:
        """Take turns at telling, forever."""
        while True:
            try:
                async with self._pool.connection() as connection:
                    cursor = await connection.execute("SELECT pg_try_advisory_lock(%s)", (_LOCK,))
                    row = await cursor.fetchone()
                    if row is not None and row[0]:
                        await self._tell_until_failure(connection)
            except Exception as exc:
                if not is_transient(exc):
                    raise
                log.warning("growth.database_away", error=type(exc).__name__)
            await asyncio.sleep(_RETRY_S)

    async def _tell_until_failure(self, connection: Connection) -> None:
        try:
            while True:
                if await self._tell(connection) < _AT_ONCE:
                    await asyncio.sleep(_ROUND_S)
        finally:
            if not connection.closed:
                await connection.execute("SELECT pg_advisory_unlock(%s)", (_LOCK,))

    async def _tell(self, connection: Connection) -> int:
        async with connection.transaction():
            return await tell_growth(connection, self._clock.now_ms(), self._topic, _AT_ONCE)


async def write_growth(connection: Connection, amendments: Sequence[Amendment], now_ms: int) -> None:
    """Keep what these open episodes have grown to."""
    grown = [(one.alert_id, one.episode) for one in amendments if one.episode is not None]
    if not grown:
        return
    now = _time(now_ms)
    await connection.execute(
        "UPDATE weir.alert_episode e SET peak_at = q.peak_at, peak_value = q.peak_value, proven_ms = q.proven_ms,"
        " possible_ms = q.possible_ms, updated_at = greatest(e.updated_at, %s),"
        " show_at = coalesce(e.show_at, weir.growth_shown_at(e.found_at, %s))"
        " FROM unnest(%s::text[], %s::timestamptz[], %s::float8[], %s::bigint[], %s::bigint[])"
        " AS q (alert_id, peak_at, peak_value, proven_ms, possible_ms) WHERE e.alert_id = q.alert_id",
        (
            now,
            now,
            [alert_id for alert_id, _ in grown],
            [_time(episode.peak_at_ms) for _, episode in grown],
            [None if math.isnan(episode.peak_value) else episode.peak_value for _, episode in grown],
            [episode.proven_ms for _, episode in grown],
            [episode.possible_ms for _, episode in grown],
        ),
    )


async def tell_growth(connection: Connection, now_ms: int, topic: str, most: int) -> int:
    """Give the episodes whose growth is due the version that shows it; returns how many."""
    cursor = await connection.execute(
        "UPDATE weir.alert_episode SET version = version + 1, updated_at = greatest(updated_at, %s)"
        " WHERE alert_id IN (SELECT alert_id FROM weir.alert_episode"
        " WHERE show_at <= %s ORDER BY show_at LIMIT %s FOR UPDATE SKIP LOCKED) RETURNING alert_id",
        (_time(now_ms), _time(now_ms), most),
    )
    told = sorted(alert_id for (alert_id,) in await cursor.fetchall())
    if told:
        await episodes.announce(connection, told, topic)
    return len(told)


def _time(epoch_ms: int) -> datetime:
    return datetime.fromtimestamp(epoch_ms / 1000, UTC)
