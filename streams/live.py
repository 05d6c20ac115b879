"""The newest committed readings to whoever watches: after the commit, beside the stream, conflated while the database is busy.

A batch only leaves its columns here, and only if some bridge wants one of its tenants; a task of its own publishes them by
NOTIFY. What gets lost (a crash, a database that is away) bridges find when they read the sensors' states again.
"""

from __future__ import annotations

import asyncio

import numpy as np
import structlog
from numpy.typing import NDArray

from core.clock import monotonic_s
from core.postgres import Pool, is_transient
from schemas.live import LATEST_TOPIC, READING, Newest, pack
from streams.readings import Stored

log = structlog.get_logger()

_INTEREST_S = 0.5
_PAUSE_S = 0.01
_RETRY_S = 1.0
_MAX_CHUNKS = 64
# Nobody can be harmed by the loss of a notification, so its commit does not wait for the disk.
_PUBLISH = "SELECT set_config('synchronous_commit', 'off', true), count(pg_notify(%s, p)) FROM unnest(%s::text[]) AS p"


class LiveReadings:
    """Runs until cancelled; survives the loss of the database."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._wanted: frozenset[str] = frozenset()
        self._chunks: list[tuple[str, int, NDArray[np.void]]] = []
        self._filled = asyncio.Event()
        self._asked_s = 0.0

    def offer(self, stored: Stored) -> None:
        """Take a committed batch's newest readings of the tenants that somebody watches."""
        if not self._wanted:
            return
        self._chunks += [
            (stored.tenant_ids[code], stored.received_ms, rows) for code, rows in _newest(stored, self._wanted)
        ]
        if len(self._chunks) > _MAX_CHUNKS:
            self._chunks = [(one.tenant_id, one.received_ms, one.rows) for one in conflate(self._chunks)]
        if self._chunks:
            self._filled.set()

    async def run(self) -> None:
        """Publish what was offered, and learn what is wanted, forever."""
        while True:
            try:
                await self._learn_interest()
                await self._publish()
                await self._pause()
            except Exception as exc:
                if not is_transient(exc):
                    raise
                log.warning("live.database_away", error=type(exc).__name__)
                await asyncio.sleep(_RETRY_S)

    async def _learn_interest(self) -> None:
        if monotonic_s() - self._asked_s < _INTEREST_S:
            return
        async with self._pool.connection() as connection:
            cursor = await connection.execute("SELECT DISTINCT tenant_id FROM weir.live_interest WHERE until > now()")
            self._wanted = frozenset(tenant_id for (tenant_id,) in await cursor.fetchall())
        self._asked_s = monotonic_s()

    async def _publish(self) -> None:
        taken, self._chunks = self._chunks, []
        self._filled.clear()
        if not taken:
            return
        try:
            async with self._pool.connection() as connection:
                await connection.execute(_PUBLISH, (LATEST_TOPIC, pack(conflate(taken))))
        except Exception:
            self._chunks = [*taken, *self._chunks]
            raise

    async def _pause(self) -> None:
        """Wait for readings, at most until it is time to ask again; a little longer lets several batches share a commit."""
        try:
            await asyncio.wait_for(self._filled.wait(), _INTEREST_S)
        except TimeoutError:
            return
        await asyncio.sleep(_PAUSE_S)


def _newest(stored: Stored, wanted: frozenset[str]) -> list[tuple[int, NDArray[np.void]]]:
    """Of each wanted tenant (its code) each sensor's last changed reading, where nothing newer was stored before."""
    is_wanted = np.array([tenant_id in wanted for tenant_id in stored.tenant_ids], dtype=bool)
    if not is_wanted.any():
        return []
    chosen = np.flatnonzero(stored.changed & is_wanted[stored.tenant_code] & (stored.rows.at_ms >= stored.newest_ms))
    if not len(chosen):
        return []
    sensor_no = stored.rows.sensor_no[chosen]
    last = chosen[np.append(sensor_no[1:] != sensor_no[:-1], True)]
    # By tenant; within a tenant the order of the sensors stays.
    last = last[np.argsort(stored.tenant_code[last], kind="stable")]
    rows = np.empty(len(last), dtype=READING)
    for name in ("sensor_no", "seq", "at_ms", "value"):
        rows[name] = getattr(stored.rows, name)[last]
    codes, starts = np.unique(stored.tenant_code[last], return_index=True)
    return list(zip(codes.tolist(), np.split(rows, starts[1:]), strict=True))


def conflate(chunks: list[tuple[str, int, NDArray[np.void]]]) -> list[Newest]:
    """Of each tenant and sensor the newest reading only, by (at, seq, value) as the store decides."""
    by_tenant: dict[str, list[tuple[int, NDArray[np.void]]]] = {}
    for tenant_id, received_ms, rows in chunks:
        by_tenant.setdefault(tenant_id, []).append((received_ms, rows))
    return [
        Newest(tenant_id, max(received for received, _ in parts), _keep_newest([rows for _, rows in parts]))
        for tenant_id, parts in by_tenant.items()
    ]


def _keep_newest(parts: list[NDArray[np.void]]) -> NDArray[np.void]:
    rows = np.concatenate(parts)
    if len(parts) == 1:
        return rows
    ordered = rows[np.lexsort((rows["value"], rows["seq"], rows["at_ms"], rows["sensor_no"]))]
    newest: NDArray[np.void] = ordered[np.append(ordered["sensor_no"][1:] != ordered["sensor_no"][:-1], True)]
    return newest
