"""`DevicePublisher`, the face of the library.

Border: arguments, counts and lifetimes. Readings go from here into a buffer, and from there by a thread of their own
(`sender`) to Kafka.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from weir_device.buffer import Buffer, MemoryBuffer
from weir_device.errors import PublisherClosed, PublisherFailed
from weir_device.journal import Journal
from weir_device.kafka_link import KafkaLink
from weir_device.sender import Link, Sender
from weir_device.wire import MAX_READINGS, Entry, reading_entry, record_entry, scan_entry

log = logging.getLogger(__name__)

MIB = 1024 * 1024
MAX_DEVICE_ID = 128
_STOP_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class FlushReport:
    """Where the readings are.

    Attributes:
        delivered: readings that the broker has acknowledged since the publisher was made.
        buffered: readings that it has not. After close: kept in the buffer directory, or lost if there is none.
    """

    delivered: int
    buffered: int


@dataclass(frozen=True, slots=True)
class PublisherStats:
    """Counts since the publisher was made: recovered + published = delivered + buffered + dropped.

    Attributes:
        recovered: readings that an earlier publisher had left in the buffer directory.
        published: readings that publish and publish_record accepted.
        delivered: readings that the broker has acknowledged.
        delivered_records: the Kafka records that they travelled in.
        buffered: readings that wait.
        dropped: readings given up by closing a publisher that has no buffer directory; always 0 while it is open.
        last_error: why nothing is delivered at the moment, if so.
    """

    recovered: int
    published: int
    delivered: int
    delivered_records: int
    buffered: int
    dropped: int
    last_error: str | None


def system_now_ms() -> int:
    """UTC epoch milliseconds of this machine's clock."""
    return time.time_ns() // 1_000_000


class DevicePublisher:
    """Publishes one device's readings: signed, in order, at least once; Weir stores each reading once.

    `publish` returns when the reading is in the buffer and never waits for the broker, which need not even be there
    when the publisher is made. Use it as a context manager: leaving the block flushes and closes. Safe to use from
    several threads; not across a fork.

    Args:
        device_id: who publishes; Kafka's record key.
        secret: the device's secret, which signs every record and is never stored.
        bootstrap_servers: "host:port", several of them separated by commas, or a sequence of them.
        topic: with the system's prefix, if it has one.
        buffer_dir: where readings wait for the broker, across restarts and crashes of the process; this publisher's
            alone. None: in memory, lost with the process.
        max_batch_readings: readings in one record, at most 10 000.
        linger_ms: how long a reading waits for others to share its record.
        buffer_max_bytes: bound of the buffer; a reading takes about 80 bytes.
        kafka_options: further settings of kafka-python's KafkaProducer, e.g. security_protocol and ssl_cafile.
        now_ms: the clock, for readings without a time.
        link: another way to the broker than Kafka, for tests.

    Raises:
        ValueError: an argument is out of range.
        BufferUnusable: the buffer directory is in use, or another device's.
        OSError: the buffer directory cannot be made or read.
    """

    def __init__(
        self,
        *,
        device_id: str,
        secret: str,
        bootstrap_servers: str | Sequence[str],
        topic: str = "readings",
        buffer_dir: Path | None = None,
        max_batch_readings: int = 100,
        linger_ms: int = 200,
        buffer_max_bytes: int = 64 * MIB,
        kafka_options: Mapping[str, object] | None = None,
        now_ms: Callable[[], int] = system_now_ms,
        link: Link | None = None,
    ) -> None:
        _check_identity(device_id, secret)
        _check_limits(max_batch_readings, linger_ms, buffer_max_bytes)
        servers = _servers(bootstrap_servers)
        link = link or KafkaLink(
            device_id=device_id, secret=secret, bootstrap_servers=servers, topic=topic, kafka_options=kafka_options
        )
        self._now_ms = now_ms
        self._buffer: Buffer = (
            MemoryBuffer(buffer_max_bytes)
            if buffer_dir is None
            else Journal(Path(buffer_dir), device_id=device_id, topic=topic, max_bytes=buffer_max_bytes)
        )
        self._max_batch_readings = max_batch_readings
        self._condition = threading.Condition()
        self._recovered = self._buffer.waiting_readings
        self._published = 0
        self._dropped = 0
        self._closed = False
        self._sender = Sender(
            self._buffer,
            link,
            self._condition,
            max_batch_readings=max_batch_readings,
            linger_s=linger_ms / 1000,
            now_ms=now_ms,
        )
        self._sender.start()

    def publish(self, sensor: str, value: float, at: datetime | int | None = None, seq: int = 0) -> None:
        """Accept a reading.

        Args:
            sensor: name within the device, 1 to 128 printable characters.
            value: finite, in the sensor's unit.
            at: aware datetime or epoch milliseconds, floored to milliseconds; None is now.
            seq: tells readings of one sensor and time apart, 0 to 2^31-1.

        Raises:
            TypeError, ValueError: the reading could not be accepted at the other end.
            BufferFull: no room; the reading was not accepted.
            PublisherClosed, PublisherFailed: nothing is accepted any more.
        """
        self._accept(reading_entry(sensor, value, self._now_ms() if at is None else at, seq))

    def publish_record(self, value: bytes, content_type: str, readings: int) -> None:
        """Accept a whole record, which is signed and sent byte for byte.

        Args:
            value: at most 900 KiB.
            content_type: application/json, application/msgpack or application/senml+json.
            readings: how many it holds, for the counts; at most 10 000.

        Raises:
            ValueError: outside these limits.
            BufferFull, PublisherClosed, PublisherFailed: as publish.
        """
        self._accept(record_entry(value, content_type, readings))

    def publish_scan_record(self, scan_id: str, value: bytes) -> None:
        """Accept a record of a scan, keyed by the scan; this publisher's topic must be the one of scan frames.

        Args:
            scan_id: 1 to 128 bytes of printable text.
            value: MessagePack, just under 900 KiB at most; it counts as one reading.

        Raises:
            ValueError: outside these limits.
            BufferFull, PublisherClosed, PublisherFailed: as publish.
        """
        self._accept(scan_entry(scan_id, value))

    def flush(self, timeout_s: float = 30.0) -> FlushReport:
        """Wait until what was published before this call is delivered, or the time is up.

        Raises:
            PublisherFailed: the sending thread has ended.
        """
        with self._condition:
            self._check_alive()
            self._sender.hurry += 1
            self._condition.notify_all()
            target = self._recovered + self._published
            try:
                self._condition.wait_for(lambda: self._has_delivered(target), timeout=timeout_s)
            finally:
                self._sender.hurry -= 1
            self._check_alive()
            return self._report()

    def close(self, timeout_s: float = 30.0) -> FlushReport:
        """Flush, then end the threads and let go of the buffer; again is harmless.

        What could not be delivered in time stays in the buffer directory for the next publisher, or, without one, is
        dropped and counted so.

        Raises:
            PublisherFailed: the sending thread had ended before; everything is closed nevertheless.
        """
        with self._condition:
            if self._closed:
                return self._report()
            self._closed = True
        try:
            self.flush(timeout_s)
        finally:
            self._sender.stop(_STOP_TIMEOUT_S)
            with self._condition:
                self._drop_what_cannot_be_kept()
                self._buffer.close()
        return self._report()

    @property
    def stats(self) -> PublisherStats:
        """Counts of this moment."""
        with self._condition:
            progress = self._sender.progress
            return PublisherStats(
                recovered=self._recovered,
                published=self._published,
                delivered=progress.delivered_readings,
                delivered_records=progress.delivered_records,
                buffered=self._buffer.waiting_readings - self._dropped,
                dropped=self._dropped,
                last_error=progress.last_error,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _accept(self, entry: Entry) -> None:
        with self._condition:
            if self._closed:
                msg = "this publisher is closed; make a new one"
                raise PublisherClosed(msg)
            self._check_alive()
            before = self._buffer.waiting_readings
            self._buffer.append(entry)
            self._published += entry.readings
            # The sender only waits for the first reading and for a full record: no need to wake it for those between.
            if before == 0 or before < self._max_batch_readings <= before + entry.readings:
                self._condition.notify_all()

    def _drop_what_cannot_be_kept(self) -> None:
        waiting = self._buffer.waiting_readings
        if waiting and not self._buffer.keeps_after_close:
            self._dropped = waiting
            log.warning("%d readings were not delivered and are lost; a buffer_dir would have kept them", waiting)

    def _has_delivered(self, target: int) -> bool:
        progress = self._sender.progress
        return progress.delivered_readings >= target or progress.failure is not None

    def _check_alive(self) -> None:
        failure = self._sender.progress.failure
        if failure is not None:
            msg = (
                f"the sending thread ended ({type(failure).__name__}: {failure}); close this publisher, make a new one"
            )
            raise PublisherFailed(msg) from failure

    def _report(self) -> FlushReport:
        return FlushReport(self._sender.progress.delivered_readings, self._buffer.waiting_readings)


def _check_identity(device_id: str, secret: str) -> None:
    plain = device_id.isprintable() and " " not in device_id and "." not in device_id
    if not plain or not 1 <= len(device_id.encode()) <= MAX_DEVICE_ID:
        msg = f"device_id {device_id!r} must be 1 to {MAX_DEVICE_ID} bytes of printable text without dots and blanks"
        raise ValueError(msg)
    if not secret:
        msg = f"device {device_id} needs its secret, which is shown once when the device is created"
        raise ValueError(msg)


def _check_limits(max_batch_readings: int, linger_ms: int, buffer_max_bytes: int) -> None:
    if not 1 <= max_batch_readings <= MAX_READINGS:
        msg = f"max_batch_readings must be 1 to {MAX_READINGS}, got {max_batch_readings}"
        raise ValueError(msg)
    if linger_ms < 0:
        msg = f"linger_ms must not be negative, got {linger_ms}"
        raise ValueError(msg)
    if buffer_max_bytes < 1:
        msg = f"buffer_max_bytes must be positive, got {buffer_max_bytes}"
        raise ValueError(msg)


def _servers(bootstrap_servers: str | Sequence[str]) -> list[str]:
    servers = bootstrap_servers.split(",") if isinstance(bootstrap_servers, str) else list(bootstrap_servers)
    for server in servers:
        host, _, port = server.strip().rpartition(":")
        if not host or not port.isdigit():
            msg = f"bootstrap server {server!r} must be host:port"
            raise ValueError(msg)
    if not servers:
        msg = "bootstrap_servers names no broker; at least one host:port is needed"
        raise ValueError(msg)
    return [server.strip() for server in servers]
