"""Device records into Kafka for devices that do not speak it.

Border: one record in, an acknowledgement of all in-sync replicas out. What the record says is judged before, in
`api.ingest`, and again by the worker. The producer is made at the first record and anew after a failure: a broker that
was away, or came back empty, needs no restart. Missing topics are made before they are written to, since a broker that
makes them by itself would give them one partition.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, UnknownError, UnsupportedVersionError

from core.kafka import Topic, ensure_topics, topic_name
from schemas.errors import Reason, Rejected, Transient

log = structlog.get_logger()

# A record of 1 MiB with its key and headers.
_MAX_REQUEST_BYTES: Final = 2 * 1024 * 1024
_CLOSE_TIMEOUT_S: Final = 5.0
# How a broker answers that gives out no producer ids, as aiokafka asks for them (the embedded one among these).
_NO_PRODUCER_IDS: Final = (UnknownError, UnsupportedVersionError)

Headers = Sequence[tuple[str, bytes]]


class RecordPublisher:
    """A producer for the readings topic, idempotent where the broker can.

    Args:
        bootstrap: Kafka brokers, host:port separated by commas.
        prefix: of the topics' names.
        partitions: of topics that are made here.
        timeout_s: how long a record may take; a record that takes longer may still arrive, which harms nobody as
            readings are identified by (sensor, at, seq).
    """

    def __init__(self, bootstrap: str, prefix: str, partitions: int, timeout_s: float) -> None:
        self._bootstrap = bootstrap
        self._prefix = prefix
        self._partitions = partitions
        self._topic = topic_name(prefix, Topic.READINGS)
        self._timeout_s = timeout_s
        self._idempotent = True
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()

    async def publish(self, key: bytes, value: bytes, headers: Headers) -> None:
        """Send one record; returns once Kafka has it.

        Raises:
            Rejected: the broker does not take a record of this size.
            Transient: the broker is away or too slow.
        """
        producer = None
        try:
            async with asyncio.timeout(self._timeout_s):
                producer = await self._started()
                await producer.send_and_wait(self._topic, value=value, key=key, headers=list(headers))
        except MessageSizeTooLargeError as error:
            raise Rejected(Reason.TOO_LARGE, "the record is larger than the broker takes; send several") from error
        except (KafkaError, Transient, OSError, TimeoutError) as error:
            self._discard(producer)
            log.warning("publish.failed", error=type(error).__name__, topic=self._topic)
            msg = "Kafka did not take the record in time; send it again"
            raise Transient(msg) from error

    async def close(self) -> None:
        """Send what is under way, and stop."""
        self._discard(self._producer)
        if self._closing:
            await asyncio.gather(*self._closing)

    async def _started(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                try:
                    self._producer = await self._start()
                except _NO_PRODUCER_IDS:
                    if not self._idempotent:
                        raise
                    log.info("publish.not_idempotent", topic=self._topic)
                    self._idempotent = False
                    self._producer = await self._start()
            return self._producer

    async def _start(self) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(
            bootstrap_servers=self._bootstrap,
            acks="all",
            enable_idempotence=self._idempotent,
            max_request_size=_MAX_REQUEST_BYTES,
            request_timeout_ms=round(self._timeout_s * 1_000),
        )
        try:
            await producer.start()
            await asyncio.to_thread(ensure_topics, self._bootstrap, self._prefix, self._partitions)
        except BaseException:
            self._stop_later(producer)
            raise
        return producer

    def _discard(self, producer: AIOKafkaProducer | None) -> None:
        """Leave a producer to its end, unless another record has done so; the next record gets a new one."""
        if producer is not None and producer is self._producer:
            self._producer = None
            self._stop_later(producer)

    def _stop_later(self, producer: AIOKafkaProducer) -> None:
        task = asyncio.create_task(_stop(producer))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


async def _stop(producer: AIOKafkaProducer) -> None:
    failures = (KafkaError, OSError, TimeoutError)
    try:
        await asyncio.wait_for(producer.stop(), _CLOSE_TIMEOUT_S)
    except failures:
        # It waits to hand over what nobody takes. aiokafka has no other way to end its task and its connections.
        with contextlib.suppress(*failures, asyncio.CancelledError):
            await producer._sender.close()  # noqa: SLF001
        with contextlib.suppress(*failures):
            await asyncio.wait_for(producer.client.close(), _CLOSE_TIMEOUT_S)
