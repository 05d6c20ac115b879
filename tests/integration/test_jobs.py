"""Jobs on a real PostgreSQL: enqueued with their cause, kept with every attempt, drained on SIGTERM."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import LiteralString, TypeVar

import psycopg
import pytest

from core.postgres import Connection, DatabaseRole, open_pool, tenant_transaction
from core.tasks import TaskName, enqueue
from tests.integration.job_scene import (
    PATIENCE_S,
    JobProcess,
    attempts,
    job_processes,
    prepare,
    put,
    quick,
    running_worker,
    signal_jobs,
    states,
    trace,
    wait_for_state,
    wait_for_trace,
)
from tests.integration.servers import Database, wait_until

pytestmark = pytest.mark.integration

NEW_PROCESS = Callable[..., JobProcess]
Result = TypeVar("Result")


@pytest.fixture
def scene(database: Database) -> Database:
    prepare(database)
    return database


@pytest.fixture
def new_process(tmp_path: Path) -> Iterator[NEW_PROCESS]:
    with job_processes(tmp_path) as start:
        yield start


class TestEnqueueing:
    def test_a_job_runs_once_its_transaction_commits(self, scene: Database) -> None:
        put(scene, "a")

        with running_worker(quick(scene)):
            wait_for_state(scene, "succeeded")

        assert trace(scene) == [("a", "start"), ("a", "end")]

    def test_a_rollback_takes_the_job_back(self, scene: Database) -> None:
        async def fail_after_enqueueing() -> None:
            async with (
                open_pool(scene.writer_url, DatabaseRole.WRITER) as pool,
                pool.connection() as connection,
                connection.transaction(force_rollback=True),
            ):
                assert await enqueue(connection, TaskName.CLEAN_UP, name="a") is not None

        asyncio.run(fail_after_enqueueing())

        assert states(scene) == []

    def test_a_taken_queueing_lock_leaves_the_callers_transaction_alone(self, scene: Database) -> None:
        async def enqueue_twice(connection: Connection) -> tuple[int | None, int | None, str]:
            async with connection.transaction():
                first = await enqueue(connection, TaskName.CLEAN_UP, queueing_lock="once", name="a")
                second = await enqueue(connection, TaskName.CLEAN_UP, queueing_lock="once", name="b")
                row = await (await connection.execute("SELECT current_setting('search_path')")).fetchone()
                assert row is not None
                return first, second, str(row[0])

        first, second, path = asyncio.run(_as_writer(scene, enqueue_twice))

        assert isinstance(first, int)
        assert second is None
        assert path == "pg_catalog, weir"  # as core.postgres sets it
        assert states(scene) == ["todo"]

    def test_an_error_of_the_database_keeps_its_kind(self, scene: Database) -> None:
        async def enqueue_without_rights(connection: Connection) -> None:
            await connection.execute("SET ROLE weir_writer")
            await enqueue(connection, TaskName.CLEAN_UP, name="a" * 10)

        scene.query("REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA weir_jobs FROM weir_writer")

        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            asyncio.run(_as_writer(scene, enqueue_without_rights))

    def test_a_job_waits_for_its_time(self, scene: Database) -> None:
        put(scene, "later", schedule_at=datetime.now(UTC) + timedelta(hours=1))
        put(scene, "now")

        with running_worker(quick(scene)):
            wait_for_state(scene, "todo", "succeeded")


async def _as_writer(database: Database, act: Callable[[Connection], Awaitable[Result]]) -> Result:
    async with open_pool(database.writer_url, DatabaseRole.WRITER) as pool, pool.connection() as connection:
        return await act(connection)


class TestSeeing:
    def test_no_reader_sees_the_queue(self, scene: Database) -> None:
        async def look(table: LiteralString) -> None:
            async with (
                open_pool(scene.reader_url, DatabaseRole.READER) as pool,
                tenant_transaction(pool, "ten_a") as connection,
            ):
                await connection.execute(f"SELECT FROM {table}")

        async def enqueue_for(connection: Connection) -> None:
            await enqueue(connection, TaskName.CLEAN_UP, tenant_id="ten_a")

        asyncio.run(_as_writer(scene, enqueue_for))

        for table in ("weir_jobs.procrastinate_jobs", "weir.job_attempt", "weir.job_states()"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                asyncio.run(look(table))


class TestLocks:
    def test_jobs_under_one_lock_run_one_after_the_other_in_their_order(self, scene: Database) -> None:
        for name in ("a", "b", "c"):
            put(scene, name, lock="customer 7")

        with running_worker(quick(scene, concurrency=3)):
            wait_for_state(scene, "succeeded", "succeeded", "succeeded")

        assert trace(scene) == [(name, event) for name in ("a", "b", "c") for event in ("start", "end")]

    def test_jobs_under_different_locks_run_at_once(self, scene: Database) -> None:
        put(scene, "a", until="both run", lock="customer 7")
        put(scene, "b", until="both run", lock="customer 8")

        with running_worker(quick(scene, concurrency=2)):
            wait_for_trace(scene, "a", "start")
            wait_for_trace(scene, "b", "start")
            signal_jobs(scene, "both run")
            wait_for_state(scene, "succeeded", "succeeded")


class TestPlaces:
    def test_a_preview_has_a_place_while_results_take_all_others(self, scene: Database) -> None:
        for name in ("a", "b", "c"):
            put(scene, name, task=TaskName.PROCESS_SCAN, until=f"{name} may end")

        with running_worker(quick(scene, concurrency=3, poll_s=600.0)):
            wait_for_trace(scene, "b", "start")
            for name in ("first", "second"):
                put(scene, name, task=TaskName.PREVIEW_SCAN)
                wait_for_trace(scene, name, "end")
            assert ("c", "start") not in trace(scene)
            signal_jobs(scene, "a may end")
            wait_for_trace(scene, "c", "start")
            signal_jobs(scene, "b may end")
            signal_jobs(scene, "c may end")
            wait_for_state(scene, *["succeeded"] * 5)

    def test_a_result_that_is_tried_again_holds_one_place_at_a_time(self, scene: Database) -> None:
        put(scene, "a", task=TaskName.PROCESS_SCAN, fail_times=2)
        put(scene, "b", task=TaskName.PROCESS_SCAN)

        with running_worker(quick(scene, concurrency=2)):
            wait_for_state(scene, "succeeded", "succeeded")

    def test_a_worker_of_one_job_at_a_time_takes_results_too(self, scene: Database) -> None:
        put(scene, "a", task=TaskName.PROCESS_SCAN)

        with running_worker(quick(scene, concurrency=1)):
            wait_for_state(scene, "succeeded")


class TestAttempts:
    def test_every_attempt_is_kept_until_one_succeeds(self, scene: Database) -> None:
        job = put(scene, "a", fail_times=2)

        with running_worker(quick(scene)):
            wait_for_state(scene, "succeeded")

        assert attempts(scene) == [
            (job, 1, "retried", "AskedToWait"),
            (job, 2, "retried", "AskedToWait"),
            (job, 3, "succeeded", None),
        ]

    def test_attempts_are_bounded(self, scene: Database) -> None:
        put(scene, "a", fail_times=99)

        with running_worker(quick(scene)):
            wait_for_state(scene, "failed")

        assert [outcome for _, _, outcome, _ in attempts(scene)] == ["retried", "retried", "retried", "failed"]

    def test_what_is_rejected_is_not_tried_again(self, scene: Database) -> None:
        job = put(scene, "a", fail_times=99, fail_with="rejected")

        with running_worker(quick(scene)):
            wait_for_state(scene, "failed")

        assert attempts(scene) == [(job, 1, "failed", "Rejected")]

    def test_a_retry_after_is_honoured(self, scene: Database) -> None:
        put(scene, "a", fail_times=1, retry_after_s=3600.0)

        with running_worker(quick(scene)):
            wait_until(lambda: [row[2] for row in attempts(scene)] == ["retried"], PATIENCE_S, "the failed attempt")
            wait_for_state(scene, "todo")

        ((ended_at, next_at),) = scene.query("SELECT ended_at, next_at FROM job_attempts")
        ((scheduled_at,),) = scene.query("SELECT scheduled_at FROM jobs")
        assert timedelta(seconds=3590) < next_at - ended_at < timedelta(seconds=3601)
        assert scheduled_at == next_at

    def test_the_error_is_kept_with_its_place_and_without_its_secrets(self, scene: Database) -> None:
        put(scene, "a", fail_times=99, fail_with="bug")

        with running_worker(quick(scene)):
            wait_for_state(scene, "failed")

        ((error_class, text),) = scene.query("SELECT error_class, error_text FROM job_attempts WHERE attempt = 1")
        assert error_class == "KeyError"
        assert "postgresql://weir:***@db/weir" in text
        assert "in _fail" in text
        assert "hunter22" not in text
        assert "abcdef012345" not in text

    def test_a_job_whose_queueing_lock_was_taken_meanwhile_gives_way(self, scene: Database) -> None:
        first = put(scene, "a", until="go", queueing_lock="once", lock="one", fail_times=1)

        with running_worker(quick(scene)):
            wait_for_trace(scene, "a", "start")
            second = put(scene, "b", queueing_lock="once", lock="one")
            signal_jobs(scene, "go")
            wait_for_state(scene, "aborted", "succeeded")

        assert attempts(scene) == [(first, 1, "superseded", "AskedToWait"), (second, 1, "succeeded", None)]

    def test_a_job_of_an_unknown_task_waits_for_a_worker_that_knows_it(self, scene: Database) -> None:
        put(scene, "a")
        scene.query("UPDATE weir_jobs.procrastinate_jobs SET task_name = 'from_next_year'")

        with running_worker(quick(scene)):
            wait_until(lambda: attempts(scene), PATIENCE_S, "an attempt")
            wait_for_state(scene, "todo")

        ((outcome, text),) = scene.query("SELECT outcome, error_text FROM job_attempts")
        assert outcome == "retried"
        assert text.startswith("this worker does not know the task from_next_year; run a newer Weir")


class TestStopping:
    def test_sigterm_lets_running_jobs_finish_and_starts_no_other(
        self, scene: Database, new_process: NEW_PROCESS
    ) -> None:
        put(scene, "running", until="go", lock="one")
        put(scene, "waiting", lock="one")
        process = new_process(scene.writer_url, drain_s=20.0)
        wait_for_trace(scene, "running", "start")

        process.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "job_worker_drains" in process.log(), PATIENCE_S, "the drain")
        signal_jobs(scene, "go")

        assert process.process.wait(timeout=PATIENCE_S) == 0
        assert trace(scene) == [("running", "start"), ("running", "end")]
        assert states(scene) == ["succeeded", "todo"]

    def test_a_job_longer_than_the_drain_is_put_back(self, scene: Database, new_process: NEW_PROCESS) -> None:
        job = put(scene, "long", until="never")
        process = new_process(scene.writer_url, drain_s=0.3)
        wait_for_trace(scene, "long", "start")

        process.process.send_signal(signal.SIGTERM)

        assert process.process.wait(timeout=PATIENCE_S) == 0
        assert states(scene) == ["todo"]
        assert attempts(scene) == [(job, 1, "interrupted", None)]
