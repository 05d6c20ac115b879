"""A warm parent that forks a process, kills it by -9 at a given moment of its work, and forks the next one.

`python -m tests.integration.kill_process feed|push|charge` reads one JSON list from stdin, of a child's life each: how many steps
it is let do, and how many seconds later it is killed. It writes a line for each: `killed`, or `ended` where the child was done
before. What is slow about starting, the imports, is done once.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import pickle
import select
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import psycopg

from accounts.billing.charges import Charger
from accounts.billing.pushes import Pusher
from accounts.billing.stripe_adapter import StripeBilling
from core.clock import now_ms
from core.postgres import DatabaseRole, Pool, open_pool
from core.tasks import TaskName, enqueue
from jobs.registry import Resources, Task
from jobs.retry import Backoff
from jobs.worker import JobWorker, WorkerOptions
from schemas.errors import Transient
from sinks.timescale.writer import Fenced
from streams.batches import RecordBatch
from tests.integration.metering_scene import FetchedRecord, metered_pipeline
from tests.integration.push_process import HASTE
from tests.integration.warm import tie_to_parent

TOPIC = "killed-readings"
_Step = Callable[[], None]


async def feed(step: _Step) -> None:
    """Take in the log from the committed position on, in the transactions of the real pipeline, to its end."""
    log = _log()
    async with open_pool(os.environ["DATABASE_URL"], DatabaseRole.WRITER, size=2) as pool:
        pipeline = metered_pipeline(pool)
        while (offset := await _position(pool)) < len(log):
            step()
            batch = log[offset : offset + int(os.environ["BATCH"])]
            # The last commit of a process that was killed may come in after the position was read.
            with suppress(Fenced):
                await pipeline.process(RecordBatch(TOPIC, 0, "id", offset, batch))


async def _position(pool: Pool) -> int:
    async with pool.connection() as connection:
        query = "SELECT next_offset FROM weir.stream_position WHERE topic = %s"
        row = await (await connection.execute(query, (TOPIC,))).fetchone()
    return int(row[0]) if row else 0


def _log() -> list[FetchedRecord]:
    made: list[FetchedRecord] = pickle.loads(Path(os.environ["LOG"]).read_bytes())  # noqa: S301 - written by the test
    return made


async def push(step: _Step) -> None:
    """A job worker whose job of pushing usage asks for the next one when it is done."""
    is_absolute = os.environ["MODE"] == "absolute"
    billing = StripeBilling(os.environ["STRIPE_KEY"], os.environ["STRIPE_URL"], is_absolute=is_absolute)

    async def push_usage(resources: Resources) -> None:
        step()
        await Pusher(resources.pool, billing, is_absolute=is_absolute, haste=HASTE).run(now_ms())
        async with resources.pool.connection() as connection:
            await enqueue(connection, TaskName.PUSH_USAGE)

    url = os.environ["DATABASE_URL"]
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute("SET ROLE weir_writer")
        await enqueue(connection, TaskName.PUSH_USAGE)
    task = Task(push_usage, timeout_s=60.0, backoff=Backoff(max_attempts=1))
    await JobWorker(WorkerOptions(url, poll_s=0.2), {TaskName.PUSH_USAGE: task}, ()).run(asyncio.Event())


# What came late of every customer, in one of twelve months.
_LATE = """
INSERT INTO weir.usage_adjustment (tenant_id, meter, bucket_start, quantity, reason)
SELECT tenant_id, 'readings', date_trunc('month', now(), 'UTC') - floor(random() * 12) * interval '31 days', 1000000, 'late'
FROM weir.billing_account
"""
# A charge in doubt is looked at again minutes later: they pass at once.
_DUE = """
SELECT (extract(epoch FROM greatest(now(), max(next_at) FILTER (WHERE isfinite(next_at)))) * 1000)::bigint + 1
FROM weir.usage_charge WHERE state IN ('pending', 'sent', 'ambiguous')
"""


async def charge(step: _Step) -> None:
    """Note what came late of every customer and charge it, again and again."""
    billing = StripeBilling(os.environ["STRIPE_KEY"], os.environ["STRIPE_URL"])
    async with open_pool(os.environ["DATABASE_URL"], DatabaseRole.WRITER, size=2) as pool:
        while True:
            step()
            async with pool.connection() as connection:
                await connection.execute(_LATE)
            await charge_what_is_due(pool, billing)


async def charge_what_is_due(pool: Pool, billing: StripeBilling) -> int:
    """One run of the charger, as if the time had come for everything; tells how many charges are open after it."""
    async with pool.connection() as connection:
        row = await (await connection.execute(_DUE)).fetchone()
    with suppress(Transient):
        await Charger(pool, billing, timedelta()).run(row[0] if row else now_ms())
    async with pool.connection() as connection:
        query = "SELECT count(*) FROM weir.usage_charge WHERE state IN ('pending', 'sent', 'ambiguous')"
        row = await (await connection.execute(query)).fetchone()
    return int(row[0]) if row else 0


_ROLES: dict[str, Callable[[_Step], Awaitable[None]]] = {"feed": feed, "push": push, "charge": charge}


def kill_one(role: str, steps: int, after_s: float) -> str:
    """Fork a child, let it do so many steps and go on for that long, kill it."""
    heard, told = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(heard)
        _live(role, told)
    os.close(told)
    begun, until_s = 0, float("inf")
    # The end of the pipe is the end of the child.
    while (left_s := until_s - time.monotonic()) > 0:
        if select.select([heard], [], [], min(left_s, 60.0))[0]:
            read = os.read(heard, 4096)
            if not read:
                break
            begun += len(read)
            if begun > steps and until_s == float("inf"):
                until_s = time.monotonic() + after_s
    os.close(heard)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return "killed" if os.WIFSIGNALED(status) else "ended"


def _live(role: str, told: int) -> None:
    tie_to_parent()
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what the parent says is counted
    code = 1
    try:
        asyncio.run(_as_coroutine(_ROLES[role](lambda: _tell(told))))
        code = 0
    finally:
        os._exit(code)


def _tell(told: int) -> None:
    os.write(told, b".")


async def _as_coroutine(work: Awaitable[None]) -> None:
    await work


def warm_up() -> None:
    """Load what is loaded at its first use only, and let the collector leave it alone."""
    import procrastinate.builtin_tasks  # noqa: F401

    _ = StripeBilling("sk_test_warm", "http://127.0.0.1:9")._client.v1.billing.meter_events
    gc.freeze()


if __name__ == "__main__":
    warm_up()
    for steps_done, seconds in json.loads(sys.stdin.readline()):
        sys.stdout.write(f"{kill_one(sys.argv[1], steps_done, seconds)}\n")
