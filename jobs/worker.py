"""The life of a job worker: waits for the database, works, drains when told to stop, starts over when it must.

procrastinate's worker ends whenever its database does; this is the loop around it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import cast

import psycopg
import structlog
from procrastinate.exceptions import ConnectorException
from psycopg import AsyncConnection, sql
from psycopg_pool import PoolTimeout

from core.clock import monotonic_s, now_ms
from core.postgres import Connection, DatabaseRole, explain_connection_error, open_pool
from core.tasks import Queue
from jobs.app import build_app, context_of, strategies
from jobs.attempts import AttemptLog
from jobs.children import Children
from jobs.kept import Kept
from jobs.queue import JobQueue, QueueConnector
from jobs.registry import Resources, Tasks
from jobs.retry import Backoff
from jobs.schedule import Scheduled
from schemas.errors import Misconfigured, Transient
from sinks.timescale.job_queue import require_job_queue
from sinks.timescale.migrate import Engine
from sinks.timescale.schema_version import require_schema

_log = structlog.get_logger()
_RESTART = Backoff(base_s=1.0, cap_s=30.0)
# A life this long counts as sound: the next wait is short again.
_SOUND_LIFE_S = 60.0
# Past the drain: writing the endings of aborted jobs and leaving the database's list of workers.
_LEAVING_S = 5.0


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """How one worker works.

    Args:
        url: of a login that is a member of weir_writer.
        queues: served; None serves all.
        concurrency: jobs at once.
        drain_s: how long running jobs may go on after a stop; then they are put back.
        heartbeat_s: between signs of life.
        stalled_after_s: silence after which a worker counts as dead.
        poll_s: between looks for jobs that became due; new ones announce themselves.
        name: in procrastinate's logs.
        secrets: values that no kept error may show.
        kept_mib: memory for what jobs leave for the next ones.
    """

    url: str = field(repr=False)
    queues: tuple[Queue, ...] | None = None
    concurrency: int = 4
    drain_s: float = 10.0
    heartbeat_s: float = 5.0
    stalled_after_s: float = 30.0
    poll_s: float = 5.0
    name: str = "jobs"
    statement_timeout_ms: int = 30_000
    secrets: tuple[str, ...] = field(default=(), repr=False)
    kept_mib: int = 256


@dataclass(frozen=True, slots=True)
class JobWorker:
    """A worker that outlives its database's absences.

    Args:
        clock: epoch milliseconds.
        chance: uniform in [0, 1).
    """

    options: WorkerOptions
    tasks: Tasks
    schedule: Sequence[Scheduled]
    clock: Callable[[], int] = now_ms
    chance: Callable[[], float] = random.random

    async def run(self, stop: asyncio.Event) -> None:
        """Work until told to stop.

        Raises:
            Misconfigured: no database URL is set; everything else is waited for.
        """
        if not self.options.url:
            msg = "WEIR_DATABASE_URL is not set; expected postgresql://login:password@host:port/database of the writer"
            raise Misconfigured(msg)
        quieten_procrastinate(self.options.name)
        failures = 0
        while not stop.is_set():
            born = monotonic_s()
            why = await self._live(stop)
            if stop.is_set():
                break
            failures = 0 if monotonic_s() - born > _SOUND_LIFE_S else failures + 1
            wait_s = 0.5 + _RESTART.jitter_s(failures, self.chance())
            _log.warning("job_worker_waits", why=why, retry_in_s=round(wait_s, 1))
            await _wait(stop, wait_s)
        _log.info("job_worker_stopped")

    async def _live(self, stop: asyncio.Event) -> str:
        """One life; returns why it ended."""
        try:
            engine = await check_store(self.options.url)
            await self._work(engine, stop)
        except (Misconfigured, Transient, PoolTimeout) as exc:
            return str(exc)
        except (ConnectorException, psycopg.OperationalError, psycopg.InterfaceError) as exc:
            cause = exc.__cause__ or exc
            if not isinstance(cause, psycopg.Error):
                return str(cause)
            return explain_connection_error(cause, self.options.url)
        return "the worker ended by itself; its cause is in the log line before"

    async def _work(self, engine: Engine, stop: asyncio.Event) -> None:
        options = self.options
        retries = strategies(self.tasks, self.clock, self.chance)
        connector = QueueConnector(options.url, size=options.concurrency + 2)
        app, queue = build_app(connector, self.tasks, self.schedule, retries, options.concurrency)
        pool = open_pool(
            options.url,
            DatabaseRole.WRITER,
            size=options.concurrency + 1,
            statement_timeout_ms=options.statement_timeout_ms,
        )
        async with pool, app.open_async():
            children, kept = Children(os.environ), Kept(options.kept_mib * 1024 * 1024)
            resources = Resources(pool, engine, self.clock, queue, options.stalled_after_s, children, kept)
            scheduled = {line.task.value for line in self.schedule}
            given_up = {
                name.value: partial(task.given_up, resources) for name, task in self.tasks.items() if task.given_up
            }
            log = AttemptLog(pool, retries, scheduled, self.clock, options.secrets, given_up)
            worker = asyncio.create_task(
                app.run_worker_async(
                    # None, every queue, is the default but not in the type.
                    queues=cast("list[str]", [name.value for name in options.queues] if options.queues else None),
                    name=options.name,
                    concurrency=options.concurrency,
                    fetch_job_polling_interval=options.poll_s,
                    shutdown_graceful_timeout=options.drain_s,
                    update_heartbeat_interval=options.heartbeat_s,
                    stalled_worker_timeout=options.stalled_after_s,
                    install_signal_handlers=False,
                    additional_context=context_of(resources),
                    worker_middleware=[log],
                )
            )
            _log.info("job_worker_started", queues=options.queues or "all", concurrency=options.concurrency)
            try:
                await self._until_ended(worker, queue, stop)
            finally:
                await children.close()

    async def _until_ended(self, worker: asyncio.Task[None], queue: JobQueue, stop: asyncio.Event) -> None:
        """Wait for the worker's end; bring it about when told to stop or when an ending could not be written."""
        reasons = [asyncio.create_task(event.wait()) for event in (stop, queue.broken)]
        try:
            await asyncio.wait({worker, *reasons}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for reason in reasons:
                reason.cancel()
            await self._drain(worker)
        if not worker.cancelled():
            worker.result()

    async def _drain(self, worker: asyncio.Task[None]) -> None:
        if not worker.done():
            _log.info("job_worker_drains", at_most_s=self.options.drain_s)
        # The first cancellation asks procrastinate to finish what runs, the second does not ask.
        for patience_s in (self.options.drain_s + _LEAVING_S, _LEAVING_S):
            if not worker.done():
                worker.cancel()
                await asyncio.wait({worker}, timeout=patience_s)
        if not worker.done():
            _log.error("job_worker_hangs", seconds=self.options.drain_s + 2 * _LEAVING_S)


async def check_store(url: str) -> Engine:
    """The engine of a database that this program can work with.

    Raises:
        Transient: it cannot be reached.
        Misconfigured: it can, but lacks the role, the schema or the job queue.
    """
    try:
        connection = await AsyncConnection.connect(url, autocommit=True, connect_timeout=5)
    except psycopg.OperationalError as exc:
        raise Transient(explain_connection_error(exc, url)) from exc
    async with connection:
        await _become_writer(connection)
        engine = await require_schema(connection)
        await require_job_queue(connection)
    return engine


async def _become_writer(connection: Connection) -> None:
    role = DatabaseRole.WRITER.value
    try:
        await connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
    except psycopg.errors.InsufficientPrivilege as exc:
        msg = f"the login {connection.info.user} may not become {role}; grant it, or use the writer's login"
        raise Misconfigured(msg) from exc
    except psycopg.errors.InvalidParameterValue as exc:
        msg = f"the database server has no role {role}; run `weir migrate` against it"
        raise Misconfigured(msg) from exc


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return


def quieten_procrastinate(name: str) -> None:
    """Leave failed jobs to the attempt log, which redacts; procrastinate logs them with arguments and traceback.

    Args:
        name: of the worker, which procrastinate logs under: filters of a logger do not hold for those below it.
    """

    def is_not_about_a_job(record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, ConnectorException) and isinstance(error.__cause__, psycopg.OperationalError):
            # A database that went away is no bug: the worker starts over, and forty lines of traceback tell no more.
            record.msg, record.args, record.exc_info = "the database went away while jobs were listened for", (), None
        return not str(getattr(record, "action", "")).startswith("job_")

    for logger in ("procrastinate.worker", f"procrastinate.worker.{name}"):
        logging.getLogger(logger).addFilter(is_not_about_a_job)
    # Says with a traceback what the worker's own line, or the reason it waits, says again.
    logging.getLogger("procrastinate.utils").setLevel(logging.CRITICAL)
