"""A tenant's usage rows in this process, and everybody who watches them.

Polled while anybody watches: a row says when it last changed. The snapshot is what changed within two days, which includes the
current hours of every meter. Border: one tenant; how often to poll is `api.live.bridge`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from api.live import protocol
from api.live.cursors import LiveCursors
from api.live.protocol import Message
from api.live.readings import drained, hand_out, send_pages
from api.live.subscription import Subscription
from core.clock import Clock
from core.postgres import Pool
from sinks.timescale import live
from sinks.timescale.live import UsageRow

CHANNEL: Final = "usage"

_WINDOW_MS: Final = 48 * 3_600_000
_MARGIN_US: Final = 60_000_000
# Late readings change hours of long ago: seen at the fourth poll, after some 8 s (35 000 rows a year and tenant, 20 ms).
_ALL_EVERY: Final = 4


class TenantUsage:
    """The usage channel of one tenant.

    Args:
        pool: under the reader role.
        tenant_id: whose.
        cursors: of the tenant.
        clock: tells what "two days ago" is.
    """

    def __init__(self, pool: Pool, tenant_id: str, cursors: LiveCursors, clock: Clock) -> None:
        self._pool = pool
        self._tenant_id = tenant_id
        self._cursors = cursors
        self._clock = clock
        # Items by meter and bucket, with revision and time of change.
        self._rows: dict[tuple[str, str], tuple[int, int, str]] = {}
        self._seen_us = 0
        self._polls = 0
        self._is_loaded = False
        self._reading = asyncio.Lock()
        self._subscriptions: dict[Subscription, None] = {}

    @property
    def has_subscriptions(self) -> bool:
        """Whether anybody watches."""
        return bool(self._subscriptions)

    async def load(self) -> None:
        """Have what changed lately in memory."""
        async with self._reading:
            if not self._is_loaded:
                since_us = (self._clock.now_ms() - _WINDOW_MS) * 1000
                self._adopt(await live.usage_changed_since(self._pool, self._tenant_id, since_us))
                self._seen_us = max(self._seen_us, since_us)
                self._is_loaded = True

    async def poll(self) -> None:
        """Hand out what changed; recent buckets each time, all of them now and then."""
        if not self._subscriptions:
            self._rows, self._is_loaded = {}, False
            return
        async with self._reading:
            self._polls += 1
            recent_ms = None if self._polls % _ALL_EVERY == 0 else self._clock.now_ms() - 2 * _WINDOW_MS
            rows = await live.usage_changed_since(
                self._pool, self._tenant_id, self._seen_us - _MARGIN_US, bucket_from_ms=recent_ms
            )
            entries = self._adopt(rows)
        if entries:
            hand_out(self._subscriptions, entries, self._cursor())

    def _adopt(self, rows: Iterable[UsageRow]) -> dict[object, str]:
        """The items of rows that are new or of another revision."""
        entries: dict[object, str] = {}
        for row in rows:
            key = (row.meter, row.bucket_start)
            self._seen_us = max(self._seen_us, row.changed_us)
            known = self._rows.get(key)
            if known is None or known[:2] != (row.revision, row.changed_us):
                entries[key] = self._item(row)
                self._rows[key] = row.revision, row.changed_us, entries[key]
        return entries

    def _item(self, row: UsageRow) -> str:
        return (
            f'{{"tenant_id":"{self._tenant_id}","meter":"{row.meter}","bucket_start":"{row.bucket_start}",'
            f'"quantity":{row.quantity},"revision":{row.revision}}}'
        )

    def _cursor(self) -> str:
        return self._cursors.of_time(CHANNEL, self._seen_us)

    def has_more(self, subscription: Subscription) -> bool:
        """Whether newest values wait for it."""
        return bool(subscription.pending)

    def drain(self, subscription: Subscription) -> Message:
        """Newest values of one frame."""
        return drained(subscription, self._cursor())

    async def join(self, subscription: Subscription, cursor: str | None) -> None:
        """Send what changed lately, or since the cursor, and let the subscription watch from there."""
        await self.load()
        since_us = None if cursor is None else self._cursors.time(CHANNEL, cursor)
        if cursor is not None and since_us is None:
            subscription.send(protocol.unrecoverable("the cursor is not one of this tenant and channel"))
        if since_us is not None and since_us < (self._clock.now_ms() - _WINDOW_MS) * 1000:
            self._adopt(await live.usage_changed_since(self._pool, self._tenant_id, since_us - _MARGIN_US))
        subscription.is_held, subscription.feed = True, self
        self._subscriptions[subscription] = None
        subscription.seen = self._cursor()
        least_us = 0 if since_us is None else since_us - _MARGIN_US
        items = [item for _, changed_us, item in self._rows.values() if changed_us >= least_us]
        await send_pages(subscription, items, None if since_us is None else cursor)
        subscription.send(protocol.sync(subscription.seen))
        subscription.release()

    def leave(self, subscription: Subscription) -> None:
        """It watches no more."""
        self._subscriptions.pop(subscription, None)
