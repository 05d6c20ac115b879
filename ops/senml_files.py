"""SenML files (RFC 8428, JSON) as records of a size that Kafka takes.

Border: where packs are cut, never what they say. Every entry keeps its bytes, and each piece of a pack that is too
large opens with the base fields in force there, so all pieces together mean what the whole did.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TextIO

import msgspec

from ops.reading_files import BadLine

CONTENT_TYPE = "application/senml+json"
MAX_PACK_BYTES = 900 * 1024
MAX_PACK_READINGS = 10_000
_READ_CHARACTERS = 64 * 1024
_BASE_LABELS = ("bver", "bn", "bt", "bu", "bv", "bs")
_VALUE_LABELS = frozenset(("v", "vs", "vb", "vd", "s"))

_Fields = dict[str, msgspec.Raw]
_decode_fields = msgspec.json.Decoder(_Fields).decode


@dataclass(frozen=True, slots=True)
class Pack:
    """One record's value."""

    value: bytes
    readings: int


@dataclass(frozen=True, slots=True)
class _Entry:
    """One object of a pack: its bytes, and those of each field."""

    content: bytes
    fields: _Fields

    @property
    def has_value(self) -> bool:
        """Whether it is a reading; otherwise it only sets base fields for those after it."""
        return not _VALUE_LABELS.isdisjoint(self.fields)


def senml_packs(stream: TextIO) -> Iterator[Pack | BadLine]:
    """The file as it is, if it fits one record; else cut between entries.

    A syntax error ends the reading: what came before it was given out, the place is reported.
    """
    head = stream.read(MAX_PACK_BYTES + 1)
    packs = _cut(_Text(stream, head))
    whole = head.encode("utf-8", "surrogateescape")
    if len(whole) > MAX_PACK_BYTES:
        yield from packs
        return
    pieces = list(packs)
    match pieces:
        case [Pack(readings=readings)]:
            yield Pack(whole, readings)
        case _:
            yield from pieces


class _Text:
    """A window on the stream that can be looked at further ahead."""

    def __init__(self, stream: TextIO, head: str) -> None:
        self._stream = stream
        self.text = head
        self.place = 0
        self._lines_before = 1  # line number of the window's start

    def more(self) -> bool:
        """Read on and forget what lies behind; False at the end of the stream."""
        self._lines_before += self.text.count("\n", 0, self.place)
        piece = self._stream.read(_READ_CHARACTERS)
        self.text, self.place = self.text[self.place :] + piece, 0
        return piece != ""

    def next_mark(self) -> str:
        """The next character that is not white space, "" at the end."""
        while True:
            while self.place < len(self.text) and self.text[self.place] in " \t\r\n":
                self.place += 1
            if self.place < len(self.text):
                return self.text[self.place]
            if not self.more():
                return ""

    @property
    def line(self) -> int:
        """Line number of the place."""
        return self._lines_before + self.text.count("\n", 0, self.place)


def _entries(text: _Text) -> Iterator[_Entry | BadLine]:
    """Each object in the array."""
    expected = "["
    while True:
        if text.next_mark() != expected:
            yield BadLine(text.line, f"not a SenML pack: expected {expected} here, in an array of objects")
            return
        text.place += 1
        if text.next_mark() != "{":
            yield BadLine(text.line, "not a SenML pack: expected an object here")
            return
        entry = _object(text)
        if entry is None:
            yield BadLine(text.line, "not a SenML pack: the object that begins here is not JSON, or too long")
            return
        yield entry
        if text.next_mark() == "]":
            text.place += 1
            if text.next_mark():
                yield BadLine(text.line, "not a SenML pack: something follows the end of the array")
            return
        expected = ","


def _object(text: _Text) -> _Entry | None:
    """The object at the place, which is moved behind it; None if there is no whole one within the limit."""
    while True:
        try:
            _, end = json.JSONDecoder().raw_decode(text.text, text.place)
        except (json.JSONDecodeError, RecursionError):
            if len(text.text) - text.place > MAX_PACK_BYTES or not text.more():
                return None
            continue
        try:
            content = text.text[text.place : end].encode()
            fields = _decode_fields(content)
        except (UnicodeEncodeError, msgspec.DecodeError):  # bytes that are no UTF-8; NaN, which the scan lets pass
            return None
        text.place = end
        return _Entry(content, fields)


class _Piece:
    """Entries collected for one record."""

    def __init__(self) -> None:
        self.entries: list[bytes] = []
        self.size = 2
        self.readings = 0

    def has_room(self, size: int) -> bool:
        """For so many bytes and one reading more."""
        return self.size + size <= MAX_PACK_BYTES and self.readings < MAX_PACK_READINGS

    def add(self, entry: bytes, readings: int) -> None:
        """Append an entry."""
        self.entries.append(entry)
        self.size += len(entry) + 1
        self.readings += readings

    def finished(self) -> Iterator[Pack]:
        """The pack, if it holds any reading."""
        if self.readings:
            yield Pack(b"[%b]" % b",".join(self.entries), self.readings)


def _cut(text: _Text) -> Iterator[Pack | BadLine]:
    """Collect entries into packs; base fields without a value are joined to the values that they are for."""
    piece, base, base_is_pending = _Piece(), _Fields(), False
    for entry in _entries(text):
        if isinstance(entry, BadLine):
            yield from piece.finished()
            yield entry
            return
        if entry.has_value:
            opening = _base_entry(base)
            if not piece.has_room(len(opening) + len(entry.content) + 1):
                yield from piece.finished()
                piece = _Piece()
            if base and (base_is_pending or not piece.entries):
                piece.add(opening, 0)
            piece.add(entry.content, 1)
        base_is_pending = not entry.has_value
        base |= {label: entry.fields[label] for label in _BASE_LABELS if label in entry.fields}
    yield from piece.finished()
    if base_is_pending:
        yield BadLine(text.line, "the pack ends without a value for its last base fields")


def _base_entry(base: _Fields) -> bytes:
    return b"{%b}" % b",".join(b'"%b":%b' % (label.encode(), bytes(value)) for label, value in base.items())
