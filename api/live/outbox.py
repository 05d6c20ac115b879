"""What waits to be sent to one connection: frames in order within a bound, and who has more once there is time.

Border: a queue; who fills it never waits, one task empties it. While a client is busy, subscriptions keep what is new where it
costs nothing (newest values conflated, events in the tenant's shared memory) and are asked for it when the queue is empty.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from api.live.protocol import Message


class Waiting(Protocol):
    """A subscription that has something to say once there is time."""

    def drain(self) -> Message | None:
        """A frame's worth of it; None if none of that is for its client."""
        ...

    @property
    def has_more(self) -> bool:
        """Whether something is left."""
        ...

    @property
    def ref(self) -> str:
        """JSON text of the id that its client gave it."""
        ...


class Outbox:
    """Frames of one connection.

    Args:
        limit: characters that may wait.
        encode: how a message looks at this door, given the subscription's id.
        overflowed: called when a frame does not fit.
        push: sends a frame's bytes without waiting, False if that cannot be done now; None: this door has no such way.
    """

    __slots__ = (
        "_closed",
        "_encode",
        "_frames",
        "_limit",
        "_overflowed",
        "_pacing",
        "_push",
        "_sending",
        "_size",
        "_waiting",
        "_writer",
    )

    def __init__(
        self,
        limit: int,
        encode: Callable[[Message, str], str],
        overflowed: Callable[[], None],
        push: Callable[[bytes], bool] | None = None,
    ) -> None:
        self._limit = limit
        self._encode = encode
        self._overflowed = overflowed
        self._push = push
        # Most connections are idle: a list and two empty places cost less than a deque and two events.
        self._frames: list[str] = []
        self._size = 0
        self._waiting: dict[Waiting, None] = {}
        self._writer: asyncio.Future[None] | None = None
        self._pacing: list[asyncio.Future[None]] = []
        self._sending = False
        self._closed = False

    @property
    def is_busy(self) -> bool:
        """Whether what is handed in now would have to wait."""
        return self._sending or bool(self._frames) or bool(self._waiting)

    def put(self, frame: str) -> None:
        """Queue a frame as it is."""
        if self._closed:
            return
        # A frame alone always fits: a bound below the largest frame must not make a connection useless.
        if self._frames and self._size + len(frame) > self._limit:
            self._overflowed()
            return
        self._frames.append(frame)
        self._size += len(frame)
        self._wake()

    def deliver(self, ref: str, message: Message) -> None:
        """Send a message of a subscription at once if nothing is before it and the client takes it, else queue it."""
        if self._push is not None and not self._closed and not self.is_busy and self._push(message.wire(ref)):
            return
        self.put(self._encode(message, ref))

    def has_room(self, chars: int) -> bool:
        """Whether so much fits in."""
        return not self._waiting and self._size + chars <= self._limit

    def remind(self, subscription: Waiting) -> None:
        """It has something to say once there is time."""
        self._waiting[subscription] = None
        self._wake()

    def forget(self, subscription: Waiting) -> None:
        """It ended."""
        self._waiting.pop(subscription, None)

    async def next(self) -> str | None:
        """The next frame to send; None once closed and empty."""
        self._sending = False
        while True:
            if self._frames:
                return self._taken()
            if self._closed:
                return None
            if self._waiting:
                message, ref = self._asked()
                if message is not None:
                    self._sending = True
                    return self._encode(message, ref)
                continue
            self._writer = asyncio.get_running_loop().create_future()
            await self._writer

    def _asked(self) -> tuple[Message | None, str]:
        """What the subscription that waits longest has to say."""
        subscription = next(iter(self._waiting))
        del self._waiting[subscription]
        message = subscription.drain()
        if subscription.has_more and not self._closed:
            self._waiting[subscription] = None
        return message, subscription.ref

    def _taken(self) -> str:
        frame = self._frames.pop(0)
        self._size -= len(frame)
        self._sending = True
        self._pace()
        return frame

    def _wake(self) -> None:
        if self._writer is not None and not self._writer.done():
            self._writer.set_result(None)

    def _pace(self) -> None:
        """Let those go on who wait for room."""
        if self._size <= self._limit // 2 or self._closed:
            pacing, self._pacing = self._pacing, []
            for one in pacing:
                if not one.done():
                    one.set_result(None)

    async def room(self) -> None:
        """Wait until at most half is full: whoever sends much paces itself by this."""
        if self._size > self._limit // 2 and not self._closed:
            waiting = asyncio.get_running_loop().create_future()
            self._pacing.append(waiting)
            await waiting

    def close(self, *, discard: bool = False) -> None:
        """Take nothing more; what waits is still sent unless discarded."""
        self._closed = True
        if discard:
            self._frames.clear()
            self._size = 0
        self._waiting.clear()
        self._pace()
        self._wake()
