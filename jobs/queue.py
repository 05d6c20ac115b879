"""procrastinate's job manager and connector as Weir needs them: own schema and role, bounded calls, no lost endings.

Three known holes are closed here (procrastinate 3.10): a failed job whose queueing lock has meanwhile been taken cannot
go back to waiting and would stay `doing` for ever (its issues 1446, 1543); an ending that cannot be written would be
forgotten; a job of a task that this worker does not know would fail at once, although a newer worker knows it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable
from datetime import datetime
from typing import Any, LiteralString, TypeVar

import psycopg
import structlog
from procrastinate import PsycopgConnector
from procrastinate.exceptions import ConnectorException, UniqueViolation
from procrastinate.jobs import Job, JobInserted, Status
from procrastinate.manager import JobManager, NotificationCallback
from psycopg import sql

from core.postgres import Connection, DatabaseRole
from core.tasks import QUEUE_SEARCH_PATH, Queue

UNKNOWN_TASK = "unknown_task"

_Result = TypeVar("_Result")
_log = structlog.get_logger()
_CALL_TIMEOUT_S = 60.0
_WRITE_TRIES = 3
_LONG_JOBS = Queue.SCANS.value

_MARK_ATTEMPT: LiteralString = """
    INSERT INTO weir.job_attempt (job_id, attempt, task, queue, started_at, ended_at, outcome, error_text)
    VALUES (%(job_id)s, %(attempt)s, %(task)s, %(queue)s, now(), now(), %(outcome)s, %(text)s)
    ON CONFLICT (job_id, attempt) DO UPDATE SET outcome = EXCLUDED.outcome, next_at = NULL,
        ended_at = coalesce(weir.job_attempt.ended_at, EXCLUDED.ended_at),
        error_text = coalesce(weir.job_attempt.error_text, EXCLUDED.error_text)
    """


async def _configure(connection: Connection) -> None:
    await connection.set_autocommit(True)
    await connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(DatabaseRole.WRITER.value)))
    await connection.execute(sql.SQL("SET search_path TO {}").format(sql.SQL(QUEUE_SEARCH_PATH)))
    await connection.execute("SET statement_timeout = '50s'")
    await connection.execute("SET lock_timeout = '5s'")


class QueueConnector(PsycopgConnector):
    """Connections of the writer role that look into `weir_jobs`; no call outlives a minute.

    The server's own time-outs do not help when the connection is half open: such a worker would neither work nor stop.
    """

    def __init__(self, url: str, *, size: int) -> None:
        super().__init__(
            conninfo=url,
            min_size=1,
            max_size=size,
            timeout=4.0,
            configure=_configure,
            kwargs={
                "connect_timeout": 5,
                "keepalives_idle": 10,
                "keepalives_interval": 5,
                "keepalives_count": 3,
                "tcp_user_timeout": 20_000,
            },
        )

    async def execute_query_async(self, query: LiteralString, **arguments: object) -> None:
        """As inherited, bounded in time."""
        await _bounded(super().execute_query_async(query, **arguments))

    async def execute_query_one_async(self, query: LiteralString, **arguments: object) -> dict[str, Any]:
        """As inherited, bounded in time."""
        return await _bounded(super().execute_query_one_async(query, **arguments))

    async def execute_query_all_async(self, query: LiteralString, **arguments: object) -> list[dict[str, Any]]:
        """As inherited, bounded in time."""
        return await _bounded(super().execute_query_all_async(query, **arguments))


async def _bounded(call: Awaitable[_Result]) -> _Result:
    try:
        async with asyncio.timeout(_CALL_TIMEOUT_S):
            return await call
    except TimeoutError as exc:
        msg = f"the database did not answer within {_CALL_TIMEOUT_S:.0f} s"
        raise ConnectorException(msg) from exc


class JobQueue(JobManager):
    """The job manager; `broken` is set when an ending could not be written and the worker must start over.

    Args:
        known_tasks: names of the tasks that this worker can do.
        concurrency: jobs at once; of more than one, one is never a job that may take minutes.
    """

    def __init__(self, connector: QueueConnector, known_tasks: Collection[str], concurrency: int = 1) -> None:
        super().__init__(connector)
        self.broken = asyncio.Event()
        self._known_tasks = frozenset(known_tasks)
        self._most_long = max(concurrency - 1, 1)
        self._long: set[int | None] = set()
        self._tell_worker: NotificationCallback | None = None

    async def fetch_job(self, queues: Iterable[str] | None, worker_id: int) -> Job | None:
        """As inherited, but none that may take minutes while such have all places but one.

        A job of a task unknown here becomes one that fails with a clear text and is tried later.
        """
        if len(self._long) >= self._most_long:
            queues = [name for name in queues or [queue.value for queue in Queue] if name != _LONG_JOBS]
            if not queues:
                return None
        job = await super().fetch_job(queues, worker_id)
        if job is None:
            return None
        if job.queue == _LONG_JOBS:
            self._long.add(job.id)
        if job.task_name in self._known_tasks:
            return job
        return job.evolve(task_name=UNKNOWN_TASK, task_kwargs={"task": job.task_name})

    async def finish_job(self, job: Job, status: Status, delete_job: bool) -> None:
        """As inherited, tried several times."""
        await self._end_long(job)
        await self._write(job, lambda: super(JobQueue, self).finish_job(job, status, delete_job))

    async def retry_job(
        self,
        job: Job,
        retry_at: datetime | None = None,
        priority: int | None = None,
        queue: str | None = None,
        lock: str | None = None,
    ) -> None:
        """As inherited, tried several times; gives way to an equal job that waits under the same queueing lock."""
        await self._end_long(job)
        try:
            await self._write(job, lambda: super(JobQueue, self).retry_job(job, retry_at, priority, queue, lock))
        except UniqueViolation:
            await self._write(job, lambda: super(JobQueue, self).finish_job(job, Status.ABORTED, delete_job=False))
            await self._mark_attempt(job, "superseded", "an equal job was waiting already")

    async def listen_for_jobs(
        self, *, on_notification: NotificationCallback, queues: Iterable[str] | None = None
    ) -> None:
        """As inherited; the worker can then also be told from here that there is a job to look for."""
        self._tell_worker = on_notification
        await super().listen_for_jobs(on_notification=on_notification, queues=queues)

    async def _end_long(self, job: Job) -> None:
        """Free the place of a job that may take minutes, and let the worker look for the next such."""
        if job.id not in self._long:
            return
        self._long.discard(job.id)
        if self._tell_worker is not None:
            told = JobInserted(type="job_inserted", job_id=job.id or 0)
            await self._tell_worker(channel=_LONG_JOBS, notification=told)

    async def rescue(self, stalled_after_s: float, max_attempts: int) -> int:
        """Take back the jobs of workers that stopped beating; returns how many.

        A job that keeps killing its worker fails after `max_attempts`.
        """
        stalled = list(await self.get_stalled_jobs(seconds_since_heartbeat=stalled_after_s))
        for job in stalled:
            await self._mark_attempt(job, "lost", "the worker stopped without ending the job")
            if job.attempts + 1 >= max_attempts:
                await self.finish_job(job, Status.FAILED, delete_job=False)
            else:
                await self.retry_job(job)
        return len(stalled)

    async def _mark_attempt(self, job: Job, outcome: str, text: str) -> None:
        await self.connector.execute_query_async(
            _MARK_ATTEMPT,
            job_id=job.id,
            attempt=job.attempts + 1,
            task=job.task_name,
            queue=job.queue,
            outcome=outcome,
            text=text,
        )

    async def _write(self, job: Job, write: Callable[[], Awaitable[None]]) -> None:
        """Write an ending; what cannot be written sets `broken`, so that the job is rescued from the next life."""
        for attempt in range(_WRITE_TRIES):
            try:
                await write()
            except UniqueViolation:
                raise
            except ConnectorException as exc:
                cause = exc.__cause__
                if isinstance(cause, psycopg.errors.RaiseException):
                    # Another worker rescued the job while this one seemed dead, and has ended it.
                    _log.warning("job_ended_elsewhere", job_id=job.id, task=job.task_name)
                    return
                _log.warning("job_ending_not_written", job_id=job.id, task=job.task_name, error=type(cause).__name__)
                await asyncio.sleep(0.2 * 2**attempt)
            else:
                return
        self.broken.set()
