"""What waits for the broker, oldest first; this one in memory, `journal.Journal` on disk.

Border: keeps and bounds entries. A buffer is not thread-safe: the publisher's lock is around every call.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol

from weir_device.errors import BufferFull
from weir_device.wire import Entry

FRAME_OVERHEAD = 13
"""Bytes that an entry takes beside its data, on disk; counted in memory too, so that one limit means one thing."""

Position = tuple[int, int]
"""Where an entry ends; later entries have greater positions. What the two numbers are is the buffer's own affair."""


class Buffer(Protocol):
    """A bounded queue whose head is only dropped once its delivery is certain."""

    keeps_after_close: bool
    """Whether a later publisher finds what is still waiting."""

    @property
    def waiting_readings(self) -> int:
        """Readings that are not released yet."""
        ...

    def append(self, entry: Entry) -> None:
        """Put an entry at the end.

        Raises:
            BufferFull: no room; nothing was changed.
        """
        ...

    def oldest(self) -> Iterator[tuple[Entry, Position]]:
        """All waiting entries in order, each with the position to release once it and those before it are delivered."""
        ...

    def release(self, position: Position, readings: int) -> None:
        """Forget the entries up to a position, which held so many readings."""
        ...

    def pending_sync(self) -> Callable[[], None] | None:
        """What to call, outside the publisher's lock, so that all entries survive a loss of power; None if all do."""
        ...

    def close(self) -> None:
        """Let go of files and locks."""
        ...


class MemoryBuffer:
    """Entries in memory: lost with the process, and given up by a close that could not deliver them."""

    keeps_after_close = False

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: deque[Entry] = deque()
        self._bytes = 0
        self._released = 0  # entries ever released: the position of the head
        self.waiting_readings = 0

    def append(self, entry: Entry) -> None:
        """See Buffer."""
        size = len(entry.data) + FRAME_OVERHEAD
        require_room(size, self._bytes, self._max_bytes)
        self._entries.append(entry)
        self._bytes += size
        self.waiting_readings += entry.readings

    def oldest(self) -> Iterator[tuple[Entry, Position]]:
        """See Buffer."""
        for number, entry in enumerate(self._entries, start=self._released + 1):
            yield entry, (0, number)

    def release(self, position: Position, readings: int) -> None:
        """See Buffer."""
        while self._released < position[1]:
            self._bytes -= len(self._entries.popleft().data) + FRAME_OVERHEAD
            self._released += 1
        self.waiting_readings -= readings

    def pending_sync(self) -> Callable[[], None] | None:
        """Memory does not survive: there is nothing to wait for."""
        return None

    def close(self) -> None:
        """Forget everything."""
        self._entries.clear()


def require_room(size: int, waiting_bytes: int, max_bytes: int) -> None:
    """Refuse an entry of `size` bytes that would exceed the bound.

    Raises:
        BufferFull: it would.
    """
    if waiting_bytes + size > max_bytes:
        msg = (
            f"the buffer is full: {waiting_bytes} of {max_bytes} bytes wait for the broker and {size} more do not fit; "
            "the reading was not accepted. Publish it again once the broker is back, or raise buffer_max_bytes"
        )
        raise BufferFull(msg)
