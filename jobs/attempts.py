"""Keeps every attempt of every job with its outcome, and decides what follows it.

A worker middleware: it writes a row before the task runs (so that a killed worker leaves a trace), ends it after, and
hands its decision to procrastinate. Three failures of a scheduled task in a row raise an operator alarm, which its next
success closes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import structlog
from procrastinate.job_context import JobContext
from procrastinate.jobs import Job
from procrastinate.middleware import AsyncCallNext
from procrastinate.retry import BaseRetryStrategy, RetryDecision
from procrastinate.worker import Worker
from psycopg_pool import PoolTimeout

from core.postgres import Pool
from jobs.redact import error_text
from jobs.retry import Backoff

_log = structlog.get_logger()
_ALARM_KIND = "scheduled_job_failing"
_LEVELS = {
    "succeeded": logging.DEBUG,
    "interrupted": logging.WARNING,
    "retried": logging.WARNING,
    "failed": logging.ERROR,
}

_BEGIN = """
    INSERT INTO weir.job_attempt (job_id, attempt, task, queue, started_at) VALUES (%s, %s, %s, %s, %s)
    ON CONFLICT (job_id, attempt) DO UPDATE SET started_at = EXCLUDED.started_at, ended_at = NULL, outcome = 'running'
    """
_END = """
    UPDATE weir.job_attempt SET ended_at = %s, outcome = %s, error_class = %s, error_text = %s, next_at = %s
    WHERE job_id = %s AND attempt = %s
    """
_OPEN_ALARM = """
    INSERT INTO weir.operator_alarm (kind, subject, detail)
    SELECT %(kind)s, %(task)s, %(detail)s
    WHERE 3 = (SELECT count(*) FILTER (WHERE outcome IN ('retried', 'failed', 'superseded'))
               FROM (SELECT outcome FROM weir.job_attempt WHERE task = %(task)s AND outcome <> 'running'
                     ORDER BY started_at DESC LIMIT 3) AS latest)
    ON CONFLICT (kind, subject) WHERE closed_at IS NULL
    DO UPDATE SET last_seen_at = now(), detail = EXCLUDED.detail
    """
_CLOSE_ALARM = "UPDATE weir.operator_alarm SET closed_at = now() WHERE kind = %s AND subject = %s AND closed_at IS NULL"


class AttemptFailed(Exception):
    """Carries the decision taken on an attempt's error to procrastinate, which asks for it again."""

    def __init__(self, retry_at: datetime | None) -> None:
        super().__init__(f"retry at {retry_at}" if retry_at else "no retry")
        self.retry_at = retry_at


class AsDecided(BaseRetryStrategy):
    """procrastinate's retry strategy: what the attempt's record says; at once when the worker had to stop."""

    def __init__(self, backoff: Backoff, clock: Callable[[], int], chance: Callable[[], float]) -> None:
        self._backoff, self._clock, self._chance = backoff, clock, chance

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        """As inherited."""
        if isinstance(exception, AttemptFailed):
            retry_at = exception.retry_at
        elif isinstance(exception, asyncio.CancelledError):
            retry_at = _at(self._clock())
        else:  # the attempt could not even be written down
            retry_at = self.next_at(exception, job)
        return RetryDecision(retry_at=retry_at) if retry_at else None

    def next_at(self, error: BaseException, job: Job) -> datetime | None:
        """When the job is tried again after an error, None if it is not."""
        delay_s = self._backoff.delay_s(error, job.attempts, self._chance())
        return None if delay_s is None else _at(self._clock()) + timedelta(seconds=delay_s)


@dataclass(frozen=True, slots=True)
class AttemptLog:
    """The middleware.

    Args:
        pool: of the writer role.
        strategies: by task name.
        scheduled: names of the tasks whose failures raise alarms.
        given_up: what is called when no attempt follows, by task name; gets the error and the job's arguments.
        clock: epoch milliseconds.
        secrets: values that no error text may show.
    """

    pool: Pool
    strategies: Mapping[str, AsDecided]
    scheduled: Collection[str]
    clock: Callable[[], int]
    secrets: Collection[str] = field(default=(), repr=False)
    given_up: Mapping[str, Callable[..., Awaitable[None]]] = field(default_factory=dict)

    async def __call__(self, call_next: AsyncCallNext, context: JobContext, worker: Worker) -> object:
        """Run one attempt."""
        job = context.job
        await self._begin(job)
        try:
            result: object = await call_next()
        except asyncio.CancelledError:
            await self._end(job, "interrupted", None, _at(self.clock()))
            raise
        except BaseException as error:
            next_at = self.strategies[job.task_name].next_at(error, job)
            await self._end(job, "retried" if next_at else "failed", error, next_at)
            if next_at is None:
                await self._give_up(job, error)
            raise AttemptFailed(next_at) from error
        await self._end(job, "succeeded", None, None)
        return result

    async def _give_up(self, job: Job, error: BaseException) -> None:
        if job.task_name not in self.given_up:
            return
        try:
            await self.given_up[job.task_name](error, **job.task_kwargs)
        except (psycopg.Error, PoolTimeout) as exc:
            # Whoever looks after what the job was for will find it without a job.
            _log.warning("job_failure_not_told", job_id=job.id, task=job.task_name, error=type(exc).__name__)

    async def _begin(self, job: Job) -> None:
        async with self.pool.connection() as connection:
            await connection.execute(_BEGIN, (job.id, job.attempts + 1, job.task_name, job.queue, _at(self.clock())))

    async def _end(self, job: Job, outcome: str, error: BaseException | None, next_at: datetime | None) -> None:
        fields: dict[str, Any] = {"job_id": job.id, "task": job.task_name, "attempt": job.attempts + 1}
        text = error_text(error, self.secrets) if error else None
        next_time = next_at.isoformat() if next_at else None
        _log.log(_LEVELS[outcome], "job_attempt_ended", **fields, outcome=outcome, error=text, next_at=next_time)
        try:
            await self._write_end(job, outcome, error, text, next_at)
        except (psycopg.Error, PoolTimeout) as exc:
            # The work is done or not done either way; a missing line must not turn one into the other.
            _log.warning("job_attempt_not_written", **fields, error=type(exc).__name__)

    async def _write_end(
        self, job: Job, outcome: str, error: BaseException | None, text: str | None, next_at: datetime | None
    ) -> None:
        error_class = type(error).__name__ if error else None
        async with self.pool.connection() as connection, connection.transaction():
            await connection.execute(
                _END, (_at(self.clock()), outcome, error_class, text, next_at, job.id, job.attempts + 1)
            )
            if job.task_name in self.scheduled and outcome == "succeeded":
                await connection.execute(_CLOSE_ALARM, (_ALARM_KIND, job.task_name))
            elif job.task_name in self.scheduled and error is not None:
                detail = f"{error_class}: {text}"[:500]
                await connection.execute(_OPEN_ALARM, {"kind": _ALARM_KIND, "task": job.task_name, "detail": detail})


def _at(epoch_ms: int) -> datetime:
    return datetime.fromtimestamp(epoch_ms / 1000, UTC)
