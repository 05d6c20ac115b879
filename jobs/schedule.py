"""The one cron table: everything that runs by the clock, and why. Times are UTC; a sixth field counts seconds.

Each period becomes one job however many workers run; a period missed while none ran is made up for once.
"""

from __future__ import annotations

from dataclasses import dataclass

from core.tasks import Queue, TaskName


@dataclass(frozen=True, slots=True)
class Scheduled:
    """One line of the table.

    Args:
        task: what runs.
        cron: minute hour day month weekday [second].
        queue: where its jobs wait.
        why: for the person who wonders whether it may be changed.
        exclusive: never two at once; the rescuer must not be, or nobody could rescue a stalled rescuer.
        priority: higher goes first.
    """

    task: TaskName
    cron: str
    queue: Queue
    why: str
    exclusive: bool = True
    priority: int = 0


SCHEDULE = (
    Scheduled(
        TaskName.REFRESH_ROLLUPS,
        "* * * * * */5",
        Queue.ROLLUPS,
        "dirty hours are computed on every read until they are stored: seconds keep reads cheap",
    ),
    Scheduled(
        TaskName.RESCUE_STALLED_JOBS,
        "* * * * * */30",
        Queue.MAINTENANCE,
        "the jobs of a killed worker, and the locks they hold, wait for this",
        exclusive=False,
        priority=100,
    ),
    Scheduled(
        TaskName.ENSURE_PARTITIONS,
        "7 * * * *",
        Queue.MAINTENANCE,
        "a batch that finds its day's partition missing must stop and make it; a week ahead survives a week's outage",
        priority=50,
    ),
    Scheduled(
        TaskName.APPLY_RETENTION,
        "22 * * * *",
        Queue.MAINTENANCE,
        "horizons move in whole UTC days; hourly makes a missed midnight harmless",
    ),
    Scheduled(
        TaskName.CLEAN_UP,
        "37 3 * * *",
        Queue.MAINTENANCE,
        "old refusal counts, closed alarms and dead workers' heartbeats serve nobody",
    ),
    Scheduled(
        TaskName.LOOK_AFTER_SCANS,
        "* * * * * */30",
        Queue.MAINTENANCE,
        "a scan whose job got lost waits for this, as the job of a killed worker waits for its rescue",
    ),
    Scheduled(
        TaskName.TRIM_LIVE_EVENTS,
        "12 * * * *",
        Queue.MAINTENANCE,
        "viewers resume from at most a day ago; older events only make the table slow",
    ),
    Scheduled(
        TaskName.REMOVE_OLD_JOBS,
        "52 * * * *",
        Queue.MAINTENANCE,
        "the queue's tables grow by every job; fetching stays fast while they are small",
    ),
    Scheduled(
        TaskName.FINISH_SILENT_SCANS,
        "* * * * * */10",
        Queue.MAINTENANCE,
        "a scan whose device went away shows what it has soon after its time-out",
    ),
    Scheduled(
        TaskName.REMOVE_ORPHANED_OBJECTS,
        "41 4 * * *",
        Queue.MAINTENANCE,
        "payloads of batches that never committed take up room; a day's worth is little",
    ),
    Scheduled(
        TaskName.TAKE_BILLING_EVENTS,
        "* * * * * */1",
        Queue.BILLING,
        "who has paid, or has not, finds that so within two seconds",
    ),
    Scheduled(
        TaskName.PUSH_USAGE,
        "* * * * *",
        Queue.BILLING,
        "an hour is overdue five minutes after its end, or after its last change",
    ),
    Scheduled(
        TaskName.RECONCILE_RECENT_USAGE,
        "*/20 * * * *",
        Queue.BILLING,
        "Stripe's totals of today and yesterday: one read per tenant and meter",
    ),
    Scheduled(
        TaskName.RECONCILE_USAGE,
        "11 4 * * *",
        Queue.BILLING,
        "Stripe's totals of every day that a push can still change",
    ),
    Scheduled(
        TaskName.PROVE_USAGE,
        "41 4 * * *",
        Queue.BILLING,
        "stored rows are counted again for every day that changed, after Stripe's totals were read",
    ),
    Scheduled(
        TaskName.NOTICE_QUOTAS,
        "*/5 * * * *",
        Queue.BILLING,
        "whoever reaches 80 or 100 percent of a quota hears of it while it can still be acted on",
    ),
)
