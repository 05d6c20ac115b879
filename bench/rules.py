"""`weir bench rules`: what rules cost beside the same readings without any, and how soon an episode is committed.

One-reading messages of a thousand sensors are drained without rules and with five rules a sensor, in turn, twice. A hundred
thousand rules over ten thousand sensors give the worker's peak memory; a paced stream gives the time from producing the
reading that violates to its episode being visible.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from kafka import KafkaProducer

from accounts.provisioning import DeviceCredentials
from bench.ingest import PARTITIONS, Drained, Servers, _Confluent, _producer, create_devices, drain, servers
from bench.rules_screen import screen
from core.kafka import ensure_topics
from schemas.readings import encode_record
from schemas.signing import sign

_LIMIT = 8.0
# One sensor in ten spends a tenth of the readings beyond the limit: one reading in a hundred.
_HOT_SENSORS, _HOT_READINGS = 10, 10
# With and without rules in turn: what else the machine does meanwhile falls on both.
_TURNS = 2
CONDITIONS: tuple[dict[str, Any], ...] = (
    {"type": "threshold", "above": _LIMIT, "for": "1m"},
    {"type": "aggregate", "function": "mean", "window": "15m", "above": _LIMIT},
    {"type": "silence", "after": "1h"},
    {"type": "threshold", "above": _LIMIT, "clear": {"below": 6.0}},
    {"type": "exposure", "above": _LIMIT, "budget": "4h", "within": "24h"},
)


def _value(sensor: int, number: int, total: int) -> float:
    """3 to 7.9 degrees; 9 in the middle tenth of every tenth sensor's readings."""
    place = number * _HOT_READINGS // total
    hot = sensor % _HOT_SENSORS == 0 and place == _HOT_READINGS // 2
    return 9.0 if hot else 3.0 + (sensor + number) % 50 / 10


def _fill(run: Servers, topic: str, devices: list[DeviceCredentials], messages: int, start_ms: int) -> None:
    producer, each = _producer(run.bootstrap), max(1, messages // len(devices))
    for number in range(messages):
        place, turn = number % len(devices), number // len(devices)
        send(producer, topic, devices[place], start_ms + turn * 1000, _value(place, turn, each))
    producer.flush()


def send(producer: Any, topic: str, device: DeviceCredentials, at_ms: int, value: float) -> None:  # noqa: ANN401
    """One signed reading."""
    key, body = device.device_id.encode(), encode_record([("air", at_ms, value, 0)])
    headers = [("weir-device", key), ("weir-signature", sign(device.secret, key, body).encode())]
    producer.send(topic, body, key, headers)


def add_rules(run: Servers, conditions: list[tuple[str, dict[str, Any], dict[str, Any]]]) -> None:
    """Rules (tenant, target, condition) in force since long ago."""
    with psycopg.connect(run.admin_url, autocommit=True) as connection, connection.transaction():
        connection.execute("CREATE TEMP TABLE new_rule (rule_id text, tenant_id text, document text)")
        with connection.cursor().copy("COPY new_rule FROM STDIN") as copy:
            for number, (tenant_id, target, condition) in enumerate(conditions):
                document = {"name": f"rule {number}", "severity": "major", "applies_to": target, "condition": condition}
                copy.write_row((f"rul_bench{time.monotonic_ns()}x{number}", tenant_id, json.dumps(document)))
        connection.execute("INSERT INTO weir.rule (rule_id, tenant_id) SELECT rule_id, tenant_id FROM new_rule")
        connection.execute(
            "INSERT INTO weir.rule_version (rule_no, version, effective_from, document, recorded_by)"
            " SELECT rule_no, 1, '2020-01-01', document::jsonb, 'bench' FROM new_rule JOIN weir.rule USING (rule_id)"
        )
        connection.execute("DROP TABLE new_rule")


def delete_rules(run: Servers) -> None:
    """Every rule and episode."""
    with psycopg.connect(run.admin_url, autocommit=True) as connection:
        connection.execute("TRUNCATE weir.rule, weir.rule_version, weir.alert_episode, weir.rule_work CASCADE")


def tenants(run: Servers, devices: list[DeviceCredentials]) -> list[str]:
    """Whose devices these are."""
    with psycopg.connect(run.admin_url) as connection:
        rows = connection.execute(
            "SELECT DISTINCT tenant_id FROM weir.device WHERE device_id = ANY (%s)",
            ([device.device_id for device in devices],),
        ).fetchall()
    return [tenant_id for (tenant_id,) in rows]


def _count_episodes(run: Servers) -> int:
    with psycopg.connect(run.admin_url) as connection:
        row = connection.execute("SELECT count(*) FROM weir.alert_episode").fetchone()
    return int(row[0]) if row else 0


def _drain_with(run: Servers, folder: Path, messages: int, sensors: int, rules: int, turn: int) -> Drained:
    """A backlog of sensors of its own, with this many rules a sensor."""
    delete_rules(run)
    devices = asyncio.run(create_devices(run, sensors))
    add_rules(run, [(tenant, {"all": True}, one) for tenant in tenants(run, devices) for one in CONDITIONS[:rules]])
    prefix = f"rules{rules}-{turn}-"
    ensure_topics(run.bootstrap, prefix, PARTITIONS)
    _fill(run, f"{prefix}readings", devices, messages, int(time.time() * 1000) - 3_000_000)
    return drain(run, prefix, messages, 1, folder)


def _cpu_us(drained: Drained, messages: int) -> float:
    return (drained.worker_cpu_seconds + drained.database_cpu_seconds) / messages * 1e6


def throughput(run: Servers, folder: Path, messages: int, sensors: int) -> Iterator[dict[str, object]]:
    """The same backlog with and without rules, on sensors of their own."""
    every = len(CONDITIONS)
    wall: dict[int, float] = {0: 0.0, every: 0.0}
    cpu: dict[int, float] = {0: 0.0, every: 0.0}
    for turn in range(_TURNS):
        for rules in wall:
            drained = _drain_with(run, folder, messages, sensors, rules, turn)
            wall[rules] += drained.seconds
            cpu[rules] += _cpu_us(drained, messages)
            yield {
                "bench": "rules",
                "measure": f"{rules}_rules_a_sensor",
                "messages": messages,
                "sensors": sensors,
                "messages_per_s": round(messages / drained.seconds),
                "worker_cpu_us_per_message": round(drained.worker_cpu_seconds / messages * 1e6, 2),
                "database_cpu_us_per_message": round(drained.database_cpu_seconds / messages * 1e6, 2),
                "worker_peak_mib": round(drained.worker_peak_mib),
                "episodes": _count_episodes(run),
                "machine_load": round(os.getloadavg()[0], 1),
            }
    yield {
        "bench": "rules",
        "measure": "cost_of_5_rules_a_sensor",
        "cpu_ratio": round(cpu[every] / cpu[0] - 1, 3),
        "wall_ratio": round(wall[every] / wall[0] - 1, 3),
    }


def many_rules(run: Servers, folder: Path, messages: int, sensors: int, rules: int) -> dict[str, object]:
    """A worker that holds very many rules, each for one sensor."""
    delete_rules(run)
    devices = asyncio.run(create_devices(run, sensors))
    with psycopg.connect(run.admin_url, autocommit=True) as connection:
        known = connection.execute(
            "INSERT INTO weir.sensor (tenant_id, device_id, name) SELECT tenant_id, device_id, 'air' FROM weir.device"
            " WHERE device_id = ANY (%s) RETURNING tenant_id, sensor_id",
            ([device.device_id for device in devices],),
        ).fetchall()
    each = rules // sensors
    wanted = [
        (tenant, {"sensor_id": sensor}, CONDITIONS[number % len(CONDITIONS)])
        for tenant, sensor in known
        for number in range(each)
    ]
    add_rules(run, wanted)
    ensure_topics(run.bootstrap, "many-", PARTITIONS)
    _fill(run, "many-readings", devices, messages, int(time.time() * 1000) - 600_000)
    drained = drain(run, "many-", messages, 1, folder)
    return {
        "bench": "rules",
        "measure": "many_rules",
        "rules": len(wanted),
        "sensors": sensors,
        "worker_peak_mib": round(drained.worker_peak_mib),
        "first_commit_s": round(drained.first_commit_seconds, 2),
        "messages_per_s": round(messages / drained.seconds),
        "machine_load": round(os.getloadavg()[0], 1),
    }


@dataclass(slots=True)
class Watch:
    """When each device's first episode was seen, by polling."""

    seen: dict[str, float]
    stop: threading.Event

    def run(self, url: str) -> None:
        """Poll until stopped; the interval between two looks bounds the error."""
        newest = 0
        with psycopg.connect(url, autocommit=True) as connection:
            while not self.stop.is_set():
                rows = connection.execute(
                    "SELECT e.episode_no, s.device_id FROM weir.alert_episode e JOIN weir.sensor s USING (sensor_no)"
                    " WHERE e.episode_no > %s - 50",
                    (newest,),
                ).fetchall()
                now = time.monotonic()
                for number, device_id in rows:
                    newest = max(newest, number)
                    self.seen.setdefault(device_id, now)
                time.sleep(0.005)


@contextmanager
def _worker(run: Servers, prefix: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WEIR_")} | {
        "WEIR_DATABASE_URL": run.admin_url,
        "WEIR_KAFKA_BOOTSTRAP": run.bootstrap,
        "WEIR_TOPIC_PREFIX": prefix,
        "WEIR_SECRET_KEY": run.secret_key,
    }
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, "-m", "ops.cli", "worker"], env=environment, stdout=out, stderr=out)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=20)


def latency(run: Servers, folder: Path, rate: int, seconds: int, sensors: int) -> dict[str, object]:
    """From producing a violating reading to its sensor's first episode being visible, under a paced load."""
    delete_rules(run)
    devices = asyncio.run(create_devices(run, sensors))
    add_rules(run, [(tenant, {"all": True}, one) for tenant in tenants(run, devices) for one in CONDITIONS])
    ensure_topics(run.bootstrap, "paced-", PARTITIONS)
    watch = Watch({}, threading.Event())
    looking = threading.Thread(target=watch.run, args=(run.admin_url,))
    with _worker(run, "paced-", folder / "paced.log"):
        looking.start()
        try:
            _await_first_commit(run, devices)
            produced = _pace(run, devices, rate, seconds, watch)
        finally:
            watch.stop.set()
            looking.join()
    took = np.array([watch.seen[name] - at for name, at in produced.items() if name in watch.seen]) * 1000
    p50, p99, p999 = np.percentile(took, [50, 99, 99.9]).tolist() if len(took) else (float("nan"),) * 3
    return {
        "bench": "rules",
        "measure": "produce_to_episode",
        "readings_per_s": rate,
        "episodes": len(took),
        "missing": len(produced) - len(took),
        "p50_ms": round(p50),
        "p99_ms": round(p99),
        "p99_9_ms": round(p999),
        "machine_load": round(os.getloadavg()[0], 1),
    }


# Every batch that the embedded broker holds makes each fetch dearer: with 1 ms it took half a core and was 1.5 s behind.
_LINGER_MS = 5


def _paced_producer(bootstrap: str) -> Any:  # noqa: ANN401
    """A producer that sends soon: lingering counts as latency, but what it sends singly keeps the embedded broker busy."""
    try:
        return _Confluent(bootstrap, linger_ms=_LINGER_MS)
    except ImportError:
        return KafkaProducer(bootstrap_servers=bootstrap, linger_ms=_LINGER_MS)


def _await_first_commit(run: Servers, devices: list[DeviceCredentials]) -> None:
    """One reading a device, committed: the worker is up and knows sensors and rules."""
    producer, now_ms = _paced_producer(run.bootstrap), time.time_ns() // 1_000_000
    for device in devices:
        send(producer, "paced-readings", device, now_ms, 5.0)
    producer.flush()
    deadline = time.monotonic() + 60
    with psycopg.connect(run.admin_url, autocommit=True) as connection:
        while time.monotonic() < deadline:
            row = connection.execute(
                "SELECT sum(next_offset) FROM stream_positions WHERE topic = 'paced-readings'"
            ).fetchone()
            if row and row[0] is not None and row[0] >= len(devices):
                return
            time.sleep(0.05)
    msg = "the worker committed nothing for 60 s, expected the first readings; see its log"
    raise RuntimeError(msg)


_WARM_UP_S = 5
_EXCURSION_S = 5


def _pace(run: Servers, devices: list[DeviceCredentials], rate: int, seconds: int, watch: Watch) -> dict[str, float]:
    """Send at the rate; one device in ten is hot for some seconds, one after the other. Returns when each became so."""
    producer, started, sent = _paced_producer(run.bootstrap), time.monotonic(), 0
    hot_at: dict[str, float] = {}
    while (elapsed := time.monotonic() - started) < seconds:
        due = int(elapsed * rate)
        for number in range(sent, due):
            place = number % len(devices)
            device = devices[place]
            begins = _WARM_UP_S + place * (seconds - _WARM_UP_S) / len(devices)
            hot = place % _HOT_SENSORS == 0 and begins <= elapsed < begins + _EXCURSION_S
            now = time.time_ns() // 1_000_000
            send(producer, "paced-readings", device, now, 9.0 if hot else 5.0)
            if hot:
                hot_at.setdefault(device.device_id, time.monotonic())
        sent = max(sent, due)
        time.sleep(0.001)
    producer.flush()
    deadline = time.monotonic() + 15
    while len(watch.seen) < len(hot_at) and time.monotonic() < deadline:
        time.sleep(0.05)
    return hot_at


def run(messages: int, latency_seconds: int, pg_root: Path | None) -> Iterator[dict[str, object]]:
    """Measure everything once.

    Yields:
        One JSON-able object per measurement.
    """
    with tempfile.TemporaryDirectory(prefix="weir-bench-") as name, servers(Path(name), pg_root) as run_servers:
        folder = Path(name)
        yield from throughput(run_servers, folder, messages, 1000)
        yield many_rules(run_servers, folder, messages, 10_000, 100_000)
        yield screen(CONDITIONS, 10_000, 100_000)
        yield latency(run_servers, folder, 5000, latency_seconds, 1000)
