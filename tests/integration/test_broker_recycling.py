"""The embedded broker may be killed to get its memory back, but never with a record that it acknowledged."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing

import pytest
from kafka import KafkaProducer, TopicPartition

from core.kafka import describe
from core.log_ends import log_ends, open_consumer, topic_ends
from ops.embedded.broker import EmbeddedBroker
from ops.embedded.lifeline import ON_LINUX
from ops.embedded.recycle import Ledger, freeze_if_idle, memory_mib
from ops.embedded.traffic import CLOSED, bytes_sent, own_ports
from tests.integration.servers import Database

pytestmark = [pytest.mark.integration, pytest.mark.skipif(not ON_LINUX, reason="asks Linux about connections")]

PUBLISH = """
import sys
from kafka import KafkaProducer, TopicPartition
producer = KafkaProducer(bootstrap_servers=sys.argv[1], acks="all")
print("connected", flush=True)
for line in sys.stdin:
    producer.send("readings", line.encode()).get(timeout=10)
    print("acknowledged", flush=True)
"""


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(topics={"readings": 2, "scan-frames": 1}) as broker:
        yield broker


@pytest.fixture
def device(broker: EmbeddedBroker) -> Iterator[subprocess.Popen[str]]:
    """Another process with a connection to the broker; publishes a record for each line it is given."""
    with subprocess.Popen(
        [sys.executable, "-c", PUBLISH, broker.bootstrap], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "connected\n"
        yield process
        process.kill()


def publish(device: subprocess.Popen[str]) -> None:
    """Returns when the broker has acknowledged."""
    assert device.stdin is not None
    assert device.stdout is not None
    device.stdin.write("record\n")
    device.stdin.flush()
    assert device.stdout.readline() == "acknowledged\n"


def test_an_idle_broker_is_frozen(broker: EmbeddedBroker, device: subprocess.Popen[str]) -> None:
    publish(device)

    assert freeze_if_idle(broker.pid, broker.port, lambda: True)

    os.kill(broker.pid, signal.SIGCONT)


def test_a_broker_with_something_waiting_is_left_alone(broker: EmbeddedBroker) -> None:
    assert not freeze_if_idle(broker.pid, broker.port, lambda: False)
    assert describe(broker.bootstrap, ["readings"])


def test_a_broker_that_acknowledged_a_record_meanwhile_goes_on(
    broker: EmbeddedBroker, device: subprocess.Popen[str]
) -> None:
    def looks_idle_while_a_device_publishes() -> bool:
        publish(device)
        return True

    assert not freeze_if_idle(broker.pid, broker.port, looks_idle_while_a_device_publishes)

    publish(device)  # it answers


def test_a_broker_that_a_device_visited_meanwhile_goes_on(broker: EmbeddedBroker) -> None:
    def looks_idle_while_a_device_comes_and_goes() -> bool:
        command = [sys.executable, "-c", PUBLISH, broker.bootstrap]
        subprocess.run(command, input="record\n", text=True, check=True, capture_output=True)
        return True

    assert not freeze_if_idle(broker.pid, broker.port, looks_idle_while_a_device_comes_and_goes)


def test_our_own_questions_do_not_count(broker: EmbeddedBroker) -> None:
    with closing(KafkaProducer(bootstrap_servers=broker.bootstrap)) as ours:

        def asks() -> bool:
            ours.send("readings", b"record").get(timeout=10)
            return True

        assert freeze_if_idle(broker.pid, broker.port, asks)
        os.kill(broker.pid, signal.SIGCONT)


def test_nothing_waits_once_every_position_is_at_the_end_of_the_same_topic(
    broker: EmbeddedBroker, database: Database
) -> None:
    identity = describe(broker.bootstrap, ["readings"])["readings"].identity

    def committed(partition: int, identity: str, next_offset: int) -> None:
        database.query(
            "INSERT INTO weir.stream_position (topic, partition, topic_identity, next_offset)"
            " VALUES ('readings', %s, %s, %s) ON CONFLICT (topic, partition)"
            " DO UPDATE SET topic_identity = excluded.topic_identity, next_offset = excluded.next_offset",
            partition,
            identity,
            next_offset,
        )

    def send_batch() -> None:
        with closing(KafkaProducer(bootstrap_servers=broker.bootstrap, linger_ms=200)) as producer:
            for _ in range(10):
                producer.send("readings", b"record", partition=0)

    with closing(Ledger(broker.bootstrap, database.operator_url, ["readings", "scan-frames"])) as ledger:
        assert ledger.nothing_waits()  # nothing was ever sent
        send_batch()
        assert not ledger.nothing_waits()
        committed(0, "of another topic", 10)
        assert not ledger.nothing_waits()
        committed(0, identity, 9)
        assert not ledger.nothing_waits()
        committed(0, identity, 10)
        assert ledger.nothing_waits()


def test_the_end_of_the_log_lies_behind_the_last_record_of_a_batch(broker: EmbeddedBroker) -> None:
    partitions = [TopicPartition("readings", number) for number in (0, 1)]
    with closing(open_consumer(broker.bootstrap)) as consumer:
        assert log_ends(consumer, partitions) == {partitions[0]: 0, partitions[1]: 0}
        for batch in (3, 1, 5):
            with closing(KafkaProducer(bootstrap_servers=broker.bootstrap, linger_ms=200)) as producer:
                for _ in range(batch):
                    producer.send("readings", b"record", partition=1)

        assert log_ends(consumer, partitions) == {partitions[0]: 0, partitions[1]: 9}  # 3 + 1 + 5
        assert log_ends(consumer, partitions) == {partitions[0]: 0, partitions[1]: 9}
    assert topic_ends(broker.bootstrap, "readings", 2) == {0: 0, 1: 9}


def test_the_kernel_counts_what_a_server_sent_on_each_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, (_, client_port) = server.accept()
            with accepted:
                accepted.sendall(b"x" * 1234)
                assert bytes_sent(port) == {client_port: 1234}
                assert client_port in own_ports()
                assert client.recv(2000)
        assert bytes_sent(port) == {client_port: CLOSED}
        assert client_port not in own_ports()


def test_memory_is_read_in_mebibytes() -> None:
    assert 5 < memory_mib(os.getpid()) < 5_000
    assert memory_mib(2**22 + 1) == 0  # above the highest process id
