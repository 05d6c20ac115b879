"""Notices that the stream stands still although records wait for it, so that the process can end and begin anew.

From inside, a consumer that lost its way looks like one whose topic is quiet: a rebalance that never ends, a fetch that is
never answered, a record that was fetched and went astray. So where the partitions stand is compared with where the broker
says that they end. Border: says what stands still; the worker ends, and its supervisor starts it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from core.clock import monotonic_s
from core.postgres import is_transient
from schemas.errors import WeirError
from streams.log_ends import AskForEnds

_LOOKS_PER_LIMIT = 4


class StreamStalled(WeirError):
    """Records wait, and nothing takes them."""


class Standing(NamedTuple):
    """Where a partition stands in this process.

    Attributes:
        committed: the offset that is to be committed next.
        handed_over: one past the last record that the consumer handed over.
        position: the offset that the consumer would fetch next; None: it does not know.
        busy: records of it are being worked on.
    """

    committed: int
    handed_over: int
    position: int | None
    busy: bool


class Progress:
    """Remembers since when each partition has not moved although records wait.

    Args:
        limit_s: how long that may last.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._unmoved: dict[int, tuple[Standing, float]] = {}

    def stalled(self, now_s: float, standings: Mapping[int, Standing], ends: Mapping[int, int]) -> list[int]:
        """The partitions that have stood still for too long.

        Args:
            now_s: of a clock that never goes back.
            standings: by partition; one that is not named is forgotten.
            ends: the broker's end of each partition.
        """
        waiting = {number: one for number, one in standings.items() if _waits(one, ends.get(number, 0))}
        self._unmoved = {number: self._since(number, one, now_s) for number, one in waiting.items()}
        return [number for number, (_, since_s) in sorted(self._unmoved.items()) if now_s - since_s >= self._limit_s]

    def _since(self, number: int, standing: Standing, now_s: float) -> tuple[Standing, float]:
        before = self._unmoved.get(number)
        return before if before is not None and before[0] == standing else (standing, now_s)


def _waits(standing: Standing, end: int) -> bool:
    """A position may pass offsets that are no records (ends of transactions), so it is not compared with what is committed."""
    if standing.busy:
        return False
    return standing.position is None or standing.position < end or standing.handed_over > standing.committed


class StallWatch:
    """Runs until something stands still.

    Args:
        limit_s: how long records may wait while nothing moves.
        standings: where this process stands; None while partitions are being handed out.
        ends: asks the broker.
    """

    def __init__(
        self, limit_s: float, standings: Callable[[], Awaitable[Mapping[int, Standing] | None]], ends: AskForEnds
    ) -> None:
        self._limit_s = limit_s
        self._standings = standings
        self._ends = ends
        self._progress = Progress(limit_s)
        self._rebalancing_since_s: float | None = None

    async def run(self) -> None:
        """Look again and again.

        Raises:
            StreamStalled: the stream stood still for longer than the limit.
        """
        while True:
            await asyncio.sleep(self._limit_s / _LOOKS_PER_LIMIT)
            standings = await self._standings()
            if standings is None:
                self._require_end_of_rebalance()
                continue
            self._rebalancing_since_s = None
            await self._require_progress(standings)

    def _require_end_of_rebalance(self) -> None:
        now_s = monotonic_s()
        since_s = self._rebalancing_since_s = self._rebalancing_since_s or now_s
        if now_s - since_s >= self._limit_s:
            msg = (
                f"partitions have been handed out for {now_s - since_s:.0f} s without an end; this worker starts again"
            )
            raise StreamStalled(msg)

    async def _require_progress(self, standings: Mapping[int, Standing]) -> None:
        try:
            ends = (await self._ends()).ends if standings else {}
        except Exception as exc:
            if not is_transient(exc):
                raise
            self._progress = Progress(self._limit_s)  # a broker that is away makes nobody stand still
            return
        stalled = self._progress.stalled(monotonic_s(), standings, ends)
        if stalled:
            told = {number: (*standings[number][:3], ends.get(number)) for number in stalled}
            msg = (
                f"records have waited for {self._limit_s:.0f} s and nothing moved, by partition (committed, handed over,"
                f" position, end): {told}; this worker starts again"
            )
            raise StreamStalled(msg)
