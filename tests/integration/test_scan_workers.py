"""Promises 1 and 2 for scans on a real broker: two workers, killed while they work, store what one undisturbed run would."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest

from ops.simulator.room_scan import RoomScan, timed
from ops.simulator.rooms.shapes import Shape
from sinks.objects import open_directory
from tests.integration.conftest import Broker
from tests.integration.publishing import ThirdPartyDevice, body, reading, signed_headers
from tests.integration.scan_frame_scene import ScanScene, frame, run_scan_scene
from tests.integration.servers import Database, Tenant, WorkerProcess, create_tenant, wait_until
from tests.unit.processors.scans.scan_records import CAPTURED_AT

pytestmark = pytest.mark.integration

SCANS = 12
SEED = 20_261_122


@cache
def records_of(scan: int) -> list[bytes]:
    """A small room, seen by a camera of few pixels; of every third scan one record has a conflict."""
    made = [value for _, value in timed(RoomScan(scan, Shape.L, 8, shrink=8), CAPTURED_AT)]
    return [*made, frame(3)] if scan % 3 == 0 else made


def stored(database: Database) -> list[list[tuple[Any, ...]]]:
    """All of the scans that does not depend on when their records came."""
    return [
        database.query(
            "SELECT scan_id, seq, type, captured_at, pose, bytes, sha256, refused FROM scan_frames ORDER BY 1, 2"
        ),
        database.query("SELECT scan_id, seq, sha256 FROM scan_conflicts ORDER BY 1, 2, 3"),
        database.query(
            "SELECT scan_id, status, received, rejected, conflicts, types, highest_seq, end_frames, all_arrived"
            " FROM weir.scan ORDER BY 1"
        ),
    ]


def undisturbed(database: Database, folder: Path) -> list[list[tuple[Any, ...]]]:
    """What is stored of the scans in their order, in one process without a broker; the database is empty again after."""
    found: list[list[tuple[Any, ...]]] = []

    async def act(scene: ScanScene) -> None:
        for scan in range(SCANS):
            await scene.scan(f"scan-{scan}", *records_of(scan))
        found.extend(stored(database))
        database.query("TRUNCATE weir.scan, weir.stream_position CASCADE")
        database.query("DELETE FROM weir_jobs.procrastinate_jobs")

    run_scan_scene(database, folder, act)
    return found


def committed(database: Database) -> int:
    return int(
        database.query("SELECT coalesce(sum(next_offset), 0) FROM stream_positions WHERE topic LIKE '%%frames'")[0][0]
    )


def publish(broker: Broker, prefix: str, tenant: Tenant, chance: random.Random) -> int:
    """Every record of every scan twice, shuffled over all scans."""
    device = ThirdPartyDevice(broker.bootstrap, f"{prefix}scan-frames")
    sent = [(scan, value) for scan in range(SCANS) for value in records_of(scan)] * 2
    chance.shuffle(sent)
    credentials = tenant.devices[0]
    for scan, value in sent:
        key = f"scan-{scan}".encode()
        headers = signed_headers(credentials, value, key)
        device.send(credentials, value, headers=headers, key=key, content_type="application/msgpack")
    device.flush()
    return len(sent)


def test_shuffled_doubled_and_killed_the_same_frames_are_stored(
    database: Database, broker: Broker, topic_prefix: str, new_worker: Callable[..., WorkerProcess], tmp_path: Path
) -> None:
    chance = random.Random(SEED)
    expected = undisturbed(database, tmp_path / "quiet")
    assert len(expected[0]) == SCANS * len(records_of(1))
    assert len(expected[1]) == SCANS // 3
    tenant = asyncio.run(create_tenant(database))
    sent = publish(broker, topic_prefix, tenant, chance)
    objects = tmp_path / "objects"
    settings = {"WEIR_BATCH_MAX_RECORDS": "7", "WEIR_OBJECTS_URL": str(objects)}
    workers = [new_worker(**settings) for _ in range(2)]

    for _ in range(3):
        seen = committed(database)
        wait_until(lambda: committed(database) > seen or committed(database) == sent, 60, "progress")  # noqa: B023
        victim = chance.choice(workers)
        victim.kill()
        victim.start()

    def finished() -> bool:
        for worker in workers:
            if not worker.is_alive():
                worker.start()
        return committed(database) == sent

    wait_until(finished, 120, "all records committed")
    assert stored(database) == expected
    # Every frame and conflict has its object, whole; what killed batches left is the same.
    named = {key for (key,) in database.query(
        "SELECT object_key FROM scan_frames UNION SELECT object_key FROM scan_conflicts"
    )}  # fmt: skip
    assert {key: size for key, size in listed(objects).items() if key not in named} == {}
    assert len(named) == len(expected[0]) + len(expected[1])
    assert database.query("SELECT count(*) FROM dead_letters") == [(0,)]


def has_readings(database: Database, number: int) -> bool:
    return database.query("SELECT count(*) FROM readings") == [(number,)]


def listed(folder: Path) -> dict[str, int]:
    async def every() -> dict[str, int]:
        return {found.key: found.size async for found in open_directory(folder).list()}

    return asyncio.run(every())


def test_readings_go_on_while_the_object_store_of_frames_is_broken(
    database: Database, broker: Broker, topic_prefix: str, new_worker: Callable[..., WorkerProcess], tmp_path: Path
) -> None:
    tenant = asyncio.run(create_tenant(database))
    # A file where the folder should be; the worker starts all the same.
    blocked = tmp_path / "blocked"
    blocked.write_text("in the way")
    worker = new_worker(WEIR_OBJECTS_URL=str(blocked / "objects"))
    device = ThirdPartyDevice(broker.bootstrap, f"{topic_prefix}scan-frames")
    credentials = tenant.devices[0]
    # Frames of 1 MB each in every partition: more than may wait.
    large = [frame(seq, depth=bytes(900_000), width=750, height=600) for seq in range(3)]
    for scan in range(20):
        for value in large:
            key = f"scan-{scan}".encode()
            device.send(credentials, value, headers=signed_headers(credentials, value, key), key=key)
    device.flush()
    wait_until(lambda: "batch.retried" in worker.log(), 60, "frames wait for their store")
    readings = ThirdPartyDevice(broker.bootstrap, f"{topic_prefix}readings")
    for number in range(1, 11):
        readings.send_all(credentials, [body(reading(CAPTURED_AT + number, 3.5))])
        wait_until(partial(has_readings, database, number), 60, "the reading is stored")
    assert committed(database) == 0
    blocked.unlink()
    wait_until(lambda: committed(database) == 60, 120, "the frames are stored after all")
    assert worker.is_alive()
