"""Rows of point-cloud files: bytes in order from any reader, and columns by name out of them. What PLY and PCD share.

Border: takes bytes through a reader's `read(size)` alone, so a file may as well come piece by piece from an object store.
Nothing is allocated because a header claims it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from schemas.errors import Reason, Rejected

BLOCK_BYTES: Final = 1 << 24
"""Of rows in memory at a time, whatever a row's size."""
MAX_HEADER_BYTES: Final = 65_536
MAX_ROW_BYTES: Final = 65_536
MAX_ROWS: Final = 10**12
_READ_BYTES: Final = 1 << 20

Columns = Mapping[str, NDArray[np.generic]]
"""By name, of one length."""


class Reader(Protocol):
    """Where a file's bytes come from."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; none at the end."""
        ...


class Source:
    """A file read once, from its first byte to its last."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._waiting = b""

    def header_line(self) -> str:
        """The next line, without its end.

        Raises:
            Rejected: there is none within `MAX_HEADER_BYTES`, or it is not ASCII.
        """
        while (end := self._waiting.find(b"\n")) < 0:
            more = self._reader.read(4096)
            if not more or len(self._waiting) > MAX_HEADER_BYTES:
                raise Rejected(Reason.WRONG_SHAPE, "the file's header does not end")
            self._waiting += more
        line, self._waiting = self._waiting[:end], self._waiting[end + 1 :]
        if not line.isascii():
            raise Rejected(Reason.WRONG_SHAPE, "the file's header is not plain text")
        return line.decode().rstrip("\r")

    def exactly(self, size: int) -> bytes:
        """The next `size` bytes, or all that are left; read in steps, so that a claim costs nothing."""
        pieces = [self._waiting[:size]]
        self._waiting = self._waiting[size:]
        missing = size - len(pieces[0])
        while missing and (piece := self._reader.read(min(missing, _READ_BYTES))):
            pieces.append(piece)
            missing -= len(piece)
        return b"".join(pieces)

    def lines(self) -> bytes:
        """The next whole lines, a mebibyte or so; nothing at the end.

        Raises:
            Rejected: a line does not end within `MAX_ROW_BYTES`.
        """
        chunk = self.exactly(_READ_BYTES)
        if len(chunk) < _READ_BYTES:
            return chunk
        cut = chunk.rfind(b"\n", -MAX_ROW_BYTES) + 1
        if not cut:
            raise Rejected(Reason.CORRUPT_PAYLOAD, f"a line has more than {MAX_ROW_BYTES} bytes")
        self._waiting = chunk[cut:] + self._waiting
        return chunk[:cut]


@dataclass(frozen=True, slots=True)
class Field:
    """One column of a row: `count` numbers of a numpy type such as `<f4`."""

    name: str
    code: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class Table:
    """Rows that follow a header.

    Attributes:
        fields: of each row, in order, names distinct.
        rows: how many the header claims.
    """

    fields: tuple[Field, ...]
    rows: int

    @property
    def dtype(self) -> np.dtype[np.void]:
        """Of one binary row."""
        return np.dtype([(field.name, field.code, (field.count,)) for field in self.fields])


def table(fields: list[Field], rows: int) -> Table:
    """A table that can be read.

    Raises:
        Rejected: no x, y or z, a name twice, a row too large, or too many.
    """
    if rows > MAX_ROWS:
        raise Rejected(Reason.TOO_LARGE, f"the header claims more than {MAX_ROWS} points")
    names = [field.name for field in fields]
    if len(set(names)) < len(names):
        raise Rejected(Reason.WRONG_SHAPE, "the header names a field twice")
    singles = {field.name for field in fields if field.count == 1}
    if not {"x", "y", "z"} <= singles:
        raise Rejected(Reason.WRONG_SHAPE, "the header names no fields x, y and z")
    if any(not 1 <= field.count <= MAX_ROW_BYTES for field in fields):
        raise Rejected(Reason.WRONG_SHAPE, "a field has a count out of range")
    found = Table(tuple(fields), rows)
    if found.dtype.itemsize > MAX_ROW_BYTES:
        raise Rejected(Reason.WRONG_SHAPE, f"a row has more than {MAX_ROW_BYTES} bytes")
    return found


def binary_rows(source: Source, described: Table, rows: int) -> Iterator[Columns]:
    """Blocks of at most `rows` rows.

    Raises:
        Rejected: the file ends before the last row.
    """
    dtype = described.dtype
    step = max(1, min(rows, BLOCK_BYTES // dtype.itemsize))
    for start in range(0, described.rows, step):
        size = min(step, described.rows - start) * dtype.itemsize
        data = source.exactly(size)
        if len(data) < size:
            raise cut_off(start + len(data) // dtype.itemsize, described.rows)
        block = np.frombuffer(data, dtype=dtype)
        yield {field.name: block[field.name][:, 0] for field in described.fields if field.count == 1}


def ascii_rows(source: Source, described: Table, rows: int) -> Iterator[Columns]:
    """Blocks of about a mebibyte of text, or of `rows` rows if that is less.

    Raises:
        Rejected: the file ends before the last row, or a row is not the numbers that the header says.
    """
    done = 0
    while done < described.rows:
        text = source.lines()
        if not text:
            raise cut_off(done, described.rows)
        if text.isspace():
            continue
        numbers = _numbers(text, described, done)
        done += len(numbers)
        for start in range(0, len(numbers), rows):
            yield _columns(numbers[start : start + rows], described)


def cut_off(found: int, expected: int) -> Rejected:
    """The refusal of a file that ends too early."""
    return Rejected(Reason.CORRUPT_PAYLOAD, f"the file ends after {found} of {expected} points")


def _numbers(text: bytes, described: Table, done: int) -> NDArray[np.float64]:
    width = sum(field.count for field in described.fields)
    # So many rows are allocated at once: a number takes two bytes of text at least, whatever the header claims.
    most = min(described.rows - done, len(text) // (2 * width) + 1)
    try:
        numbers = np.loadtxt(BytesIO(text), dtype=np.float64, ndmin=2, comments=None, max_rows=most)
    except ValueError as error:
        raise Rejected(Reason.CORRUPT_PAYLOAD, f"a line after point {done} is not {width} numbers") from error
    if numbers.shape[1] != width:
        detail = f"point {done} has {numbers.shape[1]} numbers, the header says {width}"
        raise Rejected(Reason.CORRUPT_PAYLOAD, detail)
    return numbers


def _columns(numbers: NDArray[np.float64], described: Table) -> Columns:
    columns: dict[str, NDArray[np.generic]] = {}
    place = 0
    for field in described.fields:
        if field.count == 1:
            with np.errstate(invalid="ignore", over="ignore"):
                columns[field.name] = numbers[:, place].astype(field.code)
        place += field.count
    return columns
