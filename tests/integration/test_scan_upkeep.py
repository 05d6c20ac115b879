"""Files in pieces, scans that never end, objects that nothing names, and what usage says of scans."""

from __future__ import annotations

import os
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from core.clock import now_ms
from jobs.registry import Resources
from jobs.scan_upkeep import finish_silent_scans, remove_orphaned_objects
from sinks.objects import scan_prefix
from sinks.scan_parts import join_parts
from sinks.timescale import scans
from sinks.timescale.scans import FrameVerdict
from tests.integration.scan_frame_scene import ScanScene, end, frame, piece, run_scan_scene
from tests.integration.servers import Database
from tests.unit.processors.scans.scan_records import CAPTURED_AT

pytestmark = pytest.mark.integration

PIECES = [b"ply\n" + bytes(700_000), bytes(range(256)) * 2_000, b"last"]
HOUR = datetime.fromtimestamp(CAPTURED_AT / 1000, UTC)


class At:
    """As much of a job worker's resources as these tasks take, at a time of the test's."""

    def __init__(self, scene: ScanScene, later: timedelta = timedelta()) -> None:
        self.pool = scene.pool
        self._later_ms = round(later.total_seconds() * 1000)

    def now_ms(self) -> int:
        return now_ms() + self._later_ms


def resources(scene: ScanScene, later: timedelta = timedelta()) -> Resources:
    return cast("Resources", At(scene, later))


def files(scene: ScanScene) -> list[tuple[Any, ...]]:
    return scene.database.query(
        "SELECT scan_id, file_id, name, kind, bytes, complete, error FROM scan_files ORDER BY 1, 2"
    )


def test_pieces_in_any_order_become_the_file_and_wrong_ones_say_what_is_wrong(
    database: Database, tmp_path: Path
) -> None:
    async def act(scene: ScanScene) -> None:
        pieces = [piece(seq, data, seq, PIECES) for seq, data in enumerate(PIECES)]
        random.Random(3).shuffle(pieces)
        await scene.scan("whole", *pieces[:2], pieces[0])
        await join_parts(scene.pool, scene.objects, "whole")
        assert files(scene) == [("whole", "cloud", "", "other", None, False, None)]
        await scene.scan("whole", pieces[2], end(3))
        for _ in range(2):
            await join_parts(scene.pool, scene.objects, "whole")
        size = sum(len(data) for data in PIECES)
        assert files(scene) == [("whole", "cloud", "room.ply", "ply", size, True, None)]
        ((key,),) = scene.database.query("SELECT object_key FROM scan_files")
        assert await scene.objects.get(key) == b"".join(PIECES)

        await scene.scan("damaged", piece(0, b"a", 0, [b"a", b"b"]), piece(1, b"x", 1, [b"a", b"b"]), end(2))
        await scene.scan("half", piece(0, b"a", 0, [b"a", b"b"]), end(1))
        await scene.scan("mixed", piece(0, b"a", 0, [b"a", b"b"]), piece(1, b"b", 1, [b"a", b"c"]), end(2))
        for scan_id in ("damaged", "half", "mixed"):
            await join_parts(scene.pool, scene.objects, scan_id)
        wrong = {row[0]: row[5:] for row in files(scene)[:3]}
        assert wrong == {
            "damaged": (False, "wrong_hash"), "half": (False, "parts_missing"), "mixed": (False, "parts_disagree")
        }  # fmt: skip
        assert len([one async for one in scene.objects.list() if "/files/" in one.key]) == 1

    run_scan_scene(database, tmp_path, act)


def test_a_scan_that_never_ends_is_processed_with_what_is_there_and_again_when_the_rest_comes(
    database: Database, tmp_path: Path
) -> None:
    async def act(scene: ScanScene) -> None:
        await scene.scan("a", frame(0), frame(2), end(3))
        await scene.scan("b", frame(0))
        await finish_silent_scans(resources(scene, timedelta(seconds=590)))
        assert scene.document("a")["status"] == "receiving"
        scene.database.query("UPDATE weir.scan SET last_frame_at = now() + interval '1 minute' WHERE scan_id = 'b'")
        await finish_silent_scans(resources(scene, timedelta(seconds=601)))
        assert [scene.document(scan_id)["status"] for scan_id in "ab"] == ["queued", "receiving"]
        assert scene.jobs("a") == ["scans.process"]
        assert scene.document("a")["frames"]["missing"] == [1]
        await result(scene, "a", 10)
        assert scene.document("a")["status"] == "incomplete"
        await scene.scan("a", frame(1))
        assert scene.document("a")["status"] == "queued"
        await result(scene, "a", 10)
        assert scene.document("a")["status"] == "completed"

    run_scan_scene(database, tmp_path, act)


async def result(scene: ScanScene, scan_id: str, points: int, *rejected: int) -> None:
    """A final result with so many points in each depth frame that is not rejected."""
    async with scene.pool.connection() as connection, connection.transaction():
        scan = await scans.find_scan(connection, scan_id)
        assert scan is not None
        rows = await scans.frames_of(connection, scan.scan_no)
        verdicts = [
            FrameVerdict(row.seq, row.seq not in rejected, "pose_jump" if row.seq in rejected else None, points)
            for row in rows
            if row.type == "depth"
        ]
        document = {"verdict": "good", "missing_parts": [], "room_dimensions": {}}
        assert await scans.store_result(
            connection, scan, document, provisional=False, usage_topic="t-usage", verdicts=verdicts
        )


def usage(scene: ScanScene) -> dict[tuple[str, int], int]:
    """Quantity by meter and hours after the frames'."""
    rows = scene.database.query("SELECT meter, bucket_start, quantity FROM usage_hourly WHERE quantity > 0")
    return {(meter, round((at - HOUR).total_seconds() / 3600)): quantity for meter, at, quantity in rows}


def test_usage_of_scans_is_what_their_rows_say_whatever_comes_later(database: Database, tmp_path: Path) -> None:
    async def act(scene: ScanScene) -> None:
        def drift() -> list[tuple[Any, ...]]:
            return scene.database.query("SELECT meter, stored, metered FROM usage_drift ORDER BY 1")

        for scan_id in ("a", "b"):
            await scene.scan(scan_id, frame(0, captured_at=CAPTURED_AT - 1), frame(1), frame(2), end(3))
        assert usage(scene) == {}
        assert drift() == []
        # The earliest frame of b is rejected, so it counts in the hour after.
        await result(scene, "a", 100)
        await result(scene, "b", 7, 0)
        expected = {("scans", -1): 1, ("scan_points", -1): 300, ("scans", 0): 1, ("scan_points", 0): 14}
        assert (usage(scene), drift()) == (expected, [])
        # Frames that come after the result are billed once they are judged, and never twice.
        await scene.scan("a", frame(5, captured_at=CAPTURED_AT - 3_600_001), frame(1))
        await scene.scan("b", frame(2, 9))
        assert (usage(scene), drift()) == (expected, [])
        await result(scene, "a", 100)
        await result(scene, "b", 7, 0)
        expected = {("scans", -2): 1, ("scan_points", -2): 400, ("scans", 0): 1, ("scan_points", 0): 14}
        assert (usage(scene), drift()) == (expected, [])
        # One that fails without ever having had a result is free.
        await scene.scan("c", frame(0), end(1))
        async with scene.pool.connection() as connection, connection.transaction():
            scan = await scans.find_scan(connection, "c")
            assert scan is not None
            assert await scans.set_status(connection, scan.scan_no, "failed", error="no memory")
        assert (usage(scene), drift()) == (expected, [])
        # What is changed behind the meters' back shows.
        scene.database.query("UPDATE weir.scan_frame SET points = 8 WHERE points = 7 AND seq = 1")
        scene.database.query("DELETE FROM weir.usage WHERE meter = 'scans' AND bucket_start = %s", HOUR)
        assert drift() == [("scan_points", 15, 14), ("scans", 1, 0)]

    run_scan_scene(database, tmp_path, act)


def test_objects_that_no_row_names_go_after_a_day_and_no_others(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEIR_OBJECTS_URL", str(tmp_path))

    async def act(scene: ScanScene) -> None:
        await scene.scan(
            "a", frame(0), frame(1), frame(1, 9), *(piece(2 + n, d, n, PIECES) for n, d in enumerate(PIECES))
        )
        await join_parts(scene.pool, scene.objects, "a")
        named = {one.key async for one in scene.objects.list()}
        assert len(named) == 7  # six records and the file
        prefix = scan_prefix(scene.tenant.tenant_id, "a")
        for key in (f"{prefix}/frames/00", f"{prefix}/results/ply/00", "scans/other/00/frames/00", "elsewhere/00"):
            await scene.objects.put(key, b"orphan")
        await scene.objects.put(f"{prefix}/frames/young", b"orphan")
        await remove_orphaned_objects(resources(scene, timedelta(hours=23)))
        assert len([one async for one in scene.objects.list()]) == 7 + 5
        tomorrow = (datetime.now(UTC) + timedelta(hours=24)).timestamp()
        os.utime(tmp_path / prefix / "frames" / "young", (tomorrow, tomorrow))
        await remove_orphaned_objects(resources(scene, timedelta(hours=25)))
        left = {one.key async for one in scene.objects.list()}
        assert left == {*named, f"{prefix}/frames/young", "elsewhere/00"}

    run_scan_scene(database, tmp_path, act)
