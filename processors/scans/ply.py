"""PLY: the header, and what of the file are the vertices' rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from processors.scans.cloud_rows import Columns, Field, Source, Table, ascii_rows, binary_rows, table
from schemas.errors import Reason, Rejected

_ORDERS: Final = {"ascii": "<", "binary_little_endian": "<", "binary_big_endian": ">"}
_TYPES: Final = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2", "uint16": "u2",
    "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip
_MAX_LINES: Final = 2_000
# Of a count, and too many points whatever follows: Python makes no number of thousands of digits.
_DIGITS: Final = 18


class PlyRows:
    """The vertices of a PLY file whose first line was read already.

    Raises:
        Rejected: the header is not PLY's, or anything stands before the vertices.
    """

    viewpoint: tuple[float, ...] | None = None

    def __init__(self, source: Source) -> None:
        self._source = source
        lines = _header(source)
        self._format = next((words[1] for words in lines if words[0] == "format" and len(words) > 1), "")
        if self._format not in _ORDERS:
            raise Rejected(Reason.UNSUPPORTED_FORMAT, f"the PLY's format is none of {', '.join(_ORDERS)}")
        self.table = self._vertices(lines)

    def blocks(self, rows: int) -> Iterator[Columns]:
        """See cloud_rows."""
        read = ascii_rows if self._format == "ascii" else binary_rows
        return read(self._source, self.table, rows)

    def _vertices(self, lines: list[list[str]]) -> Table:
        elements = [number for number, words in enumerate(lines) if words[0] == "element"]
        first = lines[elements[0]] if elements else []
        if len(first) != 3 or first[1] != "vertex" or not first[2].isdecimal():  # noqa: PLR2004 - element vertex COUNT
            raise Rejected(Reason.WRONG_SHAPE, "the PLY header does not begin with vertices; export them first")
        until = elements[1] if len(elements) > 1 else len(lines)
        return table([self._field(words) for words in lines[elements[0] + 1 : until]], int(first[2][:_DIGITS]))

    def _field(self, words: list[str]) -> Field:
        match words:
            case ["property", kind, name] if kind in _TYPES:
                return Field(name, _ORDERS[self._format] + _TYPES[kind])
            case ["property", "list", *_]:
                raise Rejected(Reason.UNSUPPORTED_FORMAT, "vertices with lists cannot be read; export plain vertices")
        raise Rejected(Reason.WRONG_SHAPE, "a vertex property of the PLY header is not of a type that PLY has")


def _header(source: Source) -> list[list[str]]:
    """The words of each line that says something."""
    lines: list[list[str]] = []
    for _ in range(_MAX_LINES):
        words = source.header_line().split()
        if words == ["end_header"]:
            return lines
        if words and words[0] not in {"comment", "obj_info"}:
            lines.append(words)
    raise Rejected(Reason.WRONG_SHAPE, f"the PLY header has more than {_MAX_LINES} lines")
