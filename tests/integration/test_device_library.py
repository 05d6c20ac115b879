"""The device library against a real broker, which goes away at the worst moments."""

from __future__ import annotations

import gc
import hashlib
import hmac
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from kafka.partitioner import murmur2
from weir_device import DevicePublisher

from core.kafka import describe, ensure_topics
from tests.integration.conftest import PARTITIONS, Broker
from tests.integration.published_scene import DEADLINE_S, SECRET, Stored, stored
from tests.integration.socks_proxy import BreakableProxy

pytestmark = [
    pytest.mark.integration,
    # kafka-python leaves the sockets of refused connections to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]


def values(records: list[Stored]) -> list[float]:
    return [reading["value"] for record in records for reading in record.readings]


def first_seen(numbers: list[float]) -> list[float]:
    """Without repetitions, each at its first place."""
    return list(dict.fromkeys(numbers))


def numbers(count: int) -> list[float]:
    return [float(number) for number in range(count)]


@pytest.fixture(autouse=True)
def sockets_are_collected() -> Iterator[None]:
    """While their warnings are ignored, not during another test."""
    yield
    gc.collect()


@pytest.fixture
def topic(topic_prefix: str) -> str:
    return f"{topic_prefix}readings"


def publisher(broker: Broker, topic: str, buffer_dir: Path | None = None, **changes: Any) -> DevicePublisher:
    return DevicePublisher(
        device_id="fridge-1",
        secret=SECRET,
        bootstrap_servers=broker.bootstrap,
        topic=topic,
        buffer_dir=buffer_dir,
        linger_ms=1,
        **changes,
    )


def published(device: DevicePublisher, first: int, end: int) -> None:
    for number in range(first, end):
        device.publish("air", number, at=1_795_377_600_000 + number)


def test_records_are_as_the_interface_says(broker: Broker, topic: str) -> None:
    with publisher(broker, topic) as device:
        device.publish("air", 3.8, at=1_795_377_600_000, seq=17)

    [record] = stored(broker.bootstrap, topic)
    assert record.key == b"fridge-1"
    assert record.readings == [{"sensor": "air", "at": 1_795_377_600_000, "value": 3.8, "seq": 17}]
    signature = hmac.new(SECRET.encode(), b"fridge-1\x00" + record.value, hashlib.sha256).hexdigest()
    assert record.headers == {
        "weir-device": b"fridge-1",
        "weir-signature": signature.encode(),
        "content-type": b"application/json",
    }


def test_devices_land_where_javas_partitioner_puts_them(broker: Broker, topic: str) -> None:
    """The witness is the murmur2 of librdkafka."""
    devices = [f"device-{number}" for number in range(12)]
    producer = Producer({"bootstrap.servers": broker.bootstrap, "partitioner": "murmur2"})
    for name in devices:
        producer.produce(topic, b"witness", key=name.encode())
    assert producer.flush(DEADLINE_S) == 0
    for name in devices:
        with DevicePublisher(
            device_id=name, secret=SECRET, bootstrap_servers=broker.bootstrap, topic=topic, linger_ms=0
        ) as device:
            device.publish("air", 1.0)

    by_key: dict[bytes, list[int]] = {}
    for record in stored(broker.bootstrap, topic):
        by_key.setdefault(record.key, []).append(record.partition)
    assert len(by_key) == 12
    assert all(len(partitions) == 2 and len(set(partitions)) == 1 for partitions in by_key.values())
    assert all(partitions[0] == (murmur2(key) & 0x7FFF_FFFF) % 4 for key, partitions in by_key.items())
    assert len({partitions[0] for partitions in by_key.values()}) > 1


@pytest.mark.parametrize("on_disk", [False, True], ids=["memory", "disk"])
def test_nothing_is_lost_and_order_is_kept_when_the_broker_stops_and_starts(
    broker: Broker, topic_prefix: str, topic: str, tmp_path: Path, on_disk: bool
) -> None:
    with publisher(broker, topic, tmp_path / "buffer" if on_disk else None) as device:
        published(device, 0, 1_000)
        assert device.flush(DEADLINE_S).delivered == 1_000
        before = values(stored(broker.bootstrap, topic))

        broker.stop()
        published(device, 1_000, 2_000)
        report = device.flush(timeout_s=0.5)
        assert (report.delivered, report.buffered) == (1_000, 1_000)
        broker.start()
        ensure_topics(broker.bootstrap, topic_prefix, PARTITIONS)
        published(device, 2_000, 3_000)
        assert device.flush(DEADLINE_S).buffered == 0

    assert before == numbers(1_000)
    assert first_seen(before + values(stored(broker.bootstrap, topic))) == numbers(3_000)


def test_a_publisher_may_be_made_before_the_broker(broker: Broker, topic_prefix: str, topic: str) -> None:
    broker.stop()
    started = time.monotonic()
    with publisher(broker, topic) as device:
        published(device, 0, 100)
        waited_s = time.monotonic() - started
        broker.start()
        ensure_topics(broker.bootstrap, topic_prefix, PARTITIONS)
        assert device.flush(DEADLINE_S).delivered == 100

    assert waited_s < 1.0
    assert values(stored(broker.bootstrap, topic)) == numbers(100)


def test_a_device_waits_for_its_topic_and_does_not_create_it(broker: Broker) -> None:
    prefix = f"t{secrets.token_hex(4)}-"
    topic = f"{prefix}readings"
    with publisher(broker, topic) as device:
        published(device, 0, 10)
        deadline = time.monotonic() + DEADLINE_S
        while device.stats.last_error is None:
            assert time.monotonic() < deadline
        assert describe(broker.bootstrap, [topic]) == {}

        ensure_topics(broker.bootstrap, prefix, PARTITIONS)
        assert device.flush(DEADLINE_S).buffered == 0

    assert values(stored(broker.bootstrap, topic)) == numbers(10)


def test_connections_that_break_all_the_time_cost_neither_order_nor_readings(
    broker: Broker, topic: str, tmp_path: Path
) -> None:
    """Through a proxy that cuts every connection each time some more bytes have passed."""
    with BreakableProxy() as proxy:
        options = {"proxy_url": proxy.url, "reconnect_backoff_max_ms": 200}
        with publisher(broker, topic, tmp_path, max_batch_readings=7, kafka_options=options) as device:
            proxy.cut_after_bytes(50_000, times=12)
            published(device, 0, 20_000)
            assert device.flush(DEADLINE_S).buffered == 0
        assert proxy.cuts == 12

    assert first_seen(values(stored(broker.bootstrap, topic))) == numbers(20_000)


KILLED = """
import sys
from pathlib import Path
from weir_device import DevicePublisher
_, bootstrap, topic, directory, first = sys.argv
device = DevicePublisher(
    device_id="fridge-1", secret="s", bootstrap_servers=bootstrap, topic=topic, buffer_dir=Path(directory), linger_ms=1
)
for number in range(int(first), 1_000_000_000):
    device.publish("air", number, at=1_795_377_600_000 + number)
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
"""


def publish_and_be_killed(bootstrap: str, topic: str, directory: Path, first: int, count: int) -> int:
    """Run a publisher, kill it with SIGKILL after so many readings; the next number it would have published."""
    arguments = [sys.executable, "-c", KILLED, bootstrap, topic, str(directory), str(first)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= first + count:
                process.send_signal(signal.SIGKILL)
                break
        rest = process.stdout.read().split()  # what it had accepted and said before the signal came
    assert process.returncode == -signal.SIGKILL
    return int(rest[-1] if rest else line) + 1


def test_a_killed_process_loses_nothing_that_it_had_accepted(
    broker: Broker, topic_prefix: str, topic: str, tmp_path: Path
) -> None:
    """Killed twice while the broker is there, twice while it is away."""
    following = 0
    for _ in range(2):
        following = publish_and_be_killed(broker.bootstrap, topic, tmp_path, following, 3_000)
    before = values(stored(broker.bootstrap, topic))
    broker.stop()
    for _ in range(2):
        following = publish_and_be_killed(broker.bootstrap, topic, tmp_path, following, 3_000)
    broker.start()
    ensure_topics(broker.bootstrap, topic_prefix, PARTITIONS)

    with DevicePublisher(
        device_id="fridge-1", secret="s", bootstrap_servers=broker.bootstrap, topic=topic, buffer_dir=tmp_path
    ) as device:
        recovered = device.stats.recovered
        report = device.flush(DEADLINE_S)

    assert recovered >= 6_000  # 2 x 3 000 while the broker was away
    assert (report.delivered, report.buffered) == (recovered, 0)
    arrived = first_seen(before + values(stored(broker.bootstrap, topic)))
    # The last reading of each run may have been accepted without having been said; the next run published it again.
    assert arrived[:following] == numbers(following)
    assert len(arrived) <= following + 1


def test_a_close_with_a_record_in_flight_leaves_no_thread_behind(
    broker: Broker, topic_prefix: str, topic: str, tmp_path: Path
) -> None:
    device = publisher(broker, topic, tmp_path)
    device.publish("air", 1.0)
    assert device.flush(DEADLINE_S).buffered == 0
    broker.stop()
    device.publish("air", 2.0)

    assert device.close(timeout_s=0.3).buffered == 1

    assert [thread.name for thread in threading.enumerate() if "kafka" in thread.name or "weir" in thread.name] == []
    broker.start()
    ensure_topics(broker.bootstrap, topic_prefix, PARTITIONS)
