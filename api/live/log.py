"""A tenant's log channels in this process: its recent events in memory, and everybody who follows them.

Events come from the store in the order of their numbers; a hole would mean that something was lost, so everybody is sent
away to come back with their cursors. Resuming from a cursor that memory reaches costs no query. Border: one tenant; waking
up is `api.live.bridge`'s.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from api.live import protocol
from api.live.cursors import LiveCursors
from api.live.protocol import CloseCode, Criteria, Message
from api.live.subscription import Subscription
from core.clock import monotonic_s
from core.postgres import Connection, Pool
from sinks.timescale import live
from sinks.timescale.live import Event, Place

_MAX_EVENTS: Final = 1_000
_MAX_CHARS: Final = 4 * 1024 * 1024
_SNAPSHOT_S: Final = 1.0
_MAX_SCANS: Final = 200
_SLOW: Final = "events come faster than this client takes them; come back with the cursor"
_REPLACED: Final = "the event log was replaced; come back with the cursor"


class Unrecoverable(Exception):
    """A cursor cannot be honoured; the text says why."""


class TenantLog:
    """The log channels of one tenant.

    Args:
        pool: under the reader role.
        tenant_id: whose.
        cursors: of the tenant.
    """

    def __init__(self, pool: Pool, tenant_id: str, cursors: LiveCursors) -> None:
        self._pool = pool
        self._tenant_id = tenant_id
        self._cursors = cursors
        self._recent: deque[Event] = deque()
        self._chars = 0
        self._tail = Place(0, 0)
        self._is_loaded = False
        self._reading = asyncio.Lock()
        self._groups: dict[tuple[str, Criteria], dict[Subscription, None]] = {}
        self._snapshots: dict[tuple[str, Criteria], tuple[float, Place, list[str]]] = {}
        self._snapshotting = asyncio.Lock()

    @property
    def is_followed(self) -> bool:
        """Whether wake-ups matter."""
        return self._is_loaded

    @property
    def tail(self) -> int:
        """The number of the last event known here."""
        return self._tail.seq

    @property
    def has_subscriptions(self) -> bool:
        """Whether anybody listens."""
        return any(self._groups.values())

    async def load(self) -> None:
        """Have the recent events in memory."""
        async with self._reading:
            if self._is_loaded:
                return
            async with live.snapshot(self._pool, self._tenant_id) as connection:
                self._tail = await live.head(connection)
                self._keep(await live.events_before(connection, _MAX_EVENTS))
            self._is_loaded = True

    async def follow(self, seq: int | None = None) -> None:
        """Read what is new, up to this number at least, and hand it out; None: whatever there is."""
        if not self._is_loaded:
            return
        async with self._reading:
            while seq is None or seq > self._tail.seq:
                known = self._tail
                found = await live.events_after(self._pool, self._tenant_id, known.seq)
                if known.seq and (not found or (found[0].seq, found[0].at_us) != known):
                    self._start_again()
                    return
                new = found[1:] if known.seq else found
                if any(event.seq != known.seq + 1 + n for n, event in enumerate(new)):
                    self._start_again()
                    return
                if not new:
                    return
                self._keep(new)
                self._hand_out(new)

    def _start_again(self) -> None:
        """The store's log is not the one that memory knows: forget, and have everybody come back with their cursors."""
        self._recent.clear()
        self._chars, self._tail, self._is_loaded = 0, Place(0, 0), False
        for subscription in [one for group in self._groups.values() for one in group]:
            subscription.close(CloseCode.RESYNC, _REPLACED)

    def _keep(self, events: Sequence[Event]) -> None:
        for event in events:
            self._recent.append(event)
            self._chars += len(event.item)
        while len(self._recent) > _MAX_EVENTS or self._chars > _MAX_CHARS:
            self._chars -= len(self._recent.popleft().item)
        if events:
            self._tail = Place(events[-1].seq, events[-1].at_us)

    def _hand_out(self, events: Sequence[Event]) -> None:
        before = events[0].seq - 1
        for (channel, criteria), group in self._groups.items():
            chosen = _chosen(events, channel, criteria)
            messages = [self._message(channel, part[-1], part) for part in _frames(chosen)]
            size = sum(len(message.tail) for message in messages)
            for subscription in list(group):
                if subscription.position < before or not subscription.outbox.has_room(size):
                    self._remind(subscription)
                    continue
                subscription.position = self._tail.seq
                for message in messages:
                    subscription.told = chosen[-1].seq
                    subscription.send(message)

    def _remind(self, subscription: Subscription) -> None:
        """It is behind: it goes on from memory when it has time, or is sent away if memory has moved on meanwhile."""
        if self._recent and subscription.position + 1 < self._recent[0].seq:
            subscription.close(CloseCode.SLOW, _SLOW)
        else:
            subscription.outbox.remind(subscription)

    def has_more(self, subscription: Subscription) -> bool:
        """Whether it is behind."""
        return subscription.position < self._tail.seq

    def drain(self, subscription: Subscription) -> Message | None:
        """Events of one frame from memory; a client so slow that memory has moved on is sent away, to resume by its cursor."""
        place, message = self._from_memory(subscription, subscription.position)
        if place is None:
            subscription.position = self._tail.seq
            subscription.close(CloseCode.SLOW, _SLOW)
            return None
        subscription.position = place.seq
        if message is not None:
            subscription.told = place.seq
        return message

    def _from_memory(self, subscription: Subscription, seq: int) -> tuple[Place | None, Message | None]:
        """What memory has after an event: where it leads to (None: memory does not reach back so far), and the message if any."""
        first = self._recent[0].seq if self._recent else self._tail.seq + 1
        if seq + 1 < first:
            return None, None
        start = seq + 1 - first
        part = [self._recent[n] for n in range(start, min(len(self._recent), start + live.PAGE_EVENTS))]
        return self._part(subscription, part)

    def _message(self, channel: str, last: Event, chosen: Iterable[Event]) -> Message:
        return protocol.event(
            self._cursors.of_place(channel, Place(last.seq, last.at_us)), (event.item for event in chosen)
        )

    async def join(self, subscription: Subscription, cursor: str | None) -> None:
        """Bring a subscription up to now, by its cursor or by a snapshot, and let it follow from there."""
        await self.load()
        channel, place = subscription.channel, None
        if cursor is not None:
            try:
                place = await self._resumed(subscription, cursor)
            except Unrecoverable as error:
                subscription.send(protocol.unrecoverable(str(error)))
        resumed = place is not None
        if place is None:
            place = await self._send_snapshot(subscription)
            subscription.send(protocol.sync(self._cursors.of_place(channel, place)))
        while (following := await self._catch_up(subscription, place)) is not None:
            place = following
        if not self._is_loaded:
            subscription.close(CloseCode.RESYNC, _REPLACED)
            return
        # Nothing is awaited between the last look at memory and here: no event slips through.
        if resumed:
            subscription.send(protocol.sync(self._cursors.of_place(channel, self._tail)))
        subscription.position = subscription.told = self._tail.seq
        subscription.feed = self
        self._groups.setdefault((channel, subscription.criteria), {})[subscription] = None

    def leave(self, subscription: Subscription) -> None:
        """It follows no more."""
        key = (subscription.channel, subscription.criteria)
        group = self._groups.get(key, {})
        group.pop(subscription, None)
        if not group:
            self._groups.pop(key, None)

    def tell_positions(self) -> None:
        """Give whoever was sent nothing for a while a newer cursor, so that it does not grow too old to be honoured."""
        for (channel, _), group in self._groups.items():
            message = protocol.sync(self._cursors.of_place(channel, self._tail))
            for subscription in list(group):
                if subscription.told < subscription.position:
                    subscription.told = subscription.position
                    subscription.send(message)

    async def _resumed(self, subscription: Subscription, cursor: str) -> Place:
        """The place that a cursor names, if everything after it is still there.

        Raises:
            Unrecoverable: it is not.
        """
        place = self._cursors.place(subscription.channel, cursor)
        if place is None:
            reason = "the cursor is not one of this tenant and channel"
            raise Unrecoverable(reason)
        if place.seq > self._tail.seq:
            await self.follow()  # another bridge was faster
        known = self._in_memory(place)
        if known is None:
            found = await live.events_after(self._pool, self._tenant_id, place.seq, 1)
            known = bool(found) and (found[0].seq, found[0].at_us) == place
            if place.seq == 0:
                known = not found or found[0].seq == 1
        if not known:
            reason = "the events after the cursor are not kept any more"
            raise Unrecoverable(reason)
        return place

    def _in_memory(self, place: Place) -> bool | None:
        """Whether a place is one that memory knows; None if memory cannot tell."""
        if not self._recent or place.seq < self._recent[0].seq:
            first = self._recent[0].seq if self._recent else self._tail.seq + 1
            return True if place == (0, 0) and first == 1 else None
        if place.seq > self._tail.seq:
            return False
        event = self._recent[place.seq - self._recent[0].seq]
        return event.at_us == place.at_us

    async def _catch_up(self, subscription: Subscription, place: Place) -> Place | None:
        """Send a part of what comes after a place; where that leaves it, None if that is now."""
        if place.seq >= self._tail.seq:
            return None
        await subscription.outbox.room()
        if place.seq >= self._tail.seq:
            return place
        following, message = self._from_memory(subscription, place.seq)
        if following is None:
            return await self._from_store(subscription, place)
        if message is not None:
            subscription.send(message)
        return following

    async def _from_store(self, subscription: Subscription, place: Place) -> Place | None:
        """Send a page of events that memory does not have any more."""
        found = await live.events_after(self._pool, self._tenant_id, place.seq)
        page = found[1:] if place.seq else found
        if not page or page[0].seq != place.seq + 1:
            subscription.close(CloseCode.RESYNC, "events were removed meanwhile; come back with the cursor")
            return None
        while page:
            await subscription.outbox.room()
            place, message = self._part(subscription, page)
            if message is not None:
                subscription.send(message)
            page = page[place.seq + 1 - page[0].seq :]
        return place

    def _part(self, subscription: Subscription, part: Sequence[Event]) -> tuple[Place, Message | None]:
        """Of these events at most a frame's worth of what is for the subscription, and where that leads to."""
        chosen: list[Event] = []
        size = 0
        last = part[0]
        for event in part:
            if event.channel == subscription.channel and _passes(event, subscription.criteria):
                if chosen and size + len(event.item) > protocol.MAX_ITEMS_CHARS:
                    break
                chosen.append(event)
                size += len(event.item)
            last = event
        message = self._message(subscription.channel, last, chosen) if chosen else None
        return Place(last.seq, last.at_us), message

    async def _send_snapshot(self, subscription: Subscription) -> Place:
        place, items = await self._snapshot(subscription.channel, subscription.criteria)
        pages = list(protocol.pages(items))
        for number, page in enumerate(pages, 1):
            await subscription.outbox.room()
            subscription.send(protocol.snapshot(page, more=number < len(pages)))
        return place

    async def _snapshot(self, channel: str, criteria: Criteria) -> tuple[Place, list[str]]:
        """How things stand and where in the log that is; many who ask at once share one query."""
        key = (channel, criteria)
        async with self._snapshotting:
            kept = self._snapshots.get(key)
            if kept is not None and monotonic_s() - kept[0] < _SNAPSHOT_S:
                return kept[1], kept[2]
            async with live.snapshot(self._pool, self._tenant_id) as connection:
                place = await live.head(connection)
                items = await _standing(connection, channel, criteria)
            now_s = monotonic_s()
            self._snapshots = {k: one for k, one in self._snapshots.items() if now_s - one[0] < _SNAPSHOT_S}
            self._snapshots[key] = now_s, place, items
        await self.follow(place.seq)
        return place, items


async def _standing(connection: Connection, channel: str, criteria: Criteria) -> list[str]:
    """What a channel's snapshot shows; scans have no sensor, so a filter leaves none."""
    if channel == "alerts":
        return await live.alerts_needing_attention(connection, criteria.narrows)
    if channel == "scans" and not criteria.narrows:
        return await live.newest_scans(connection, _MAX_SCANS)
    if channel == "jobs":
        return await live.unfinished_jobs(connection)
    return []


def _passes(event: Event, criteria: Criteria) -> bool:
    return criteria.passes(event.sensor_id, event.site_id, event.unit_id)


def _chosen(events: Sequence[Event], channel: str, criteria: Criteria) -> list[Event]:
    return [event for event in events if event.channel == channel and _passes(event, criteria)]


def _frames(events: Sequence[Event]) -> Iterator[list[Event]]:
    """Events in frames of bounded size."""
    part: list[Event] = []
    size = 0
    for event in events:
        if part and size + len(event.item) > protocol.MAX_FRAME_CHARS:
            yield part
            part, size = [], 0
        part.append(event)
        size += len(event.item)
    if part:
        yield part
