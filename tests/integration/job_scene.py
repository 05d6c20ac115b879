"""Jobs to test with: what they did is in a table, how long they take is up to the test.

Also the child process that runs them: `python -m tests.integration.job_scene DATABASE_URL DRAIN_S`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from core import clock
from core.logging import configure_logging
from core.postgres import DatabaseRole, open_pool
from core.tasks import Queue, TaskName, enqueue
from jobs.app import build_app, strategies
from jobs.children import Children
from jobs.kept import Kept
from jobs.queue import QueueConnector
from jobs.registry import Resources, Task, Tasks
from jobs.retry import Backoff
from jobs.schedule import Scheduled
from jobs.tasks import TASKS
from jobs.worker import JobWorker, WorkerOptions
from schemas.errors import Reason, Rejected, Transient
from tests.integration import warm
from tests.integration.servers import Database, wait_until

# Conditions are met in well under a second on an idle machine; this is for one that is not.
PATIENCE_S = 60.0
# Quick signs of life, so that tests of dead workers do not take half a minute.
QUICK = WorkerOptions(url="", heartbeat_s=0.2, stalled_after_s=3.0, poll_s=0.2, drain_s=5.0)


class AskedToWait(Transient):
    """As a server that answers 429 with Retry-After."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__("too many requests")
        self.retry_after_s = retry_after_s


async def act(
    resources: Resources,
    *,
    name: str,
    until: str | None = None,
    fail_times: int = 0,
    fail_with: str = "",
    retry_after_s: float = 0.0,
) -> None:
    """Trace the start, wait for a signal of the test, perhaps fail, trace the end."""
    starts = await _trace(resources, name, "start")
    while until is not None and not await _happened(resources, until):  # noqa: ASYNC110 - another process signals
        await asyncio.sleep(0.02)
    if starts <= fail_times:
        _fail(fail_with, retry_after_s)
    await _trace(resources, name, "end")


def _fail(fail_with: str, retry_after_s: float) -> None:
    if fail_with == "rejected":
        raise Rejected(Reason.WRONG_SHAPE, "no such thing")
    if fail_with == "bug":
        msg = "cannot open postgresql://weir:hunter22@db/weir with token=abcdef012345"
        raise KeyError(msg)
    raise AskedToWait(retry_after_s)


async def _trace(resources: Resources, name: str, event: str) -> int:
    async with resources.pool.connection() as connection:
        await connection.execute(
            "INSERT INTO public.job_trace (name, event, pid) VALUES (%s, %s, %s)", (name, event, os.getpid())
        )
        cursor = await connection.execute(
            "SELECT count(*) FROM public.job_trace WHERE name = %s AND event = %s", (name, event)
        )
        row = await cursor.fetchone()
    return int(row[0]) if row else 0


async def _happened(resources: Resources, event: str) -> bool:
    async with resources.pool.connection() as connection:
        cursor = await connection.execute("SELECT EXISTS (SELECT FROM public.job_trace WHERE event = %s)", (event,))
        row = await cursor.fetchone()
    return bool(row and row[0])


NO_WAIT = Backoff(base_s=0.01, cap_s=0.02, max_attempts=4)
SCENE: Tasks = {
    name: Task(act, timeout_s=60.0, backoff=NO_WAIT)
    for name in (TaskName.CLEAN_UP, TaskName.PREVIEW_SCAN, TaskName.PROCESS_SCAN)
}


def prepare(database: Database) -> None:
    """Make the table that tells what happened."""
    database.query(
        "CREATE TABLE public.job_trace"
        " (n bigint GENERATED ALWAYS AS IDENTITY, name text, event text NOT NULL, pid integer)"
    )
    database.query("GRANT SELECT, INSERT ON public.job_trace TO weir_writer")


def signal_jobs(database: Database, event: str) -> None:
    """Let the jobs that wait for an event go on."""
    database.query("INSERT INTO public.job_trace (event) VALUES (%s)", event)


def trace(database: Database) -> list[tuple[str, str]]:
    """What the jobs did, in order."""
    rows = database.query("SELECT name, event FROM public.job_trace WHERE name IS NOT NULL ORDER BY n")
    return [(str(name), str(event)) for name, event in rows]


def put(
    database: Database,
    name: str,
    *,
    task: TaskName = TaskName.CLEAN_UP,
    until: str | None = None,
    lock: str | None = None,
    queueing_lock: str | None = None,
    schedule_at: datetime | None = None,
    fail_times: int = 0,
    fail_with: str = "",
    retry_after_s: float = 0.0,
) -> int | None:
    """Enqueue one job of the scene in a transaction of its own."""

    async def go() -> int | None:
        async with open_pool(database.writer_url, DatabaseRole.WRITER) as pool, pool.connection() as connection:
            return await enqueue(
                connection,
                task,
                lock=lock,
                queueing_lock=queueing_lock,
                schedule_at=schedule_at,
                name=name,
                until=until,
                fail_times=fail_times,
                fail_with=fail_with,
                retry_after_s=retry_after_s,
            )

    return asyncio.run(go())


def states(database: Database) -> list[str]:
    """States of all jobs, in the order they were enqueued."""
    return [str(state) for (state,) in database.query("SELECT status FROM jobs ORDER BY job_id")]


def attempts(database: Database) -> list[tuple[Any, ...]]:
    """Every attempt kept: job, number, outcome, class of the error."""
    return database.query("SELECT job_id, attempt, outcome, error_class FROM job_attempts ORDER BY job_id, attempt")


def wait_for_state(database: Database, *expected: str, timeout_s: float = PATIENCE_S) -> None:
    """Wait until the jobs are in these states."""
    wait_until(lambda: states(database) == list(expected), timeout_s, f"job states {expected}")


def wait_for_trace(database: Database, name: str, event: str) -> None:
    """Wait until a job has come so far."""
    wait_until(lambda: (name, event) in trace(database), PATIENCE_S, f"{event} of {name}")


def every_second(task: TaskName, *, exclusive: bool = True) -> Scheduled:
    """A line of a quick cron table."""
    return Scheduled(task, "* * * * * *", Queue.MAINTENANCE, "so that the test is quick", exclusive)


def run_task(database: Database, task: TaskName, now_ms: Callable[[], int] = clock.now_ms, **args: object) -> None:
    """One run of a task as a worker would do it, without a worker."""

    async def go() -> None:
        connector = QueueConnector(database.writer_url, size=2)
        app, queue = build_app(connector, TASKS, (), strategies(TASKS, now_ms, lambda: 0.0))
        children = Children(os.environ)
        async with open_pool(database.writer_url, DatabaseRole.WRITER) as pool, app.open_async():
            resources = Resources(pool, database.engine, now_ms, queue, 30.0, children, Kept(1 << 26))
            try:
                await TASKS[task].run(resources, **args)
            finally:
                await children.close()

    asyncio.run(go())


@contextmanager
def running_worker(
    options: WorkerOptions, tasks: Tasks = SCENE, schedule: Sequence[Scheduled] = ()
) -> Iterator[JobWorker]:
    """A worker in a thread of this process; stopped and joined at the end."""
    worker = JobWorker(options, tasks, schedule)
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(worker.run(stop))
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work, name="job-worker")
    thread.start()
    try:
        yield worker
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(timeout=60)
        assert not thread.is_alive()
        assert not failures, failures


def quick(database: Database, **changes: float | int) -> WorkerOptions:
    """Options for a worker on the test's database."""
    return replace(QUICK, url=database.writer_url, **changes)  # type: ignore[arg-type] # numbers for number fields


@dataclass
class JobProcess:
    """A job worker in a process of its own."""

    process: warm.Process
    log_file: Path

    @classmethod
    def start(cls, url: str, log_file: Path, drain_s: float = 5.0) -> JobProcess:
        """Start it; it waits for the database by itself."""
        program = ("-m", "tests.integration.job_scene", url, str(drain_s))
        imports = ("core.logging", "jobs.tasks", "jobs.worker", "tests.integration.servers")
        return cls(warm.start(program, os.environ, log_file, imports), log_file)

    def kill(self) -> None:
        """Kill it (-9), also of a stopped one."""
        self.process.kill()
        self.process.wait(timeout=10)

    def log(self) -> str:
        """Everything it wrote."""
        return self.log_file.read_text(encoding="utf-8", errors="replace")


@contextmanager
def job_processes(folder: Path) -> Iterator[Callable[..., JobProcess]]:
    """Starts processes that log into the folder; none outlives the block."""
    started: list[JobProcess] = []

    def start(url: str, drain_s: float = 5.0) -> JobProcess:
        started.append(JobProcess.start(url, folder / f"jobs{len(started)}.log", drain_s))
        return started[-1]

    yield start
    for process in started:
        process.kill()


async def _child(options: WorkerOptions) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await JobWorker(options, SCENE, ()).run(stop)


if __name__ == "__main__":
    configure_logging(role="jobs")
    asyncio.run(_child(replace(QUICK, url=sys.argv[1], drain_s=float(sys.argv[2]))))
