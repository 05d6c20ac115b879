"""What wakes the hub: one LISTEN connection, and polling beside it for whatever a notification did not bring.

Notifications are hints, the store is the truth: when the connection is lost, everything that is followed is read again, and
heads are compared every few seconds anyway. Border: effects; the feeds decide what reaches whom.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

import psycopg
import structlog

from api.live.hub import Hub
from core.clock import monotonic_s
from core.postgres import Pool, is_transient
from schemas.live import LATEST_TOPIC, LIVE_TOPIC, unpack
from sinks.timescale import live

log = structlog.get_logger()

_LEASE_S: Final = 15
_TICK_S: Final = 5.0
_USAGE_S: Final = 2.0
_REREAD_S: Final = 30.0
_POSITIONS_S: Final = 60.0
# Workers ask twice a second what is wanted; what they committed before is read after this.
_LEARNED_S: Final = 2.0
_RETRY_S: Final = 0.5
_MAX_RETRY_S: Final = 5.0
_KEEPALIVE: Final[dict[str, Any]] = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}


class Bridge:
    """Runs until cancelled; survives the loss of the database.

    Args:
        url: of a login that may take the reader role.
        pool: under that role.
        hub: what is woken.
    """

    def __init__(self, url: str, pool: Pool, hub: Hub) -> None:
        self._url = url
        self._pool = pool
        self._hub = hub
        self._bridge_id = secrets.token_hex(8)
        self._wanted = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._following: dict[str, int] = {}
        hub.on_wanted = self._wanted.set

    async def run(self) -> None:
        """Keep the hub awake, forever."""
        try:
            await asyncio.gather(
                self._listen(),
                self._every(_TICK_S, self._tick),
                self._every(_USAGE_S, self._poll_usage),
                self._every(_REREAD_S, self._reread),
                self._every(_POSITIONS_S, self._tell_positions),
                self._answer_wants(),
            )
        finally:
            for task in self._tasks:
                task.cancel()
            with contextlib.suppress(psycopg.Error, OSError, TimeoutError):
                await asyncio.wait_for(live.want(self._pool, self._bridge_id, [], _LEASE_S), 1.0)

    # --- notifications ---

    async def _listen(self) -> None:
        wait_s = _RETRY_S
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(
                    self._url, autocommit=True, connect_timeout=5, **_KEEPALIVE
                ) as connection:
                    await connection.execute(f"LISTEN {LIVE_TOPIC}".encode())
                    await connection.execute(f"LISTEN {LATEST_TOPIC}".encode())
                    await self._read_everything()
                    wait_s = _RETRY_S
                    async for notice in connection.notifies():
                        self._notice(notice.channel, notice.payload)
            except Exception as error:
                if not is_transient(error):
                    raise
                log.warning("live.listening_lost", error=type(error).__name__)
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, _MAX_RETRY_S)

    def _notice(self, channel: str, payload: str) -> None:
        if channel == LATEST_TOPIC:
            for newest in unpack(payload):
                feeds = self._hub.tenants.get(newest.tenant_id)
                if feeds is not None:
                    feeds.readings.take(newest)
                    if feeds.readings.lacks_sensors and not feeds.readings.is_loading:
                        self._spawn(feeds.readings.reread())
            return
        tenant_id, _, what = payload.partition(" ")
        feeds = self._hub.tenants.get(tenant_id)
        if feeds is None:
            return
        if what == "sensors":
            if feeds.readings.is_wanted:
                self._spawn(feeds.readings.reread())
        elif feeds.log.is_followed:
            self._follow(tenant_id, int(what))

    def _follow(self, tenant_id: str, seq: int) -> None:
        """Have a tenant's log read up to an event; one reading at a time, which goes as far as was asked meanwhile."""
        running = tenant_id in self._following
        self._following[tenant_id] = max(seq, self._following.get(tenant_id, 0))
        if not running:
            self._spawn(self._follow_up(tenant_id))

    async def _follow_up(self, tenant_id: str) -> None:
        try:
            while (feeds := self._hub.tenants.get(tenant_id)) is not None:
                seq = self._following[tenant_id]
                await feeds.log.follow(seq)
                if self._following[tenant_id] <= seq:
                    return
        finally:
            self._following.pop(tenant_id, None)

    async def _read_everything(self) -> None:
        """What notifications would have brought while nobody listened."""
        for feeds in list(self._hub.tenants.values()):
            await feeds.log.follow()
            if feeds.readings.is_wanted:
                await feeds.readings.reread()

    # --- by the clock ---

    async def _tick(self) -> None:
        self._hub.forget_unused()
        await self._renew_wants()
        followed = {tenant_id: feeds.log for tenant_id, feeds in self._hub.tenants.items() if feeds.log.is_followed}
        if followed:
            heads = await live.heads(self._pool, list(followed))
            for tenant_id, feed in followed.items():
                if heads.get(tenant_id, 0) != feed.tail:
                    await feed.follow()

    async def _renew_wants(self) -> None:
        wanted = [tenant_id for tenant_id, feeds in self._hub.tenants.items() if feeds.readings.is_wanted]
        if wanted:
            await live.want(self._pool, self._bridge_id, wanted, _LEASE_S)

    async def _answer_wants(self) -> None:
        """Tell the workers at once when a tenant's readings become wanted, and read again what they did not tell before."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            await asyncio.sleep(0)  # until the feed that called has begun to load
            wanted = [
                tenant_id
                for tenant_id, feeds in self._hub.tenants.items()
                if feeds.readings.is_wanted or feeds.readings.is_loading
            ]
            await self._calmly(lambda: live.want(self._pool, self._bridge_id, wanted, _LEASE_S))  # noqa: B023
            await asyncio.sleep(_LEARNED_S)
            await self._calmly(self._reread)

    async def _reread(self) -> None:
        for feeds in list(self._hub.tenants.values()):
            if feeds.readings.is_wanted:
                await feeds.readings.reread()

    async def _poll_usage(self) -> None:
        for feeds in list(self._hub.tenants.values()):
            await feeds.usage.poll()

    async def _tell_positions(self) -> None:
        for feeds in list(self._hub.tenants.values()):
            feeds.log.tell_positions()

    async def _every(self, period_s: float, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            began_s = monotonic_s()
            await self._calmly(work)
            await asyncio.sleep(max(period_s - (monotonic_s() - began_s), 0.1))

    async def _calmly(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do it now; if the database is away, the next round makes up for it."""
        try:
            await work()
        except Exception as error:
            if not is_transient(error):
                raise
            log.warning("live.database_away", error=type(error).__name__)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        async def run() -> None:
            await self._calmly(lambda: work)

        task = asyncio.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
