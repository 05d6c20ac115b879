"""The cron table: when each line fires, and that every task is done by somebody."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

import croniter  # type: ignore[import-untyped] # procrastinate reads the table with it
import pytest

from core.tasks import TaskName, queue_of
from jobs.schedule import SCHEDULE, Scheduled
from jobs.tasks import TASKS


def every(seconds: int) -> list[float]:
    return [float(second) for second in range(0, 3600, seconds)]


def times_in_an_hour(line: Scheduled) -> list[float]:
    """Seconds after three o'clock at which a line fires."""
    start = datetime(2026, 11, 22, 3, tzinfo=UTC).timestamp()
    fires = croniter.croniter(line.cron, start - 1)
    found = []
    while (at := fires.get_next(float)) < start + 3600:
        found.append(at - start)
    return found


@pytest.mark.parametrize(
    ("task", "times"),
    [
        (TaskName.REFRESH_ROLLUPS, every(5)),
        (TaskName.RESCUE_STALLED_JOBS, every(30)),
        (TaskName.ENSURE_PARTITIONS, [7 * 60.0]),
        (TaskName.APPLY_RETENTION, [22 * 60.0]),
        (TaskName.CLEAN_UP, [37 * 60.0]),
        (TaskName.REMOVE_OLD_JOBS, [52 * 60.0]),
        (TaskName.TAKE_BILLING_EVENTS, every(1)),
        (TaskName.PUSH_USAGE, every(60)),
        (TaskName.RECONCILE_RECENT_USAGE, every(20 * 60)),
    ],
)
def test_each_line_fires_when_it_should(task: TaskName, times: list[float]) -> None:
    (line,) = [line for line in SCHEDULE if line.task is task]

    assert times_in_an_hour(line) == times


def test_a_task_stands_in_the_table_once() -> None:
    assert max(Counter(line.task for line in SCHEDULE).values()) == 1


def test_scheduled_and_enqueued_jobs_of_a_task_wait_in_the_same_queue() -> None:
    assert [line.queue for line in SCHEDULE] == [queue_of(line.task) for line in SCHEDULE]


def test_every_task_has_somebody_who_does_it() -> None:
    assert set(TASKS) == set(TaskName)


def test_the_rescuer_takes_no_lock_that_a_dead_rescuer_could_hold() -> None:
    (rescuer,) = [line for line in SCHEDULE if line.task is TaskName.RESCUE_STALLED_JOBS]

    assert not rescuer.exclusive


def test_every_line_says_why() -> None:
    assert all(line.why for line in SCHEDULE)
