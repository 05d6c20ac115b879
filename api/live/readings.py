"""A tenant's newest readings in this process, and everybody who watches them.

Values come from the sensors' states once, then from the workers' notifications; where both speak, the greater (at, seq, value)
is newer, as the store decides. What notifications missed is found when the states are read again. Flushed at most every
`pause_s`, so that many readings share a frame; a frame is built once for all who watch the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from api.live import protocol
from api.live.cursors import LiveCursors
from api.live.protocol import Criteria, Message
from api.live.subscription import Subscription
from core.clock import monotonic_s
from core.postgres import Pool
from schemas import rfc3339
from schemas.live import Newest
from sinks.timescale import live

CHANNEL: Final = "readings"

MARGIN_MS: Final = 60_000
"""Receipt times are workers' clocks before the commit: a cursor goes back so far, and some values come twice."""

_NEVER: Final = (-1, -1, 0.0)


@dataclass(slots=True)
class _Sensor:
    """One sensor and its newest reading."""

    sensor_id: str
    site_id: str | None
    unit_id: str | None
    newest: tuple[int, int, float] = _NEVER
    received_ms: int = 0
    item: str = ""
    groups: tuple[_Group, ...] | None = None


@dataclass(slots=True, eq=False)
class _Group:
    """Everybody who watches the same, and what they have not been sent."""

    criteria: Criteria
    subscriptions: dict[Subscription, None] = field(default_factory=dict)
    entries: dict[object, str] = field(default_factory=dict)


class TenantReadings:
    """The readings channel of one tenant.

    Args:
        pool: under the reader role.
        tenant_id: whose.
        cursors: of the tenant.
        pause_s: least time between two flushes.
        wanted: called when the tenant's readings become wanted here.
    """

    def __init__(
        self, pool: Pool, tenant_id: str, cursors: LiveCursors, pause_s: float, wanted: Callable[[], None]
    ) -> None:
        self._pool = pool
        self._tenant_id = tenant_id
        self._cursors = cursors
        self._pause_s = pause_s
        self._wanted = wanted
        self._sensors: dict[int, _Sensor] = {}
        self._groups: dict[Criteria, _Group] = {}
        self._unknown: dict[int, tuple[int, int, float, int]] = {}
        self._seen_ms = 0
        self._flushed_s = 0.0
        self._flushing: asyncio.TimerHandle | None = None
        self._is_loaded = False
        self._reading = asyncio.Lock()
        self.left_s: float | None = None

    @property
    def is_wanted(self) -> bool:
        """Whether the values are kept up to date."""
        return self._is_loaded

    @property
    def is_loading(self) -> bool:
        """Whether the states are being read right now."""
        return self._reading.locked()

    @property
    def has_subscriptions(self) -> bool:
        """Whether anybody watches."""
        return bool(self._groups)

    @property
    def lacks_sensors(self) -> bool:
        """Whether readings came of sensors that are not known here yet."""
        return bool(self._unknown)

    def forget(self) -> None:
        """Nobody watches: keep nothing that would grow old."""
        self._sensors, self._unknown, self._is_loaded = {}, {}, False

    async def load(self) -> None:
        """Have every sensor's newest reading in memory."""
        if self._is_loaded:
            return
        # Workers publish from soon after this; what they commit before they know is found by the next reading of states.
        self._wanted()
        await self.reread(only_if_missing=True)

    async def reread(self, *, only_if_missing: bool = False) -> None:
        """Read all states again and hand out what notifications did not bring."""
        async with self._reading:
            if only_if_missing and self._is_loaded:
                return
            rows = await live.sensor_states(self._pool, self._tenant_id)
            for row in rows:
                sensor = self._sensors.get(row.sensor_no)
                where = (row.sensor_id, row.site_id, row.unit_id)
                if sensor is None:
                    sensor = self._sensors[row.sensor_no] = _Sensor(*where)
                elif (sensor.sensor_id, sensor.site_id, sensor.unit_id) != where:
                    sensor.sensor_id, sensor.site_id, sensor.unit_id = where
                    sensor.groups = None
                if row.at_ms is not None:
                    self._adopt(sensor, row.sensor_no, (row.at_ms, row.seq, row.value), row.received_ms)
            self._is_loaded = True
            unknown, self._unknown = self._unknown, {}
            for sensor_no, (at_ms, seq, value, received_ms) in unknown.items():
                if (known := self._sensors.get(sensor_no)) is not None:
                    self._adopt(known, sensor_no, (at_ms, seq, value), received_ms)
        self._schedule()

    def take(self, newest: Newest) -> None:
        """Adopt what a worker published."""
        if not self._is_loaded and not self._reading.locked():
            return
        for sensor_no, seq, at_ms, value in newest.rows.tolist():
            sensor = self._sensors.get(sensor_no)
            if sensor is None:
                self._unknown[sensor_no] = (at_ms, seq, value, newest.received_ms)
            else:
                self._adopt(sensor, sensor_no, (at_ms, seq, value), newest.received_ms)
        self._schedule()

    def _adopt(self, sensor: _Sensor, sensor_no: int, reading: tuple[int, int, float], received_ms: int) -> None:
        if reading <= sensor.newest:
            return
        sensor.newest, sensor.received_ms = reading, received_ms
        at_ms, seq, value = reading
        head = f'{{"sensor_id":{protocol.ref_of(sensor.sensor_id)},"at":"{rfc3339.format_ms(at_ms)}"'
        sensor.item = f'{head},"value":{value!r},"seq":{seq}}}'
        self._seen_ms = max(self._seen_ms, received_ms)
        groups = sensor.groups
        if groups is None:
            groups = sensor.groups = tuple(
                group
                for group in self._groups.values()
                if group.criteria.passes(sensor.sensor_id, sensor.site_id, sensor.unit_id)
            )
        for group in groups:
            group.entries[sensor_no] = sensor.item

    def _schedule(self) -> None:
        if self._flushing is None and any(group.entries for group in self._groups.values()):
            wait_s = max(0.0, self._flushed_s + self._pause_s - monotonic_s())
            self._flushing = asyncio.get_running_loop().call_later(wait_s, self._flush)

    def _flush(self) -> None:
        self._flushing, self._flushed_s = None, monotonic_s()
        cursor = self._cursor()
        for group in self._groups.values():
            entries, group.entries = group.entries, {}
            if entries:
                hand_out(group.subscriptions, entries, cursor)

    def _cursor(self) -> str:
        return self._cursors.of_time(CHANNEL, self._seen_ms)

    def has_more(self, subscription: Subscription) -> bool:
        """Whether newest values wait for it."""
        return bool(subscription.pending)

    def drain(self, subscription: Subscription) -> Message:
        """Newest values of one frame."""
        return drained(subscription, self._cursor())

    async def join(self, subscription: Subscription, cursor: str | None) -> None:
        """Send how things stand, or what is newer than the cursor, and let the subscription watch from there."""
        await self.load()
        since_ms = None if cursor is None else self._cursors.time(CHANNEL, cursor)
        if cursor is not None and since_ms is None:
            subscription.send(protocol.unrecoverable("the cursor is not one of this tenant and channel"))
        subscription.is_held, subscription.feed = True, self
        self._watch(subscription)
        subscription.seen = self._cursor()
        least_ms = None if since_ms is None else since_ms - MARGIN_MS
        items = [
            sensor.item
            for sensor in self._sensors.values()
            if sensor.item
            and (least_ms is None or sensor.received_ms >= least_ms)
            and subscription.criteria.passes(sensor.sensor_id, sensor.site_id, sensor.unit_id)
        ]
        await send_pages(subscription, items, None if least_ms is None else cursor)
        subscription.send(protocol.sync(subscription.seen))
        subscription.release()

    def _watch(self, subscription: Subscription) -> None:
        group = self._groups.get(subscription.criteria)
        if group is None:
            group = self._groups[subscription.criteria] = _Group(subscription.criteria)
            self._regroup()
        group.subscriptions[subscription] = None
        self.left_s = None

    def leave(self, subscription: Subscription) -> None:
        """It watches no more."""
        group = self._groups.get(subscription.criteria)
        if group is None:
            return
        group.subscriptions.pop(subscription, None)
        if not group.subscriptions:
            del self._groups[subscription.criteria]
            self._regroup()
        if not self._groups:
            self.left_s = monotonic_s()

    def _regroup(self) -> None:
        for sensor in self._sensors.values():
            sensor.groups = None


async def send_pages(subscription: Subscription, items: list[str], cursor: str | None) -> None:
    """Items as snapshot pages, or, with a cursor to go on from, as events that do not move it yet."""
    pages = list(protocol.pages(items))
    for number, page in enumerate(pages, 1):
        await subscription.outbox.room()
        if cursor is None:
            subscription.send(protocol.snapshot(page, more=number < len(pages)))
        elif page:
            subscription.send(protocol.event(cursor, page))


def hand_out(subscriptions: Iterable[Subscription], entries: dict[object, str], cursor: str) -> None:
    """Offer newest values to everybody who watches them; what is too much for a frame goes to each when it has time."""
    if sum(map(len, entries.values())) > protocol.MAX_FRAME_CHARS:
        for subscription in subscriptions:
            subscription.keep(entries)
        return
    message = protocol.event(cursor, entries.values())
    for subscription in subscriptions:
        subscription.offer(message, entries)


def drained(subscription: Subscription, cursor: str) -> Message:
    """What was kept for it, of one frame; only the last frame moves the cursor."""
    items = subscription.take_pending()
    if not subscription.pending:
        subscription.seen = cursor
    return protocol.event(subscription.seen, items)
