"""Scans in the store: what the API makes of them, results that complete and bill them, what viewers are told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from psycopg import errors

from core.postgres import Connection, DatabaseRole, Pool, open_pool, tenant_transaction
from sinks.timescale import scans
from sinks.timescale.migrate import Engine
from sinks.timescale.scans import Export, FrameVerdict, Scan
from tests.integration.servers import Database, Tenant, create_tenant

pytestmark = pytest.mark.integration

TOPIC = "t-usage"
RESULT = {"room_dimensions": {"length": 5.2}, "verdict": "good", "missing_parts": [], "model": {"vertices": 9}}


@dataclass
class Scene:
    """A tenant, and pools of the API's and the workers' role."""

    database: Database
    tenant: Tenant
    reader: Pool
    writer: Pool

    async def api(self, call: str, *values: object) -> Any:
        """What a function of the API answers for the tenant."""
        async with tenant_transaction(self.reader, self.tenant.tenant_id) as connection:
            row = await (await connection.execute(f"SELECT {call}".encode(), values)).fetchone()
        return row and row[0]

    async def found(self, scan_id: str) -> Scan:
        async with self.writer.connection() as connection:
            scan = await scans.find_scan(connection, scan_id)
        assert scan is not None
        return scan

    async def work(self, act: Callable[[Connection], Awaitable[Any]]) -> Any:
        """What a worker does in one transaction."""
        async with self.writer.connection() as connection, connection.transaction():
            return await act(connection)

    async def add_frames(self, scan: Scan, first: int, count: int, captured: str = "2026-11-22T10:30:00Z") -> None:
        """Depth frames as intake leaves them, and the scan settled."""
        self.database.query(
            "INSERT INTO weir.scan_frame (scan_no, seq, type, captured_at, bytes, sha256, object_key, received_at)"
            " SELECT %s, n, 'depth', %s, 1, '\\x00', 'k', now() FROM generate_series(%s::int, %s::int) n",
            *(scan.scan_no, captured, first, first + count - 1),
        )
        self.database.query(
            "UPDATE weir.scan s SET received = q.n, highest_seq = q.m FROM (SELECT count(*) AS n, max(seq) AS m"
            " FROM weir.scan_frame WHERE scan_no = %s) q WHERE scan_no = %s",
            *(scan.scan_no, scan.scan_no),
        )
        self.database.query("SELECT weir.settle_scan(%s)", scan.scan_no)

    def jobs(self) -> list[tuple[Any, ...]]:
        return self.database.query(
            "SELECT task_name, args ->> 'scan_id', lock FROM weir_jobs.procrastinate_jobs ORDER BY id"
        )

    def usage(self) -> list[tuple[Any, ...]]:
        """meter, hour of the day, quantity, revision."""
        return self.database.query(
            "SELECT meter, extract(hour FROM bucket_start AT TIME ZONE 'UTC')::int, quantity, revision FROM usage_hourly"
            " ORDER BY 1, 2"
        )


def run_scene(database: Database, act: Callable[[Scene], Awaitable[None]]) -> None:
    async def go() -> None:
        tenant = await create_tenant(database)
        reader = open_pool(database.reader_url, DatabaseRole.READER, size=2)
        writer = open_pool(database.writer_url, DatabaseRole.WRITER, size=2)
        async with reader, writer:
            await act(Scene(database, tenant, reader, writer))

    asyncio.run(go())


def final(scan: Scan, points: int, **more: Any) -> Callable[[Connection], Awaitable[bool]]:
    """A final result in which frame 1 is rejected and the others have so many points."""
    verdicts = [FrameVerdict(seq, seq != 1, None if seq != 1 else "pose_jump", points) for seq in range(10)]
    return lambda connection: scans.store_result(
        connection, scan, RESULT, provisional=False, usage_topic=TOPIC, verdicts=verdicts, **more
    )


def test_a_scan_goes_from_its_creation_to_a_result_that_is_billed_once(database: Database) -> None:
    async def act(scene: Scene) -> None:
        made = await scene.api("weir_tenant.create_scan('kitchen', %s, 5)", scene.tenant.devices[0].device_id)
        assert (made["name"], made["status"], made["priority"], made["progress"]) == ("kitchen", "receiving", 5, 0)
        assert made["frames"] == {
            "received": 0, "accepted": 0, "expected": None, "types": {}, "rejected": [], "conflicts": [], "missing": []
        }  # fmt: skip
        assert made["room_dimensions"] is None
        scan = await scene.found(made["scan_id"])
        await scene.add_frames(scan, 0, 2)
        await scene.add_frames(scan, 4, 1)
        ended = await scene.api("weir_tenant.complete_scan(%s, 5)", scan.scan_id)
        # Two are missing: it waits, and is looked at meanwhile; one job of a kind waits.
        assert (ended["status"], ended["frames"]["missing"]) == ("receiving", [2, 3])
        assert scene.jobs() == [("scans.preview", scan.scan_id, f"scan:{scan.scan_no}")]
        await scene.add_frames(scan, 2, 2)
        assert [task for task, *_ in scene.jobs()] == ["scans.process"]

        scan = await scene.found(scan.scan_id)
        assert (scan.status, scan.all_arrived) == ("queued", True)
        assert await scene.work(lambda c: scans.set_status(c, scan.scan_no, "processing", progress=40))
        ply = Export("ply", 9, b"\1" * 32, "k")
        assert await scene.work(final(scan, 100, exports=[ply]))
        shown = await scene.api("weir_tenant.scan_by_id(%s)", scan.scan_id)
        assert (shown["status"], shown["progress"], shown["verdict"]) == ("completed", 100, "good")
        assert shown["frames"]["rejected"] == [{"seq": 1, "reason": "pose_jump"}]
        assert (shown["frames"]["received"], shown["frames"]["accepted"]) == (5, 4)
        assert shown["model"] == {"vertices": 9, "triangles": 0, "formats": ["ply"]}
        # Hour and points of the accepted ones; again from the same frames: the same.
        assert scene.usage() == [("scan_points", 10, 400, 1), ("scans", 10, 1, 1)]
        assert await scene.work(final(scan, 100))
        assert scene.usage() == [("scan_points", 10, 400, 1), ("scans", 10, 1, 1)]
        told = scene.database.query(
            "SELECT item ->> 'status' FROM weir.live_event WHERE channel = 'scans' ORDER BY seq"
        )
        assert [status for (status,) in told] == ["receiving", "receiving", "processing", "completed", "completed"]
        listed = scene.database.query("SELECT scan_id, status, verdict, length, points FROM scans")
        assert listed == [(scan.scan_id, "completed", "good", 5.2, 400)]

    run_scene(database, act)


def test_frames_that_come_later_move_what_is_billed_and_a_stale_result_completes_nothing(database: Database) -> None:
    async def act(scene: Scene) -> None:
        scan = await scene.found((await scene.api("weir_tenant.create_scan('', NULL, NULL)"))["scan_id"])
        await scene.add_frames(scan, 0, 1)
        await scene.add_frames(scan, 2, 1)
        scene.database.query("SELECT weir.settle_scan(%s, true)", scan.scan_no)
        timed_out = await scene.found(scan.scan_id)
        assert (timed_out.status, timed_out.all_arrived) == ("queued", False)
        assert await scene.work(final(timed_out, 10))
        assert (await scene.found(scan.scan_id)).status == "incomplete"
        assert scene.usage() == [("scan_points", 10, 20, 1), ("scans", 10, 1, 1)]

        # The missing one was the first of all, an hour earlier, and the end comes with it.
        scene.database.query("UPDATE weir.scan SET end_frames = 3 WHERE scan_no = %s", scan.scan_no)
        await scene.add_frames(scan, 1, 1, "2026-11-22T09:59:59Z")
        assert not await scene.work(final(timed_out, 10))
        stale = await scene.api("weir_tenant.scan_by_id(%s)", scan.scan_id)
        assert (stale["status"], stale["provisional"]) == ("queued", True)
        verdicts = [FrameVerdict(seq, True, None, 10) for seq in range(3)]
        fresh = await scene.found(scan.scan_id)
        await scene.work(
            lambda c: scans.store_result(c, fresh, RESULT, provisional=False, usage_topic=TOPIC, verdicts=verdicts)
        )
        assert (await scene.found(scan.scan_id)).status == "completed"
        assert scene.usage() == [
            ("scan_points", 9, 30, 1),
            ("scan_points", 10, 0, 2),
            ("scans", 9, 1, 1),
            ("scans", 10, 0, 2),
        ]
        assert scene.database.query("SELECT count(*) FROM weir.topic_outbox WHERE topic = %s", TOPIC) == [(6,)]

    run_scene(database, act)


def test_a_cancelled_scan_takes_no_result_and_a_failed_one_may_be_tried_again(database: Database) -> None:
    async def act(scene: Scene) -> None:
        first, second = [(await scene.api("weir_tenant.create_scan('', NULL, NULL)"))["scan_id"] for _ in range(2)]
        for scan_id in (first, second):
            assert (await scene.api("weir_tenant.complete_scan(%s, NULL)", scan_id))["status"] == "queued"
        cancelled = await scene.found(first)
        assert (await scene.api("weir_tenant.cancel_scan(%s)", first))["status"] == "cancelled"
        assert not await scene.work(lambda c: scans.set_status(c, cancelled.scan_no, "processing"))
        assert not await scene.work(final(cancelled, 1))
        failed = await scene.found(second)
        assert await scene.work(lambda c: scans.set_status(c, failed.scan_no, "failed", error="no memory"))
        shown = await scene.api("weir_tenant.scan_by_id(%s)", second)
        assert (shown["status"], shown["error"]) == ("failed", "no memory")
        assert scene.usage() == []
        assert (await scene.api("weir_tenant.retry_scan(%s)", second))["status"] == "queued"
        async with tenant_transaction(scene.reader, scene.tenant.tenant_id) as connection:
            newest = await scans.list_scans(connection, scans.ScanFilter(), None, 1)
            rest = await scans.list_scans(connection, scans.ScanFilter(), newest[0][:2], 10)
        assert [row[2]["scan_id"] for row in (*newest, *rest)] == [second, first]

    run_scene(database, act)


def test_another_tenants_scan_and_device_are_not_there(database: Database) -> None:
    async def act(scene: Scene) -> None:
        scan_id = (await scene.api("weir_tenant.create_scan('', NULL, NULL)"))["scan_id"]
        other = Scene(database, await create_tenant(database, name="other"), scene.reader, scene.writer)
        for call in ("scan_by_id(%s)", "complete_scan(%s, 1)", "cancel_scan(%s)", "retry_scan(%s)"):
            assert await other.api(f"weir_tenant.{call}", scan_id) is None, call
        assert await other.api("weir_tenant.create_scan('', %s, 0)", scene.tenant.devices[0].device_id) is None
        assert (await scene.found(scan_id)).status == "receiving"
        with psycopg.connect(database.reader_url, autocommit=True) as connection:
            connection.execute("SET ROLE weir_reader")
            for query in (b"SELECT * FROM weir.scan_frame", b"SELECT * FROM weir.scan_conflict"):
                with pytest.raises(errors.InsufficientPrivilege):
                    connection.execute(query)

    run_scene(database, act)


def test_on_timescaledb_the_frame_index_is_a_hypertable(database: Database) -> None:
    if database.engine is Engine.TIMESCALE:
        query = "SELECT hypertable_name FROM timescaledb_information.hypertables WHERE hypertable_name = 'scan_frame'"
        assert database.query(query) == [("scan_frame",)]
    else:
        assert database.query("SELECT relkind::text FROM pg_class WHERE relname = 'scan_frame'") == [("r",)]
