"""Bytes that one worker keeps between jobs, so that the next one need not make them again; never the only copy of anything."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from core.clock import monotonic_s

FORGOTTEN_AFTER_S: Final = 300.0


class Kept:
    """Values up to a size. When it is full, those that nobody used for minutes give way; if there are none, the new one does.

    Jobs take turns, so what was used longest ago is needed next: giving that away would keep nothing for anybody once there
    is more than has room, while so every value that has a place keeps it.

    Args:
        max_bytes: of all values together.
        clock: seconds.
    """

    def __init__(self, max_bytes: int, clock: Callable[[], float] = monotonic_s) -> None:
        self._max_bytes = max_bytes
        self._clock = clock
        self._values: OrderedDict[str, bytes] = OrderedDict()
        self._used_s: dict[str, float] = {}
        self.bytes = 0

    def get(self, key: str) -> bytes | None:
        """What was put under this key, if it is still there."""
        value = self._values.get(key)
        if value is not None:
            self._use(key)
        return value

    def put(self, key: str, value: bytes) -> None:
        """Keep a value instead of the one before, if there is room."""
        self.drop(key)
        while self.bytes + len(value) > self._max_bytes and self._drop_forgotten():
            pass
        if self.bytes + len(value) <= self._max_bytes:
            self._values[key] = value
            self.bytes += len(value)
            self._use(key)

    def drop(self, key: str) -> None:
        """Forget a value, if it is there."""
        self.bytes -= len(self._values.pop(key, b""))
        self._used_s.pop(key, None)

    def _use(self, key: str) -> None:
        self._values.move_to_end(key)
        self._used_s[key] = self._clock()

    def _drop_forgotten(self) -> bool:
        """Drop the value that was used longest ago, if that is long ago."""
        oldest = next(iter(self._values), None)
        if oldest is None or self._clock() - self._used_s[oldest] < FORGOTTEN_AFTER_S:
            return False
        self.drop(oldest)
        return True
