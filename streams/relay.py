"""The outbox relay: publishes committed outbox rows to Kafka, at least once, in order per key.

One relay at a time holds the lease; the others stand by. A row is deleted only after the broker has acknowledged
its record, so a crash in between publishes it again: consumers tell repeats by the coordinates in the headers. A relay
that stood still while it was sending may repeat what it had in hand after newer records: consumers keep the higher version.
"""

from __future__ import annotations

import asyncio
import base64

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from core.leases import Lease, hold
from core.metrics import WorkerCounters
from core.postgres import Connection, Pool, is_transient

log = structlog.get_logger()

_LEASE = "outbox-relay"
_BATCH = 500
_IDLE_S = 0.25
_RETRY_S = 2.0
_MAX_REQUEST_BYTES = 8 * 1024 * 1024
# Refused frames have up to 1 MiB each: this many bytes, and one record, are in hand at once.
_BATCH_BYTES = 4 * 1024 * 1024
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
            bootstrap_servers=self._bootstrap.split(","), acks="all", max_request_size=_MAX_REQUEST_BYTES
        )
        try:
            await producer.start()
            async with self._pool.connection() as connection:
                while True:
                    if not await self._relay_some(connection, producer, lease):
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
