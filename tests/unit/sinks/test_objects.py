"""The object store's contract, kept by the directory and by memory alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from core.settings import Settings
from schemas.errors import Misconfigured, Transient
from sinks.durable_files import DurableFiles
from sinks.objects import ObjectMissing, ObjectStore, content_key, open_directory, open_object_store, scan_prefix


@pytest.fixture(params=["directory", "url", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    folder = tmp_path / "objects"
    urls = {"directory": str(folder), "url": folder.as_uri(), "memory": "memory://"}
    return open_object_store(Settings(objects_url=urls[request.param]))


async def listed(store: ObjectStore, prefix: str = "") -> dict[str, int]:
    return {found.key: found.size async for found in store.list(prefix)}


async def streamed(store: ObjectStore, key: str) -> list[bytes]:
    return [chunk async for chunk in store.stream(key, chunk_bytes=1024 * 1024)]


def test_what_was_put_is_found_until_it_is_deleted(store: ObjectStore) -> None:
    async def act() -> None:
        await store.put("scans/t/1/a", b"first")
        await store.put("scans/t/1/a", b"second")
        await store.put("scans/t/10/b", b"")
        assert await store.get("scans/t/1/a") == b"second"
        assert await store.exists("scans/t/10/b")
        assert await listed(store) == {"scans/t/1/a": 6, "scans/t/10/b": 0}
        # A prefix is made of whole parts.
        assert await listed(store, "scans/t/1") == {"scans/t/1/a": 6}
        await store.delete("scans/t/1/a")
        await store.delete("scans/t/1/a")
        assert not await store.exists("scans/t/1/a")
        with pytest.raises(ObjectMissing):
            await store.get("scans/t/1/a")
        with pytest.raises(ObjectMissing):
            await streamed(store, "scans/t/1/a")

    asyncio.run(act())


def test_a_large_object_goes_in_and_comes_out_in_pieces(store: ObjectStore) -> None:
    pieces = [bytes([n]) * 700_001 for n in range(20)]  # 14 MB

    async def source() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    async def act() -> None:
        await store.put("large", source())
        chunks = await streamed(store, "large")
        assert b"".join(chunks) == b"".join(pieces)
        assert len(chunks) > 1

    asyncio.run(act())


def test_an_object_whose_source_breaks_off_is_not_there(store: ObjectStore) -> None:
    async def source() -> AsyncIterator[bytes]:
        yield b"x" * 6_000_000
        msg = "the upload broke off"
        raise Transient(msg)

    async def act() -> None:
        await store.put("kept", b"before")
        for key in ("new", "kept"):
            with pytest.raises(Transient):
                await store.put(key, source())
        assert not await store.exists("new")
        assert await store.get("kept") == b"before"

    asyncio.run(act())


def test_puts_at_once_do_not_disturb_each_other(store: ObjectStore) -> None:
    async def act() -> None:
        await asyncio.gather(*(store.put(f"many/{n % 10}", b"same" * 1000) for n in range(100)))
        assert await listed(store, "many") == {f"many/{n}": 4000 for n in range(10)}

    asyncio.run(act())


def test_several_are_put_at_once(store: ObjectStore) -> None:
    async def act() -> None:
        await store.put_all({f"batch/{n}/{n % 3}": bytes([n]) * 1000 for n in range(40)})
        await store.put_all({})
        assert await listed(store, "batch") == {f"batch/{n}/{n % 3}": 1000 for n in range(40)}
        assert await store.get("batch/7/1") == b"\x07" * 1000

    asyncio.run(act())


def test_keys_follow_the_content_and_no_scan_id_leaves_its_folder() -> None:
    assert content_key("scans/t", b"") == "scans/t/e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    prefix = scan_prefix("t", "../../etc")
    assert prefix.startswith("scans/t/")
    assert ".." not in prefix
    assert prefix != scan_prefix("t", "../../etd")


@pytest.mark.parametrize("url", ["", "ftp://host/x", "s3://", "file://host/folder"])
def test_a_url_that_is_not_understood_says_what_is_expected(url: str) -> None:
    with pytest.raises(Misconfigured, match="expected a folder"):
        open_object_store(Settings(objects_url=url))


def test_a_batch_of_which_one_cannot_be_written_says_how_many_and_leaves_no_trace_of_it(tmp_path: Path) -> None:
    store = open_directory(tmp_path)

    async def act() -> None:
        await store.put("taken", b"a file")
        with pytest.raises(Transient, match="1 of 2 objects were not stored: taken/below was not written"):
            await store.put_all({"taken/below": b"x", "free": b"x"})
        await store.put_all({"free": b"x"})

    asyncio.run(act())
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["free", "taken"]


def test_what_a_crash_left_is_not_listed_and_is_removed_once_it_is_old(tmp_path: Path) -> None:
    store = open_directory(tmp_path)
    draft = DurableFiles(tmp_path).begin("scans/a")
    draft.file.write(b"half of")
    draft.file.close()

    async def act(before: datetime) -> int:
        await store.put("scans/b#12x", b"whole")
        assert await listed(store) == {"scans/b#12x": 5}
        return await store.remove_unfinished(before)

    now = datetime.now(UTC)
    assert asyncio.run(act(now - timedelta(hours=24))) == 0
    assert asyncio.run(act(now + timedelta(hours=1))) == 1
    assert [path.name for path in (tmp_path / "scans").iterdir()] == ["b#12x"]


def test_an_s3_url_gives_a_store_without_asking_the_service() -> None:
    settings = Settings(
        objects_url="s3://bucket/some/prefix",
        objects_endpoint="http://127.0.0.1:9",
        objects_region="eu-central-1",
        objects_access_key="key",
        objects_secret_key="secret",
    )
    assert isinstance(open_object_store(settings), ObjectStore)
