"""Puts connector, queue, tasks and cron table together into a procrastinate app."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from procrastinate import App, JobContext

from jobs.attempts import AsDecided
from jobs.queue import UNKNOWN_TASK, JobQueue, QueueConnector
from jobs.registry import Resources, Task, Tasks
from jobs.retry import Backoff
from jobs.schedule import Scheduled
from schemas.errors import Transient

# Every scheduled task is safe to run late: what was missed while no worker ran is made up for within a day.
_LONGEST_DELAY_S = 24 * 3600.0
_RESOURCES = "resources"


async def _refuse_unknown(_resources: Resources, *, task: str) -> None:
    msg = f"this worker does not know the task {task}; run a newer Weir, or cancel the job"
    raise Transient(msg)


# About an hour for the rest of a rolling upgrade.
_UNKNOWN = Task(_refuse_unknown, timeout_s=5.0, backoff=Backoff(base_s=30.0, max_attempts=15))


def strategies(tasks: Tasks, clock: Callable[[], int], chance: Callable[[], float]) -> Mapping[str, AsDecided]:
    """The retry strategy of each task by name, of the unknown one too."""
    backoffs = {name.value: task.backoff for name, task in tasks.items()} | {UNKNOWN_TASK: _UNKNOWN.backoff}
    return {name: AsDecided(backoff, clock, chance) for name, backoff in backoffs.items()}


def build_app(
    connector: QueueConnector,
    tasks: Tasks,
    schedule: Sequence[Scheduled],
    retries: Mapping[str, AsDecided],
    concurrency: int = 1,
) -> tuple[App, JobQueue]:
    """An app that knows these tasks, defers these periods and works on so many jobs at once; not opened."""
    app = App(connector=connector, periodic_defaults={"max_delay": _LONGEST_DELAY_S})
    # procrastinate's own tasks are not ours to run: their work is done by tasks of this registry.
    queue = JobQueue(connector, {name.value for name in tasks}, concurrency)
    app.job_manager = queue
    bodies = {name.value: _body(task) for name, task in tasks.items()} | {UNKNOWN_TASK: _body(_UNKNOWN)}
    registered = {
        name: app.task(name=name, pass_context=True, retry=retries[name])(body) for name, body in bodies.items()
    }
    for line in schedule:
        name = line.task.value
        app.periodic_registry.register_task(
            task=registered[name],
            cron=line.cron,
            periodic_id="",
            configure_kwargs={
                "queue": line.queue.value,
                "priority": line.priority,
                "queueing_lock": name,
                "lock": name if line.exclusive else None,
            },
        )
    return app, queue


def context_of(resources: Resources) -> dict[str, Any]:
    """The context that a worker of this app must be given."""
    return {_RESOURCES: resources}


def _body(task: Task) -> Callable[..., Awaitable[None]]:
    async def body(context: JobContext, **args: object) -> None:
        args.pop("timestamp", None)  # a scheduled job is told its period; no task of ours depends on it
        try:
            async with asyncio.timeout(task.timeout_s) as limit:
                await task.run(context.additional_context[_RESOURCES], **args)
        except TimeoutError as exc:
            if not limit.expired():
                raise
            msg = f"the attempt took longer than {task.timeout_s:.0f} s"
            raise Transient(msg) from exc

    return body
