"""Lanes: while the database works for one partition, the process computes for another; within a partition order holds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


class Lanes:
    """At most `width` pieces of work at once, those of one partition strictly one after the other.

    Bounded on purpose: a piece waits in `add` for a free lane, which holds back the fetcher, which bounds memory.
    """

    def __init__(self, width: int) -> None:
        self._free = asyncio.Semaphore(width)
        self._last: dict[int, asyncio.Task[None]] = {}

    async def add(self, partition: int, work: Callable[[], Awaitable[None]]) -> None:
        """Start the work as soon as a lane is free; `work` must handle its own failures."""
        await self._free.acquire()
        previous = self._last.get(partition)
        self._last[partition] = asyncio.create_task(self._run(previous, work))

    async def _run(self, previous: asyncio.Task[None] | None, work: Callable[[], Awaitable[None]]) -> None:
        try:
            if previous is not None:
                await asyncio.wait({previous})
            await work()
        finally:
            self._free.release()

    async def drain(self) -> None:
        """Wait until everything that was added is done."""
        if self._last:
            await asyncio.wait(set(self._last.values()))
