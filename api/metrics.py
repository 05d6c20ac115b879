"""`/metrics` in Prometheus' text format: this process, and what workers, positions and alarms say in the database.

No tenant, device or sensor is ever in a label. What comes from the database is read at each scrape, at most once in two
seconds; while it cannot be read, `weir_database_up` is 0 and this process's own numbers are still there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from core.postgres import Pool
from sinks.timescale import operations

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_TOTAL = "_total"


@dataclass(frozen=True, slots=True)
class StreamState:
    """What the database says about the stream at one moment."""

    heartbeats: list[operations.Heartbeat]
    positions: list[operations.Position]
    refusals: list[tuple[str, int, int]]
    alarms: dict[str, int]


async def read_stream_state(pool: Pool) -> StreamState:
    """Read everything in one go."""
    async with pool.connection() as connection:
        return StreamState(
            await operations.heartbeats(connection),
            await operations.positions(connection),
            await operations.refusals_by_reason(connection),
            await operations.open_alarms(connection),
        )


class Metrics:
    """Counters of this process, in a registry of their own."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call] # a second series for each, which nobody asks for
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._requests = Histogram(
            "weir_api_request_seconds",
            "Time from a request's head to the end of its response.",
            ("route", "method", "status"),
            buckets=_BUCKETS_S,
            registry=self._registry,
        )
        self._published = Counter(
            "weir_api_published_readings", "Well-formed readings handed to Kafka.", registry=self._registry
        )

        self.live_connections = Gauge("weir_live_connections", "Open live connections.", registry=self._registry)
        self.live_closed = Counter(
            "weir_live_closed_connections",
            "Live connections that ended, by close code.",
            ("code",),
            registry=self._registry,
        )
        self.live_seconds = Counter(
            "weir_live_connected_seconds", "Time that ended live connections lasted.", registry=self._registry
        )

    def observe_request(self, route: str, method: str, status: int, seconds: float) -> None:
        """A request was answered; status 0: the client left before."""
        self._requests.labels(route, _known_method(method), str(status)).observe(seconds)

    def count_published(self, readings: int) -> None:
        """Readings were handed to Kafka."""
        self._published.inc(readings)

    def expose(self, state: StreamState | None) -> bytes:
        """Everything as text; `state` None when the database does not answer."""
        registry = CollectorRegistry()
        registry.register(_Families(stream_families(state)))
        return generate_latest(self._registry) + generate_latest(registry)


def _known_method(method: str) -> str:
    """Clients invent methods; each would be a time series."""
    return method if method in {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"} else "other"


class _Families(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterable[Metric]:
        return self._families


def stream_families(state: StreamState | None) -> Iterator[Metric]:
    """The database's part of the exposition."""
    yield GaugeMetricFamily("weir_database_up", "Whether the database answers.", value=float(state is not None))
    if state is None:
        return
    yield from _worker_families(state.heartbeats)
    yield from _partition_families(state)
    kept = GaugeMetricFamily("weir_refusals_recorded", "Refusals on record.", labels=["reason"])
    for reason, refused, _ in state.refusals:
        kept.add_metric([reason], refused)
    yield kept
    letters = GaugeMetricFamily("weir_dead_letters", "Refusals on record with their bytes.", labels=["reason"])
    for reason, _, with_bytes in state.refusals:
        letters.add_metric([reason], with_bytes)
    yield letters
    alarms = GaugeMetricFamily("weir_operator_alarms_open", "Open operator alarms.", labels=["kind"])
    for kind, count in state.alarms.items():
        alarms.add_metric([kind], count)
    yield alarms


def _worker_families(heartbeats: list[operations.Heartbeat]) -> Iterator[Metric]:
    ages = GaugeMetricFamily("weir_worker_heartbeat_age_seconds", "Since a worker last reported.", labels=["worker"])
    for beat in heartbeats:
        ages.add_metric([beat.worker_id], beat.age_s)
    yield ages
    for name in sorted({name for beat in heartbeats for name in beat.metrics if name.isidentifier()}):
        counts = name.endswith(_TOTAL)
        kind = CounterMetricFamily if counts else GaugeMetricFamily
        family = kind(
            f"weir_worker_{name.removesuffix(_TOTAL)}", "Of each worker, since it started.", labels=["worker"]
        )
        for beat in heartbeats:
            if name in beat.metrics:
                family.add_metric([beat.worker_id], beat.metrics[name])
        yield family


def _partition_families(state: StreamState) -> Iterator[Metric]:
    labels = ["topic", "partition"]
    stands = GaugeMetricFamily(
        "weir_stream_position_next_offset", "Next offset to be read, as committed.", labels=labels
    )
    for position in state.positions:
        stands.add_metric([position.topic, str(position.partition)], position.next_offset)
    yield stands
    lags = GaugeMetricFamily("weir_stream_lag_records", "Records between position and end of log.", labels=labels)
    for (topic, partition), lag in lags_of(state.heartbeats).items():
        lags.add_metric([topic, str(partition)], lag)
    yield lags


def lags_of(heartbeats: list[operations.Heartbeat]) -> dict[tuple[str, int], int]:
    """Lag by topic and partition, as the worker that reported last sees it."""
    return {
        (each.topic, each.partition): max(each.end_offset - each.next_offset, 0)
        for beat in sorted(heartbeats, key=lambda beat: -beat.age_s)
        for each in beat.partitions
        if each.end_offset is not None
    }
