"""Lanes: while the database works for one partition, the process computes for another; within a partition order holds.

What comes for a partition while its last piece is worked on waits, and is then taken together: a transaction costs much the
same for ten records as for a thousand, so pieces grow with the load and nothing queues behind piece after piece.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Lanes(Generic[Item]):
    """At most `width` partitions are worked on at once, each by all that waits for it.

    Bounded on purpose: with `most_waiting` in weight an item waits in `add`, which holds back the fetcher, which bounds memory.

    Args:
        width: how many partitions at once.
        most_waiting: the weight of waiting items at which no more are taken in.
        work: handles a partition's items in order; it must handle its own failures.
        holds_up: whether `add` waits for room; if not, who adds asks `is_full` before.
    """

    def __init__(
        self,
        width: int,
        most_waiting: int,
        work: Callable[[int, list[Item]], Awaitable[None]],
        *,
        holds_up: bool = True,
    ) -> None:
        self._free = asyncio.Semaphore(width)
        self._most_waiting = most_waiting
        self._work = work
        self._holds_up = holds_up
        self._waiting: dict[int, list[tuple[Item, int]]] = {}
        self._weight = 0
        self._room = asyncio.Event()
        self._busy: dict[int, asyncio.Task[None]] = {}

    @property
    def is_full(self) -> bool:
        """Whether so much waits that no more should be added."""
        return self._weight >= self._most_waiting

    async def add(self, partition: int, item: Item, weight: int) -> None:
        """Let an item be worked on as soon as a lane is free and all before it of its partition are done."""
        while self._holds_up and self.is_full:
            self._room.clear()
            await self._room.wait()
        self._waiting.setdefault(partition, []).append((item, weight))
        self._weight += weight
        if partition not in self._busy:
            self._busy[partition] = asyncio.create_task(self._run(partition))

    async def _run(self, partition: int) -> None:
        try:
            while self._waiting.get(partition):
                async with self._free:
                    await self._work(partition, self._take(partition))
        finally:
            del self._busy[partition]

    def _take(self, partition: int) -> list[Item]:
        taken = self._waiting.pop(partition)
        self._weight -= sum(weight for _, weight in taken)
        self._room.set()
        return [item for item, _ in taken]

    def is_busy(self, partition: int) -> bool:
        """Whether anything of the partition waits or is worked on."""
        return partition in self._busy

    async def drain(self) -> None:
        """Wait until everything that was added is done."""
        while self._busy:
            await asyncio.wait(set(self._busy.values()))
