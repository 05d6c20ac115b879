"""What was put survives a power failure: a disk that forgets whatever was not flushed still has it all."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from schemas.errors import Transient
from sinks.durable_files import DurableFiles
from sinks.objects import DirectoryStore


@dataclass
class ForgetfulDisk:
    """What would be left of a folder if the power failed now: contents and entries as they were when last flushed."""

    root: Path
    contents: dict[int, bytes] = field(default_factory=dict)
    entries: dict[int, dict[str, int]] = field(default_factory=dict)
    flushed: list[str] = field(default_factory=list)

    def flush(self, descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").resolve()
        number = os.fstat(descriptor).st_ino
        self.flushed.append("folder" if path.is_dir() else "file")
        if path.is_dir():
            self.entries[number] = {one.name: one.stat().st_ino for one in path.iterdir()}
        else:
            self.contents[number] = path.read_bytes()

    def survivor(self, key: str) -> bytes | None:
        """The object after the power failure; None if it is gone."""
        number: int | None = self.root.parent.stat().st_ino
        for name in (self.root.name, *key.split("/")):
            number = self.entries.get(number or 0, {}).get(name)
        return self.contents.get(number or 0)


@pytest.fixture
def disk(tmp_path: Path) -> ForgetfulDisk:
    (tmp_path / "objects").mkdir()
    return ForgetfulDisk(tmp_path / "objects")


def store_on(disk: ForgetfulDisk, flush: Callable[[int], None] | None = None) -> DirectoryStore:
    return DirectoryStore(disk.root, DurableFiles(disk.root, flush or disk.flush))


def test_every_object_of_a_batch_stays_once_the_batch_is_put(disk: ForgetfulDisk) -> None:
    store = store_on(disk)
    batch = {f"scans/tenant/{n % 4}/frames/{n}": bytes([n]) * 100 for n in range(32)}
    asyncio.run(store.put_all(batch))

    assert {key: disk.survivor(key) for key in batch} == batch
    # 32 files; four folders of frames, those of the four scans, tenant, scans, the root and what it stands in.
    assert (disk.flushed.count("file"), disk.flushed.count("folder")) == (32, 4 + 4 + 4)
    assert disk.flushed[:32] == ["file"] * 32


def test_later_batches_flush_only_the_folders_that_they_add_to(disk: ForgetfulDisk) -> None:
    store = store_on(disk)
    asyncio.run(store.put_all({"scans/a/1": b"x", "scans/b/1": b"x"}))
    disk.flushed.clear()
    asyncio.run(store.put_all({"scans/a/2": b"y", "scans/a/3": b"z"}))

    assert sorted(disk.flushed) == ["file", "file", "folder"]
    assert [disk.survivor(f"scans/a/{n}") for n in (1, 2, 3)] == [b"x", b"y", b"z"]


def test_a_folder_that_another_process_made_a_moment_ago_is_flushed_as_well(disk: ForgetfulDisk) -> None:
    (disk.root / "scans" / "a").mkdir(parents=True)
    asyncio.run(store_on(disk).put("scans/a/1", b"x"))

    assert disk.survivor("scans/a/1") == b"x"


def test_what_comes_in_pieces_and_what_replaces_another_stays_whole(disk: ForgetfulDisk) -> None:
    store = store_on(disk)

    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b"first ", b"second ", b"third"):
            yield piece

    async def act() -> None:
        await store.put("whole", b"before")
        await store.put("whole", pieces())

    asyncio.run(act())
    assert disk.survivor("whole") == b"first second third"


def test_a_disk_that_cannot_flush_has_not_stored(disk: ForgetfulDisk) -> None:
    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(Transient, match="No space left on device"):
        asyncio.run(store_on(disk, fail).put("a", b"x"))
    assert list(disk.root.iterdir()) == []
