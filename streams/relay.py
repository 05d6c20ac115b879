"""The outbox relay: publishes committed outbox rows to Kafka, at least once, in order per key.

One relay at a time holds the lease; the others stand by. A row is deleted only after the broker has acknowledged
its record, so a crash in between publishes it again: consumers tell repeats by the coordinates in the headers. A relay
that stood still while it was sending may repeat what it had in hand after newer records: consumers keep the higher version.

Changed usage waits in rows of many records, which go into whole Kafka batches: a batch of readings changes usage of as many
tenants as it has, and each record handed to the producer on its own costs ten times as much.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable
from functools import lru_cache
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from aiokafka.partitioner import DefaultPartitioner

from core.leases import Lease, hold
from core.metrics import WorkerCounters
from core.postgres import Connection, Pool, is_transient
from sinks.timescale import usage
from sinks.timescale.usage import UsageChanges

log = structlog.get_logger()

_LEASE = "outbox-relay"
_BATCH = 500
_IDLE_S = 0.25
_RETRY_S = 2.0
_MAX_REQUEST_BYTES = 8 * 1024 * 1024
# Refused frames have up to 1 MiB each: this many bytes, and one record, are in hand at once.
_BATCH_BYTES = 4 * 1024 * 1024
# Rows of changed usage in hand at once, and what one Kafka batch of them may have; brokers take 1 MiB.
_CHANGES = 4
_KAFKA_BATCH_BYTES = 256 * 1024
_JSON = [("content-type", b"application/json")]
_NEXT = """
SELECT outbox_id, topic, key, value, headers FROM (
    SELECT o.*, sum(coalesce(octet_length(o.value), 0)) OVER (ORDER BY o.outbox_id) - coalesce(octet_length(o.value), 0) AS before
    FROM (SELECT * FROM weir.topic_outbox ORDER BY outbox_id LIMIT %s) o) q
WHERE q.before < %s ORDER BY outbox_id
"""


class Relay:
    """Runs until cancelled; survives the loss of the broker and of the database."""

    def __init__(self, pool: Pool, bootstrap: str, counters: WorkerCounters) -> None:
        self._pool = pool
        self._bootstrap = bootstrap
        self._counters = counters

    async def run(self) -> None:
        """Take turns at being the relay, forever."""
        while True:
            try:
                await hold(self._pool, _LEASE, self._relay_until_failure)
            except (KafkaError, OSError) as exc:
                log.warning("relay.broker_away", error=type(exc).__name__)
            except Exception as exc:
                if not is_transient(exc):
                    raise
                log.warning("relay.database_away", error=type(exc).__name__)
            await asyncio.sleep(_RETRY_S)

    async def _relay_until_failure(self, lease: Lease) -> None:
        producer = AIOKafkaProducer(
            bootstrap_servers=self._bootstrap.split(","),
            acks="all",
            max_request_size=_MAX_REQUEST_BYTES,
            max_batch_size=_KAFKA_BATCH_BYTES,
        )
        try:
            await producer.start()
            async with self._pool.connection() as connection:
                while True:
                    relayed = await self._relay_some(connection, producer, lease)
                    if not relayed + await self._relay_usage(connection, producer, lease):
                        await asyncio.sleep(_IDLE_S)
        finally:
            await producer.stop()

    async def _relay_some(self, connection: Connection, producer: AIOKafkaProducer, lease: Lease) -> int:
        cursor = await connection.execute(_NEXT, (_BATCH, _BATCH_BYTES))
        rows = await cursor.fetchall()
        if not rows:
            return 0
        lease.require_here()
        acknowledgements = [await self._send(producer, *row[1:]) for row in rows]
        await asyncio.gather(*acknowledgements)
        await connection.execute(
            "DELETE FROM weir.topic_outbox WHERE outbox_id = ANY (%s)", ([row[0] for row in rows],)
        )
        self._counters.relayed_records_total += len(rows)
        return len(rows)

    async def _relay_usage(self, connection: Connection, producer: AIOKafkaProducer, lease: Lease) -> int:
        changes = await usage.unpublished(connection, _CHANGES)
        if not changes:
            return 0
        lease.require_here()
        for topic in dict.fromkeys(change.topic for change in changes):
            await _publish(producer, topic, [change for change in changes if change.topic == topic])
        await usage.published(connection, changes)
        records = sum(len(change.tenant_ids) for change in changes)
        self._counters.relayed_records_total += records
        return records

    async def _send(
        self, producer: AIOKafkaProducer, topic: str, key: bytes | None, value: bytes | None, headers: list[list[str]]
    ) -> asyncio.Future[object]:
        decoded = [(name, base64.b64decode(text)) for name, text in headers]
        future = await producer.send(topic, value=value, key=key, headers=decoded)
        return asyncio.ensure_future(_acknowledged(producer, future, topic, key, value, decoded))


async def _acknowledged(
    producer: AIOKafkaProducer,
    future: asyncio.Future[object],
    topic: str,
    key: bytes | None,
    value: bytes | None,
    headers: list[tuple[str, bytes]],
) -> object:
    """Wait for the broker; a value too large for it is published without the value, which the database keeps."""
    try:
        return await future
    except MessageSizeTooLargeError:
        size = str(len(value or b"")).encode()
        return await producer.send_and_wait(
            topic, value=None, key=key, headers=[*headers, ("weir-value-omitted-bytes", size)]
        )


async def _publish(producer: AIOKafkaProducer, topic: str, changes: list[UsageChanges]) -> None:
    """Each record to the partition that any producer would choose for its key; those of a partition in order."""
    partitions = tuple(sorted(await producer.partitions_for(topic)))
    filling: dict[int, Any] = {}
    acknowledgements: list[Awaitable[object]] = []
    for change in changes:
        for key, value in change.records():
            partition = _partition_of(key, partitions)
            batch = filling.get(partition)
            if batch is None or batch.append(timestamp=None, key=key, value=value, headers=_JSON) is None:
                if batch is not None:
                    acknowledgements.append(await producer.send_batch(batch, topic, partition=partition))
                batch = filling[partition] = producer.create_batch()
                batch.append(timestamp=None, key=key, value=value, headers=_JSON)
    for partition, batch in filling.items():
        acknowledgements.append(await producer.send_batch(batch, topic, partition=partition))
    await asyncio.gather(*acknowledgements)


@lru_cache(maxsize=100_000)
def _partition_of(key: bytes, partitions: tuple[int, ...]) -> int:
    chosen: int = DefaultPartitioner()(key, partitions, partitions)
    return chosen
