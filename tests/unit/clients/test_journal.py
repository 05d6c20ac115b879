"""The buffer on disk: what another process finds after an end of any kind."""

from __future__ import annotations

import errno
import json
import logging
import os
import resource
import signal
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from weir_device import frames
from weir_device.buffer import FRAME_OVERHEAD
from weir_device.errors import BufferFull, BufferUnusable
from weir_device.journal import Journal

from tests.unit.clients.buffers import entry, numbered, open_journal, release_first, waiting

FRAME = 8 + 13  # of numbered entries


def journal_files(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.journal"))


def filled(directory: Path, count: int, released: int = 0, segment_bytes: int = 100_000) -> None:
    """Leave entries in a journal and close it."""
    journal = open_journal(directory, segment_bytes=segment_bytes)
    for added in numbered(count):
        journal.append(added)
    if released:
        release_first(journal, released)
    journal.close()


def test_what_waits_is_found_by_the_next_process(tmp_path: Path) -> None:
    filled(tmp_path, 10, released=4, segment_bytes=2 * FRAME)

    journal = open_journal(tmp_path)

    assert waiting(journal) == [b"%08d" % number for number in range(4, 10)]
    assert journal.waiting_readings == 6
    journal.close()


def test_new_entries_come_after_those_of_earlier_processes(tmp_path: Path) -> None:
    for text in (b"first", b"second", b"third"):
        journal = open_journal(tmp_path)
        journal.append(entry(text))
        journal.close()

    journal = open_journal(tmp_path)
    assert waiting(journal) == [b"first", b"second", b"third"]
    journal.close()


def test_what_was_released_never_comes_back(tmp_path: Path) -> None:
    for _ in range(3):
        filled(tmp_path, 5, released=5, segment_bytes=2 * FRAME)

    journal = open_journal(tmp_path)
    assert waiting(journal) == []
    journal.close()


def test_nothing_is_left_on_disk_once_all_is_released(tmp_path: Path) -> None:
    filled(tmp_path, 50, released=50, segment_bytes=5 * FRAME)

    assert journal_files(tmp_path) == []


def test_segments_go_while_the_journal_is_in_use(tmp_path: Path) -> None:
    journal = open_journal(tmp_path, segment_bytes=5 * FRAME)
    for added in numbered(20):
        journal.append(added)
    assert len(journal_files(tmp_path)) == 4  # 20 / 5

    release_first(journal, 12)

    assert len(journal_files(tmp_path)) == 2  # of 5, 5, 5, 5 the first two are all released
    journal.close()


def test_a_crash_between_releasing_and_removing_repeats_nothing(tmp_path: Path) -> None:
    journal = open_journal(tmp_path, segment_bytes=2 * FRAME)
    for added in numbered(6):
        journal.append(added)
    first, *_ = journal_files(tmp_path)
    content = first.read_bytes()
    release_first(journal, 3)
    journal.close()
    first.write_bytes(content)  # as if it had not been removed

    journal = open_journal(tmp_path)
    assert waiting(journal) == [b"00000003", b"00000004", b"00000005"]
    assert first not in journal_files(tmp_path)
    journal.close()


def test_what_is_released_in_the_middle_of_a_segment_makes_room(tmp_path: Path) -> None:
    journal = open_journal(tmp_path, max_bytes=400, segment_bytes=100)  # 19 frames of 21 bytes, 4 in a segment
    for added in numbered(19):
        journal.append(added)

    release_first(journal, 2)
    for added in numbered(2):
        journal.append(added)

    with pytest.raises(BufferFull):
        journal.append(entry(b""))
    assert journal.waiting_readings == 19
    journal.close()


@pytest.mark.parametrize("cut", range(1, FRAME))
def test_a_torn_tail_is_cut_and_set_aside(tmp_path: Path, cut: int, caplog: pytest.LogCaptureFixture) -> None:
    filled(tmp_path, 3)
    [path] = journal_files(tmp_path)
    os.truncate(path, 3 * FRAME - cut)

    with caplog.at_level(logging.WARNING):
        journal = open_journal(tmp_path)

    assert waiting(journal) == [b"00000000", b"00000001"]
    assert path.stat().st_size == 2 * FRAME
    [aside] = tmp_path.glob("*.cut")
    assert len(aside.read_bytes()) == FRAME - cut
    assert "were set aside" in caplog.text
    journal.append(entry(b"later"))
    assert waiting(journal) == [b"00000000", b"00000001", b"later"]
    journal.close()


@pytest.mark.parametrize("zeros", [1, 13, 4096])
def test_a_tail_of_zeros_is_no_entry(tmp_path: Path, zeros: int) -> None:
    filled(tmp_path, 2)
    [path] = journal_files(tmp_path)
    with path.open("ab") as file:
        file.write(bytes(zeros))

    journal = open_journal(tmp_path)
    assert waiting(journal) == [b"00000000", b"00000001"]
    assert journal.waiting_readings == 2
    journal.close()


@pytest.mark.parametrize("damaged", range(FRAME))
def test_a_flipped_bit_anywhere_costs_that_frame_and_is_seen(tmp_path: Path, damaged: int) -> None:
    filled(tmp_path, 3)
    [path] = journal_files(tmp_path)
    content = bytearray(path.read_bytes())
    content[FRAME + damaged] ^= 1  # in the second frame
    path.write_bytes(content)

    journal = open_journal(tmp_path)

    assert waiting(journal) == [b"00000000"]
    [aside] = tmp_path.glob("*.cut")
    assert aside.read_bytes() == bytes(content[FRAME:])
    journal.close()


def test_damage_in_one_segment_leaves_the_later_ones(tmp_path: Path) -> None:
    filled(tmp_path, 6, segment_bytes=2 * FRAME)
    first, *_ = journal_files(tmp_path)
    os.truncate(first, FRAME + 5)

    journal = open_journal(tmp_path)
    assert waiting(journal) == [b"%08d" % number for number in (0, 2, 3, 4, 5)]
    journal.close()


def test_a_position_that_outlived_its_data_hides_nothing_new(tmp_path: Path) -> None:
    """Power lost: the position is on disk, the entries before it are not."""
    filled(tmp_path, 10, released=9)
    [path] = journal_files(tmp_path)
    os.truncate(path, 0)

    journal = open_journal(tmp_path)
    for added in numbered(12):  # more than the old position lay at
        journal.append(added)
    journal.close()

    journal = open_journal(tmp_path)
    assert len(waiting(journal)) == 12
    journal.close()


@pytest.mark.parametrize("content", [b"", b"x" * 7, b"\xff" * 20])
def test_a_damaged_position_repeats_entries_instead_of_losing_them(tmp_path: Path, content: bytes) -> None:
    filled(tmp_path, 5, released=2)
    (tmp_path / "position").write_bytes(content)

    journal = open_journal(tmp_path)
    assert len(waiting(journal)) == 5
    journal.close()


def test_two_publishers_cannot_share_a_directory(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)

    with pytest.raises(BufferUnusable, match=f"in use by process {os.getpid()}"):
        open_journal(tmp_path)

    journal.close()
    open_journal(tmp_path).close()


def test_the_directory_of_another_device_is_refused_and_left_unlocked(tmp_path: Path) -> None:
    filled(tmp_path, 1)

    with pytest.raises(BufferUnusable, match=r"belongs to .*fridge-1.*directory of its own"):
        Journal(tmp_path, device_id="fridge-2", topic="readings", max_bytes=1000)

    open_journal(tmp_path).close()


def test_an_unreadable_owner_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "buffer.json").write_text("{")

    with pytest.raises(BufferUnusable):
        open_journal(tmp_path)


def test_nobody_else_may_read_the_readings(tmp_path: Path) -> None:
    directory = tmp_path / "new"
    journal = open_journal(directory)
    journal.append(entry(b"a"))

    assert directory.stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in journal_files(directory))
    assert json.loads((directory / "buffer.json").read_text())["device_id"] == "fridge-1"
    journal.close()


def test_a_disk_without_room_refuses_and_leaves_no_half_frame(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    journal.append(entry(b"before"))
    [path] = journal_files(tmp_path)
    size = path.stat().st_size
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 7, hard))  # the next frame fits by seven bytes only
    try:
        with pytest.raises(BufferFull, match="is full"):
            journal.append(entry(b"refused"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, previous)

    assert path.stat().st_size == size
    journal.append(entry(b"after"))
    assert waiting(journal) == [b"before", b"after"]
    journal.close()


def test_other_disk_errors_are_not_taken_for_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = open_journal(tmp_path)

    def broken(descriptor: int, data: bytes) -> int:
        raise OSError(errno.EIO, "broken")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", broken)
        with pytest.raises(OSError, match="broken"):
            journal.append(entry(b"a"))
    journal.close()


def test_only_what_waits_is_synced(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    assert journal.pending_sync() is None
    journal.append(entry(b"a"))

    sync = journal.pending_sync()
    assert sync is not None
    sync()
    assert journal.pending_sync() is None  # nothing new since

    journal.append(entry(b"b"))
    release_first(journal, 2)
    assert journal.pending_sync() is None  # the broker has it
    journal.close()


def test_memory_counts_an_entry_as_the_disk_does() -> None:
    assert len(frames.encode(entry(b"12345"))) == 5 + FRAME_OVERHEAD


@given(st.lists(st.one_of(st.binary(max_size=40), st.integers(1, 3), st.none()), max_size=40))
def test_any_history_of_appends_releases_and_restarts_keeps_the_queue(
    tmp_path_factory: pytest.TempPathFactory, history: list[bytes | int | None]
) -> None:
    """Bytes are appended, a number releases so many, None restarts; a list says what must wait."""
    # The queue is the law's matter, not what survives a power cut: a hundred histories need not wait for the disk.
    with patch("os.fsync"):
        keeps_the_queue(tmp_path_factory.mktemp("history"), history)


def keeps_the_queue(directory: Path, history: list[bytes | int | None]) -> None:
    journal, model = open_journal(directory, segment_bytes=60), []
    for step in history:
        if isinstance(step, bytes):
            journal.append(entry(step))
            model.append(step)
        elif step is None:
            journal.close()
            journal = open_journal(directory, segment_bytes=60)
        elif model:
            count = min(step, len(model))
            release_first(journal, count)
            del model[:count]
        assert waiting(journal) == model
        assert journal.waiting_readings == len(model)
    journal.close()
