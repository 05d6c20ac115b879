"""A batch: consecutive records of one partition, cut to the size of a transaction, and what makes a transaction of it.

Border: shapes and cutting, shared by the pipelines and their intake; nothing is fetched or written here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from core.metrics import WorkerCounters
from core.postgres import Pool
from sinks.dead_letters import Record, Source
from sinks.timescale.writer import Position

# One transaction: at most this many value bytes, so that it stays well under a second.
_CHUNK_BYTES = 2 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """Consecutive records of one partition, as fetched."""

    topic: str
    partition: int
    identity: str
    # The stored position that these records continue; the first record's offset is this or later.
    expected: int
    records: Sequence[Record]

    @property
    def position(self) -> Position:
        """The fence of this batch's transaction."""
        return Position(self.topic, self.partition, self.identity, self.expected, self.records[-1].offset + 1)

    @property
    def source(self) -> Source:
        """Where refusals say they came from."""
        return Source(self.topic, self.partition, self.identity)


class Report(Protocol):
    """What one batch came to; one log line and the worker's counters."""

    @property
    def records(self) -> int:
        """How many there were."""
        ...

    @property
    def refused(self) -> int:
        """How many refusals they caused."""
        ...

    @property
    def flooding(self) -> Sequence[str]:
        """Devices whose refusals became a flood."""
        ...

    def count(self, counters: WorkerCounters) -> None:
        """Add the rest to the process's counters."""
        ...

    def shown(self) -> Mapping[str, int]:
        """The rest for the log line."""
        ...


class Pipeline(Protocol):
    """Turns a batch into one transaction."""

    async def process(self, batch: RecordBatch) -> Report:
        """Commit one batch, or raise with nothing written."""
        ...

    async def stored_offset(self, batch: RecordBatch) -> int | None:
        """The stored position of the batch's partition; None when the topic has another identity by now."""
        ...


class CatalogChanged(Exception):
    """Credentials or horizons changed since the batch was judged: judge it again."""


async def stored_offset(pool: Pool, batch: RecordBatch) -> int | None:
    """The stored position of the batch's partition; None when the topic has another identity by now."""
    async with pool.connection() as connection:
        cursor = await connection.execute(
            "SELECT next_offset FROM weir.stream_position WHERE topic = %s AND partition = %s AND topic_identity = %s",
            (batch.topic, batch.partition, batch.identity),
        )
        row = await cursor.fetchone()
    return None if row is None else int(row[0])


def joined(fetched: Sequence[Sequence[Record]]) -> list[list[Record]]:
    """Fetched batches put together as far as their offsets go up; where they go back, something was fetched again."""
    runs: list[list[Record]] = []
    for records in fetched:
        if runs and records[0].offset > runs[-1][-1].offset:
            runs[-1].extend(records)
        else:
            runs.append(list(records))
    return runs


def chunk_end(records: Sequence[Record], most: int) -> int:
    """How many of the records one transaction takes: at least one."""
    size = 0
    for number, record in enumerate(records[:most]):
        size += len(record.value or b"")
        if size > _CHUNK_BYTES and number:
            return number
    return min(len(records), most)
