"""The Apache Kafka launcher keeps what the tests lean on: its port, its data and its topics' identities."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from core.kafka import describe, ensure_topics
from tests.integration.kafka_server import ApacheKafka

pytestmark = [
    pytest.mark.integration,
    pytest.mark.broker,
    pytest.mark.skipif(os.environ.get("WEIR_TEST_BROKER") != "kafka", reason="runs in the Apache Kafka lane"),
]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[ApacheKafka]:
    broker = ApacheKafka(tmp_path / "kafka")
    broker.start()
    yield broker
    broker.stop()


def publish(broker: ApacheKafka, value: bytes) -> int:
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap)
    offset = producer.send("readings", value, partition=0).get(timeout=10).offset
    producer.close()
    return int(offset)


def stored(broker: ApacheKafka, count: int) -> list[bytes]:
    consumer = KafkaConsumer(bootstrap_servers=broker.bootstrap, consumer_timeout_ms=10_000)
    partition = TopicPartition("readings", 0)
    consumer.assign([partition])
    consumer.seek_to_beginning(partition)
    values = [record.value for record, _ in zip(consumer, range(count), strict=False)]
    consumer.close()
    return values


def test_port_data_and_topic_identity_survive_a_crash_and_a_stop(broker: ApacheKafka) -> None:
    bootstrap = broker.bootstrap
    ensure_topics(bootstrap, "", partitions=1)
    identity = describe(bootstrap, ["readings"])["readings"].identity
    assert publish(broker, b"before the crash") == 0

    broker.kill()
    broker.start()
    assert publish(broker, b"before the stop") == 1
    broker.stop()
    broker.start()

    assert broker.bootstrap == bootstrap
    assert describe(bootstrap, ["readings"])["readings"].identity == identity
    assert stored(broker, 2) == [b"before the crash", b"before the stop"]


def test_a_topic_nobody_created_is_not_made_by_asking_for_it(broker: ApacheKafka) -> None:
    assert describe(broker.bootstrap, ["readings"]) == {}


def test_a_running_server_has_a_process_id_and_a_stopped_one_has_none(broker: ApacheKafka) -> None:
    os.kill(broker.pid, 0)

    broker.stop()

    with pytest.raises(RuntimeError, match="does not run"):
        _ = broker.pid


def test_a_second_start_is_refused(broker: ApacheKafka) -> None:
    with pytest.raises(RuntimeError, match="already runs"):
        broker.start()


def test_a_server_that_cannot_start_says_why(broker: ApacheKafka) -> None:
    broker.stop()
    folder = broker._folder
    (folder / "server.properties").write_text("process.roles=nonsense\n")

    with pytest.raises(RuntimeError, match="nonsense"):
        broker.start()


def test_missing_java_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)

    with pytest.raises(RuntimeError, match="java is not installed"):
        ApacheKafka(tmp_path).start()


def test_a_server_without_a_folder_cleans_up_after_itself() -> None:
    broker = ApacheKafka()
    folder = broker._folder
    assert folder.is_dir()

    del broker

    assert not folder.exists()
