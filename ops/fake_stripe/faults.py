"""Trouble on demand: answers that fail before or after the work was done, or that never arrive."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Trouble(StrEnum):
    """What goes wrong with a request."""

    ERROR_BEFORE = "500_before"
    ERROR_AFTER = "500_after"
    LOST_REPLY = "lost_reply"
    RATE_LIMIT = "429"
    CONFLICT = "409"


@dataclass(slots=True)
class Fault:
    """The next `times` requests whose path begins like this go wrong, after letting `skip` pass."""

    path: str
    trouble: Trouble
    times: int = 1
    skip: int = 0


class Faults:
    """The faults that wait."""

    def __init__(self) -> None:
        self._waiting: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """One more."""
        self._waiting.append(fault)

    def clear(self) -> None:
        """None any more."""
        self._waiting.clear()

    def take(self, path: str) -> Trouble | None:
        """What goes wrong with this request, if anything."""
        for fault in self._waiting:
            if not path.startswith(fault.path):
                continue
            if fault.skip:
                fault.skip -= 1
                return None
            fault.times -= 1
            if fault.times <= 0:
                self._waiting.remove(fault)
            return fault.trouble
        return None
