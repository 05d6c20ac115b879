"""The only reader of time. Everything that needs the time takes a `Clock`, so tests can set it."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Tells the wall-clock time."""

    def now_ms(self) -> int:
        """UTC epoch milliseconds."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        """UTC epoch milliseconds, floored."""
        return time.time_ns() // 1_000_000


def now_ms() -> int:
    """UTC epoch milliseconds of the machine's clock, floored."""
    return time.time_ns() // 1_000_000


def monotonic_s() -> float:
    """Seconds of a clock that never goes back; only differences mean something."""
    return time.monotonic()
