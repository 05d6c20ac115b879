"""Order, retries and endings, over a link that fails on command."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from weir_device import BufferFull, DevicePublisher, PublisherClosed, PublisherFailed, sender
from weir_device.errors import DeliveryFailed
from weir_device.wire import Record

DEADLINE_S = 10.0


class GatedLink:
    """Takes records while it is up; a broken one fails as a bug would."""

    def __init__(self, *, up: bool = True) -> None:
        self.up = threading.Event()
        self.refused = threading.Event()
        self.delivered = threading.Event()
        self.attempts = 0
        self.records: list[Record] = []
        self.bug: Exception | None = None
        self.hangs = False
        self.closed = False
        if up:
            self.up.set()

    def deliver(self, records: Sequence[Record], gives_up: Callable[[], bool]) -> None:
        self.attempts += 1
        if self.bug is not None:
            raise self.bug
        if self.hangs:
            self.wait_silently(gives_up)
        if not self.up.is_set():
            self.refused.set()
            msg = "the broker is away"
            raise DeliveryFailed(msg)
        self.records.extend(records)
        self.delivered.set()

    def wait_silently(self, gives_up: Callable[[], bool]) -> None:
        """Neither deliver nor fail, as a broker that hangs."""
        while not self.up.wait(0.01):
            if gives_up():
                msg = "given up"
                raise DeliveryFailed(msg)

    def interrupt(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True

    def values(self) -> list[float]:
        return [reading["value"] for record in self.records for reading in json.loads(record.value)["readings"]]


def publisher(
    link: GatedLink,
    buffer_dir: Path | None = None,
    *,
    max_batch_readings: int = 3,
    linger_ms: int = 0,
    buffer_max_bytes: int = 100_000,
) -> DevicePublisher:
    return DevicePublisher(
        device_id="fridge-1",
        secret="s",
        bootstrap_servers="127.0.0.1:1",
        buffer_dir=buffer_dir,
        now_ms=lambda: 1000,
        link=link,
        max_batch_readings=max_batch_readings,
        linger_ms=linger_ms,
        buffer_max_bytes=buffer_max_bytes,
    )


@pytest.fixture(params=[False, True], ids=["memory", "disk"])
def buffer_dir(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path / "buffer" if request.param else None


def test_everything_arrives_once_and_in_order(buffer_dir: Path | None) -> None:
    link = GatedLink()
    with publisher(link, buffer_dir) as device:
        for number in range(100):
            device.publish("air", number)
        report = device.flush(DEADLINE_S)

    assert link.values() == [float(number) for number in range(100)]
    assert (report.delivered, report.buffered) == (100, 0)
    assert link.closed


def test_what_was_published_while_the_broker_was_away_comes_first(buffer_dir: Path | None) -> None:
    link = GatedLink(up=False)
    with publisher(link, buffer_dir) as device:
        for number in range(10):
            device.publish("air", number)
        assert link.refused.wait(DEADLINE_S)
        for number in range(10, 20):
            device.publish("air", number)
        assert device.stats.last_error == "the broker is away"
        link.up.set()
        device.flush(DEADLINE_S)

        assert link.values() == [float(number) for number in range(20)]
        assert device.stats.last_error is None


def test_a_reading_without_a_time_is_of_now() -> None:
    link = GatedLink()
    with publisher(link) as device:
        device.publish("air", 1.0)

    assert json.loads(link.records[0].value) == {
        "readings": [{"sensor": "air", "at": 1000, "value": 1.0}],
        "sent_at": 1000,
    }


def test_a_lone_reading_leaves_after_the_linger_time() -> None:
    link = GatedLink()
    with publisher(link, linger_ms=1) as device:
        device.publish("air", 1.0)
        assert link.delivered.wait(DEADLINE_S)


def test_readings_that_linger_share_a_record() -> None:
    link = GatedLink()
    with publisher(link, linger_ms=60_000, max_batch_readings=3) as device:
        device.publish("air", 0)
        assert not link.delivered.wait(0.2)
        device.publish("air", 1)
        device.publish("air", 2)
        assert link.delivered.wait(DEADLINE_S)

    assert [record.readings for record in link.records] == [3]


def test_a_flush_does_not_linger() -> None:
    link = GatedLink()
    with publisher(link, linger_ms=60_000) as device:
        device.publish("air", 1.0)

        assert device.flush(DEADLINE_S).buffered == 0


def test_a_flush_without_a_broker_ends_in_time_and_says_what_waits(buffer_dir: Path | None) -> None:
    link = GatedLink(up=False)
    device = publisher(link, buffer_dir)
    device.publish("air", 1.0)

    report = device.flush(timeout_s=0.3)

    assert (report.delivered, report.buffered) == (0, 1)
    assert 1 <= link.attempts <= 7  # pauses of at least 0.05 s: one at once, six more in 0.3 s
    device.close(timeout_s=0)


def test_a_broker_that_hangs_is_said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(sender, "SILENCE_S", 0.05)
    link = GatedLink(up=False)
    link.hangs = True
    with publisher(link) as device:
        device.publish("air", 1.0)
        deadline = time.monotonic() + DEADLINE_S
        while device.stats.last_error is None:
            assert time.monotonic() < deadline
        assert device.stats.last_error == "no acknowledgement for 0.05 s"
        link.up.set()
        device.flush(DEADLINE_S)

        assert device.stats.last_error is None
    assert link.attempts == 1
    assert caplog.text.count("Kafka does not take readings") == 1


def test_the_next_publisher_sends_what_the_last_one_could_not(tmp_path: Path) -> None:
    away = publisher(GatedLink(up=False), tmp_path)
    for number in range(5):
        away.publish("air", number)
    report = away.close(timeout_s=0)
    assert (report.delivered, report.buffered) == (0, 5)
    assert away.stats.dropped == 0

    link = GatedLink()
    with publisher(link, tmp_path) as device:
        device.publish("air", 5)
        device.flush(DEADLINE_S)
        stats = device.stats

    assert link.values() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert (stats.recovered, stats.published, stats.delivered, stats.buffered) == (5, 1, 6, 0)


def test_closing_without_a_directory_says_what_was_lost(caplog: pytest.LogCaptureFixture) -> None:
    device = publisher(GatedLink(up=False))
    device.publish("air", 1.0)
    device.publish("air", 2.0)

    report = device.close(timeout_s=0)

    assert report.buffered == 2
    stats = device.stats
    assert (stats.published, stats.delivered, stats.buffered, stats.dropped) == (2, 0, 0, 2)
    assert "2 readings were not delivered and are lost" in caplog.text


def publish_until_full(device: DevicePublisher) -> int:
    """How many were accepted."""
    for number in range(1000):
        try:
            device.publish("air", number)
        except BufferFull:
            return number
    pytest.fail("the buffer never was full")


def test_a_full_buffer_refuses_loudly_and_takes_readings_again_later(buffer_dir: Path | None) -> None:
    link = GatedLink(up=False)
    with publisher(link, buffer_dir, buffer_max_bytes=1000) as device:
        accepted = publish_until_full(device)
        with pytest.raises(BufferFull, match="raise buffer_max_bytes"):
            device.publish("air", accepted)
        link.up.set()
        assert device.flush(DEADLINE_S).delivered == accepted
        device.publish("air", accepted)
        device.flush(DEADLINE_S)

    assert link.values() == [float(number) for number in range(accepted + 1)]


def test_a_whole_record_is_sent_byte_for_byte() -> None:
    link = GatedLink()
    with publisher(link) as device:
        device.publish_record(b'[{"n": "air", "v": 1}]', "application/senml+json", 1)

    assert link.records == [Record("application/senml+json", 1, b'[{"n": "air", "v": 1}]')]


def test_a_closed_publisher_takes_nothing_and_closes_again() -> None:
    device = publisher(GatedLink())
    device.close()

    with pytest.raises(PublisherClosed):
        device.publish("air", 1.0)
    assert device.close().buffered == 0


def test_a_bug_in_the_thread_reaches_the_caller(tmp_path: Path) -> None:
    link = GatedLink()
    link.bug = RuntimeError("oops")
    device = publisher(link, tmp_path)
    device.publish("air", 1.0)

    with pytest.raises(PublisherFailed, match="RuntimeError: oops"):
        device.flush(DEADLINE_S)
    with pytest.raises(PublisherFailed):
        device.publish("air", 2.0)
    with pytest.raises(PublisherFailed):
        device.close()

    link = GatedLink()
    with publisher(link, tmp_path) as successor:
        successor.flush(DEADLINE_S)
    assert link.values() == [1.0]  # what had been accepted was kept


def test_several_threads_may_publish() -> None:
    link = GatedLink()
    with publisher(link, max_batch_readings=50) as device:

        def publish_all(sensor: str) -> None:
            for number in range(200):
                device.publish(sensor, number)

        threads = [threading.Thread(target=publish_all, args=(sensor,)) for sensor in ("a", "b", "c")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert device.flush(DEADLINE_S).delivered == 600  # 3 x 200

    by_sensor: dict[str, list[float]] = {"a": [], "b": [], "c": []}
    for record in link.records:
        for reading in json.loads(record.value)["readings"]:
            by_sensor[reading["sensor"]].append(reading["value"])
    assert all(values == [float(number) for number in range(200)] for values in by_sensor.values())
