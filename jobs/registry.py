"""Which function does which task, how long it may take and how it is retried."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from core.postgres import Pool
from core.tasks import TaskName
from jobs.children import Children
from jobs.kept import Kept
from jobs.queue import JobQueue
from jobs.retry import Backoff
from sinks.timescale.migrate import Engine


@dataclass(frozen=True, slots=True)
class Resources:
    """What a task may work with.

    Args:
        pool: of the writer role.
        engine: which store the database is.
        now_ms: the clock, epoch milliseconds.
        queue: for the tasks that look after the queue itself.
        stalled_after_s: silence after which a worker counts as dead.
        children: for computations that must not take the worker with them.
        kept: between jobs, as far as there is room.
    """

    pool: Pool
    engine: Engine
    now_ms: Callable[[], int]
    queue: JobQueue
    stalled_after_s: float
    children: Children
    kept: Kept


TaskFunction = Callable[..., Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Task:
    """One task.

    Args:
        run: called as `run(resources, **args)`; safe to run twice, even at once (a worker may be thought dead).
        timeout_s: a hanging attempt ends as a failure, so that it frees its slot and its lock.
        backoff: when it is tried again.
        given_up: called as `given_up(resources, error, **args)` when an attempt failed and none follows.
    """

    run: TaskFunction
    timeout_s: float
    backoff: Backoff = field(default_factory=Backoff)
    given_up: TaskFunction | None = None


Tasks = Mapping[TaskName, Task]
