"""One subscription of one connection, whichever door it came through.

Border: state only. The tenant's feeds decide what it gets, its connection's outbox how it gets there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from api.live.outbox import Outbox
from api.live.protocol import MAX_FRAME_CHARS, CloseCode, Criteria, Message


class Feed(Protocol):
    """What a subscription follows."""

    def has_more(self, subscription: Subscription) -> bool:
        """Whether something waits for it."""
        ...

    def drain(self, subscription: Subscription) -> Message | None:
        """A frame's worth of what waits; None if none of it is for this subscription."""
        ...


class Subscription:
    """A channel of a tenant, narrowed by criteria.

    Args:
        tenant_id: from the credential.
        channel: one of `schemas.live.CHANNELS`.
        criteria: its filter.
        ref: JSON text of the client's id.
        outbox: of its connection.
        close: closes its connection.
    """

    __slots__ = (
        "channel",
        "close",
        "criteria",
        "feed",
        "is_held",
        "outbox",
        "pending",
        "position",
        "ref",
        "seen",
        "tenant_id",
        "told",
    )

    def __init__(
        self,
        tenant_id: str,
        channel: str,
        criteria: Criteria,
        ref: str,
        outbox: Outbox,
        close: Callable[[CloseCode, str], None],
    ) -> None:
        self.tenant_id = tenant_id
        self.channel = channel
        self.criteria = criteria
        self.ref = ref
        self.outbox = outbox
        self.close = close
        # What to ask for more once there is time; None until it has joined.
        self.feed: Feed | None = None
        # Of a log: the last event that it was given or that is not for it, and the last one its client was told.
        self.position = 0
        self.told = 0
        # Of a latest channel: newest values that wait, and where a client goes on that got only a part of them.
        self.pending: dict[object, str] = {}
        self.seen = ""
        # Until its snapshot is out.
        self.is_held = False

    def send(self, message: Message) -> None:
        """Queue a message."""
        self.outbox.deliver(self.ref, message)

    def offer(self, message: Message, entries: Mapping[object, str]) -> None:
        """Newest values: now if the connection is idle, else conflated."""
        if self.is_held or self.outbox.is_busy:
            self.keep(entries)
        else:
            self.send(message)
            self.seen = message.cursor or self.seen

    def keep(self, entries: Mapping[object, str]) -> None:
        """Newest values for when there is time."""
        self.pending.update(entries)
        if not self.is_held:
            self.outbox.remind(self)

    def release(self) -> None:
        """The snapshot is out: what came meanwhile may go."""
        self.is_held = False
        if self.pending:
            self.outbox.remind(self)

    @property
    def has_more(self) -> bool:
        """Whether something waits for it."""
        return self.feed is not None and not self.is_held and self.feed.has_more(self)

    def drain(self) -> Message | None:
        """A frame's worth of what waits; None if none of it is for this subscription."""
        return None if self.feed is None or not self.has_more else self.feed.drain(self)

    def take_pending(self) -> list[str]:
        """Newest values for one frame; they wait no more."""
        items: list[str] = []
        size = 0
        for key in list(self.pending):
            item = self.pending[key]
            if items and size + len(item) > MAX_FRAME_CHARS:
                break
            items.append(item)
            size += len(item)
            del self.pending[key]
        return items
