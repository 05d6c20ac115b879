"""How an entry lies on disk: length and CRC32 of what follows, kind, number of readings, data.

Border: the bytes of one frame, and where the whole frames of a file end. The numbers are little-endian.
"""

from __future__ import annotations

from struct import Struct
from typing import BinaryIO
from zlib import crc32

from weir_device.buffer import FRAME_OVERHEAD
from weir_device.wire import MAX_RECORD_BYTES, Entry, Kind

_CHECK = Struct("<II")  # length of the data, CRC32 of all that follows these eight bytes
_ABOUT = Struct("<BI")  # kind, readings
_KINDS = frozenset(Kind)


def encode(entry: Entry) -> bytes:
    """The frame of an entry."""
    body = _ABOUT.pack(entry.kind, entry.readings) + entry.data
    return _CHECK.pack(len(entry.data), crc32(body)) + body


def read(file: BinaryIO) -> Entry | None:
    """The frame at the file's position, or None if there is no whole and undamaged one.

    A tail of zeros, which a file system may leave after a loss of power, is no frame: five zero bytes have another CRC.
    """
    head = file.read(FRAME_OVERHEAD)
    if len(head) < FRAME_OVERHEAD:
        return None
    length, expected = _CHECK.unpack_from(head)
    if length > MAX_RECORD_BYTES:
        return None
    data = file.read(length)
    if len(data) < length or crc32(data, crc32(head[_CHECK.size :])) != expected:
        return None
    kind, readings = _ABOUT.unpack_from(head, _CHECK.size)
    return Entry(Kind(kind), readings, data) if kind in _KINDS else None


def whole_until(file: BinaryIO, start: int) -> tuple[int, int]:
    """Where the whole frames that begin at `start` end, and how many readings they hold."""
    file.seek(start)
    end, readings = start, 0
    while (entry := read(file)) is not None:
        end += FRAME_OVERHEAD + len(entry.data)
        readings += entry.readings
    return end, readings
