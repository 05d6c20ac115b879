"""From fetched records to committed batches: which records continue the stored position, and what to do when one fails.

What passes by itself (a lost connection, a deadlock) is retried in place with the same batch. A position that another
worker moved (`Fenced`), and anything unexpected, is handed to `on_failure`, which ends the process.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import faust
import structlog
from aiokafka.errors import IllegalStateError
from faust.types import TP
from psycopg.errors import QueryCanceled

from core import kafka
from core.clock import monotonic_s
from core.metrics import WorkerCounters
from core.postgres import Pool, is_transient
from core.settings import Settings
from schemas.errors import Transient
from sinks.dead_letters import Record
from sinks.timescale.statistics import refresh_statistics
from sinks.timescale.writer import Fenced
from streams.batches import Pipeline, RecordBatch, Report, chunk_end, joined
from streams.lanes import Lanes
from streams.log_ends import LogEnds, ask_for_ends
from streams.positions import Stand, load_positions, reread_truncated_log
from streams.stalls import Standing
from streams.transport import RecordBatchConsumer

log = structlog.get_logger()

# One transaction: at most this many records.
_CHUNK_RECORDS = 10_000
# Fetched and waiting: about two transactions of small records; a record weighs so much beside its value.
_MOST_WAITING_BYTES = 8 * 1024 * 1024
_RECORD_BYTES = 400
# One computes while the database works for the other; more would only add memory.
_CONCURRENT_PARTITIONS = 2
_POSITION_RETRY_S = 0.5
_POSITION_TIMEOUT_S = 5.0
_MAX_BACKOFF_S = 5.0


@dataclass(frozen=True, slots=True)
class _Fetched:
    """An event of the stream: some records of one partition, to be acknowledged once they are committed."""

    app: faust.App
    stream: Any
    event: Any


class Intake:
    """The records of this worker's partitions, on their way into the database.

    Args:
        settings: brokers and the session time-out.
        topic: the broker's name of the topic.
        pool: under the writer role.
        pipeline: turns a batch into a transaction.
        counters: of the process.
        on_failure: called with what must end the process.
        holds_up: whether too much waiting holds up the fetcher, and so every topic; if not, the fetcher has to ask
            `is_full` and pass this topic over.
    """

    def __init__(
        self,
        settings: Settings,
        topic: str,
        pool: Pool,
        pipeline: Pipeline,
        counters: WorkerCounters,
        on_failure: Callable[[BaseException], None],
        *,
        holds_up: bool = True,
    ) -> None:
        self._settings = settings
        self._topic = topic
        self._pool = pool
        self._pipeline = pipeline
        self._counters = counters
        self._on_failure = on_failure
        self._lanes = Lanes[_Fetched](
            _CONCURRENT_PARTITIONS, _MOST_WAITING_BYTES, self._work_off_fetched, holds_up=holds_up
        )
        self._chunk_records = min(_CHUNK_RECORDS, settings.batch_max_records)
        self.holds_up = holds_up
        self._stands: dict[int, Stand] = {}
        self._assigned_at = 0.0

    @property
    def topic(self) -> str:
        """The broker's name of the topic."""
        return self._topic

    @property
    def is_full(self) -> bool:
        """Whether enough waits; what is fetched all the same is taken, but must then be little."""
        return self._lanes.is_full

    async def add(self, app: faust.App, stream: Any, event: Any) -> None:  # noqa: ANN401
        """Take one fetched batch; returns at once unless too much waits."""
        weight = sum(len(record.value or b"") + _RECORD_BYTES for record in event.value)
        await self._lanes.add(event.message.partition, _Fetched(app, stream, event), weight)

    async def positions(self, app: faust.App, partitions: set[TP]) -> Mapping[TP, int]:
        """Stored positions for Faust to seek to, trying again while the former owner's transaction holds one of them."""
        wanted = sorted((tp for tp in partitions if tp.topic == self._topic), key=lambda tp: tp.partition)
        while True:
            try:
                return await self._assigned_positions(app, wanted)
            except Exception as exc:
                if not is_transient(exc):
                    raise
                log.warning("positions.retried", error=repr(exc)[:200])
                await asyncio.sleep(_POSITION_RETRY_S)

    async def _assigned_positions(self, app: faust.App, wanted: Sequence[TP]) -> Mapping[TP, int]:
        """The topic's identity is asked for anew at every assignment."""
        identities = await asyncio.to_thread(kafka.describe, self._settings.kafka_bootstrap, [self._topic])
        if self._topic not in identities:
            msg = f"topic {self._topic} is not there any more; create it (`weir worker` does at its start)"
            raise Transient(msg)
        starts = await app.consumer.earliest_offsets(*wanted)
        stands = await load_positions(
            self._pool,
            self._topic,
            identities[self._topic].identity,
            {tp.partition: int(starts[tp]) for tp in wanted},
        )
        self._stands, self._assigned_at = stands, monotonic_s()
        log.info(
            "partitions.assigned",
            topic=self._topic,
            positions={number: stand.next_offset for number, stand in stands.items()},
        )
        return {tp: stands[tp.partition].next_offset for tp in wanted}

    async def log_ends(self) -> LogEnds:
        """The true end of every partition of the topic as the broker answers now."""
        ends = await self.log_ends_of(self._topic)
        if ends is None:
            msg = f"topic {self._topic} is not there; create it (`weir worker` does at its start)"
            raise Transient(msg)
        return ends

    async def log_ends_of(self, topic: str) -> LogEnds | None:
        """The same of any topic of the broker; None if it is not there.

        Not `app.consumer.highwaters`: the embedded broker answers that with too little where the last batch has several
        records, which would make silence of what is just being fetched.
        """
        return await asyncio.to_thread(ask_for_ends, self._settings.kafka_bootstrap, topic)

    def lags(self, app: faust.App) -> list[dict[str, object]]:
        """Stored position and log end of each partition held, for the heartbeat; the end is the last fetch's own."""
        assigned = {tp.partition for tp in app.consumer.assignment() if tp.topic == self._topic}
        return [
            {
                "topic": self._topic,
                "partition": number,
                "identity": stand.identity,
                "next_offset": stand.next_offset,
                "end_offset": max(stand.next_offset, app.consumer.highwater(TP(self._topic, number)) or 0),
                "held_s": round(monotonic_s() - self._assigned_at, 3),
            }
            for number, stand in sorted(self._stands.items())
            if number in assigned
        ]

    async def standings(self, app: faust.App) -> Mapping[int, Standing] | None:
        """Where the partitions stand that this worker holds; None while they change, or while the topic is passed over."""
        if app.rebalancing or (self.is_full and not self.holds_up):
            return None
        held = {tp for tp in app.consumer.assignment() if tp.topic == self._topic and tp.partition in self._stands}
        return {tp.partition: await self._standing(app.consumer, tp) for tp in held}

    async def _standing(self, consumer: RecordBatchConsumer, tp: TP) -> Standing:
        try:
            position = await asyncio.wait_for(consumer.position(tp), _POSITION_TIMEOUT_S)
        except (TimeoutError, IllegalStateError):  # still sought, or just lost
            position = None
        committed = self._stands[tp.partition].next_offset
        return Standing(committed, consumer.handed_over.get(tp, 0), position, self._lanes.is_busy(tp.partition))

    async def _work_off_fetched(self, partition: int, fetched: Sequence[_Fetched]) -> None:
        """Commit, then acknowledge; a failure ends the process, for Faust would acknowledge and go on."""
        try:
            for records in joined([one.event.value for one in fetched]):
                await self._work_off(fetched[0].app, partition, records)
            for one in fetched:
                await one.stream.ack(one.event)
        except Exception as exc:
            self._on_failure(exc)

    async def _work_off(self, app: faust.App, partition: int, records: Sequence[Record]) -> None:
        """Commit fetched records in transactions that continue the stored position."""
        while (stand := self._stands.get(partition)) is not None:
            if stand.next_offset > records[0].offset:
                stand = await self._after_truncation(app, partition, stand, records[0].offset)
                records = [record for record in records if record.offset >= stand.next_offset]
            if not records:
                return
            end = chunk_end(records, self._chunk_records)
            batch = RecordBatch(self._topic, partition, stand.identity, stand.next_offset, records[:end])
            try:
                await self._commit(app, batch)
            except Fenced:
                await self._adopt_moved_position(batch)

    async def _after_truncation(self, app: faust.App, partition: int, stand: Stand, offset: int) -> Stand:
        """Records before the position normally just arrived twice; but a log that ends before it has lost its tail.

        Then what it holds is read again from `offset`, its start: identities make that harmless, skipping would not be.
        The end is the fetch's own, because the embedded broker answers a question for its latest offset too low.
        """
        end = app.consumer.highwater(TP(self._topic, partition))
        if end is not None and end < stand.next_offset:
            stand = await reread_truncated_log(self._pool, self._topic, partition, stand, end, offset)
            self._stands[partition] = stand
        return stand

    async def _adopt_moved_position(self, batch: RecordBatch) -> None:
        """Right after an assignment the former owner's last commit may still move the position: go on behind it.

        Later on, or when the position did not simply move forward, this worker is the one that lost the partition.

        Raises:
            Fenced: end this process.
        """
        fresh = monotonic_s() - self._assigned_at < self._settings.consumer_session_timeout_s / 2
        moved = await self._pipeline.stored_offset(batch) if fresh else None
        if moved is None or moved <= batch.expected:
            msg = f"{batch.topic}/{batch.partition} was taken over by another worker; this one ends"
            raise Fenced(msg)
        log.info("position.adopted", partition=batch.partition, from_offset=batch.expected, to_offset=moved)
        self._stands[batch.partition] = Stand(batch.identity, moved)

    async def _commit(self, app: faust.App, batch: RecordBatch) -> None:
        if batch.records[0].offset > batch.expected:
            await self._require_no_loss(app, batch)
        started = monotonic_s()
        report = await self._process(batch)
        self._stands[batch.partition] = Stand(batch.identity, batch.position.next)
        if report is not None:
            self._count(batch, report, monotonic_s() - started)

    async def _require_no_loss(self, app: faust.App, batch: RecordBatch) -> None:
        """Holes are normal where a producer uses transactions; a log that starts later has lost data."""
        partition = TP(batch.topic, batch.partition)
        starts = await app.consumer.earliest_offsets(partition)
        if starts[partition] > batch.expected:
            msg = (
                f"{batch.topic}/{batch.partition} starts at offset {starts[partition]}, expected {batch.expected}:"
                " data was lost; starting again to write the gap down"
            )
            raise Transient(msg)

    async def _process(self, batch: RecordBatch) -> Report | None:
        """Commit a batch, trying again while only the surroundings fail.

        Returns:
            None when an earlier try had committed although its connection broke.
        """
        failures = 0
        while True:
            try:
                return await self._pipeline.process(batch)
            except Fenced:
                if failures and await self._pipeline.stored_offset(batch) == batch.position.next:
                    return None
                raise
            except Exception as exc:
                if not is_transient(exc):
                    raise
                failures += 1
                self._counters.batch_failures_total += 1
                log.warning("batch.retried", partition=batch.partition, failures=failures, error=repr(exc)[:200])
                if isinstance(exc, QueryCanceled):
                    await refresh_statistics(self._pool)
                await asyncio.sleep(random.uniform(0.05, min(_MAX_BACKOFF_S, 0.2 * 2**failures)))  # noqa: S311

    def _count(self, batch: RecordBatch, report: Report, seconds: float) -> None:
        counters = self._counters
        counters.batches_total += 1
        counters.records_total += report.records
        report.count(counters)
        counters.refusals_total += report.refused
        counters.batch_processing_seconds += seconds
        for device_id in report.flooding:
            log.error("refusals.flood", device_id=device_id, partition=batch.partition)
        log.info(
            "batch.committed",
            topic=batch.topic,
            partition=batch.partition,
            next_offset=batch.position.next,
            records=report.records,
            refused=report.refused,
            **report.shown(),
            duration_ms=round(seconds * 1000, 1),
        )
