"""The device library and `weir publish` against a real broker, which goes away at the worst moments."""

from __future__ import annotations

import gc
import hashlib
import hmac
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Producer, TopicPartition
from kafka.partitioner import murmur2
from weir_device import DevicePublisher

from core.kafka import describe, ensure_topics
from tests.integration.conftest import PARTITIONS, Broker
from tests.integration.socks_proxy import BreakableProxy

pytestmark = [
    pytest.mark.integration,
    # kafka-python leaves the sockets of refused connections to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]

ROOT = Path(__file__).parents[2]
RECORDING = Path(os.environ.get("WEIR_TEST_DATA", ROOT.parent / "shared" / "data")) / "machine_temperature.csv"
SECRET = "sésame"
DEADLINE_S = 60.0


@dataclass(frozen=True, slots=True)
class Stored:
    """A record as the broker has it."""

    partition: int
    key: bytes
    value: bytes
    headers: dict[str, bytes]

    @property
    def readings(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.value)["readings"]
        return found


def stored(bootstrap: str, topic: str) -> list[Stored]:
    """All records of a topic; those of one partition in order.

    Up to where a fetch says the end is: the embedded broker's answer to "latest offset" ends within the last batch.
    """
    settings = {
        "group.id": "reader",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "fetch.wait.max.ms": 10,
    }
    consumer = Consumer({"bootstrap.servers": bootstrap, **settings})
    try:
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(PARTITIONS)])
        return list(_until_the_end(consumer, PARTITIONS))
    finally:
        consumer.close()


def _until_the_end(consumer: Consumer, partitions: int) -> Iterator[Stored]:
    deadline = time.monotonic() + DEADLINE_S
    while partitions:
        assert time.monotonic() < deadline
        message = consumer.poll(1.0)
        if message is None:
            continue
        if (error := message.error()) is not None:
            assert error.code() == KafkaError._PARTITION_EOF
            partitions -= 1
            continue
        number = message.partition()
        assert number is not None
        yield Stored(number, message.key() or b"", message.value() or b"", dict(message.headers() or []))


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


def weir_publish(
    broker: Broker, topic: str, *arguments: str, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "WEIR_DEVICE_SECRET": SECRET,
        "WEIR_KAFKA_BOOTSTRAP": broker.bootstrap,
    }
    command = [sys.executable, "-m", "ops.cli", "publish", *arguments, "--device", "fridge-1", "--topic", topic]
    return subprocess.run(
        command, cwd=ROOT, env=environment, input=stdin, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )


def assert_signed(records: list[Stored]) -> None:
    for record in records:
        expected = hmac.new(SECRET.encode(), b"fridge-1\x00" + record.value, hashlib.sha256).hexdigest()
        assert record.headers["weir-signature"] == expected.encode()


@pytest.mark.skipif(not RECORDING.exists(), reason="the recordings are not beside the repository")
def test_a_recording_arrives_whole(broker: Broker, topic: str) -> None:
    result = weir_publish(broker, topic, str(RECORDING), "--sensor", "machine", "--assume-utc")

    records = stored(broker.bootstrap, topic)
    readings = [reading for record in records for reading in record.readings]
    assert result.stderr == ""
    assert (result.returncode, result.stdout) == (0, f"published 22695 readings in {len(records)} records\n")
    assert len(readings) == 22_695
    assert len({reading["at"] for reading in readings}) == 22_683  # 12 times appear twice
    # 2013-12-02T21:15:00Z is 1 386 018 900 s; the file's first and last lines
    assert readings[0] == {"sensor": "machine", "at": 1_386_018_900_000, "value": 73.96732207}
    assert readings[-1]["value"] == float(RECORDING.read_text().rstrip().rpartition(",")[2])
    assert_signed(records)


def test_ndjson_from_a_pipe_with_bad_lines_is_published_without_them(broker: Broker, topic: str) -> None:
    lines = [
        '{"at": "2026-11-22T20:00:00.0009Z", "value": 1, "seq": 3}',
        '{"at": "2026-11-22T20:00:00", "value": 2}',
        '{"at": 1795377601000, "value": 3, "sensor": "door"}',
        '{"at": 1795377601000, "value": 1e400}',
        "nonsense",
    ]

    result = weir_publish(broker, topic, "-", "--format", "ndjson", "--sensor", "air", stdin="\n".join(lines))

    assert result.returncode == 1
    assert result.stdout == "published 2 readings in 1 record\n"
    assert [line.partition(":")[0] for line in result.stderr.splitlines()] == [
        "line 2",
        "line 4",
        "line 5",
        "3 bad lines were left out",
    ]
    assert "--assume-utc" in result.stderr
    [record] = stored(broker.bootstrap, topic)
    assert record.readings == [
        {"sensor": "air", "at": 1_795_377_600_000, "value": 1.0, "seq": 3},
        {"sensor": "door", "at": 1_795_377_601_000, "value": 3.0},
    ]


def test_a_small_senml_pack_is_sent_byte_for_byte(broker: Broker, topic: str) -> None:
    pack = ' [{"bn": "air", "bt": 1.795377600e9, "v": 3.80},\n  {"t": 1, "v": 4}]\n'

    result = weir_publish(broker, topic, "-", "--format", "senml", stdin=pack)

    assert (result.returncode, result.stdout) == (0, "published 2 readings in 1 record\n")
    [record] = stored(broker.bootstrap, topic)
    assert record.value == pack.encode()
    assert record.headers["content-type"] == b"application/senml+json"
    assert_signed([record])


def test_a_large_senml_pack_is_cut_and_means_the_same(broker: Broker, topic: str, tmp_path: Path) -> None:
    file = tmp_path / "large.senml"
    entries = [{"bn": "urn:dev:fridge-1:", "bt": 1_795_377_600, "n": "air", "t": 0, "v": 0}]
    entries += [{"n": "air", "t": number, "v": number} for number in range(1, 25_000)]
    file.write_text(json.dumps(entries))

    result = weir_publish(broker, topic, str(file))

    records = stored(broker.bootstrap, topic)
    packs = [json.loads(record.value) for record in records]
    assert (result.returncode, result.stdout) == (0, f"published 25000 readings in {len(records)} records\n")
    assert all(len(record.value) <= 900 * 1024 for record in records)
    assert all(pack[0]["bn"] == "urn:dev:fridge-1:" and pack[0]["bt"] == 1_795_377_600 for pack in packs)
    assert [entry["v"] for pack in packs for entry in pack if "v" in entry] == list(range(25_000))


def test_a_broker_that_is_away_is_said_once_and_ends_in_an_error(broker: Broker, topic: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        unused = f"127.0.0.1:{taken.getsockname()[1]}"

    result = weir_publish(
        broker, topic, "-", "--format", "csv", "--sensor", "air", "--bootstrap", unused, "--timeout", "0.5",
        stdin="at,value\n2026-11-22T20:00:00Z,1\n",
    )  # fmt: skip

    assert (result.returncode, result.stdout) == (1, "published 0 readings in 0 records\n")
    assert Counter("WEIR_KAFKA_BOOTSTRAP" in line for line in result.stderr.splitlines())[True] == 1
    assert "ECONNREFUSED" not in result.stderr
    assert SECRET not in result.stderr
