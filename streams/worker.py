"""The worker process: waits for its servers, runs the streams and what goes with them, ends when anything fails.

Crash-only: a supervisor restarts it, the database says where to go on, so no memory outlives its truth. Beside the stream
run the outbox relay, the newest readings to viewers, the work that changed rules make, and the heartbeat of /readyz.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import faust
import structlog

from core import kafka
from core.clock import SystemClock
from core.kafka import Topic, topic_name
from core.metrics import WorkerCounters
from core.postgres import DatabaseRole, Pool, is_transient, open_pool, require_connection
from core.secrets import Vault
from core.settings import Settings
from schemas.errors import WeirError
from sinks.dead_letters import Throttle
from sinks.objects import open_object_store
from sinks.timescale.catalog import Catalog
from sinks.timescale.partitions import PartitionKeeper
from sinks.timescale.schema_version import require_schema
from sinks.timescale.stalled_copies import end_stalled_copies
from streams.application import build_application
from streams.heartbeat import Heartbeat
from streams.intake import Intake
from streams.live import LiveReadings
from streams.metering import MeterReadings
from streams.readings import ReadingsPipeline
from streams.relay import Relay
from streams.rules.effect import EvaluateRules
from streams.rules.growth import GrowthTeller
from streams.rules.silence import SilenceWatch
from streams.rules.work import RuleWorker
from streams.scan_frames import ScanFramesPipeline
from streams.stalls import StallWatch

log = structlog.get_logger()

_HEARTBEAT_S = 2.0
_START_RETRY_S = 2.0
_GC_THRESHOLD = 200_000
# A stopped or hung worker holds its position row no longer than this; a healthy transaction takes a tenth of a second.
_TRANSACTION_LIMIT_MS = 10_000
_CRASH_CHECK_S = 0.2
_STOP_TIMEOUT_S = 8.0
EXIT_FAILED = 70


class Worker:
    """One worker process reading the devices' topics."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._clock = SystemClock()
        self._topic = topic_name(settings.topic_prefix, Topic.READINGS)
        self._frames_topic = topic_name(settings.topic_prefix, Topic.SCAN_FRAMES)
        self._alerts_topic = topic_name(settings.topic_prefix, Topic.ALERTS)
        self._worker_id = settings.worker_id or f"{socket.gethostname()}-{os.getpid()}"
        self._counters = WorkerCounters()
        self._fatal: asyncio.Future[BaseException] | None = None

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
            transaction_timeout_ms=6 * _TRANSACTION_LIMIT_MS,
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
        live = LiveReadings(pool)
        readings = Intake(self._settings, self._topic, pool, self._pipeline(pool, live), self._counters, self._fail)
        # Readings and their alarms never wait for frames: a full store of frames is passed over by the fetcher.
        frames = Intake(
            self._settings,
            self._frames_topic,
            pool,
            self._frames_pipeline(pool),
            self._counters,
            self._fail,
            holds_up=False,
        )
        with tempfile.TemporaryDirectory(prefix="weir-worker-") as folder:
            app = build_application(self._settings, {"readings": readings, "scan-frames": frames}, Path(folder))
            return await self._run_application(app, (readings, frames), live, pool, stop)

    async def _run_application(
        self, app: faust.App, intakes: tuple[Intake, Intake], live: LiveReadings, pool: Pool, stop: asyncio.Event
    ) -> int:
        assert self._fatal is not None  # noqa: S101 - set by run
        background = [asyncio.create_task(self._free_partitions(pool))]
        await app.start()
        # Its life counts from the first assignment: one that only waits for partitions has shown nothing yet.
        heartbeat = Heartbeat(pool, self._worker_id, datetime.now(UTC))
        background += [
            asyncio.create_task(Relay(pool, self._settings.kafka_bootstrap, self._counters).run()),
            asyncio.create_task(self._beat(heartbeat, app, intakes)),
            asyncio.create_task(live.run()),
            asyncio.create_task(_raise_crash(app)),
            *(asyncio.create_task(self._stall_watch(app, intake).run()) for intake in intakes),
            asyncio.create_task(RuleWorker(pool, self._clock, self._alerts_topic).run()),
            asyncio.create_task(GrowthTeller(pool, self._clock, self._alerts_topic).run()),
            asyncio.create_task(
                SilenceWatch(pool, self._clock, self._topic, self._alerts_topic, intakes[0].log_ends_of).run()
            ),
        ]
        _calm_garbage_collector()
        log.info("worker.started", worker_id=self._worker_id, topic=self._topic)
        watched: set[asyncio.Future[Any]] = {asyncio.create_task(stop.wait()), self._fatal, *background}
        done, _ = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
        failure = next((_failure_of(future) for future in done if _failure_of(future) is not None), None)
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        await self._stop(app, heartbeat, intakes, failed=failure is not None)
        if failure is not None:
            log.error("worker.failed", error=repr(failure), exc_info=failure)
        return 0 if failure is None else EXIT_FAILED

    async def _stop(self, app: faust.App, heartbeat: Heartbeat, intakes: tuple[Intake, ...], *, failed: bool) -> None:
        try:
            if failed:  # at once: nobody should take this worker for ready while it stops
                await heartbeat.end(failed=True)
            else:  # however short its life was: what a killed one said of its partitions ends with it
                await self._beat_once(heartbeat, app, intakes)
            await asyncio.wait_for(app.stop(), _STOP_TIMEOUT_S)
            if not failed:
                await heartbeat.end(failed=False)
        except Exception as exc:
            log.warning("worker.unclean_stop", error=type(exc).__name__)

    def _catalog(self, pool: Pool) -> Catalog:
        return Catalog(pool, Vault.from_secret(self._settings.secret_key.get_secret_value()), self._clock)

    def _throttle(self) -> Throttle:
        settings = self._settings
        return Throttle(
            settings.refusals_kept_per_minute, settings.refusals_sampled_every, settings.refusals_alarm_per_minute
        )

    def _frames_pipeline(self, pool: Pool) -> ScanFramesPipeline:
        return ScanFramesPipeline(
            pool=pool,
            catalog=self._catalog(pool),
            open_objects=lambda: open_object_store(self._settings),
            throttle=self._throttle(),
            clock=self._clock,
            dead_letter_topic=topic_name(self._settings.topic_prefix, Topic.DEAD_LETTERS),
        )

    def _pipeline(self, pool: Pool, live: LiveReadings) -> ReadingsPipeline:
        settings = self._settings
        return ReadingsPipeline(
            pool=pool,
            catalog=self._catalog(pool),
            partitions=PartitionKeeper(pool),
            throttle=self._throttle(),
            clock=self._clock,
            dead_letter_topic=topic_name(settings.topic_prefix, Topic.DEAD_LETTERS),
            max_sensors_per_device=settings.max_sensors_per_device,
            # Usage last: all batches of a tenant wait for its row.
            effects=(
                EvaluateRules(self._alerts_topic),
                MeterReadings(topic_name(settings.topic_prefix, Topic.USAGE)),
            ),
            committed=live.offer,
        )

    def _fail(self, error: BaseException) -> None:
        if self._fatal is not None and not self._fatal.done():
            self._fatal.set_result(error)

    def _stall_watch(self, app: faust.App, intake: Intake) -> StallWatch:
        return StallWatch(self._settings.worker_stall_s, lambda: intake.standings(app), intake.log_ends)

    async def _free_partitions(self, pool: Pool) -> None:
        """Free what frozen workers hold; already before the first assignment, which may wait for just that."""
        while True:
            try:
                for pid in await end_stalled_copies(pool, _TRANSACTION_LIMIT_MS / 1000):
                    log.warning("worker.stalled_copy_ended", server_process=pid)
            except Exception as exc:
                if not is_transient(exc):
                    raise
            await asyncio.sleep(_HEARTBEAT_S)

    async def _beat(self, heartbeat: Heartbeat, app: faust.App, intakes: tuple[Intake, ...]) -> None:
        """Tell /readyz and /metrics about this worker."""
        while True:
            try:
                await self._beat_once(heartbeat, app, intakes)
            except Exception as exc:
                if not is_transient(exc):
                    raise
            await asyncio.sleep(_HEARTBEAT_S)

    async def _beat_once(self, heartbeat: Heartbeat, app: faust.App, intakes: tuple[Intake, ...]) -> None:
        lags = [lag for intake in intakes for lag in intake.lags(app)]
        await heartbeat.beat(lags, self._counters.as_dict())


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
