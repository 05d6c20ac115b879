"""One subscription of one connection, whichever door it came through.

Border: state only. The tenant's feeds decide what it gets, its connection's outbox how it gets there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from api.live.outbox import Outbox
from api.live.protocol import CloseCode, Criteria, Message


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
        "drained",
        "is_held",
        "outbox",
        "pending",
        "position",
        "ref",
        "tenant_id",
        "told",
    )  # fmt: skip

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
        # Of a log: the last event that it was given or that is not for it, and the last one its client was told.
        self.position = 0
        self.told = 0
        # Of a latest channel: newest values that wait; while held, until its snapshot is out.
        self.pending: dict[object, str] = {}
        self.is_held = False
        self.drained: Callable[[list[str]], Message] | None = None

    def send(self, message: Message) -> None:
        """Queue a message."""
        self.outbox.deliver(self.ref, message)

    def offer(self, message: Message, entries: Mapping[object, str]) -> None:
        """Newest values: now if the connection is idle."""
        if self.is_held:
            self.pending.update(entries)
        else:
            self.outbox.offer(self, message, entries)

    def release(self) -> None:
        """The snapshot is out: what came meanwhile may go."""
        self.is_held = False
        if self.pending:
            self.outbox.remind(self)

    def conflate(self, entries: Mapping[object, str]) -> None:
        """Keep the newest of each key until there is time."""
        self.pending.update(entries)

    def drain(self) -> Message | None:
        """What was kept as one message; nothing is kept any more."""
        if not self.pending or self.drained is None or self.is_held:
            return None
        items, self.pending = list(self.pending.values()), {}
        return self.drained(items)
