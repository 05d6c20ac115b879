"""Bytes that one worker keeps between jobs, so that the next one need not make them again; never the only copy of anything."""

from __future__ import annotations

from collections import OrderedDict


class Kept:
    """The most recently used values, up to a size.

    Args:
        max_bytes: of all values together.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._values: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0

    def get(self, key: str) -> bytes | None:
        """What was put under this key, if it is still there."""
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
        return value

    def put(self, key: str, value: bytes) -> None:
        """Keep a value; those that were used longest ago give way."""
        self.drop(key)
        self._values[key] = value
        self._bytes += len(value)
        while self._bytes > self._max_bytes:
            self.drop(next(iter(self._values)))

    def drop(self, key: str) -> None:
        """Forget a value, if it is there."""
        self._bytes -= len(self._values.pop(key, b""))
