"""Scans processed by jobs: the same result whatever happens, mishaps that stay with one scan, cancelling, turns."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from core.tasks import TaskName
from jobs.scans import tasks
from jobs.tasks import TASKS
from jobs.worker import WorkerOptions
from schemas.scan_frames import EndFrame
from tests.integration import scan_job_scene
from tests.integration.job_scene import PATIENCE_S, every_second, quick, run_task, running_worker
from tests.integration.scan_job_scene import Scans, measured, room
from tests.integration.servers import Database, Tenant, create_tenant, wait_until

pytestmark = pytest.mark.integration


@pytest.fixture
def tenant(database: Database) -> Tenant:
    return asyncio.run(create_tenant(database))


@pytest.fixture
def scans(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scans:
    monkeypatch.setenv("WEIR_OBJECTS_URL", str(tmp_path / "objects"))
    return Scans(database, tmp_path / "objects")


@pytest.fixture
def mishaps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that says how scans with so many records go wrong."""
    monkeypatch.setattr(tasks, "_COMPUTATION", scan_job_scene.__name__)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
    (tmp_path / "mishaps").mkdir()
    return tmp_path / "mishaps"


def options(database: Database) -> WorkerOptions:
    return quick(database, concurrency=2)


def preview(scans: Scans, tenant: Tenant, scan_id: str) -> None:
    run_task(scans.database, TaskName.PREVIEW_SCAN, tenant_id=tenant.tenant_id, scan_id=scan_id)


def process(scans: Scans, tenant: Tenant, scan_id: str) -> None:
    run_task(scans.database, TaskName.PROCESS_SCAN, tenant_id=tenant.tenant_id, scan_id=scan_id)


def test_records_in_any_order_with_previews_between_and_again_give_the_same_result_and_files(
    scans: Scans, tenant: Tenant
) -> None:
    straight, shuffled = room(), list(room())
    scans.make("straight", tenant.tenant_id)
    scans.add("straight", straight)
    process(scans, tenant, "straight")
    scans.make("shuffled", tenant.tenant_id)
    missing = []
    for piece in (shuffled[40:60], shuffled[10:40]):
        scans.add("shuffled", piece, seed=3)
        preview(scans, tenant, "shuffled")
        seen = scans.document("shuffled")
        assert (seen["status"], seen["provisional"]) == ("receiving", True)
        missing.append(seen["missing_parts"])
        assert list(scans.exports("shuffled")) == ["preview.ply"]
    # A third of a turn closes no room; what is left out of the second preview is in others too.
    assert "walls" in missing[0]
    assert missing[1] == []
    scans.add("shuffled", [*shuffled[60:], *shuffled[:10]], seed=4)
    process(scans, tenant, "shuffled")

    first, second = scans.document("straight"), scans.document("shuffled")
    assert first["status"] == "completed"
    assert first["frames"]["accepted"] + len(first["frames"]["rejected"]) == 60
    assert sorted(scans.exports("straight")) == ["csv", "glb", "json", "obj", "pdf", "ply", "points.ply"]
    assert first["model"]["triangles"] > 100
    assert first["processing"]["surface"] == "fused"
    assert first["room_dimensions"]["height"] is not None
    assert measured(first) == measured(second)
    files = scans.exports("shuffled")
    assert scans.exports("straight") == files

    usage = scans.database.query("SELECT meter, quantity FROM usage_hourly ORDER BY 1")
    scans.database.query("SELECT weir.settle_scan(scan_no) FROM weir.scan WHERE scan_id = 'shuffled'")
    process(scans, tenant, "shuffled")
    assert measured(scans.document("shuffled")) == measured(first)
    assert scans.exports("shuffled") == files
    assert scans.database.query("SELECT meter, quantity FROM usage_hourly ORDER BY 1") == usage
    assert [(meter, quantity) for meter, quantity in usage if meter == "scans"] == [("scans", 2)]


def test_a_crash_a_hog_and_an_endless_loop_fail_or_stop_alone(
    scans: Scans, tenant: Tenant, mishaps: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEIR_SCAN_MEMORY_MIB", "1200")
    for records, how in ((10, "crash"), (11, "hoard"), (12, "loop"), (13, "")):
        scans.make(how or "good", tenant.tenant_id)
        (mishaps / str(records)).write_text(how)
        scans.add(how or "good", [*room()[: records - 1], EndFrame(seq=records - 1, frames=records - 1)])

    with running_worker(options(scans.database), TASKS):
        wait_until(lambda: scans.document("loop")["progress"] == 30, PATIENCE_S)
        assert scans.status("loop") == "processing"
        scans.as_tenant(tenant.tenant_id, "weir_tenant.cancel_scan(%s)", "loop")
        for scan_id, status in (("good", "completed"), ("crash", "failed"), ("hoard", "failed")):
            wait_for_status(scans, scan_id, status)
        wait_until(lambda: not running_jobs(scans.database), PATIENCE_S)

    assert scans.document("crash")["error"] == "processing failed: it crashed (signal SIGSEGV)"
    assert scans.document("hoard")["error"] == "processing failed: it needed more than 1200 MiB of memory"
    assert scans.status("loop") == "cancelled"
    assert attempts(scans.database) == {"crash": ["retried", "retried", "failed"], "good": ["succeeded"],
        "hoard": ["retried", "retried", "failed"], "loop": ["succeeded"]}  # fmt: skip
    assert scans.document("crash")["frames"]["received"] == 9

    (mishaps / "10").unlink()
    scans.as_tenant(tenant.tenant_id, "weir_tenant.retry_scan(%s)", "crash")
    process(scans, tenant, "crash")
    assert scans.document("crash")["error"] is None
    assert scans.status("crash") == "completed"


def test_a_step_that_a_result_can_do_without_takes_no_scan_down(
    scans: Scans, tenant: Tenant, mishaps: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Native code that makes the model crashes, and a recognizer's."""
    monkeypatch.setenv("WEIR_SCAN_RECOGNIZER", "somebodys.program:Recognizer")
    records = [*room()[:39], EndFrame(seq=39, frames=39)]
    scans.make("undisturbed", tenant.tenant_id)
    scans.add("undisturbed", records)
    process(scans, tenant, "undisturbed")
    whole = scans.document("undisturbed")
    assert whole["warnings"] == ["recognizer_failed"]  # there is no such program
    for scan_id in ("mesh", "recognizer"):
        if scan_id == "mesh":
            (mishaps / str(len(records))).write_text("crash in the mesh")
        else:
            (mishaps / str(len(records))).unlink()
            monkeypatch.setenv("WEIR_SCAN_RECOGNIZER", f"{scan_job_scene.__name__}:Crashing")
        scans.make(scan_id, tenant.tenant_id)
        scans.add(scan_id, records)
        process(scans, tenant, scan_id)

        done = scans.document(scan_id)
        assert done["status"] == "completed"
        assert done["room_dimensions"] == whole["room_dimensions"]
        assert done["frames"] == whole["frames"]

    mesh, recognizer = scans.document("mesh"), scans.document("recognizer")
    assert mesh["processing"]["without"] == {"mesh": "it crashed (signal SIGSEGV)"}
    assert (mesh["warnings"], mesh["processing"]["surface"]) == (["recognizer_failed", "mesh_failed"], "outline")
    # The walls as measured are its model: 2 rings of corners.
    assert mesh["model"]["vertices"] == 2 * len(mesh["floor_polygon"])
    assert recognizer["processing"]["without"] == {"recognizer": "it crashed (signal SIGSEGV)"}
    assert recognizer["warnings"] == ["recognizer_failed"]
    assert recognizer["model"] == whole["model"]
    assert scans.exports("recognizer")["glb"] == scans.exports("undisturbed")["glb"]


def test_a_killed_worker_takes_its_computation_with_it_and_another_comes_to_the_same_result(
    scans: Scans, tenant: Tenant, mishaps: Path
) -> None:
    records = [*room()[:19], EndFrame(seq=19, frames=19)]
    (mishaps / "20").write_text("hold")
    scans.make("killed", tenant.tenant_id)
    scans.add("killed", records)
    worker = subprocess.Popen([sys.executable, "-m", scan_job_scene.__name__, scans.database.writer_url])
    try:
        wait_until(lambda: scans.document("killed")["progress"] == 30, PATIENCE_S)
    finally:
        worker.kill()
        worker.wait()
    child = Path(f"/proc/{(mishaps / '20.pid').read_text()}/cmdline")
    wait_until(lambda: not child.exists() or child.read_bytes() == b"", PATIENCE_S)
    assert scans.status("killed") == "processing"
    (mishaps / "20").unlink()

    with running_worker(options(scans.database), TASKS, [every_second(TaskName.RESCUE_STALLED_JOBS, exclusive=False)]):
        wait_for_status(scans, "killed", "completed")
    scans.make("undisturbed", tenant.tenant_id)
    scans.add("undisturbed", records)
    process(scans, tenant, "undisturbed")

    assert measured(scans.document("killed")) == measured(scans.document("undisturbed"))
    assert scans.exports("killed") == scans.exports("undisturbed")
    assert attempts(scans.database)["killed"] == ["lost", "succeeded"]


def wait_for_status(scans: Scans, scan_id: str, status: str) -> None:
    wait_until(lambda: scans.status(scan_id) == status, PATIENCE_S, f"{scan_id} {status}")


def running_jobs(database: Database) -> int:
    return int(
        database.query("SELECT count(*) FROM jobs WHERE status IN ('todo', 'doing') AND starts_with(queue, 'scan')")[0][
            0
        ]
    )


def attempts(database: Database) -> dict[str, list[str]]:
    """Outcomes of the attempts to process each scan."""
    rows = database.query(
        "SELECT j.args ->> 'scan_id', array_agg(a.outcome ORDER BY a.attempt) FROM weir.job_attempt a"
        " JOIN weir_jobs.procrastinate_jobs j ON j.id = a.job_id WHERE a.task = 'scans.process' GROUP BY 1"
    )
    return dict(rows)


def test_a_tenant_with_many_scans_delays_another_by_one_job(scans: Scans, tenant: Tenant) -> None:
    other = asyncio.run(create_tenant(scans.database, name="other"))
    for number in range(20):
        scans.make(f"many-{number:02}", tenant.tenant_id)
        scans.add(f"many-{number:02}", [EndFrame(seq=0, frames=0)])
    for scan_id, priority in (("urgent", 9), ("late", 0)):
        scans.make(scan_id, tenant.tenant_id, priority=priority)
        scans.add(scan_id, [EndFrame(seq=0, frames=0)])
    for scan_id in ("one", "two"):
        scans.make(scan_id, other.tenant_id)
        scans.add(scan_id, [EndFrame(seq=0, frames=0)])

    assert turns(scans)[:6] == ["many-00", "urgent", "one", "many-01", "two", "many-02"]
    assert turns(scans)[-1] == "late"
    assert scans.as_tenant(other.tenant_id, '"position" FROM weir_tenant.scan_queue_position(%s)', "two") == 5
    assert scans.as_tenant(other.tenant_id, '"position" FROM weir_tenant.scan_queue_position(%s)', "late") is None


def turns(scans: Scans) -> list[str]:
    """In which order waiting scans are processed."""
    rows = scans.database.query(
        "SELECT args ->> 'scan_id' FROM weir_jobs.procrastinate_jobs WHERE status = 'todo' ORDER BY priority DESC, id"
    )
    return [str(scan_id) for (scan_id,) in rows]


def test_nobody_waits_for_ever_behind_a_tenant_that_keeps_coming(scans: Scans, tenant: Tenant) -> None:
    other = asyncio.run(create_tenant(scans.database, name="other"))
    for number in range(5):
        scans.make(f"waiting-{number}", tenant.tenant_id)
        scans.add(f"waiting-{number}", [EndFrame(seq=0, frames=0)])
    served = []
    for number in range(12):
        scans.make(f"new-{number}", other.tenant_id)
        scans.add(f"new-{number}", [EndFrame(seq=0, frames=0)])
        served.append(turns(scans)[0])
        scans.database.query("DELETE FROM weir_jobs.procrastinate_jobs WHERE args ->> 'scan_id' = %s", served[-1])

    assert [scan_id for scan_id in served if scan_id.startswith("waiting")] == [f"waiting-{n}" for n in range(5)]


def test_with_many_scans_at_once_each_gets_its_preview_in_turn(scans: Scans, tenant: Tenant) -> None:
    """Whoever had one asks for the next at once: twelve scans of one tenant, and the single one of another."""
    other = asyncio.run(create_tenant(scans.database, name="other"))
    names = [f"many-{number:02}" for number in range(12)]
    numbers = {name: scans.make(name, tenant.tenant_id) for name in names}
    numbers["single"] = scans.make("single", other.tenant_id)
    for number in numbers.values():
        ask_for_preview(scans, number)
    served = []
    for _turn in range(78):
        served.append(turns(scans)[0])
        scans.database.query("DELETE FROM weir_jobs.procrastinate_jobs WHERE args ->> 'scan_id' = %s", served[-1])
        scans.database.query("UPDATE weir.scan SET preview_at = preview_at - interval '1 hour'")  # time goes by
        ask_for_preview(scans, numbers[served[-1]])

    assert 24 <= served.count("single") <= 39  # every second or third turn, however many the other has
    rest = [name for name in served if name != "single"]
    for start in range(len(rest) - 12):
        assert sorted(rest[start : start + 12]) == names  # nobody twice before everybody once


def ask_for_preview(scans: Scans, scan_no: int) -> None:
    scans.database.query("SELECT weir.enqueue_scan_job(%s, 'scans.preview')", scan_no)


def test_a_record_that_comes_while_a_preview_is_being_taken_gets_another(scans: Scans, tenant: Tenant) -> None:
    """Whoever took it may look before the record is there; one that merely waits is enough."""
    number = scans.make("s1", tenant.tenant_id)
    for _record in range(2):
        ask_for_preview(scans, number)
        scans.database.query("UPDATE weir.scan SET preview_at = now() - interval '1 hour'")
    assert turns(scans) == ["s1"]
    with ThreadPoolExecutor() as intake, psycopg.connect(scans.database.admin_url) as taker:
        taker.execute("UPDATE weir_jobs.procrastinate_jobs SET status = 'doing'")
        asked = intake.submit(ask_for_preview, scans, number)
        wait_until(lambda: is_blocked(scans.database), PATIENCE_S, "intake to meet the taker")
        taker.commit()
        asked.result(timeout=PATIENCE_S)

    assert turns(scans) == ["s1"]
    assert running_jobs(scans.database) == 2


def is_blocked(database: Database) -> bool:
    return bool(
        database.query(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
    )


def test_a_queue_position_comes_with_an_estimate_from_what_others_took(scans: Scans, tenant: Tenant) -> None:
    for number in range(3):
        scans.make(f"s{number}", tenant.tenant_id)
        scans.add(f"s{number}", [EndFrame(seq=0, frames=0)])
    scans.database.query(
        "INSERT INTO weir.job_attempt (job_id, attempt, task, queue, started_at, ended_at, outcome)"
        " VALUES (99, 1, 'scans.process', 'scans', now() - interval '4 s', now(), 'succeeded')"
    )

    def seen(scan_id: str) -> tuple[int, float]:
        columns = 'jsonb_build_array("position", estimate_s) FROM weir_tenant.scan_queue_position(%s)'
        position, estimate_s = scans.as_tenant(tenant.tenant_id, columns, scan_id)
        return position, estimate_s

    assert seen("s2") == (3, 16.0)  # what is running now, two others and itself, 4 s each
    scans.database.query("UPDATE weir_jobs.procrastinate_jobs SET status = 'doing' WHERE args ->> 'scan_id' = 's0'")
    scans.database.query("UPDATE weir.scan SET status = 'processing', progress = 75 WHERE scan_id = 's0'")
    assert seen("s0") == (0, 1.0)  # a quarter of 4 s
    assert seen("s2") == (2, 12.0)


def test_a_scan_whose_job_was_lost_gets_it_again_and_one_that_took_its_workers_down_fails(
    scans: Scans, tenant: Tenant
) -> None:
    for scan_id in ("lost", "deadly", "waiting"):
        scans.make(scan_id, tenant.tenant_id)
        scans.add(scan_id, [EndFrame(seq=0, frames=0)])
    scans.database.query("DELETE FROM weir_jobs.procrastinate_jobs WHERE args ->> 'scan_id' = 'lost'")
    scans.database.query(
        "UPDATE weir_jobs.procrastinate_jobs SET status = 'failed' WHERE args ->> 'scan_id' = 'deadly'"
    )

    run_task(scans.database, TaskName.LOOK_AFTER_SCANS)

    assert sorted(turns(scans)) == ["lost", "waiting"]
    assert (scans.status("lost"), scans.status("waiting")) == ("queued", "queued")
    assert scans.document("deadly")["error"] == "processing failed: it was interrupted too often"
