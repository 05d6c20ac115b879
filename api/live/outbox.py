"""What waits to be sent to one connection: frames in order within a byte bound, and newest values while it is busy.

Border: a queue; who fills it never waits, one task empties it. Log frames that do not fit overflow it: its owner closes the
connection with a code that says "come back", and the cursor does the rest. Latest values never overflow, they conflate.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import Protocol

from api.live.protocol import Message


class Conflating(Protocol):
    """A subscription to a latest channel."""

    def conflate(self, entries: Mapping[object, str]) -> None:
        """Keep the newest of each key until there is time."""
        ...

    def drain(self) -> Message | None:
        """What was kept as one message; nothing is kept any more."""
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
        self._waiting: dict[Conflating, None] = {}
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()
        self._emptied.set()
        self._sending = False
        self._closed = False

    @property
    def is_busy(self) -> bool:
        """Whether what is handed in now would have to wait."""
        return self._sending or bool(self._frames)

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

    def offer(self, subscription: Conflating, message: Message, entries: Mapping[object, str]) -> None:
        """Send newest values now, or as soon as there is time, then only the newest of each key."""
        if not self.is_busy:
            self.deliver(subscription.ref, message)
            return
        subscription.conflate(entries)
        self.remind(subscription)

    def remind(self, subscription: Conflating) -> None:
        """It has something conflated to say."""
        self._waiting[subscription] = None
        self._filled.set()

    def forget(self, subscription: Conflating) -> None:
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
            while self._waiting:
                subscription = next(iter(self._waiting))
                del self._waiting[subscription]
                message = subscription.drain()
                if message is not None:
                    self._sending = True
                    return self._encode(message, subscription.ref)
            self._filled.clear()
            await self._filled.wait()

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
