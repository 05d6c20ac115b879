"""The broker that `weir up` and the tests bring along."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from kafka import KafkaConsumer, TopicPartition

from core.kafka import describe, ensure_topics
from ops.embedded.broker import EmbeddedBroker
from ops.embedded.first_topics import require_sound
from ops.embedded.lifeline import processes_marked, wait_until
from ops.embedded.ports import accepts_connections
from schemas.errors import Transient

pytestmark = pytest.mark.integration


def test_it_answers_kafka_clients_and_forgets_its_topics_when_it_dies(tmp_path: Path) -> None:
    with EmbeddedBroker(log_file=tmp_path / "broker.log") as broker:
        ensure_topics(broker.bootstrap, "", 4)
        before = describe(broker.bootstrap, ["readings"])["readings"]

        broker.kill()
        broker.start()

        assert describe(broker.bootstrap, ["readings"]) == {}
        ensure_topics(broker.bootstrap, "", 4)
        after = describe(broker.bootstrap, ["readings"])["readings"]
    assert before.partitions == after.partitions == 4
    assert before.identity != after.identity


def test_it_keeps_its_port_across_restarts() -> None:
    broker = EmbeddedBroker()
    broker.start()
    first = broker.bootstrap
    broker.stop()
    assert not accepts_connections(broker.port)

    with broker:
        assert broker.bootstrap == first
    with EmbeddedBroker(port=broker.port) as another:
        assert another.bootstrap == first


def test_it_takes_another_port_when_its_own_is_taken() -> None:
    with EmbeddedBroker() as one, EmbeddedBroker(port=one.port) as other:
        assert one.port != other.port


def test_its_port_lies_below_those_that_clients_are_given() -> None:
    broker = EmbeddedBroker()
    broker.prepare()

    # 32768 is where Linux begins to hand out ports to connecting clients.
    assert 15_000 <= broker.port < 32_768


def test_nothing_is_left_of_it_after_stop() -> None:
    with EmbeddedBroker() as broker:
        url = f"tcp://{broker.bootstrap}"
        assert processes_marked(url)

    assert wait_until(lambda: not processes_marked(url), 5.0)


def test_its_topics_are_there_before_a_waiting_client_can_send_a_record() -> None:
    topics = {"readings": 4, "alerts": 1}
    broker = EmbeddedBroker(topics=topics)

    async def story() -> int:
        broker.start()
        producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap, retry_backoff_ms=1, enable_idempotence=False)
        await producer.start()
        await producer.send_and_wait("readings", b"known to the client", partition=3)
        broker.kill()
        # The client knows the topic and retries as fast as it can while the broker comes back knowing nothing.
        waiting = asyncio.create_task(producer.send_and_wait("readings", b"sent too early", partition=3))
        await asyncio.to_thread(wait_until, lambda: not accepts_connections(broker.port), 5.0)
        broker.start()
        sent = await asyncio.wait_for(waiting, 30.0)
        await producer.stop()
        return int(sent.offset)

    try:
        for _ in range(5):
            assert asyncio.run(story()) == 0
            require_sound(broker.bootstrap, topics)
            consumer = KafkaConsumer(bootstrap_servers=broker.bootstrap, enable_auto_commit=False)
            consumer.assign([TopicPartition("readings", 3)])
            consumer.seek(TopicPartition("readings", 3), 0)
            polled = [record.value for records in consumer.poll(timeout_ms=5_000).values() for record in records]
            consumer.close()
            assert polled == [b"sent too early"]
            broker.kill()
    finally:
        broker.stop()


def test_a_partition_that_took_a_record_before_its_topic_was_there_is_found_out() -> None:
    async def spoil(broker: EmbeddedBroker) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap, enable_idempotence=False)
        await producer.start()
        await producer.send_and_wait("readings", b"known to the client", partition=3)
        broker.kill()
        broker.start()
        await producer.send_and_wait("readings", b"sent too early", partition=3)
        await producer.stop()

    with EmbeddedBroker() as broker:
        ensure_topics(broker.bootstrap, "", 4)
        asyncio.run(spoil(broker))
        ensure_topics(broker.bootstrap, "", 4)

        with pytest.raises(Transient, match="partition 3 of readings took a record too early"):
            require_sound(broker.bootstrap, {"readings": 4})
