"""What the scheduled tasks do: partitions, roll-ups, retention, clean-up, and the queue's own care.

Each is safe to run at any time, twice, or not for a while; none takes arguments.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import LiteralString

from accounts.billing.quotas import follow_plans
from core.clock import monotonic_s
from core.leases import Lease, hold
from core.tasks import Queue, TaskName
from jobs.messages import send_message
from jobs.registry import Resources, Task, Tasks
from jobs.retry import Backoff
from sinks.timescale import retention, rollups
from sinks.timescale.migrate import Engine

_DAYS_AHEAD = 7
_REFRESH_LIMIT = 2_000
_REFRESH_BUDGET_S = 20.0
_CHUNK_ROWS = 5_000
# A job that took three workers down with it is not tried a fourth time.
_MAX_LIVES = 3

_REFUSALS_KEPT = timedelta(days=90)
_ALARMS_KEPT = timedelta(days=90)
_HEARTBEATS_KEPT = timedelta(days=1)
# Tokens and messages that are of no use any more; a held message is worth no more than the token in it.
_SIGN_INS_KEPT = timedelta(days=1)
_MESSAGES_KEPT = timedelta(days=14)
_LIVE_KEPT = timedelta(hours=24)
_LIVE_EVENTS_KEPT = 100_000
_FAILED_JOBS_KEPT = timedelta(days=30)
# Successes of the frequent tasks are noise after an hour: hundreds an hour in these queues.
_SUCCEEDED_JOBS_KEPT = {queue: timedelta(hours=1) for queue in (Queue.ROLLUPS, Queue.BILLING, Queue.SCANS)}
_OTHER_SUCCEEDED_JOBS_KEPT = timedelta(days=7)


async def refresh_rollups(resources: Resources) -> None:
    """Move the frontier to the clock and store what is dirty, for a bounded time; the next tick goes on."""
    await rollups.advance_frontier(resources.pool, resources.now_ms())
    deadline = monotonic_s() + _REFRESH_BUDGET_S
    done = _REFRESH_LIMIT
    while done >= _REFRESH_LIMIT and monotonic_s() < deadline:
        done = (await rollups.refresh(resources.pool, resources.engine, limit=_REFRESH_LIMIT)).hours


async def ensure_partitions(resources: Resources) -> None:
    """Have partitions for today and the next seven days; each in a transaction of its own, as each takes a lock."""
    if resources.engine is not Engine.PLAIN:
        return  # hypertables make their chunks themselves
    today = _now(resources).replace(hour=0, minute=0, second=0, microsecond=0)
    async with resources.pool.connection() as connection:
        for ahead in range(_DAYS_AHEAD + 1):
            await connection.execute("SELECT weir.ensure_partitions(%s)", ([today + timedelta(days=ahead)],))


async def apply_retention(resources: Resources) -> None:
    """Move every tenant's horizon as its plan says, then drop what lies behind all of them."""
    await follow_plans(resources.pool, _now(resources))
    await retention.advance_horizons(resources.pool, resources.now_ms())
    await retention.drop_expired(resources.pool, resources.engine)


async def clean_up(resources: Resources) -> None:
    """Delete refusal counts and closed alarms past 90 days, messages past 14, ended sign-ins past a day, uploads that ended."""
    now = _now(resources)
    await _delete(resources, "weir.refusal_count", "minute < %s", now - _REFUSALS_KEPT)
    await _delete(resources, "weir.operator_alarm", "closed_at < %s", now - _ALARMS_KEPT)
    await _delete(resources, "weir.worker_heartbeat", "beat_at < %s", now - _HEARTBEATS_KEPT)
    await _delete(resources, "weir.user_session", "expires_at < %s", now - _SIGN_INS_KEPT)
    await _delete(resources, "weir.password_reset", "expires_at < %s", now - _SIGN_INS_KEPT)
    await _delete(resources, "weir.outgoing_message", "created_at < %s", now - _MESSAGES_KEPT)
    # Their pieces go with them, whose objects no row names then.
    await _delete(resources, "weir.scan_upload", "expires_at < %s", now)


async def trim_live_events(resources: Resources) -> None:
    """Delete live events past 24 hours, and past a tenant's newest 100 000; a tenant's last event stays, cursors name it."""
    async with resources.pool.connection() as connection:
        cursor = await connection.execute(
            "SELECT h.tenant_id, greatest(h.seq - %s, (SELECT coalesce(max(e.seq), 0) FROM weir.live_event e"
            " WHERE e.tenant_id = h.tenant_id AND e.at < %s)) FROM weir.live_head h",
            (_LIVE_EVENTS_KEPT, _now(resources) - _LIVE_KEPT),
        )
        old = await cursor.fetchall()
    for tenant_id, seq in old:
        where: LiteralString = (
            "tenant_id = %s AND seq <= %s AND seq < (SELECT h.seq FROM weir.live_head h WHERE h.tenant_id = %s)"
        )
        await _delete(resources, "weir.live_event", where, tenant_id, seq, tenant_id)


async def rescue_stalled_jobs(resources: Resources) -> None:
    """Put the jobs of dead workers back into their queues; one rescuer at a time."""

    async def rescue(_: Lease) -> None:
        await resources.queue.rescue(resources.stalled_after_s, _MAX_LIVES)

    await hold(resources.pool, "stalled-jobs", rescue)


async def remove_old_jobs(resources: Resources) -> None:
    """Delete finished jobs and their attempts: the queue's successes early, everything after 30 days."""
    now = _now(resources)
    for queue in Queue:
        kept = _SUCCEEDED_JOBS_KEPT.get(queue, _OTHER_SUCCEEDED_JOBS_KEPT)
        await resources.queue.delete_old_jobs(nb_hours=_hours(kept), queue=queue.value)
        where: LiteralString = "started_at < %s AND outcome = 'succeeded' AND queue = %s"
        await _delete(resources, "weir.job_attempt", where, now - kept, queue.value)
    await resources.queue.delete_old_jobs(
        nb_hours=_hours(_FAILED_JOBS_KEPT), include_failed=True, include_cancelled=True, include_aborted=True
    )
    await _delete(resources, "weir.job_attempt", "started_at < %s", now - _FAILED_JOBS_KEPT)
    await _delete(resources, "weir.tenant_job", "finished_at < %s", now - _FAILED_JOBS_KEPT)


async def _delete(resources: Resources, table: LiteralString, where: LiteralString, *values: object) -> None:
    """Delete in pieces, each a transaction, so that no lock and no vacuum waits for a large one."""
    chunk = f"SELECT ctid FROM {table} WHERE {where} LIMIT {_CHUNK_ROWS}"  # noqa: S608 - literals of this module
    statement = f"DELETE FROM {table} WHERE ctid = ANY (ARRAY ({chunk}))"  # noqa: S608
    async with resources.pool.connection() as connection:
        deleted = _CHUNK_ROWS
        while deleted == _CHUNK_ROWS:
            deleted = (await connection.execute(statement, values)).rowcount


def _now(resources: Resources) -> datetime:
    return datetime.fromtimestamp(resources.now_ms() / 1000, UTC)


def _hours(duration: timedelta) -> int:
    return int(duration.total_seconds() // 3600)


# The next tick of a frequent task is its retry.
_ONCE = Backoff(max_attempts=1)

TASKS: Tasks = {
    TaskName.REFRESH_ROLLUPS: Task(refresh_rollups, timeout_s=900.0, backoff=_ONCE),
    TaskName.RESCUE_STALLED_JOBS: Task(rescue_stalled_jobs, timeout_s=60.0, backoff=_ONCE),
    TaskName.ENSURE_PARTITIONS: Task(ensure_partitions, timeout_s=60.0),
    TaskName.APPLY_RETENTION: Task(apply_retention, timeout_s=900.0),
    TaskName.CLEAN_UP: Task(clean_up, timeout_s=900.0),
    TaskName.TRIM_LIVE_EVENTS: Task(trim_live_events, timeout_s=900.0),
    TaskName.REMOVE_OLD_JOBS: Task(remove_old_jobs, timeout_s=900.0),
    TaskName.SEND_MESSAGE: Task(send_message, timeout_s=60.0),
}
