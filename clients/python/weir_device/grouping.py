"""Which waiting entries travel together: readings into records, records into one group.

Border: pure. A group is what one Kafka batch can hold, so that it is acknowledged whole or not at all; the next group
is sent only after it. That is what keeps a device's readings in order, whatever fails.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from weir_device.buffer import Position
from weir_device.wire import Entry, Kind, Record, entry_record, joined_bytes, readings_record

GROUP_BYTES = 256 * 1024
"""A group is sent again whole if its acknowledgement does not come in time, so slow links must manage one."""

RECORD_OVERHEAD = 512
"""Bytes that key, headers and framing of a record take at most: device ids are limited to 128 characters."""


@dataclass(frozen=True, slots=True)
class Group:
    """Records to deliver, and what to release then."""

    records: list[Record]
    readings: int
    end: Position


@dataclass(slots=True)
class _Packer:
    """Packs entries until the next one would not fit any more."""

    max_batch_readings: int
    sent_at_ms: int
    records: list[Record] = field(default_factory=list)
    open_readings: list[bytes] = field(default_factory=list)
    open_bytes: int = 0
    closed_bytes: int = 0

    def add(self, entry: Entry) -> bool:
        """Take the entry, unless the group is full."""
        if entry.kind is Kind.READING:
            return self._add_reading(entry.data)
        self.close_record()
        return self._add_record(entry_record(entry))

    def close_record(self) -> None:
        """Finish the record that readings are being collected for."""
        if self.open_readings:
            record = readings_record(self.open_readings, self.sent_at_ms)
            self.records.append(record)
            self.closed_bytes += len(record.value) + RECORD_OVERHEAD
            self.open_readings, self.open_bytes = [], 0

    def _add_reading(self, data: bytes) -> bool:
        if len(self.open_readings) == self.max_batch_readings:
            self.close_record()
        size = joined_bytes(self.open_bytes + len(data), len(self.open_readings) + 1)
        if self.closed_bytes + size > GROUP_BYTES:
            return False
        self.open_readings.append(data)
        self.open_bytes += len(data)
        return True

    def _add_record(self, record: Record) -> bool:
        if self.records and self.closed_bytes + len(record.value) > GROUP_BYTES:
            return False
        self.records.append(record)
        self.closed_bytes += len(record.value) + RECORD_OVERHEAD
        return True


def next_group(waiting: Iterable[tuple[Entry, Position]], max_batch_readings: int, sent_at_ms: int) -> Group | None:
    """The oldest entries, as many as fit one group, in order; None if nothing waits.

    Args:
        waiting: entries with the position after each, oldest first.
        max_batch_readings: readings in one record.
        sent_at_ms: what the records say about when they were sent.
    """
    packer = _Packer(max_batch_readings, sent_at_ms)
    readings, end = 0, None
    for entry, position in waiting:
        if not packer.add(entry):
            break
        readings += entry.readings
        end = position
    packer.close_record()
    return None if end is None else Group(packer.records, readings, end)
