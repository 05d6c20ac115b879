"""The worker process: Faust feeds record batches, each becomes one transaction, failures end the process.

Crash-only: a supervisor restarts it, the database says where to go on. What passes by itself (a lost connection, a
deadlock) is retried in place with the same batch; another worker having moved the position (`Fenced`), or anything
unexpected, ends this process so that no memory outlives its truth.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import json
import os
import random
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import faust
import structlog
from faust.types import TP
from yarl import URL

from core import kafka
from core.clock import SystemClock, monotonic_s
from core.kafka import Topic, topic_name
from core.metrics import WorkerCounters
from core.postgres import DatabaseRole, Pool, is_transient, open_pool, require_connection
from core.secrets import Vault
from core.settings import Settings
from schemas.errors import Transient, WeirError
from sinks.dead_letters import Record, Throttle
from sinks.timescale.catalog import Catalog
from sinks.timescale.partitions import PartitionKeeper
from sinks.timescale.schema_version import require_schema
from sinks.timescale.writer import Fenced
from streams.lanes import Lanes
from streams.positions import Stand, load_positions, reread_truncated_log
from streams.readings import BatchReport, MeterReadings, ReadingsPipeline, RecordBatch
from streams.relay import Relay
from streams.rules.effect import EvaluateRules
from streams.rules.work import RuleWorker
from streams.transport import RecordBatchTransport

log = structlog.get_logger()

# One transaction: at most this many records and value bytes, so that it stays well under a second.
_CHUNK_RECORDS = 10_000
_CHUNK_BYTES = 2 * 1024 * 1024
_HEARTBEAT_S = 2.0
_START_RETRY_S = 2.0
_POSITION_RETRY_S = 0.5
_GC_THRESHOLD = 200_000
# One computes while the database works for the other; more would only add memory.
_CONCURRENT_PARTITIONS = 2
# A stopped or hung worker holds its position row no longer than this; a healthy transaction takes a tenth of a second.
_TRANSACTION_LIMIT_MS = 10_000
_CRASH_CHECK_S = 0.2
_STOP_TIMEOUT_S = 8.0
_MAX_BACKOFF_S = 5.0
EXIT_FAILED = 70


class _Passthrough(faust.Schema):
    """Hands fetched records to the agent as they are: decoding belongs to the pipeline."""

    def loads_key(self, app: Any, message: Any, *, loads: Any = None, serializer: Any = None) -> None:  # noqa: ANN401
        """Batches have no key."""

    def loads_value(self, app: Any, message: Any, *, loads: Any = None, serializer: Any = None) -> Any:  # noqa: ANN401
        """The list of records."""
        return message.value


class Worker:
    """One worker process reading the `readings` topic."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._clock = SystemClock()
        self._topic = topic_name(settings.topic_prefix, Topic.READINGS)
        self._alerts_topic = topic_name(settings.topic_prefix, Topic.ALERTS)
        self._worker_id = settings.worker_id or f"{socket.gethostname()}-{os.getpid()}"
        self._counters = WorkerCounters()
        self._lanes = Lanes(_CONCURRENT_PARTITIONS)
        self._stands: dict[int, Stand] = {}
        self._assigned_at = 0.0
        self._fatal: asyncio.Future[BaseException] | None = None
        self._started_at = datetime.now(UTC)

    async def run(self) -> int:
        """Work until SIGTERM or SIGINT (returns 0) or a failure (returns EXIT_FAILED)."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        self._fatal = loop.create_future()
        pool = open_pool(
            self._settings.database_url.get_secret_value(),
            DatabaseRole.WRITER,
            size=self._settings.database_pool_size,
            statement_timeout_ms=min(self._settings.database_statement_timeout_ms, _TRANSACTION_LIMIT_MS),
            idle_in_transaction_timeout_ms=_TRANSACTION_LIMIT_MS // 2,
        )
        async with pool:
            await _first_of(self._wait_for_servers(pool), stop)
            if stop.is_set():
                return 0
            return await self._work(pool, stop)

    async def _wait_for_servers(self, pool: Pool) -> None:
        """Come up as soon as database, schema, broker and topic are there; say what is missing until then."""
        while True:
            try:
                await require_connection(self._settings.database_url.get_secret_value())
                async with pool.connection() as connection:
                    await require_schema(connection)
                await asyncio.to_thread(
                    kafka.ensure_topics,
                    self._settings.kafka_bootstrap,
                    self._settings.topic_prefix,
                    self._settings.topic_partitions,
                )
            except WeirError as exc:
                log.warning("worker.waiting", problem=str(exc))
            except Exception as exc:
                if not is_transient(exc):
                    raise
                log.warning("worker.waiting", problem=f"the database does not answer ({type(exc).__name__})")
            else:
                return
            await asyncio.sleep(_START_RETRY_S)

    async def _work(self, pool: Pool, stop: asyncio.Event) -> int:
        # Faust makes a data folder even where it keeps no tables; it goes with the process.
        with tempfile.TemporaryDirectory(prefix="weir-worker-") as folder:
            return await self._run_application(self._application(pool, Path(folder)), pool, stop)

    async def _run_application(self, app: faust.App, pool: Pool, stop: asyncio.Event) -> int:
        assert self._fatal is not None  # noqa: S101 - set by run
        await app.start()
        background = [
            asyncio.create_task(Relay(pool, self._settings.kafka_bootstrap, self._counters).run()),
            asyncio.create_task(self._beat(pool, app)),
            asyncio.create_task(_raise_crash(app)),
            asyncio.create_task(RuleWorker(pool, self._clock, self._alerts_topic).run()),
        ]
        _calm_garbage_collector()
        log.info("worker.started", worker_id=self._worker_id, topic=self._topic)
        watched: set[asyncio.Future[Any]] = {asyncio.create_task(stop.wait()), self._fatal, *background}
        done, _ = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
        failure = next((_failure_of(future) for future in done if _failure_of(future) is not None), None)
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        await self._stop(app, pool)
        if failure is not None:
            log.error("worker.failed", error=repr(failure), exc_info=failure)
        return 0 if failure is None else EXIT_FAILED

    async def _stop(self, app: faust.App, pool: Pool) -> None:
        try:
            await asyncio.wait_for(app.stop(), _STOP_TIMEOUT_S)
            async with pool.connection(timeout=1.0) as connection:
                await connection.execute("DELETE FROM weir.worker_heartbeat WHERE worker_id = %s", (self._worker_id,))
        except Exception as exc:
            log.warning("worker.unclean_stop", error=type(exc).__name__)

    def _application(self, pool: Pool, folder: Path) -> faust.App:
        settings = self._settings
        brokers = [URL(f"kafka://{server}") for server in settings.kafka_bootstrap.split(",")]
        app = faust.App(
            f"{settings.topic_prefix}{settings.consumer_group}",
            broker=brokers,
            store="memory://",
            datadir=folder,
            web_enabled=False,
            topic_allow_declare=False,
            topic_disable_leader=True,
            broker_max_poll_records=settings.batch_max_records,
            broker_max_poll_interval=300.0,
            broker_session_timeout=settings.consumer_session_timeout_s,
            broker_heartbeat_interval=settings.consumer_session_timeout_s / 4,
            broker_commit_every=1_000_000,
            broker_commit_interval=2.0,
            broker_check_crcs=False,
            consumer_max_fetch_size=settings.consumer_fetch_max_bytes,
            consumer_metadata_max_age_ms=30_000,
            stream_buffer_maxsize=2,
            # Waiting for in-flight batches at a rebalance can wait for ever; the fence makes it needless.
            stream_wait_empty=False,
        )
        app.transport = RecordBatchTransport(
            brokers,
            app,
            asyncio.get_running_loop(),
            positions=lambda partitions: self._positions(pool, app, partitions),
        )
        self._add_agent(app, self._pipeline(pool))
        return app

    def _pipeline(self, pool: Pool) -> ReadingsPipeline:
        settings = self._settings
        return ReadingsPipeline(
            pool=pool,
            catalog=Catalog(pool, Vault.from_secret(settings.secret_key.get_secret_value()), self._clock),
            partitions=PartitionKeeper(pool),
            throttle=Throttle(
                settings.refusals_kept_per_minute, settings.refusals_sampled_every, settings.refusals_alarm_per_minute
            ),
            clock=self._clock,
            dead_letter_topic=topic_name(settings.topic_prefix, Topic.DEAD_LETTERS),
            max_sensors_per_device=settings.max_sensors_per_device,
            effects=(MeterReadings(), EvaluateRules(self._alerts_topic)),
        )

    def _add_agent(self, app: faust.App, pipeline: ReadingsPipeline) -> None:
        async def readings(stream: Any) -> AsyncIterator[None]:  # noqa: ANN401
            async for event in stream.noack().events():
                work = functools.partial(self._work_off_event, app, pipeline, stream, event)
                await self._lanes.add(event.message.partition, work)
                yield

        topic = app.topic(self._topic, schema=_Passthrough(), allow_empty=True)
        app.agent(topic, concurrency=1, name="readings")(readings)

    async def _work_off_event(self, app: faust.App, pipeline: ReadingsPipeline, stream: Any, event: Any) -> None:  # noqa: ANN401
        """Commit, then acknowledge; a failure ends the process, for Faust would acknowledge and go on."""
        try:
            await self._work_off(app, pipeline, event.message.partition, event.value)
            await stream.ack(event)
        except Exception as exc:
            self._fail(exc)

    def _fail(self, error: BaseException) -> None:
        if self._fatal is not None and not self._fatal.done():
            self._fatal.set_result(error)

    async def _work_off(
        self, app: faust.App, pipeline: ReadingsPipeline, partition: int, records: Sequence[Record]
    ) -> None:
        """Commit fetched records in transactions that continue the stored position."""
        while (stand := self._stands.get(partition)) is not None:
            if stand.next_offset > records[0].offset:
                stand = await self._after_truncation(app, pipeline, partition, stand, records[0].offset)
                records = [record for record in records if record.offset >= stand.next_offset]
            if not records:
                return
            end = _chunk_end(records)
            batch = RecordBatch(self._topic, partition, stand.identity, stand.next_offset, records[:end])
            try:
                await self._commit(app, pipeline, batch)
            except Fenced:
                await self._adopt_moved_position(pipeline, batch)

    async def _after_truncation(
        self, app: faust.App, pipeline: ReadingsPipeline, partition: int, stand: Stand, offset: int
    ) -> Stand:
        """Records before the position normally just arrived twice; but a log that ends before it has lost its tail.

        Then what it holds is read again from `offset`, its start: identities make that harmless, skipping would not be.
        The end is the fetch's own, because the embedded broker answers a question for its latest offset too low.
        """
        end = app.consumer.highwater(TP(self._topic, partition))
        if end is not None and end < stand.next_offset:
            stand = await reread_truncated_log(pipeline.pool, self._topic, partition, stand, end, offset)
            self._stands[partition] = stand
        return stand

    async def _adopt_moved_position(self, pipeline: ReadingsPipeline, batch: RecordBatch) -> None:
        """Right after an assignment the former owner's last commit may still move the position: go on behind it.

        Later on, or when the position did not simply move forward, this worker is the one that lost the partition.

        Raises:
            Fenced: end this process.
        """
        fresh = monotonic_s() - self._assigned_at < self._settings.consumer_session_timeout_s / 2
        moved = await pipeline.stored_offset(batch) if fresh else None
        if moved is None or moved <= batch.expected:
            msg = f"{batch.topic}/{batch.partition} was taken over by another worker; this one ends"
            raise Fenced(msg)
        log.info("position.adopted", partition=batch.partition, from_offset=batch.expected, to_offset=moved)
        self._stands[batch.partition] = Stand(batch.identity, moved)

    async def _commit(self, app: faust.App, pipeline: ReadingsPipeline, batch: RecordBatch) -> None:
        if batch.records[0].offset > batch.expected:
            await self._require_no_loss(app, batch)
        started = monotonic_s()
        report = await self._process(pipeline, batch)
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

    async def _process(self, pipeline: ReadingsPipeline, batch: RecordBatch) -> BatchReport | None:
        """Commit a batch, trying again while only the surroundings fail.

        Returns:
            None when an earlier try had committed although its connection broke.
        """
        failures = 0
        while True:
            try:
                return await pipeline.process(batch)
            except Fenced:
                if failures and await pipeline.stored_offset(batch) == batch.position.next:
                    return None
                raise
            except Exception as exc:
                if not is_transient(exc):
                    raise
                failures += 1
                self._counters.batch_failures_total += 1
                log.warning("batch.retried", partition=batch.partition, failures=failures, error=repr(exc)[:200])
                await asyncio.sleep(random.uniform(0.05, min(_MAX_BACKOFF_S, 0.2 * 2**failures)))  # noqa: S311

    def _count(self, batch: RecordBatch, report: BatchReport, seconds: float) -> None:
        counters = self._counters
        counters.batches_total += 1
        counters.records_total += report.records
        counters.readings_inserted_total += report.inserted
        counters.readings_duplicate_total += report.duplicates
        counters.readings_replaced_total += report.replaced
        counters.readings_late_total += report.late
        counters.refusals_total += report.refused
        counters.batch_processing_seconds += seconds
        for device_id in report.flooding:
            log.error("refusals.flood", device_id=device_id, partition=batch.partition)
        log.info(
            "batch.committed",
            partition=batch.partition,
            next_offset=batch.position.next,
            records=report.records,
            inserted=report.inserted,
            duplicates=report.duplicates,
            refused=report.refused,
            late=report.late,
            duration_ms=round(seconds * 1000, 1),
        )

    async def _positions(self, pool: Pool, app: faust.App, partitions: set[TP]) -> Mapping[TP, int]:
        """Stored positions for Faust to seek to, trying again while the former owner's transaction holds one of them."""
        wanted = sorted((tp for tp in partitions if tp.topic == self._topic), key=lambda tp: tp.partition)
        while True:
            try:
                return await self._assigned_positions(pool, app, wanted)
            except Exception as exc:
                if not is_transient(exc):
                    raise
                log.warning("positions.retried", error=repr(exc)[:200])
                await asyncio.sleep(_POSITION_RETRY_S)

    async def _assigned_positions(self, pool: Pool, app: faust.App, wanted: Sequence[TP]) -> Mapping[TP, int]:
        """The topic's identity is asked for anew at every assignment."""
        identities = await asyncio.to_thread(kafka.describe, self._settings.kafka_bootstrap, [self._topic])
        if self._topic not in identities:
            msg = f"topic {self._topic} is not there any more; create it (`weir worker` does at its start)"
            raise Transient(msg)
        starts = await app.consumer.earliest_offsets(*wanted)
        stands = await load_positions(
            pool,
            self._topic,
            identities[self._topic].identity,
            {tp.partition: int(starts[tp]) for tp in wanted},
        )
        self._stands, self._assigned_at = stands, monotonic_s()
        log.info("partitions.assigned", positions={number: stand.next_offset for number, stand in stands.items()})
        return {tp: stands[tp.partition].next_offset for tp in wanted}

    async def _beat(self, pool: Pool, app: faust.App) -> None:
        """Tell /readyz and /metrics about this worker."""
        while True:
            try:
                async with pool.connection() as connection:
                    await connection.execute(
                        "INSERT INTO weir.worker_heartbeat (worker_id, started_at, beat_at, partitions, metrics)"
                        " VALUES (%s, %s, now(), %s, %s) ON CONFLICT (worker_id) DO UPDATE SET beat_at = now(),"
                        " started_at = EXCLUDED.started_at, partitions = EXCLUDED.partitions, metrics = EXCLUDED.metrics",
                        (
                            self._worker_id,
                            self._started_at,
                            json.dumps(self._lags(app)),
                            json.dumps(self._counters.as_dict()),
                        ),
                    )
            except Exception as exc:
                if not is_transient(exc):
                    raise
            await asyncio.sleep(_HEARTBEAT_S)

    def _lags(self, app: faust.App) -> list[dict[str, object]]:
        assigned = {tp.partition for tp in app.consumer.assignment() if tp.topic == self._topic}
        return [
            {
                "topic": self._topic,
                "partition": number,
                "next_offset": stand.next_offset,
                "end_offset": max(stand.next_offset, app.consumer.highwater(TP(self._topic, number)) or 0),
            }
            for number, stand in sorted(self._stands.items())
            if number in assigned
        ]


def _chunk_end(records: Sequence[Record]) -> int:
    """How many of the records one transaction takes: at least one."""
    size = 0
    for number, record in enumerate(records[:_CHUNK_RECORDS]):
        size += len(record.value or b"")
        if size > _CHUNK_BYTES and number:
            return number
    return min(len(records), _CHUNK_RECORDS)


def _calm_garbage_collector() -> None:
    """Records come and go by the ten thousand and hold no cycles: looking for cycles after every 700 cost a third of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD, 20, 20)


async def _raise_crash(app: faust.App) -> None:
    """Faust's services may crash one by one while the process lives on; here one crash ends it."""
    while not app.crashed:  # noqa: ASYNC110 - mode offers a flag, no public event
        await asyncio.sleep(_CRASH_CHECK_S)
    raise app.crash_reason or RuntimeError("a service of the stream crashed without a reason")


def _failure_of(future: asyncio.Future[Any]) -> BaseException | None:
    """The failure that a finished future stands for: its exception, or the exception that is its result."""
    if future.cancelled():
        return None
    error = future.exception()
    if error is not None:
        return error
    result = future.result()
    return result if isinstance(result, BaseException) else None


async def _first_of(work: Any, stop: asyncio.Event) -> None:  # noqa: ANN401
    """Run until the work is done or a stop is asked for."""
    task, stopped = asyncio.ensure_future(work), asyncio.create_task(stop.wait())
    await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not task.done():
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return
    task.result()
