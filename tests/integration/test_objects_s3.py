"""The object store on a server that speaks S3: the contract, many parts, wrong keys, a server that goes away, a whole scan."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from core.tasks import TaskName
from ops.object_check import examine_objects
from ops.simulator.room_scan import RoomScan, timed
from schemas.errors import Misconfigured, Transient
from sinks.objects import ObjectStore, open_object_store
from tests.integration.job_scene import run_task
from tests.integration.s3_server import S3Server
from tests.integration.scan_frame_scene import ScanScene, run_scan_scene
from tests.integration.servers import Database, wait_until
from tests.unit.processors.scans.scan_records import CAPTURED_AT
from tests.unit.sinks.test_objects import (  # noqa: F401 - the contract, on this store
    listed,
    test_a_large_object_goes_in_and_comes_out_in_pieces,
    test_an_object_whose_source_breaks_off_is_not_there,
    test_puts_at_once_do_not_disturb_each_other,
    test_several_are_put_at_once,
    test_what_was_put_is_found_until_it_is_deleted,
)

pytestmark = pytest.mark.integration
_MIB = 1 << 20


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    running = S3Server()
    try:
        running.start()
        yield running
    finally:
        running.stop()


@pytest.fixture
def store(server: S3Server) -> ObjectStore:
    store = open_object_store(server.settings())

    async def empty() -> None:
        for key in await listed(store):
            await store.delete(key)

    asyncio.run(empty())
    return store


def test_a_large_object_travels_in_parts_and_none_is_left_of_one_that_broke_off(
    server: S3Server, store: ObjectStore
) -> None:
    async def pieces(breaks_off: bool) -> AsyncIterator[bytes]:
        for _ in range(9):
            yield b"x" * _MIB
        if breaks_off:
            msg = "the upload broke off"
            raise Transient(msg)

    async def act() -> None:
        await store.put("whole", b"x" * 9 * _MIB)
        await store.put("piecewise", pieces(breaks_off=False))
        await store.put("small", b"x")
        with pytest.raises(Transient, match="broke off"):
            await store.put("broken", pieces(breaks_off=True))

    asyncio.run(act())
    # Parts have 5 MiB: 9 MiB make two of them.
    assert [server.parts_of(key) for key in ("whole", "piecewise", "small")] == [2, 2, 1]
    wait_until(lambda: server.uploads() == [], 60, "the parts of the broken upload given up")


def test_wrong_keys_are_refused_and_the_doctor_says_what_to_correct(server: S3Server) -> None:
    for wrong in ({"objects_secret_key": "wrong"}, {"objects_access_key": "AKIAWRONG"}):
        settings = server.settings(**wrong)
        with pytest.raises(Misconfigured, match="correct WEIR_OBJECTS_URL or its access key"):
            asyncio.run(open_object_store(settings).put("a", b"x"))
        finding = asyncio.run(examine_objects(settings))
        assert not finding.ok
        assert "access key" in finding.sentence
        assert "wrong" not in finding.sentence
    elsewhere = asyncio.run(examine_objects(server.settings(objects_url="s3://another-bucket")))
    assert not elsewhere.ok
    well = asyncio.run(examine_objects(server.settings()))
    assert str(well) == "ok   objects    s3://scans-of-a-test/some/prefix takes, gives and removes objects"


def test_a_scan_goes_in_through_the_pipeline_and_its_files_come_out(
    server: S3Server, store: ObjectStore, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in server.as_settings().items():
        monkeypatch.setenv(f"WEIR_{name.upper()}", value)
    records = [value for _, value in timed(RoomScan(frames=40, shrink=4), CAPTURED_AT)]

    async def act(scene: ScanScene) -> None:
        assert (await scene.scan("room", *records)).inserted == len(records)

    run_scan_scene(database, store, act)
    run_task(database, TaskName.PROCESS_SCAN, tenant_id=_tenant_of(database, "room"), scan_id="room")

    assert database.query("SELECT status FROM weir.scan") == [("completed",)]
    rows = database.query("SELECT format, object_key, encode(sha256, 'hex') FROM weir.scan_export ORDER BY 1")
    assert [name for name, *_ in rows] == ["csv", "glb", "json", "obj", "pdf", "ply", "points.ply"]
    for _, key, sha256 in rows:
        assert hashlib.sha256(asyncio.run(store.get(key))).hexdigest() == sha256
    assert len(asyncio.run(listed(store))) == len(records) + len(rows)


def _tenant_of(database: Database, scan_id: str) -> str:
    return str(database.query("SELECT tenant_id FROM weir.scan WHERE scan_id = %s", scan_id)[0][0])


def test_a_server_that_went_away_is_waited_for(tmp_path: Path) -> None:
    server = S3Server()
    server.start()
    store = open_object_store(server.settings())

    async def put() -> None:
        await store.put("a", b"x")

    try:
        asyncio.run(put())
        server.stop()
        with pytest.raises(Transient, match="check its disk or WEIR_OBJECTS_ENDPOINT"):
            asyncio.run(put())
        assert not asyncio.run(examine_objects(server.settings())).ok
        server.start()  # empty, with another key
        store = open_object_store(server.settings())
        asyncio.run(put())
        assert asyncio.run(listed(store)) == {"a": 1}
    finally:
        server.stop()
