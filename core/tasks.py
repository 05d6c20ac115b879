"""Names of the background tasks and the way to enqueue one in the transaction that causes it.

What a task does lives in `jobs`; whoever enqueues (streams, api, accounts) needs only this. A job exists exactly when
the caller's transaction commits.
"""

from __future__ import annotations

import functools
from datetime import datetime
from enum import StrEnum

from procrastinate import App, PsycopgConnector
from procrastinate.exceptions import AlreadyEnqueued, ConnectorException
from procrastinate.types import JSONValue

from core.postgres import Connection

QUEUE_SEARCH_PATH = "weir_jobs, pg_temp"


class Queue(StrEnum):
    """Queues that `weir jobs --queues` can be told to serve."""

    ROLLUPS = "rollups"
    MAINTENANCE = "maintenance"
    MESSAGES = "messages"
    BILLING = "billing"
    SCANS = "scans"
    SCAN_PREVIEWS = "scan-previews"


class TaskName(StrEnum):
    """Every task; renaming one strands the jobs that wait under its old name."""

    REFRESH_ROLLUPS = "refresh_rollups"
    ENSURE_PARTITIONS = "ensure_partitions"
    APPLY_RETENTION = "apply_retention"
    CLEAN_UP = "clean_up"
    TRIM_LIVE_EVENTS = "trim_live_events"
    RESCUE_STALLED_JOBS = "rescue_stalled_jobs"
    REMOVE_OLD_JOBS = "remove_old_jobs"
    SEND_MESSAGE = "send_message"
    PUSH_USAGE = "push_usage"
    TAKE_BILLING_EVENTS = "take_billing_events"
    RECONCILE_USAGE = "reconcile_usage"
    RECONCILE_RECENT_USAGE = "reconcile_recent_usage"
    PROVE_USAGE = "prove_usage"
    PREVIEW_SCAN = "scans.preview"
    PROCESS_SCAN = "scans.process"
    LOOK_AFTER_SCANS = "look_after_scans"
    FINISH_SILENT_SCANS = "finish_silent_scans"
    REMOVE_ORPHANED_OBJECTS = "remove_orphaned_objects"
    ERASE_SCAN_OBJECTS = "erase_scan_objects"
    NOTICE_QUOTAS = "notice_quotas"


_QUEUES = {
    TaskName.REFRESH_ROLLUPS: Queue.ROLLUPS,
    TaskName.SEND_MESSAGE: Queue.MESSAGES,
    TaskName.PUSH_USAGE: Queue.BILLING,
    TaskName.TAKE_BILLING_EVENTS: Queue.BILLING,
    TaskName.RECONCILE_USAGE: Queue.BILLING,
    TaskName.RECONCILE_RECENT_USAGE: Queue.BILLING,
    TaskName.PROVE_USAGE: Queue.BILLING,
    TaskName.PREVIEW_SCAN: Queue.SCAN_PREVIEWS,
    TaskName.PROCESS_SCAN: Queue.SCANS,
    TaskName.NOTICE_QUOTAS: Queue.BILLING,
}


def queue_of(task: TaskName) -> Queue:
    """The queue that a task's jobs wait in."""
    return _QUEUES.get(task, Queue.MAINTENANCE)


@functools.cache
def _app() -> App:
    """Describes jobs only; it is never opened, every job travels on its caller's connection."""
    return App(connector=PsycopgConnector())


async def enqueue(
    connection: Connection,
    task: TaskName,
    *,
    lock: str | None = None,
    queueing_lock: str | None = None,
    schedule_at: datetime | None = None,
    priority: int = 0,
    **args: JSONValue,
) -> int | None:
    """Put a job into its queue, in the caller's transaction (its own if the caller has none).

    Make it the transaction's last statement when it carries a queueing lock: two transactions that enqueue under the
    same one wait for each other until the first commits.

    Args:
        connection: of the writer role.
        task: what to do.
        lock: jobs with the same lock run one after the other, in the order they were enqueued.
        queueing_lock: no second job waits under the same one.
        schedule_at: not before this time, with an offset.
        priority: higher goes first.
        args: the task's arguments as JSON, ids rather than content, never secrets.

    Returns:
        The job's id, or None if a job with this queueing lock waits already.

    Raises:
        psycopg.Error: the caller's transaction is then as before the call, or broken with its connection.
    """
    deferrer = _app().configure_task(
        task.value,
        queue=queue_of(task).value,
        lock=lock,
        queueing_lock=queueing_lock,
        schedule_at=schedule_at,
        priority=priority,
        connection=connection,
    )
    try:
        async with connection.transaction():  # a refused job takes back this savepoint only
            before = await _swap_search_path(connection, QUEUE_SEARCH_PATH)
            job_id = await deferrer.defer_async(**args)
            await _swap_search_path(connection, before)
    except AlreadyEnqueued:
        return None
    except ConnectorException as exc:
        # Callers sort psycopg's errors into kinds; the wrapping carries nothing of its own.
        raise exc.__cause__ or exc from None
    return job_id


async def _swap_search_path(connection: Connection, path: str) -> str:
    """Set the path for this transaction and return the one before; procrastinate names its tables without a schema."""
    cursor = await connection.execute(
        "SELECT current_setting('search_path'), set_config('search_path', %s, true)", (path,)
    )
    row = await cursor.fetchone()
    return str(row[0]) if row else ""
