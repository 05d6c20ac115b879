"""What runs by the clock: each period once, failures noticed, and what the tasks of the cron table do."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core.tasks import TaskName
from jobs.maintenance import TASKS
from jobs.retry import Backoff
from sinks.timescale.migrate import Engine
from tests.integration.job_scene import (
    PATIENCE_S,
    SCENE,
    attempts,
    every_second,
    prepare,
    put,
    quick,
    run_task,
    running_worker,
    states,
    wait_for_state,
)
from tests.integration.servers import Database, wait_until

pytestmark = pytest.mark.integration


@pytest.fixture
def scene(database: Database) -> Database:
    prepare(database)
    return database


class TestSchedule:
    def test_a_period_becomes_one_job_however_many_workers_run(self, scene: Database) -> None:
        ticking = {**SCENE, TaskName.ENSURE_PARTITIONS: TASKS[TaskName.ENSURE_PARTITIONS]}
        schedule = [every_second(TaskName.ENSURE_PARTITIONS)]

        with running_worker(quick(scene), ticking, schedule), running_worker(quick(scene), ticking, schedule):
            wait_until(lambda: len(states(scene)) >= 4, PATIENCE_S, "four periods")

        periods = scene.query("SELECT args ->> 'timestamp' FROM weir_jobs.procrastinate_jobs")
        assert len(periods) == len(set(periods))

    def test_three_failures_in_a_row_raise_an_alarm_that_a_success_closes(self, scene: Database) -> None:
        scene.query("REVOKE DELETE ON weir.refusal_count FROM weir_writer")
        once = replace(TASKS[TaskName.CLEAN_UP], backoff=Backoff(max_attempts=1))
        alarms = "SELECT kind, subject, closed_at IS NULL FROM operator_alarms"

        with running_worker(quick(scene), {TaskName.CLEAN_UP: once}, [every_second(TaskName.CLEAN_UP)]):
            wait_until(lambda: scene.query(alarms), PATIENCE_S, "the alarm")
            assert len(attempts(scene)) >= 3
            scene.query("GRANT DELETE ON weir.refusal_count TO weir_writer")
            wait_until(
                lambda: scene.query(alarms) == [("scheduled_job_failing", "clean_up", False)], PATIENCE_S, "its end"
            )


NOW = datetime(2026, 11, 22, 23, 0, tzinfo=UTC)
NOW_MS = 1_795_388_400_000


def _at_now() -> int:
    return NOW_MS


class TestPartitions:
    def test_today_and_the_next_seven_days_have_partitions(self, scene: Database) -> None:
        if scene.engine is not Engine.PLAIN:
            pytest.skip("hypertables make their chunks themselves")

        run_task(scene, TaskName.ENSURE_PARTITIONS)
        run_task(scene, TaskName.ENSURE_PARTITIONS)

        today = datetime.now(UTC)
        expected = [f"reading_{today + timedelta(days=ahead):%Y%m%d}" for ahead in range(8)]
        rows = scene.query(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'weir.reading'::regclass ORDER BY 1"
        )
        assert [str(name).removeprefix("weir.") for (name,) in rows][:8] == expected


class TestCleanUp:
    def test_only_what_is_past_its_time_goes(self, scene: Database) -> None:
        scene.query(
            "INSERT INTO weir.refusal_count SELECT %s::timestamptz - age, 'd', 'empty', NULL, 1, 1, 0, 0, 't', 0"
            " FROM unnest(ARRAY['89 days', '91 days']::interval[]) AS age",
            NOW,
        )
        scene.query(
            "INSERT INTO weir.operator_alarm (kind, subject, detail, closed_at) VALUES ('k', 'open', '', NULL),"
            " ('k', 'young', '', %(now)s - interval '89 days'), ('k', 'old', '', %(now)s - interval '91 days')".replace(
                "%(now)s", "timestamptz '2026-11-22 23:00Z'"
            )
        )
        scene.query(
            "INSERT INTO weir.worker_heartbeat SELECT age::text, '2026-01-01Z', %s::timestamptz - age, '[]', '{}'"
            " FROM unnest(ARRAY['23 hours', '25 hours']::interval[]) AS age",
            NOW,
        )

        run_task(scene, TaskName.CLEAN_UP, _at_now)

        assert scene.query("SELECT minute FROM weir.refusal_count") == [(NOW - timedelta(days=89),)]
        assert scene.query("SELECT subject FROM weir.operator_alarm ORDER BY 1") == [("open",), ("young",)]
        assert scene.query("SELECT beat_at FROM weir.worker_heartbeat") == [(NOW - timedelta(hours=23),)]

    def test_more_rows_than_one_piece_go_too(self, scene: Database) -> None:
        scene.query(
            "INSERT INTO weir.worker_heartbeat SELECT n::text, '2026-01-01Z', '2026-01-01Z', '[]', '{}'"
            " FROM generate_series(1, 12345) AS n"
        )

        run_task(scene, TaskName.CLEAN_UP, _at_now)

        assert scene.query("SELECT count(*) FROM weir.worker_heartbeat") == [(0,)]

    def test_finished_jobs_and_their_attempts_go_in_time(self, scene: Database) -> None:
        for name, fail_times in (("young success", 0), ("old success", 0), ("failure", 99), ("old failure", 99)):
            put(scene, name, fail_times=fail_times, fail_with="rejected")
        with running_worker(quick(scene)):
            wait_for_state(scene, "succeeded", "succeeded", "failed", "failed")
        # Successes of this queue stay 7 days = 168 h, failures 30 days = 720 h.
        for name, hours in (("young success", 160), ("old success", 170), ("failure", 700), ("old failure", 730)):
            _age(scene, name, hours)

        run_task(scene, TaskName.REMOVE_OLD_JOBS)

        assert _kept(scene, "SELECT args ->> 'name' FROM weir_jobs.procrastinate_jobs ORDER BY id") == [
            "young success",
            "failure",
        ]
        assert len(attempts(scene)) == 2


def _age(database: Database, name: str, hours: int) -> None:
    """Let a job have happened that many hours ago."""
    ((job_id,),) = database.query("SELECT id FROM weir_jobs.procrastinate_jobs WHERE args ->> 'name' = %s", name)
    database.query(
        "UPDATE weir_jobs.procrastinate_events SET at = at - make_interval(hours => %s) WHERE job_id = %s",
        hours,
        job_id,
    )
    database.query(
        "UPDATE weir.job_attempt SET started_at = started_at - make_interval(hours => %s) WHERE job_id = %s",
        hours,
        job_id,
    )


def _kept(database: Database, statement: Any) -> list[Any]:
    return [row[0] for row in database.query(statement)]


def _store_reading(database: Database, days_ago: int) -> datetime:
    """One reading of one sensor at noon, its hour marked a minute ago."""
    at = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=days_ago)
    database.query("INSERT INTO weir.tenant (tenant_id, name, raw_retention) VALUES ('ten_a', 'a', '10 days')")
    database.query("INSERT INTO weir.device (device_id, tenant_id, name) VALUES ('dev_a', 'ten_a', 'a')")
    database.query("INSERT INTO weir.sensor (tenant_id, device_id, name) VALUES ('ten_a', 'dev_a', 'air')")
    database.query("SELECT weir.ensure_partitions(ARRAY[%s])", at)
    database.query("INSERT INTO weir.reading SELECT sensor_no, 0, %s, 3.5, now() FROM weir.sensor", at)
    database.query(
        "INSERT INTO weir.rollup_dirty (block, hour, touched_at)"
        " SELECT block, %s, now() - interval '1 minute' FROM weir.sensor",
        at,
    )
    return at


@pytest.fixture
def plain(database: Database) -> Database:
    if database.engine is not Engine.PLAIN:
        pytest.skip("the writer's login alone may not refresh continuous aggregates")
    return database


class TestStore:
    def test_marked_hours_become_stored_rollups(self, plain: Database) -> None:
        at = _store_reading(plain, days_ago=2)

        run_task(plain, TaskName.REFRESH_ROLLUPS)

        assert plain.query("SELECT bucket_start, count, sum FROM weir.stored_1h") == [(at, 1, 3.5)]
        assert plain.query("SELECT count(*) FROM weir.rollup_dirty") == [(0,)]

    def test_what_is_past_a_tenants_retention_goes(self, plain: Database) -> None:
        _store_reading(plain, days_ago=12)  # two days more than the tenant keeps

        run_task(plain, TaskName.APPLY_RETENTION)

        assert plain.query("SELECT count(*) FROM readings") == [(0,)]
        assert plain.query("SELECT count(*) FROM weir.reading") == [(0,)]
