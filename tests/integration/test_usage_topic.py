"""Changed usage reaches its topic: a record a row and change, under its tenant's key, in order (INTERFACES §3)."""

from __future__ import annotations

import asyncio
import json
from contextlib import closing, suppress
from typing import Any

import pytest
from aiokafka.partitioner import DefaultPartitioner
from kafka import KafkaConsumer

from core.metrics import WorkerCounters
from core.postgres import DatabaseRole, open_pool
from schemas.usage import HOUR_MS, Meter, UsageIncrement, usage_increments
from sinks.timescale import usage
from streams.relay import Relay
from tests.integration.conftest import PARTITIONS, Broker
from tests.integration.servers import Database, wait_until
from tests.integration.store_scene import ms

pytestmark = pytest.mark.integration

NOON = ms("2026-03-10T12:00")
TENANTS = [f"many_{number:03}" for number in range(300)]
# 7 200 records of some 150 bytes: more than rows of the outbox, and Kafka batches of a partition, may have.
HOURS = 24
ROWS = [UsageIncrement(tenant, Meter.READINGS, NOON + hour * HOUR_MS, 7) for hour in range(HOURS) for tenant in TENANTS]


def test_every_change_is_one_record_in_order_on_the_partition_that_any_producer_would_choose(
    database: Database, broker: Broker, topic_prefix: str
) -> None:
    topic = f"{topic_prefix}usage"
    database.query("INSERT INTO weir.tenant (tenant_id, name) SELECT unnest(%s::text[]), 'one of many'", TENANTS)
    asyncio.run(add_and_relay(database, broker, topic, [ROWS[:1000], ROWS]))
    records = consume(broker, topic, len(ROWS) + 1000)

    documents = [json.loads(record.value) for record in records]
    assert len(records) == len(ROWS) + 1000
    assert {record.headers[0] for record in records} == {("content-type", b"application/json")}
    assert all(
        record.key.decode() == document["tenant_id"] for record, document in zip(records, documents, strict=True)
    )
    partitions = range(PARTITIONS)
    assert all(record.partition == DefaultPartitioner()(record.key, partitions, partitions) for record in records)
    last: dict[tuple[str, str], int] = {}
    for document in documents:
        row = (document["tenant_id"], document["bucket_start"])
        assert document["revision"] == last.get(row, 0) + 1
        assert document["quantity"] == 7 * document["revision"]
        last[row] = document["revision"]
    assert len(last) == len(ROWS)


async def add_and_relay(database: Database, broker: Broker, topic: str, added: list[list[UsageIncrement]]) -> None:
    """Commit each of these, one after the other, and relay until nothing waits."""
    async with open_pool(database.writer_url, DatabaseRole.WRITER) as pool:
        for rows in added:
            async with pool.connection() as connection, connection.transaction():
                await usage.add(connection, usage_increments(rows), topic)
        relay = asyncio.create_task(Relay(pool, broker.bootstrap, WorkerCounters()).run())
        left = "SELECT count(*) FROM weir.usage_outbox"
        await asyncio.to_thread(wait_until, lambda: database.query(left) == [(0,)], 60, "an empty outbox")
        relay.cancel()
        with suppress(asyncio.CancelledError):
            await relay


def consume(broker: Broker, topic: str, count: int) -> list[Any]:
    """The records of a topic, each partition's in order, once there are so many."""
    with closing(
        KafkaConsumer(topic, bootstrap_servers=broker.bootstrap, auto_offset_reset="earliest", group_id=None)
    ) as consumer:
        found: list[Any] = []

        def poll() -> bool:
            found.extend(record for records in consumer.poll(200).values() for record in records)
            return len(found) >= count

        wait_until(poll, 60, f"{count} records on {topic}")
    return found
