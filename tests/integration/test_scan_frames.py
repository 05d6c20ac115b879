"""Frames on their way into the store: the same index whatever their order, each refusal by name, nothing else disturbed."""

from __future__ import annotations

import random
import time
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest

from schemas.errors import Misconfigured, Transient
from sinks.objects import ObjectStore, open_directory
from tests.integration.scan_frame_scene import ScanScene, Sent, end, frame, run_scan_scene
from tests.integration.servers import Database
from tests.unit.processors.scans.scan_records import record

pytestmark = pytest.mark.integration


def test_a_scan_exists_from_its_first_frame_and_is_processed_once_all_have_come(
    database: Database, tmp_path: Path
) -> None:
    async def act(scene: ScanScene) -> None:
        await scene.scan("kitchen", frame(0), frame(3))
        first = scene.document("kitchen")
        assert (first["status"], first["device_id"]) == ("receiving", scene.device.device_id)
        assert (first["frames"]["received"], first["frames"]["missing"]) == (2, [1, 2])
        await scene.scan("kitchen", end(5), frame(1), record({"type": "location", "seq": 4, "latitude": 1.5}))
        assert (scene.document("kitchen")["status"], scene.document("kitchen")["frames"]["missing"]) == (
            "receiving",
            [2],
        )
        assert scene.jobs("kitchen") == ["scans.preview"]
        await scene.scan("kitchen", frame(2))
        done = scene.document("kitchen")
        assert (done["status"], done["frames"]["types"]) == ("queued", {"depth": 4, "location": 1})
        assert (done["frames"]["received"], done["frames"]["expected"], done["frames"]["missing"]) == (5, 5, [])
        assert scene.jobs("kitchen") == ["scans.process"]
        # What the index names are the records, byte for byte.
        keys = scene.database.query("SELECT object_key FROM scan_frames ORDER BY seq")
        assert [await scene.objects.get(key) for (key,) in keys][:2] == [frame(0), frame(1)]
        told = scene.database.query(
            "SELECT item ->> 'status' FROM weir.live_event WHERE channel = 'scans' ORDER BY seq"
        )
        assert (told[0], told[-1]) == (("receiving",), ("queued",))
        # What nothing is measured from is stored and counted all the same, byte for byte.
        others = [
            record({"type": "rgb", "seq": 0, "image": b"\xff\xd8\xff", "width": 4, "height": 3}),
            record({"type": "motion", "seq": 1, "samples": [[1, 0.0, 0.0, 9.8, 0.0, 0.0, 0.0]]}),
            record({"type": "location", "seq": 2, "latitude": 1.5, "longitude": 2.5}),
            record({"type": "audio", "seq": 3, "data": b"\x00\x01", "encoding": "pcm16", "sample_rate_hz": 48_000}),
        ]
        await scene.scan("sensors", *others, end(4))
        shown = scene.document("sensors")["frames"]
        assert shown["types"] == dict.fromkeys(("rgb", "motion", "location", "audio"), 1)
        assert (shown["received"], shown["accepted"], shown["rejected"]) == (4, 4, [])
        query = "SELECT type, object_key FROM scan_frames WHERE scan_id = 'sensors' AND type <> 'end' ORDER BY seq"
        listed = scene.database.query(query)
        assert [kind for kind, _ in listed] == ["rgb", "motion", "location", "audio"]
        assert [await scene.objects.get(key) for _, key in listed] == others
        # A scan of no frames at all has ended, too.
        await scene.scan("nothing", end(0))
        assert scene.document("nothing")["status"] == "queued"

    run_scan_scene(database, tmp_path, act)


def some_records(scene: ScanScene) -> list[Sent]:
    """Interleaved scans with conflicts, refused records and two ends."""
    second = scene.tenant.devices[1]
    records: list[Sent] = [(second, "three", end(4))]
    records += [(scene.device, "one", frame(seq, 1000 + seq)) for seq in range(12)]
    records += [(second, "two", frame(seq, 3000 + seq)) for seq in range(6)]
    # Other bytes for seq 4 and 5, twice for 5; a refused and a good record for 7, only refused ones for 12.
    records += [
        (scene.device, "one", frame(4, 9)),
        (scene.device, "one", frame(5, 8)),
        (scene.device, "one", frame(5, 7)),
    ]
    records += [(scene.device, "one", frame(7, depth_encoding="jpeg"))]
    records += [(scene.device, "one", frame(12, width=width)) for width in (60_000, 60_001)]
    records += [(scene.device, "one", end(13)), (second, "two", end(5)), (second, "two", end(6))]
    return [*records, (second, "three", end(2))]


def test_shuffled_doubled_and_cut_anyhow_the_same_frames_are_stored(database: Database, tmp_path: Path) -> None:
    outcomes: list[tuple[Any, list[tuple[Any, ...]], list[tuple[Any, ...]]]] = []

    async def act(scene: ScanScene) -> None:
        chance = random.Random(len(outcomes))
        records = some_records(scene) * (1 if not outcomes else 3)
        if outcomes:
            chance.shuffle(records)
        while records:
            cut = chance.randint(1, 9)
            await scene.send(*records[:cut], partition=chance.randint(0, 1))
            records = records[cut:]
        counters = scene.database.query(
            "SELECT scan_id, status, received, rejected, conflicts, types, highest_seq, end_frames FROM weir.scan ORDER BY 1"
        )
        conflicts = scene.database.query("SELECT scan_id, seq, sha256, bytes FROM scan_conflicts ORDER BY 1, 2, 3")
        hidden = {scene.tenant.tenant_id: "tenant"}
        rows = [[str(value).replace(*next(iter(hidden.items()))) for value in row] for row in scene.index()]
        outcomes.append((rows, counters, conflicts))
        scene.database.query("TRUNCATE weir.scan CASCADE")

    for run in range(3):
        run_scan_scene(database, tmp_path / str(run), act)
    _, counters, conflicts = outcomes[0]
    assert outcomes[1] == outcomes[0]
    assert outcomes[2] == outcomes[0]
    # Of seq 4 two, of 5 three records came; the refused one of seq 7 gave way without being a conflict.
    assert [(scan_id, seq) for scan_id, seq, *_ in conflicts] == [("one", 4), ("one", 5), ("one", 5), ("two", 5)]
    assert [row[:5] for row in counters] == [
        ("one", "queued", 13, 1, 3),
        # Of two ends the last one holds, whichever came first.
        ("three", "receiving", 0, 0, 0),
        # Of the two records with seq 5 the early `end` has the greater hash; an `end` is not counted.
        ("two", "queued", 5, 0, 1),
    ]
    assert [row[-1] for row in counters] == [13, 4, 6]


def test_what_is_refused_has_its_reason_and_disturbs_nothing(database: Database, tmp_path: Path) -> None:
    async def act(scene: ScanScene) -> None:
        device, sibling, stranger = scene.device, scene.tenant.devices[1], scene.other.devices[0]
        await scene.send((device, "mine", frame(0)), (sibling, "theirs", frame(0)))
        future = round(time.time() * 1000) + 3_600_000
        sent: list[tuple[Sent, str, bool]] = [
            ((stranger, "mine", frame(9, 1234)), "scan_of_another_device", False),
            ((sibling, "mine", frame(9, 1234)), "scan_of_another_device", False),
            ((device, "no id", frame(1)), "invalid_scan_id", False),
            ((device, "../x", frame(1)), "invalid_scan_id", False),
            ((device, "mine", b""), "empty", False),
            ((device, "mine", b"\xc1"), "undecodable", False),
            ((device, "mine", record({"type": "depth", "seq": -1})), "invalid_seq", False),
            ((device, "mine", frame(1, width=60_000, height=60_000)), "invalid_size", True),
            ((device, "mine", frame(2, pose=[float("nan"), 0, 0, 0, 0, 0, 1])), "invalid_pose", True),
            ((device, "mine", frame(3, depth_encoding="jpeg")), "unknown_encoding", True),
            ((device, "mine", record({"type": "smell", "seq": 4})), "unknown_type", True),
            ((device, "mine", frame(5, captured_at=future)), "impossible_time", True),
            ((device, "mine", record({"type": "end", "seq": 6, "frames": 9})), "invalid_end", True),
            # What the database has no room for would hold up all that come after it.
            ((device, "mine", record({"type": "rgb", "seq": 7, "file_id": "a\0b"})), "invalid_part", True),
            ((device, "mine", record({"type": "rgb", "seq": 8, "file_id": token_hex(5000)})), "invalid_part", True),
        ]
        report = await scene.send(*(one for one, *_ in sent), (device, "mine", frame(9)), (device, "mine", end(10)))
        assert report.refused == len(sent)
        assert [reason for reason, _ in scene.letters()] == [reason for _, reason, _ in sent]
        tenants = [tenant_id for _, tenant_id in scene.letters()]
        assert tenants == [scene.other.tenant_id] + [scene.tenant.tenant_id] * (len(sent) - 1)
        shown = scene.document("mine")
        # What could be placed has come: the scan does not wait for it.
        assert shown["frames"]["rejected"] == [
            {"seq": seq, "reason": reason} for seq, reason in enumerate([r for _, r, placed in sent if placed], 1)
        ]
        assert (shown["status"], shown["frames"]["received"], shown["frames"]["accepted"]) == ("queued", 10, 2)
        assert scene.document("theirs")["frames"]["received"] == 1
        stored = sorted([found.size async for found in scene.objects.list()])
        assert stored == sorted(map(len, (frame(0), frame(0), frame(9), end(10))))
        # A wrong content type is one, a parameter is none.
        await scene.send((device, "mine", frame(11)), content_type="application/json")
        assert scene.letters()[-1][0] == "unsupported_format"
        report = await scene.send((device, "mine", frame(11)), content_type="application/msgpack; charset=x")
        assert (report.refused, report.inserted) == (0, 0)  # a good one for a refused one: replaced

    run_scan_scene(database, tmp_path, act)


def test_frames_after_the_end_are_processed_again_and_frames_after_a_cancellation_are_refused(
    database: Database, tmp_path: Path
) -> None:
    async def act(scene: ScanScene) -> None:
        await scene.scan("a", frame(0), frame(1), end(2))
        scene.database.query("UPDATE weir.scan SET status = 'completed', completed_at = now()")
        assert (await scene.scan("a", frame(0), end(2))).duplicates == 2
        assert scene.document("a")["status"] == "completed"
        await scene.scan("a", frame(7))
        assert scene.document("a")["status"] == "queued"
        scene.database.query("UPDATE weir.scan SET status = 'cancelled'")
        report = await scene.scan("a", frame(3), frame(0))
        assert (report.inserted, report.refused) == (0, 2)
        assert scene.letters() == [("scan_cancelled", scene.tenant.tenant_id)] * 2
        assert scene.document("a")["frames"]["received"] == 3

    run_scan_scene(database, tmp_path, act)


def test_a_tenant_over_its_quota_or_unpaid_begins_no_scan_but_finishes_those_under_way(
    database: Database, tmp_path: Path
) -> None:
    async def act(scene: ScanScene) -> None:
        scene.database.query("UPDATE weir.tenant SET plan = 'free'")
        # The free plan has three a month, those under way included.
        await scene.scan("a", frame(0))
        await scene.scan("b", frame(0))
        await scene.scan("c", frame(0))
        assert (await scene.scan("d", frame(0))).refused == 1
        assert (await scene.scan("a", frame(1))).inserted == 1
        scene.database.query("UPDATE weir.tenant SET plan = 'basic'")
        scene.database.query(
            "INSERT INTO weir.billing_account (tenant_id, customer_id, status, status_since)"
            " VALUES (%s, 'c', 'unpaid', now() - interval '60 days')",
            scene.tenant.tenant_id,
        )
        assert (await scene.scan("e", frame(0))).refused == 1
        assert (await scene.scan("b", frame(1))).inserted == 1
        assert [reason for reason, _ in scene.letters()] == ["quota_exceeded", "unpaid"]
        assert scene.document("d") == {}
        assert len([one async for one in scene.objects.list()]) == 5

    run_scan_scene(database, tmp_path, act)


def test_a_broken_object_store_commits_nothing_and_what_is_tried_again_is_stored_once(
    database: Database, tmp_path: Path
) -> None:
    class Broken(ObjectStore):
        failures = 2

        async def put(self, key: str, data: object) -> None:
            if Broken.failures:
                Broken.failures -= 1
                msg = "the disk is full"
                raise Misconfigured(msg)
            await super().put(key, data)  # type: ignore[arg-type]

    async def act(scene: ScanScene) -> None:
        whole = open_directory(tmp_path)
        scene.pipeline._objects = Broken(whole._backend)
        with pytest.raises(Transient, match="2 of 3 objects were not stored: the disk is full"):
            await scene.scan("a", frame(0), frame(1), frame(2))
        assert scene.document("a") == {}
        assert (await scene.scan("a", frame(0), frame(1), frame(2))).inserted == 3
        assert len([one async for one in scene.objects.list()]) == 3

    run_scan_scene(database, tmp_path, act)
