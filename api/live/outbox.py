"""What waits to be sent to one connection: frames in order within a bound, and who has more once there is time.

Border: a queue; who fills it never waits, one task empties it. While a client is busy, subscriptions keep what is new where it
costs nothing (newest values conflated, events in the tenant's shared memory) and are asked for it when the queue is empty.
"""

from __future__ import annotations

import asyncio
from collections import deque
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
    """

    def __init__(self, limit: int, encode: Callable[[Message, str], str], overflowed: Callable[[], None]) -> None:
        self._limit = limit
        self._encode = encode
        self._overflowed = overflowed
        self._frames: deque[str] = deque()
        self._size = 0
        self._waiting: dict[Waiting, None] = {}
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()
        self._emptied.set()
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
        if self._size > self._limit // 2:
            self._emptied.clear()
        self._filled.set()

    def deliver(self, ref: str, message: Message) -> None:
        """Queue a message of a subscription."""
        self.put(self._encode(message, ref))

    def has_room(self, chars: int) -> bool:
        """Whether so much fits in."""
        return not self._waiting and self._size + chars <= self._limit

    def remind(self, subscription: Waiting) -> None:
        """It has something to say once there is time."""
        self._waiting[subscription] = None
        self._filled.set()

    def forget(self, subscription: Waiting) -> None:
        """It ended."""
        self._waiting.pop(subscription, None)

    async def next(self) -> str | None:
        """The next frame to send; None once closed and empty."""
        self._sending = False
        while True:
            if self._frames:
                return self._taken()
            self._emptied.set()
            if self._closed:
                return None
            if self._waiting:
                message, ref = self._asked()
                if message is not None:
                    self._sending = True
                    return self._encode(message, ref)
                continue
            self._filled.clear()
            await self._filled.wait()

    def _asked(self) -> tuple[Message | None, str]:
        """What the subscription that waits longest has to say."""
        subscription = next(iter(self._waiting))
        del self._waiting[subscription]
        message = subscription.drain()
        if subscription.has_more and not self._closed:
            self._waiting[subscription] = None
        return message, subscription.ref

    def _taken(self) -> str:
        frame = self._frames.popleft()
        self._size -= len(frame)
        self._sending = True
        if self._size <= self._limit // 2:
            self._emptied.set()
        return frame

    async def room(self) -> None:
        """Wait until at most half is full: whoever sends much paces itself by this."""
        await self._emptied.wait()

    def close(self, *, discard: bool = False) -> None:
        """Take nothing more; what waits is still sent unless discarded."""
        self._closed = True
        if discard:
            self._frames.clear()
            self._size = 0
        self._waiting.clear()
        self._emptied.set()
        self._filled.set()
