"""Everybody who watches anything in this process, by tenant; all doors (WebSocket, server-sent events, Socket.IO) share it.

Border: joins subscriptions to their tenant's feeds and forgets what nobody uses. What wakes the feeds is `api.live.bridge`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from api.live.cursors import LiveCursors
from api.live.log import TenantLog
from api.live.readings import CHANNEL as READINGS
from api.live.readings import TenantReadings
from api.live.subscription import Subscription
from api.live.usage import CHANNEL as USAGE
from api.live.usage import TenantUsage
from core.clock import Clock, monotonic_s
from core.postgres import Pool
from core.secrets import Vault

_KEPT_S: Final = 600.0
"""How long a tenant's recent events stay in memory for those who come back."""

_READINGS_KEPT_S: Final = 60.0

PERMISSIONS: Final = {
    "readings": "readings:read",
    "alerts": "alerts:read",
    "notifications": "alerts:read",
    "usage": "billing:read",
    "scans": "scans:read",
    "jobs": "jobs:read",
}
"""What a credential needs for a channel."""


class TenantFeeds:
    """The feeds of one tenant."""

    def __init__(self, log: TenantLog, readings: TenantReadings, usage: TenantUsage) -> None:
        self.log = log
        self.readings = readings
        self.usage = usage
        self.used_s = monotonic_s()

    @property
    def is_used(self) -> bool:
        """Whether anybody watches any of them."""
        return self.log.has_subscriptions or self.readings.has_subscriptions or self.usage.has_subscriptions


class Hub:
    """The feeds of every tenant that somebody here watches, or did a while ago.

    Args:
        pool: under the reader role.
        vault: signs cursors.
        clock: the wall clock.
        pause_s: least time between two flushes of a tenant's readings.
    """

    def __init__(self, pool: Pool, vault: Vault, clock: Clock, pause_s: float) -> None:
        self._pool = pool
        self._vault = vault
        self._clock = clock
        self._pause_s = pause_s
        self._tenants: dict[str, TenantFeeds] = {}
        self.on_wanted: Callable[[], None] = lambda: None

    @property
    def tenants(self) -> dict[str, TenantFeeds]:
        """Feeds by tenant."""
        return self._tenants

    async def join(self, subscription: Subscription, cursor: str | None) -> None:
        """Bring a subscription up to now and let it follow.

        Raises:
            psycopg.Error: the database does not answer; the subscription follows nothing.
        """
        feeds = self._feeds(subscription.tenant_id)
        feeds.used_s = monotonic_s()
        if subscription.channel == READINGS:
            await feeds.readings.join(subscription, cursor)
        elif subscription.channel == USAGE:
            await feeds.usage.join(subscription, cursor)
        else:
            await feeds.log.join(subscription, cursor)

    def leave(self, subscription: Subscription) -> None:
        """It follows no more."""
        subscription.outbox.forget(subscription)
        feeds = self._tenants.get(subscription.tenant_id)
        if feeds is not None:
            feeds.log.leave(subscription)
            feeds.readings.leave(subscription)
            feeds.usage.leave(subscription)
            feeds.used_s = monotonic_s()

    def forget_unused(self) -> None:
        """Let go of tenants that nobody came back for."""
        now_s = monotonic_s()
        for feeds in self._tenants.values():
            left_s = feeds.readings.left_s
            if left_s is not None and not feeds.readings.has_subscriptions and now_s - left_s > _READINGS_KEPT_S:
                feeds.readings.forget()
                feeds.readings.left_s = None
        self._tenants = {
            tenant_id: feeds
            for tenant_id, feeds in self._tenants.items()
            if feeds.is_used or now_s - feeds.used_s < _KEPT_S
        }

    def _want(self) -> None:
        self.on_wanted()

    def _feeds(self, tenant_id: str) -> TenantFeeds:
        feeds = self._tenants.get(tenant_id)
        if feeds is None:
            cursors = LiveCursors(self._vault, tenant_id)
            feeds = self._tenants[tenant_id] = TenantFeeds(
                TenantLog(self._pool, tenant_id, cursors),
                TenantReadings(self._pool, tenant_id, cursors, self._pause_s, self._want),
                TenantUsage(self._pool, tenant_id, cursors, self._clock),
            )
        return feeds
