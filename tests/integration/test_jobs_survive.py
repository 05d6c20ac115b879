"""Jobs outlive their workers and their database: rescued, waited for, taken up again."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest

from core.tasks import TaskName
from jobs.maintenance import TASKS
from ops.embedded.postgres import EmbeddedPostgres
from tests.integration.job_scene import (
    PATIENCE_S,
    SCENE,
    JobProcess,
    attempts,
    every_second,
    job_processes,
    prepare,
    put,
    quick,
    run_task,
    running_worker,
    signal_jobs,
    states,
    trace,
    wait_for_state,
    wait_for_trace,
)
from tests.integration.servers import Database, create_template, fresh_database, wait_until

pytestmark = pytest.mark.integration

NEW_PROCESS = Callable[..., JobProcess]
RESCUED_SCENE = {**SCENE, TaskName.RESCUE_STALLED_JOBS: TASKS[TaskName.RESCUE_STALLED_JOBS]}


@pytest.fixture
def scene(database: Database) -> Database:
    prepare(database)
    return database


@pytest.fixture
def new_process(tmp_path: Path) -> Iterator[NEW_PROCESS]:
    with job_processes(tmp_path) as start:
        yield start


@pytest.fixture
def mortal_database(own_postgres: EmbeddedPostgres) -> Iterator[Database]:
    """On a server that the test stops; whether the database can be dropped afterwards does not matter."""
    engine = create_template(own_postgres.superuser_url)
    with suppress(psycopg.OperationalError), fresh_database(own_postgres.superuser_url, engine) as database:
        prepare(database)
        yield database


def _lose(database: Database) -> None:
    """As if a worker had fetched the job and vanished."""
    database.query("UPDATE weir_jobs.procrastinate_jobs SET status = 'doing'")


def _rescue(database: Database) -> None:
    run_task(database, TaskName.RESCUE_STALLED_JOBS)


class TestRescue:
    def test_the_job_of_a_killed_worker_is_done_by_another(self, scene: Database, new_process: NEW_PROCESS) -> None:
        job = put(scene, "a", until="go", lock="one")
        put(scene, "behind it", lock="one")
        process = new_process(scene.writer_url)
        wait_for_trace(scene, "a", "start")

        process.kill()
        signal_jobs(scene, "go")
        with running_worker(quick(scene), RESCUED_SCENE, [every_second(TaskName.RESCUE_STALLED_JOBS, exclusive=False)]):
            wait_until(lambda: states(scene)[:2] == ["succeeded", "succeeded"], PATIENCE_S, "both jobs")

        of_the_job = [row for row in attempts(scene) if row[0] == job]
        assert of_the_job == [(job, 1, "lost", None), (job, 2, "succeeded", None)]
        assert trace(scene)[:3] == [("a", "start"), ("a", "start"), ("a", "end")]

    def test_a_lost_job_gives_way_to_an_equal_one_that_waits(self, scene: Database) -> None:
        lost = put(scene, "a", queueing_lock="once")
        _lose(scene)
        waiting = put(scene, "b", queueing_lock="once")

        _rescue(scene)

        assert states(scene) == ["aborted", "todo"]
        assert attempts(scene) == [(lost, 1, "superseded", None)]
        assert waiting is not None

    def test_a_job_that_keeps_killing_workers_fails(self, scene: Database) -> None:
        job = put(scene, "a")
        for _ in range(3):
            _lose(scene)
            _rescue(scene)

        assert states(scene) == ["failed"]
        assert attempts(scene) == [(job, n, "lost", None) for n in (1, 2, 3)]

    def test_the_job_of_a_living_worker_is_left_alone(self, scene: Database) -> None:
        put(scene, "a", until="go")

        with running_worker(quick(scene)):
            wait_for_trace(scene, "a", "start")
            _rescue(scene)
            assert states(scene) == ["doing"]
            signal_jobs(scene, "go")
            wait_for_state(scene, "succeeded")

    def test_a_worker_that_was_only_stopped_works_on_after_its_job_was_rescued(
        self, scene: Database, new_process: NEW_PROCESS
    ) -> None:
        put(scene, "a", until="go")
        process = new_process(scene.writer_url)
        wait_for_trace(scene, "a", "start")
        process.process.send_signal(signal.SIGSTOP)
        with running_worker(quick(scene), RESCUED_SCENE, [every_second(TaskName.RESCUE_STALLED_JOBS, exclusive=False)]):
            wait_until(lambda: trace(scene) == [("a", "start")] * 2, PATIENCE_S, "a second start")
            signal_jobs(scene, "go")
            wait_until(lambda: states(scene)[0] == "succeeded", PATIENCE_S, "the rescued job")

        process.process.send_signal(signal.SIGCONT)
        wait_until(lambda: "job_ended_elsewhere" in process.log(), PATIENCE_S, "the stopped worker to notice")
        put(scene, "b")

        wait_for_trace(scene, "b", "end")
        assert states(scene)[0] == "succeeded"

    def test_a_job_whose_end_could_not_be_written_is_taken_up_again(self, scene: Database) -> None:
        put(scene, "a", until="go")
        rescuing = [every_second(TaskName.RESCUE_STALLED_JOBS, exclusive=False)]
        with running_worker(quick(scene), RESCUED_SCENE, rescuing):
            wait_for_trace(scene, "a", "start")
            scene.query("REVOKE EXECUTE ON FUNCTION weir_jobs.procrastinate_finish_job_v1 FROM weir_writer")
            signal_jobs(scene, "go")
            wait_for_trace(scene, "a", "end")
            wait_until(lambda: scene.query(_STARTED_OVER), PATIENCE_S, "a new life of the worker")
            scene.query("GRANT EXECUTE ON FUNCTION weir_jobs.procrastinate_finish_job_v1 TO weir_writer")

            wait_until(lambda: states(scene)[0] == "succeeded", PATIENCE_S, "the job")


_STARTED_OVER = "SELECT 1 FROM weir_jobs.procrastinate_workers WHERE id > 1"


class TestOutages:
    def test_a_worker_waits_for_a_database_that_is_not_up_yet(
        self, own_postgres: EmbeddedPostgres, mortal_database: Database, new_process: NEW_PROCESS
    ) -> None:
        put(mortal_database, "a")
        own_postgres.stop()
        process = new_process(mortal_database.writer_url)
        wait_until(lambda: "cannot be reached" in process.log(), PATIENCE_S, "a clear message")
        assert "start it or correct WEIR_DATABASE_URL" in process.log()
        assert process.process.poll() is None

        own_postgres.start()

        wait_for_state(mortal_database, "succeeded")

    def test_a_worker_comes_back_after_its_database_was_killed(
        self, own_postgres: EmbeddedPostgres, mortal_database: Database, new_process: NEW_PROCESS
    ) -> None:
        put(mortal_database, "before")
        process = new_process(mortal_database.writer_url)
        wait_for_state(mortal_database, "succeeded")

        own_postgres.kill()
        wait_until(lambda: "job_worker_waits" in process.log(), PATIENCE_S, "the worker to notice")
        own_postgres.start()
        put(mortal_database, "after")

        wait_for_state(mortal_database, "succeeded", "succeeded")
        assert process.process.poll() is None

    def test_sigterm_ends_a_worker_that_waits_for_its_database(self, new_process: NEW_PROCESS) -> None:
        process = new_process("postgresql://nobody:secret99@127.0.0.1:1/none")
        wait_until(lambda: "job_worker_waits" in process.log(), PATIENCE_S, "the worker to wait")

        process.process.terminate()

        assert process.process.wait(timeout=PATIENCE_S) == 0
        assert "secret99" not in process.log()

    @pytest.mark.parametrize(
        ("damage", "message"),
        [
            ("DROP SCHEMA weir CASCADE", "the database has no Weir schema that this role may use; run `weir migrate`"),
            ("DELETE FROM weir.schema_migration WHERE number > 1", "schema version 1, this program needs"),
            ("UPDATE weir.schema_migration SET number = 99 WHERE number = 1", "schema version 99, this program knows"),
            ("DROP SCHEMA weir_jobs CASCADE", "the database has no job queue; run `weir migrate`"),
            ("DELETE FROM weir_jobs.applied_file WHERE name LIKE '03%'", "the job queue lacks 9 change(s)"),
            (
                "INSERT INTO weir_jobs.applied_file VALUES ('99.00.00_01_pre_x.sql', '99.0.0')",
                "the job queue was made by a newer procrastinate (99.00.00_01_pre_x.sql)",
            ),
        ],
    )
    def test_a_database_of_another_version_is_waited_for_with_a_clear_message(
        self, scene: Database, new_process: NEW_PROCESS, damage: LiteralString, message: str
    ) -> None:
        scene.query(damage)

        process = new_process(scene.writer_url)

        wait_until(lambda: message in process.log(), PATIENCE_S, message)
        assert process.process.poll() is None

    def test_a_login_of_another_role_is_told_so(self, scene: Database, new_process: NEW_PROCESS) -> None:
        process = new_process(scene.reader_url)

        wait_until(lambda: "login_reader may not become weir_writer" in process.log(), PATIENCE_S, "a clear message")
