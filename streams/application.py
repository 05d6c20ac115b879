"""The Faust application: an agent for each topic, our transport; no tables, no web server, no acknowledgement of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import faust
from faust.types import TP
from yarl import URL

from core.settings import Settings
from streams.intake import Intake
from streams.transport import RecordBatchTransport


class _Passthrough(faust.Schema):
    """Hands fetched records to the agent as they are: decoding belongs to the pipeline."""

    def loads_key(self, app: Any, message: Any, *, loads: Any = None, serializer: Any = None) -> None:  # noqa: ANN401
        """Batches have no key."""

    def loads_value(self, app: Any, message: Any, *, loads: Any = None, serializer: Any = None) -> Any:  # noqa: ANN401
        """The list of records."""
        return message.value


def build_application(settings: Settings, intakes: Mapping[str, Intake], folder: Path) -> faust.App:
    """The application that feeds these; not started yet.

    Args:
        settings: brokers, consumer group and limits.
        intakes: by the agent's name; each gets every fetched batch of its topic.
        folder: Faust makes a data folder even where it keeps no tables.
    """
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

    async def positions(partitions: set[TP]) -> Mapping[TP, int]:
        found: dict[TP, int] = {}
        for intake in intakes.values():
            found.update(await intake.positions(app, partitions))
        return found

    def full_topics() -> frozenset[str]:
        return frozenset(intake.topic for intake in intakes.values() if not intake.holds_up and intake.is_full)

    app.transport = RecordBatchTransport(
        brokers, app, asyncio.get_running_loop(), positions=positions, full_topics=full_topics
    )
    for name, intake in intakes.items():
        _add_agent(app, name, intake)
    return app


def _add_agent(app: faust.App, name: str, intake: Intake) -> None:
    async def take(stream: Any) -> AsyncIterator[None]:  # noqa: ANN401
        async for event in stream.noack().events():
            await intake.add(app, stream, event)
            yield

    channel = app.topic(intake.topic, schema=_Passthrough(), allow_empty=True)
    app.agent(channel, concurrency=1, name=name)(take)
