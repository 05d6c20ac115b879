"""The contract of a buffer, on both of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest
from weir_device.buffer import Buffer, MemoryBuffer
from weir_device.errors import BufferFull

from tests.unit.clients.buffers import entry, numbered, open_journal, release_first, waiting

NewBuffer: TypeAlias = Callable[[int], Buffer]


@pytest.fixture(params=["memory", "journal"])
def new_buffer(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NewBuffer]:
    made: list[Buffer] = []

    def new(max_bytes: int) -> Buffer:
        # Journals of four segments or more: their seams lie inside the tests.
        made.append(MemoryBuffer(max_bytes) if request.param == "memory" else open_journal(tmp_path, max_bytes, 50))
        return made[-1]

    yield new
    for buffer in made:
        buffer.close()


def test_entries_come_out_in_the_order_they_went_in(new_buffer: NewBuffer) -> None:
    buffer = new_buffer(10_000)
    for added in numbered(10):
        buffer.append(added)

    assert [found for found, _ in buffer.oldest()] == numbered(10)
    assert buffer.waiting_readings == 10


def test_looking_does_not_remove(new_buffer: NewBuffer) -> None:
    buffer = new_buffer(10_000)
    buffer.append(entry(b"a"))

    assert waiting(buffer) == waiting(buffer) == [b"a"]


def test_only_released_entries_go(new_buffer: NewBuffer) -> None:
    buffer = new_buffer(10_000)
    for added in numbered(10):
        buffer.append(added)

    release_first(buffer, 3)
    assert waiting(buffer) == [b"%08d" % number for number in range(3, 10)]
    release_first(buffer, 7)
    assert waiting(buffer) == []
    assert buffer.waiting_readings == 0


def test_entries_can_be_added_while_others_wait_and_go(new_buffer: NewBuffer) -> None:
    buffer = new_buffer(10_000)
    for added in numbered(5):
        buffer.append(added)
        buffer.append(added)
        release_first(buffer, 1)

    assert waiting(buffer) == [b"%08d" % number for number in (2, 3, 3, 4, 4)]  # of 0 0 1 1 2 2 3 3 4 4, five went


def test_the_readings_of_whole_records_are_counted(new_buffer: NewBuffer) -> None:
    buffer = new_buffer(10_000)
    buffer.append(entry(b"record", readings=40))
    buffer.append(entry(b"reading"))

    assert buffer.waiting_readings == 41  # 40 + 1


def test_a_full_buffer_refuses_and_keeps_what_it_has(new_buffer: NewBuffer) -> None:
    buffer = new_buffer(3 * 21)  # three frames of 8 + 13 bytes
    for added in numbered(3):
        buffer.append(added)

    with pytest.raises(BufferFull, match="63 of 63 bytes"):
        buffer.append(entry(b""))

    assert waiting(buffer) == [b"00000000", b"00000001", b"00000002"]
    assert buffer.waiting_readings == 3


def test_releasing_makes_room(new_buffer: NewBuffer) -> None:
    buffer = new_buffer(3 * 21)
    for added in numbered(3):
        buffer.append(added)

    release_first(buffer, 2)
    for added in numbered(2):
        buffer.append(added)

    assert waiting(buffer) == [b"00000002", b"00000000", b"00000001"]
    with pytest.raises(BufferFull):
        buffer.append(entry(b""))
