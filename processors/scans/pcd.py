"""PCD 0.6 and 0.7: the header, rows of all three kinds of data, and LZF.

`binary_compressed` holds whole columns one after the other, so it is the only kind that has to be unpacked in memory.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np

from processors.scans.cloud_rows import Columns, Field, Source, Table, ascii_rows, binary_rows, cut_off, table
from schemas.errors import Reason, Rejected

MAX_COMPRESSED_BYTES: Final = 1 << 28
"""Of `binary_compressed`, packed and unpacked each: 16 million points of x, y, z and colour."""
_NUMBERS: Final = {"F": (4, 8), "I": (1, 2, 4, 8), "U": (1, 2, 4, 8)}
_POSE_NUMBERS: Final = 7
_SIZES = struct.Struct("<II")
_MAX_LINES: Final = 100
_LITERAL: Final = 32
_LONG: Final = 7


class PcdRows:
    """The points of a PCD file.

    Args:
        source: after its first line.
        first: that line.

    Attributes:
        viewpoint: x, y, z, qw, qx, qy, qz of the sensor in the cloud's frame, if the file says so.

    Raises:
        Rejected: the header is not PCD's.
    """

    def __init__(self, source: Source, first: str) -> None:
        self._source = source
        header = _header(source, first)
        self.table = _table(header)
        self.viewpoint = _viewpoint(header.get("VIEWPOINT", []))
        kinds: dict[str, Callable[[Source, Table, int], Iterator[Columns]]] = {
            "ascii": ascii_rows,
            "binary": binary_rows,
            "binary_compressed": _compressed_rows,
        }
        kind = " ".join(header["DATA"])
        if kind not in kinds:
            raise Rejected(Reason.UNSUPPORTED_FORMAT, f"the PCD's DATA is none of {', '.join(kinds)}")
        self._read = kinds[kind]

    def blocks(self, rows: int) -> Iterator[Columns]:
        """See cloud_rows."""
        return self._read(self._source, self.table, rows)


def unlzf(data: bytes, size: int) -> bytes:
    """LZF data unpacked to `size` bytes and never to more.

    Raises:
        Rejected: they are none, or unpack to another size.
    """
    out = bytearray()
    place, end = 0, len(data)
    try:
        while place < end and len(out) <= size:
            control = data[place]
            place += 1
            if control < _LITERAL:
                out += data[place : place + control + 1]
                place += control + 1
                continue
            length = control >> 5
            if length == _LONG:
                length += data[place]
                place += 1
            _repeat(out, (control & 31) << 8 | data[place], length + 2)
            place += 1
    except IndexError as error:
        raise Rejected(Reason.CORRUPT_PAYLOAD, "the compressed points end in the middle") from error
    if len(out) != size or place != end:
        raise Rejected(Reason.CORRUPT_PAYLOAD, f"the compressed points do not unpack to the {size} bytes they claim")
    return bytes(out)


def _repeat(out: bytearray, back: int, length: int) -> None:
    """Append `length` bytes of what begins `back` + 1 bytes before the end, which may reach into themselves."""
    start = len(out) - back - 1
    if start < 0:
        raise Rejected(Reason.CORRUPT_PAYLOAD, "the compressed points refer to something before them")
    piece = out[start : start + length]
    if len(piece) < length:
        piece = (piece * (length // len(piece) + 1))[:length]
    out += piece


def _compressed_rows(source: Source, described: Table, rows: int) -> Iterator[Columns]:
    sizes = source.exactly(_SIZES.size)
    if len(sizes) < _SIZES.size:
        raise cut_off(0, described.rows)
    packed, size = _SIZES.unpack(sizes)
    if size != described.rows * described.dtype.itemsize:
        raise Rejected(Reason.WRONG_LENGTH, f"the compressed points claim {size} bytes, the header says otherwise")
    if max(packed, size) > MAX_COMPRESSED_BYTES:
        detail = f"more than {MAX_COMPRESSED_BYTES} bytes of compressed points; save the file as DATA binary"
        raise Rejected(Reason.TOO_LARGE, detail)
    data = source.exactly(packed)
    if len(data) < packed:
        raise cut_off(0, described.rows)
    columns = _split(unlzf(data, size), described)
    for start in range(0, described.rows, rows):
        yield {name: column[start : start + rows] for name, column in columns.items()}


def _split(data: bytes, described: Table) -> Columns:
    columns, place = {}, 0
    for field in described.fields:
        numbers = np.frombuffer(data, field.code, described.rows * field.count, place)
        if field.count == 1:
            columns[field.name] = numbers
        place += numbers.nbytes
    return columns


def _header(source: Source, first: str) -> dict[str, list[str]]:
    header: dict[str, list[str]] = {}
    line = first
    for _ in range(_MAX_LINES):
        name, *words = line.split() or ["#"]
        if not name.startswith("#"):
            header[name] = words
        if name == "DATA":
            return header
        line = source.header_line()
    raise Rejected(Reason.WRONG_SHAPE, f"the PCD header has more than {_MAX_LINES} lines")


def _table(header: dict[str, list[str]]) -> Table:
    names, sizes, types = (header.get(key, []) for key in ("FIELDS", "SIZE", "TYPE"))
    counts = header.get("COUNT", ["1"] * len(names))
    if not names or not len(names) == len(sizes) == len(types) == len(counts):
        raise Rejected(Reason.WRONG_SHAPE, "FIELDS, SIZE, TYPE and COUNT of the PCD header do not match")
    # Padding between fields goes by the name _, several times.
    named = [f"_{number}" if name == "_" else name for number, name in enumerate(names)]
    fields = [
        Field(name, _code(kind, size), _whole(count))
        for name, kind, size, count in zip(named, types, sizes, counts, strict=True)
    ]
    return table(fields, _points(header))


def _points(header: dict[str, list[str]]) -> int:
    width, height = (_whole(*header.get(key, ["1"])) for key in ("WIDTH", "HEIGHT"))
    points = _whole(*header.get("POINTS", [str(width * height)]))
    if points != width * height:
        raise Rejected(Reason.WRONG_SHAPE, f"the PCD header says {points} points, but {width} x {height}")
    return points


def _code(kind: str, size: str) -> str:
    if _whole(size) not in _NUMBERS.get(kind, ()):
        raise Rejected(Reason.WRONG_SHAPE, "a field of the PCD header has a TYPE and SIZE that PCD does not have")
    return f"<{kind.lower()}{size}"


def _whole(*words: str) -> int:
    if len(words) != 1 or not words[0].isdecimal() or len(words[0]) > 18:  # noqa: PLR2004 - fits 64 bits
        raise Rejected(Reason.WRONG_SHAPE, "a number of the PCD header is not a whole one")
    return int(words[0])


def _viewpoint(words: list[str]) -> tuple[float, ...] | None:
    try:
        numbers = tuple(map(float, words))
    except ValueError:
        return None
    return numbers if len(numbers) == _POSE_NUMBERS else None
