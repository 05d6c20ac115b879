"""Entries for the buffers' tests, and a short way to look at what waits."""

from __future__ import annotations

from pathlib import Path

from weir_device.buffer import Buffer
from weir_device.journal import Journal
from weir_device.wire import Entry, Kind


def entry(data: bytes, readings: int = 1) -> Entry:
    return Entry(Kind.READING if readings == 1 else Kind.JSON_RECORD, readings, data)


def numbered(count: int) -> list[Entry]:
    """Entries of 8 bytes: 21 in a frame."""
    return [entry(b"%08d" % number) for number in range(count)]


def waiting(buffer: Buffer) -> list[bytes]:
    return [found.data for found, _ in buffer.oldest()]


def release_first(buffer: Buffer, count: int) -> None:
    """Release the oldest entries of one reading each."""
    positions = [position for _, position in buffer.oldest()]
    buffer.release(positions[count - 1], count)


def open_journal(directory: Path, max_bytes: int = 1_000_000, segment_bytes: int = 100_000) -> Journal:
    return Journal(directory, device_id="fridge-1", topic="readings", max_bytes=max_bytes, segment_bytes=segment_bytes)
