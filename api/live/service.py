"""The live bridge of one process, put together: hub, bridge to the database, sessions, limits, draining.

Border: owns the life of its parts; the doors (`websocket`, `sse`) come in through it.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import structlog

from api.limits import TokenBuckets
from api.live.bridge import Bridge
from api.live.connection import spread
from api.live.hub import Hub
from api.live.sessions import Sessions
from api.live.subscription import Subscription
from core.clock import Clock, monotonic_s
from core.postgres import Pool
from core.secrets import Vault
from core.settings import Settings

if TYPE_CHECKING:
    from api.auth import Authenticator

log = structlog.get_logger()

_RESTART_S: Final = 1.0
_DRAIN_S: Final = 5.0
_CHECK_S: Final = 2.0
# All of a tenant's clients may come back at once, each with a few messages.
_TENANT_BURST_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What connections may do."""

    queue_bytes: int
    connections: int
    connections_per_tenant: int
    subscriptions_per_connection: int
    subscriptions_per_tenant: int
    messages_per_s: float
    message_burst: int
    tenant_messages_per_s: float
    retry_ms: int
    crowded_retry_ms: int
    drain_spread_ms: int


class Drainable(Protocol):
    """A connection that can be asked to come back elsewhere."""

    def drain(self, retry_ms: int) -> None:
        """Close it with a time to wait."""
        ...

    def check(self, now_s: float) -> None:
        """Close it if its client has taken nothing for long."""
        ...


def limits_of(settings: Settings) -> Limits:
    """The limits that the settings ask for."""
    return Limits(
        queue_bytes=settings.live_queue_bytes,
        connections=settings.live_connections,
        connections_per_tenant=settings.live_connections_per_tenant,
        subscriptions_per_connection=settings.live_subscriptions_per_connection,
        subscriptions_per_tenant=settings.live_subscriptions_per_tenant,
        messages_per_s=settings.live_messages_per_s,
        message_burst=settings.live_message_burst,
        tenant_messages_per_s=settings.live_tenant_messages_per_s,
        retry_ms=settings.live_retry_ms,
        crowded_retry_ms=30_000,
        drain_spread_ms=settings.live_drain_spread_ms,
    )


class LiveService:
    """Everything live of one process.

    Args:
        settings: limits and allowed origins.
        pool: under the reader role.
        vault: signs cursors.
        clock: the wall clock.
        authenticators: kinds of bearer credentials.
    """

    def __init__(
        self, settings: Settings, pool: Pool, vault: Vault, clock: Clock, authenticators: Sequence[Authenticator]
    ) -> None:
        self.limits = limits_of(settings)
        self.hub = Hub(pool, vault, clock, settings.live_pause_ms / 1000)
        self.sessions = Sessions(authenticators, self.limits.connections_per_tenant)
        rate = self.limits.tenant_messages_per_s
        self._tenant_messages = TokenBuckets(rate, math.ceil(_TENANT_BURST_S * rate), monotonic_s)
        self.origins = frozenset(settings.live_origins.split())
        self._bridge = Bridge(settings.database_url.get_secret_value(), pool, self.hub)
        self._connections: dict[Drainable, None] = {}
        self._subscriptions: Counter[str] = Counter()
        self._tasks: list[asyncio.Task[None]] = []
        self.is_draining = False

    async def start(self) -> None:
        """Begin to listen; the database may be away."""
        self._tasks = [asyncio.create_task(_keep(one)) for one in (self._bridge.run, self.sessions.run, self._check)]

    async def stop(self) -> None:
        """Stop listening."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def drain(self) -> None:
        """Send everybody away, each with a time of its own to come back; returns when they are gone or it took too long."""
        self.is_draining = True
        for connection in list(self._connections):
            connection.drain(self.spread_ms(self.limits.drain_spread_ms))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_S):
                while self._connections:  # noqa: ASYNC110 - a handful of looks at the end of a process
                    await asyncio.sleep(0.02)

    async def _check(self) -> None:
        """Send away who takes nothing, forever."""
        while True:
            await asyncio.sleep(_CHECK_S)
            now_s = monotonic_s()
            for connection in list(self._connections):
                connection.check(now_s)

    def enter(self, connection: Drainable) -> bool:
        """Count a connection in; False if there is no room."""
        if self.is_draining or len(self._connections) >= self.limits.connections:
            return False
        self._connections[connection] = None
        return True

    def exit(self, connection: Drainable) -> None:
        """It ended."""
        self._connections.pop(connection, None)

    def takes_message(self, tenant_id: str) -> bool:
        """Count a message of a tenant; False if all its clients together say too much."""
        return self._tenant_messages.take(tenant_id) == 0.0

    def subscriptions_of(self, tenant_id: str) -> int:
        """How many subscriptions a tenant has here."""
        return self._subscriptions[tenant_id]

    async def join(self, subscription: Subscription, cursor: str | None) -> None:
        """Let a subscription follow its channel."""
        self._subscriptions[subscription.tenant_id] += 1
        await self.hub.join(subscription, cursor)

    def leave(self, subscription: Subscription) -> None:
        """It follows no more."""
        self._subscriptions[subscription.tenant_id] -= 1
        if not self._subscriptions[subscription.tenant_id]:
            del self._subscriptions[subscription.tenant_id]
        self.hub.leave(subscription)

    def spread_ms(self, base_ms: int) -> int:
        """A time around this one, another for each client."""
        return spread(base_ms)


async def _keep(work: Callable[[], Any]) -> None:
    """Run what should never end; a bug in it is told and must not leave everybody without news."""
    while True:
        try:
            await work()
        except Exception:
            log.exception("live.failed")
        await asyncio.sleep(_RESTART_S)
