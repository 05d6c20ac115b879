"""The device library with nobody to talk to: what it waits for, and for how long."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import pytest
from weir_device import DevicePublisher
from weir_device.kafka_link import KafkaLink

pytestmark = [
    pytest.mark.integration,
    # kafka-python leaves the sockets of refused connections to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]

SECRET = "sésame"
DEADLINE_S = 60.0


def test_a_peer_that_is_silent_during_the_tls_handshake_does_not_hold_the_publisher(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = f"127.0.0.1:{silent.getsockname()[1]}"
        link = KafkaLink(
            device_id="fridge-1",
            secret=SECRET,
            bootstrap_servers=[server],
            topic="readings",
            kafka_options={"security_protocol": "SSL"},
            connect_timeout_s=0.2,
        )
        device = DevicePublisher(
            device_id="fridge-1", secret=SECRET, bootstrap_servers=server, buffer_dir=tmp_path, link=link, linger_ms=0
        )
        device.publish("air", 1.0)
        deadline = time.monotonic() + DEADLINE_S
        while device.stats.last_error is None:
            assert time.monotonic() < deadline

        assert device.close(timeout_s=0).buffered == 1


def test_a_close_does_not_wait_for_a_broker_that_is_away() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        unused = f"127.0.0.1:{taken.getsockname()[1]}"
    device = DevicePublisher(device_id="fridge-1", secret=SECRET, bootstrap_servers=unused, linger_ms=0)
    device.publish("air", 1.0)
    started = time.monotonic()

    assert device.close(timeout_s=0.1).buffered == 1

    assert time.monotonic() - started < 4.0
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("weir-device")] == []
