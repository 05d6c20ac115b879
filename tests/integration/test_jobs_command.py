"""`weir jobs` as it is deployed: the real tasks by the real cron table, and what its options refuse."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sinks.timescale.migrate import Engine
from tests.integration.servers import Database, wait_until

pytestmark = pytest.mark.integration


def environment(url: str) -> dict[str, str]:
    rest = {name: value for name, value in os.environ.items() if not name.startswith("WEIR_")}
    return rest | {"WEIR_DATABASE_URL": url}


@pytest.fixture
def log_file(tmp_path: Path) -> Path:
    return tmp_path / "jobs.log"


@pytest.fixture
def weir_jobs(database: Database, log_file: Path) -> Iterator[subprocess.Popen[bytes]]:
    if database.engine is not Engine.PLAIN:
        # Only the owner refreshes continuous aggregates; `weir migrate --create-logins` grants its login both roles.
        database.query("GRANT weir_writer TO login_owner")
    url = database.writer_url if database.engine is Engine.PLAIN else database.owner_url
    with log_file.open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "ops.cli", "jobs"], env=environment(url), stderr=log)
    yield process
    process.kill()
    process.wait(timeout=10)


def test_a_new_system_does_every_task_at_once_and_without_a_failure(
    database: Database, weir_jobs: subprocess.Popen[bytes], log_file: Path
) -> None:
    tasks = {
        "apply_retention",
        "clean_up",
        "ensure_partitions",
        "finish_silent_scans",
        "look_after_scans",
        "notice_quotas",
        "prove_usage",
        "push_usage",
        "reconcile_recent_usage",
        "reconcile_usage",
        "refresh_rollups",
        "remove_old_jobs",
        "remove_orphaned_objects",
        "rescue_stalled_jobs",
        "take_billing_events",
        "trim_live_events",
    }

    def done() -> bool:
        rows = database.query("SELECT DISTINCT task FROM job_attempts WHERE outcome = 'succeeded'")
        return {task for (task,) in rows} == tasks

    wait_until(done, 60, "a success of every task")
    assert database.query("SELECT task, error_text FROM job_attempts WHERE error_text IS NOT NULL") == []

    weir_jobs.terminate()

    assert weir_jobs.wait(timeout=20) == 0
    assert "Traceback" not in log_file.read_text()
    assert database.query("SELECT count(*) FROM weir_jobs.procrastinate_workers") == [(0,)]


@pytest.mark.parametrize(
    ("url", "words", "message"),
    [
        ("", [], "WEIR_DATABASE_URL is not set"),
        ("nonsense", [], "WEIR_DATABASE_URL is no connection URL"),
        ("postgresql://127.0.0.1:1/none", ["--queues", "rollups,mail"], "there is no queue mail; expected some of"),
    ],
)
def test_what_cannot_work_is_said_at_once(url: str, words: list[str], message: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ops.cli", "jobs", *words],
        env=environment(url),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert done.returncode == 2
    assert message in done.stderr
