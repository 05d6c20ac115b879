"""The sending thread: oldest group first, the next one only after the broker has acknowledged it.

Border: what is in the buffer and when it goes. How it reaches Kafka is the link's affair (`kafka_link`), which tests
replace. All state here is guarded by one condition, shared with the publisher.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from weir_device.buffer import Buffer
from weir_device.errors import DeliveryFailed
from weir_device.grouping import Group, next_group
from weir_device.wire import Record

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
SYNC_INTERVAL_S = 1.0
SILENCE_S = 5.0


class Link(Protocol):
    """A way to the broker; used by the sending thread alone."""

    def deliver(self, records: Sequence[Record], gives_up: Callable[[], bool]) -> None:
        """Return once the broker has all records, in order; raise DeliveryFailed if that is not certain.

        `gives_up` is asked several times a second while waiting; once true, the delivery fails.
        """
        ...

    def interrupt(self) -> None:
        """Make a waiting `deliver` fail soon; called by another thread, which has made `gives_up` true before."""
        ...

    def close(self) -> None:
        """Let go of the connection."""
        ...


@dataclass(slots=True)
class Progress:
    """What the sending thread has done; read under the condition."""

    delivered_readings: int = 0
    delivered_records: int = 0
    last_error: str | None = None
    failure: Exception | None = None


class Sender:
    """Empties a buffer through a link in a thread of its own; a second one syncs what has to wait to the disk.

    Args:
        buffer: only touched while `condition` is held.
        link: only touched by the sending thread.
        condition: shared with whoever appends to the buffer.
        max_batch_readings: readings in one record.
        linger_s: how long a record waits for company.
        now_ms: wall clock, for `sent_at`.
    """

    def __init__(
        self,
        buffer: Buffer,
        link: Link,
        condition: threading.Condition,
        *,
        max_batch_readings: int,
        linger_s: float,
        now_ms: Callable[[], int],
    ) -> None:
        self.progress = Progress()
        self.hurry = 0  # callers of flush: while there are any, nothing lingers
        self._buffer = buffer
        self._link = link
        self._condition = condition
        self._max_batch_readings = max_batch_readings
        self._linger_s = linger_s
        self._now_ms = now_ms
        self._stopping = threading.Event()
        self._threads = [self._thread("sender", self._send_all)]
        if buffer.keeps_after_close:
            self._threads.append(self._thread("sync", self._sync_regularly))

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_s: float) -> None:
        """End the threads; what is in flight counts as not delivered.

        A thread that is inside a call of the network library may end later; it neither sends nor touches the buffer.
        """
        with self._condition:
            self._stopping.set()
            self._condition.notify_all()
        self._link.interrupt()
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _thread(self, name: str, body: Callable[[], None]) -> threading.Thread:
        return threading.Thread(target=self._guarded, args=(body,), name=f"weir-device-{name}", daemon=True)

    def _guarded(self, body: Callable[[], None]) -> None:
        """A thread that ends on an error says so to the next caller, instead of falling silent."""
        try:
            body()
        except Exception as exc:  # the edge of a thread; publish, flush and close raise it
            log.exception("the publisher's thread %s ended", threading.current_thread().name)
            with self._condition:
                self.progress.failure = exc
                self._condition.notify_all()

    def _send_all(self) -> None:
        try:
            while (group := self._next_group()) is not None:
                self._deliver(group)
        finally:
            self._link.close()

    def _next_group(self) -> Group | None:
        """Wait until there is something to send; None when stopping."""
        with self._condition:
            self._condition.wait_for(lambda: self._stopping.is_set() or self._buffer.waiting_readings > 0)
            self._condition.wait_for(self._need_not_linger, timeout=self._linger_s)
            if self._stopping.is_set():
                return None
            return next_group(self._buffer.oldest(), self._max_batch_readings, self._now_ms())

    def _need_not_linger(self) -> bool:
        full = self._buffer.waiting_readings >= self._max_batch_readings
        return full or self.hurry > 0 or self._stopping.is_set()

    def _deliver(self, group: Group) -> None:
        """Send a group until it is acknowledged or the publisher stops."""
        for pause_s in _pauses():
            started_s = time.monotonic()
            try:
                self._link.deliver(group.records, partial(self._gives_up, started_s))
            except DeliveryFailed as exc:
                self._note_failure(str(exc))
                if self._stopping.wait(pause_s):
                    return
            else:
                self._note_delivery(group)
                return

    def _gives_up(self, started_s: float) -> bool:
        """Whether to end a delivery; one that takes long is no failure yet, but is said."""
        if self.progress.last_error is None and time.monotonic() - started_s > SILENCE_S:
            self._note_failure(f"no acknowledgement for {SILENCE_S:g} s")
        return self._stopping.is_set()

    def _note_failure(self, error: str) -> None:
        with self._condition:
            first = self.progress.last_error is None
            self.progress.last_error = error
        if first and not self._stopping.is_set():
            log.warning("Kafka does not take readings (%s); they are buffered and sent later", error)

    def _note_delivery(self, group: Group) -> None:
        with self._condition:
            if self._stopping.is_set():
                return  # the buffer may be closed already; the group is sent again by the next publisher
            self._buffer.release(group.end, group.readings)
            self.progress.delivered_readings += group.readings
            self.progress.delivered_records += len(group.records)
            recovered, self.progress.last_error = self.progress.last_error is not None, None
            self._condition.notify_all()
        if recovered:
            log.info("Kafka takes readings again")

    def _sync_regularly(self) -> None:
        while not self._stopping.wait(SYNC_INTERVAL_S):
            with self._condition:
                sync = self._buffer.pending_sync() if not self._stopping.is_set() else None
            if sync is not None:
                sync()


def _pauses() -> Iterator[float]:
    """Between attempts: doubling, with full jitter so that a fleet does not come back in step."""
    longest_s = FIRST_PAUSE_S
    while True:
        yield random.uniform(FIRST_PAUSE_S / 2, longest_s)  # noqa: S311 - not a secret
        longest_s = min(2 * longest_s, LONGEST_PAUSE_S)
