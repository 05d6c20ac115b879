"""`weir scan publish` and `weir simulate --scenario room-scan` against a broker; what arrives is checked by hmac alone."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from core.kafka import ensure_topics
from ops.commands import scan
from ops.scan_files import write_folder
from ops.simulator.room_scan import RoomScan, timed
from schemas.scan_frames import decode_scan_frame
from tests.integration.conftest import PARTITIONS, Broker
from tests.integration.published_scene import Stored, stored

pytestmark = [
    pytest.mark.integration,
    # kafka-python leaves the sockets of refused connections to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]

SECRET = "sésame"
SMALL = RoomScan(frames=8, shrink=16)
START_MS = 1_795_377_600_000


def publish(*arguments: str) -> Any:
    app = typer.Typer(add_completion=False)
    scan.register(app)
    return CliRunner().invoke(app, ["scan", "publish", *arguments], catch_exceptions=False)


def is_signed(record: Stored) -> bool:
    message = record.key + b"\0" + record.value
    expected = hmac.new(SECRET.encode(), message, hashlib.sha256).hexdigest().encode()
    return record.headers == {
        "weir-device": b"phone-1",
        "weir-signature": expected,
        "content-type": b"application/msgpack",
    }


def test_a_recorded_scan_arrives_signed_in_order_and_in_one_partition(
    broker: Broker, topic_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure_topics(broker.bootstrap, topic_prefix, PARTITIONS)
    monkeypatch.setenv("WEIR_TOPIC_PREFIX", topic_prefix)
    monkeypatch.setenv("WEIR_DEVICE_SECRET", SECRET)
    write_folder(tmp_path / "scan", "scan_7", (value for _, value in timed(SMALL, START_MS)))

    result = publish(str(tmp_path / "scan"), "--device", "phone-1", "--bootstrap", broker.bootstrap)

    assert result.exit_code == 0
    assert "scan scan_7: 10 records\npublished 10 of 10 records" in result.output
    records = stored(broker.bootstrap, f"{topic_prefix}scan-frames")
    assert [record.value for record in records] == [value for _, value in timed(SMALL, START_MS)]
    assert {record.key for record in records} == {b"scan_7"}
    assert len({record.partition for record in records}) == 1
    assert all(map(is_signed, records))


def test_a_room_is_simulated_as_the_demo_device(broker: Broker, topic_prefix: str, tmp_path: Path) -> None:
    ensure_topics(broker.bootstrap, topic_prefix, PARTITIONS)
    other = {"tenant_id": "ten_2", "device_id": "phone-2", "device_secret": "s"}
    mine = {"tenant_id": "ten_1", "device_id": "phone-1", "device_secret": SECRET, "kafka_bootstrap": broker.bootstrap}
    (tmp_path / "connection.json").write_text(json.dumps({**mine, "other_tenant": other}))

    command = "simulate --scenario room-scan --seed 3 --seconds 1.5 --scan scan_8 --data-dir"
    run = subprocess.run(
        [sys.executable, "-m", "ops.cli", *command.split(), str(tmp_path)],
        env={**os.environ, "WEIR_TOPIC_PREFIX": topic_prefix},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert run.returncode == 0, run.stderr
    assert "scan scan_8 of device phone-1" in run.stdout
    records = stored(broker.bootstrap, f"{topic_prefix}scan-frames")
    assert [decode_scan_frame(record.value).seq for record in records] == list(range(len(records)))
    assert f"sent {len(records)} records" in run.stdout
    assert {record.key for record in records} == {b"scan_8"}
    assert all(map(is_signed, records))
