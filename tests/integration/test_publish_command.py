"""`weir publish` against a real broker: recordings, pipes and SenML packs, and a broker that is away."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.integration.conftest import Broker
from tests.integration.published_scene import DEADLINE_S, SECRET, Stored, stored

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
RECORDING = Path(os.environ.get("WEIR_TEST_DATA", ROOT.parent / "shared" / "data")) / "machine_temperature.csv"


@pytest.fixture
def topic(topic_prefix: str) -> str:
    return f"{topic_prefix}readings"


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
    # On a slow machine it says how far it is.
    assert re.fullmatch(r"(\d+ readings read, \d+ delivered\n)*", result.stderr)
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
