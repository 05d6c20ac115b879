"""A way to Kafka that ends in a list."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from weir_device.errors import DeliveryFailed
from weir_device.wire import Record

from schemas.scan_frames import decode_scan_frame


class FakeBroker:
    """A link that takes everything, or nothing while it is away."""

    def __init__(self, *, away: bool = False) -> None:
        self.records: list[Record] = []
        self._here = threading.Event()
        if not away:
            self._here.set()

    def deliver(self, records: Sequence[Record], gives_up: Callable[[], bool]) -> None:
        while not self._here.wait(0.01):
            if gives_up():
                msg = "away"
                raise DeliveryFailed(msg)
        self.records += records

    def come_back(self) -> None:
        self._here.set()

    def interrupt(self) -> None:
        pass

    def close(self) -> None:
        pass

    def frames(self) -> list[Any]:
        return [decode_scan_frame(record.value) for record in self.records]
