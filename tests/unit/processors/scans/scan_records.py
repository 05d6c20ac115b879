"""An encoder of scan records written from SCAN_FRAMES alone, number by number: it shares nothing with Weir's own.

MessagePack, PNG and the delta encoding are spelt out in plain Python; only zstd is a library's.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import zstandard

POSE = [1.0, 2.0, 1.5, 0.0, 0.0, 0.0, 1.0]
CAPTURED_AT = 1_795_377_600_000  # 2026-11-22T20:00:00Z

Image = Sequence[Sequence[int]]


def depth(image: Image, encoding: str = "raw16", **changes: Any) -> dict[str, Any]:
    """The fields of a depth frame whose optical axis goes through the middle of the image."""
    height, width = len(image), len(image[0])
    fields = {
        "type": "depth", "seq": 0, "captured_at": CAPTURED_AT, "width": width, "height": height, "fx": 212.0, "fy": 212.0,
        "cx": (width - 1) / 2, "cy": (height - 1) / 2, "pose": POSE, "depth": DEPTH[encoding](image),
        "depth_encoding": encoding,
    }  # fmt: skip
    return {**fields, **changes}


def points(rows: Sequence[Sequence[float]], encoding: str = "f32", **changes: Any) -> dict[str, Any]:
    """The fields of a points frame of metres."""
    floats, _, packed = encoding.partition("+")
    data = b"".join(
        struct.pack("<3f", *row) if floats == "f32" else struct.pack("<3h", *(round(1000 * each) for each in row))
        for row in rows
    )
    fields = {
        "type": "points", "seq": 0, "captured_at": CAPTURED_AT, "pose": POSE, "points": zstd(data) if packed else data,
        "points_encoding": encoding,
    }  # fmt: skip
    return {**fields, **changes}


def zstd(data: bytes, *, declare_size: bool = True) -> bytes:
    return zstandard.ZstdCompressor(level=3, write_content_size=declare_size).compress(data)


def raw16(image: Image) -> bytes:
    return b"".join(struct.pack("<H", each) for row in image for each in row)


def delta16(image: Image) -> bytes:
    """What `delta16-zstd` compresses: low bytes, then high bytes, of zigzagged differences to the left neighbour."""
    zigzag = []
    for row in image:
        for left, each in zip([0, *row], row, strict=False):
            difference = (each - left + 32_768) % 65_536 - 32_768
            zigzag.append(2 * difference if difference >= 0 else -2 * difference - 1)
    return bytes(each % 256 for each in zigzag) + bytes(each // 256 for each in zigzag)


def png16(image: Image, *, width: int | None = None, bits: int = 16) -> bytes:
    """A PNG of 16-bit grey without filters; its header may lie."""
    header = struct.pack(">IIBBBBB", width or len(image[0]), len(image), bits, 0, 0, 0, 0)
    rows = b"".join(b"\0" + b"".join(struct.pack(">H", each) for each in row) for row in image)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


DEPTH: dict[str, Callable[[Image], bytes]] = {
    "raw16": raw16,
    "png16": png16,
    "delta16-zstd": lambda image: zstd(delta16(image)),
}


def record(fields: Any) -> bytes:
    """MessagePack, in its longest forms."""
    match fields:
        case dict():
            head = b"\xdf" + struct.pack(">I", len(fields))
            return head + b"".join(record(key) + record(value) for key, value in fields.items())
        case list():
            return b"\xdd" + struct.pack(">I", len(fields)) + b"".join(record(each) for each in fields)
        case str():
            return b"\xdb" + struct.pack(">I", len(fields.encode())) + fields.encode()
        case bytes():
            return b"\xc6" + struct.pack(">I", len(fields)) + fields
        case None:
            return b"\xc0"
        case bool():
            return b"\xc3" if fields else b"\xc2"
        case int():
            return b"\xd3" + struct.pack(">q", fields)
        case float():
            return b"\xcb" + struct.pack(">d", fields)
    raise AssertionError(fields)
