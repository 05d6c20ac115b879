"""`weir bench ingest`: from signed Kafka records to committed, deduplicated, metered rows, beside the database's own limit.

All servers are started here, so one run on one machine gives every number that its ratios compare: the pipeline with
one-reading and with 100-reading messages, and the same rows by staged COPY with on-conflict alone.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psycopg
from kafka import KafkaProducer

from accounts import provisioning
from accounts.provisioning import DeviceCredentials
from core.kafka import ensure_topics
from core.secrets import Vault
from ops.embedded.broker import EmbeddedBroker
from ops.embedded.postgres import EmbeddedPostgres
from schemas.readings import encode_record
from schemas.signing import sign
from sinks.timescale.binary import FLOAT8, INT4, INT8, copy_buffer, timestamps
from sinks.timescale.migrate import migrate

SENSORS_PER_DEVICE = 1
PARTITIONS = 4
_BATCH_ROWS = 10_000


@dataclass(frozen=True)
class Servers:
    """The broker and the migrated database of a run."""

    bootstrap: str
    admin_url: str
    pg_pid: int
    secret_key: str


@contextmanager
def servers(folder: Path, pg_root: Path | None) -> Iterator[Servers]:
    """Start both servers for one run."""
    with ExitStack() as stack:
        extra = {"shared_preload_libraries": "timescaledb"} if pg_root else {}
        postgres = stack.enter_context(EmbeddedPostgres(folder / "postgres", pg_root=pg_root, extra_settings=extra))
        broker = stack.enter_context(EmbeddedBroker())
        migrate(postgres.superuser_url)
        yield Servers(broker.bootstrap, postgres.superuser_url, postgres.pid, secrets.token_hex(32))


async def create_devices(run: Servers, count: int) -> list[DeviceCredentials]:
    """One tenant per 100 devices."""
    vault = Vault.from_secret(run.secret_key)
    connection = await psycopg.AsyncConnection.connect(run.admin_url, autocommit=True)
    async with connection, connection.transaction():
        devices = []
        for number in range(count):
            if number % 100 == 0:
                tenant_id = await provisioning.create_tenant(connection, f"tenant {number // 100}")
            devices.append(await provisioning.create_device(connection, vault, tenant_id, f"device {number}"))
    return devices


def fill_topic(
    run: Servers, topic: str, devices: list[DeviceCredentials], messages: int, readings_each: int, start_ms: int
) -> int:
    """Publish signed records, round robin over the devices; returns their bytes."""
    producer = _producer(run.bootstrap)
    size = 0
    for number in range(messages):
        device = devices[number % len(devices)]
        first = start_ms + (number // len(devices)) * readings_each * 1000
        value = encode_record(
            [("air", first + n * 1000, 3.0 + (number + n) % 50 / 10, 0) for n in range(readings_each)]
        )
        key = device.device_id.encode()
        headers = [("weir-device", key), ("weir-signature", sign(device.secret, key, value).encode())]
        producer.send(topic, value, key, headers)
        size += len(value)
    producer.flush()
    return size


class _Confluent:
    """confluent-kafka where it is installed: it fills the topic several times faster."""

    def __init__(self, bootstrap: str, linger_ms: int = 50) -> None:
        from confluent_kafka import Producer

        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "linger.ms": linger_ms,
                "batch.size": 500_000,
                "queue.buffering.max.messages": 500_000,
            }
        )

    def send(self, topic: str, value: bytes, key: bytes, headers: list[tuple[str, bytes]]) -> None:
        while True:
            try:
                self._producer.produce(topic, value, key=key, headers=headers)
            except BufferError:
                self._producer.poll(0.05)
            else:
                self._producer.poll(0)
                return

    def flush(self) -> None:
        self._producer.flush()


def _producer(bootstrap: str) -> _Confluent | KafkaProducer:
    try:
        return _Confluent(bootstrap)
    except ImportError:
        return KafkaProducer(bootstrap_servers=bootstrap, linger_ms=50)


@dataclass(frozen=True)
class Drained:
    """How a backlog was worked off; seconds of CPU as if all of it had been worked off as what followed the first commit."""

    seconds: float
    first_commit_seconds: float
    worker_peak_mib: float
    worker_cpu_seconds: float
    database_cpu_seconds: float


@dataclass(frozen=True)
class _Moment:
    """How far a drain was, and what it had used by then."""

    at: float
    done: int
    worker_cpu: float
    database_cpu: float


def drain(run: Servers, prefix: str, messages: int, workers: int, log_folder: Path) -> Drained:
    """Start workers on a full topic and wait for the last commit; time counts from the first commit on."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WEIR_")} | {
        "WEIR_DATABASE_URL": run.admin_url,
        "WEIR_KAFKA_BOOTSTRAP": run.bootstrap,
        "WEIR_TOPIC_PREFIX": prefix,
        "WEIR_SECRET_KEY": run.secret_key,
        # As `weir up` sets it for the embedded broker, whose group joins take half of this.
        "WEIR_CONSUMER_SESSION_TIMEOUT_S": "3",
        "WEIR_LOG_LEVEL": "INFO",
    }
    started = time.monotonic()
    processes = []
    for number in range(workers):
        with (log_folder / f"{prefix}worker{number}.log").open("wb") as log:
            processes.append(
                subprocess.Popen([sys.executable, "-m", "ops.cli", "worker"], env=environment, stdout=log, stderr=log)
            )
    try:
        first, last = _watch(run, f"{prefix}readings", messages, processes, log_folder)
        peak = max(_peak_mib(process.pid) for process in processes)
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(timeout=20)
    scale = messages / max(1, last.done - first.done)
    return Drained(
        (last.at - first.at) * scale,
        first.at - started,
        peak,
        (last.worker_cpu - first.worker_cpu) * scale,
        (last.database_cpu - first.database_cpu) * scale,
    )


def _watch(
    run: Servers, topic: str, messages: int, processes: list[subprocess.Popen[bytes]], log_folder: Path
) -> tuple[_Moment, _Moment]:
    """The moments of the first commit and of the last."""
    first: _Moment | None = None
    with psycopg.connect(run.admin_url, autocommit=True) as connection:
        while True:
            row = connection.execute(
                "SELECT coalesce(sum(next_offset), 0) FROM stream_positions WHERE topic = %s", (topic,)
            ).fetchone()
            done = int(row[0]) if row else 0
            if (done and first is None) or done >= messages:
                worker_cpu = sum(_cpu_seconds(process.pid) for process in processes)
                moment = _Moment(time.monotonic(), done, worker_cpu, _family_cpu_seconds(run.pg_pid))
                if first is not None and done >= messages:
                    return first, moment
                first = first or moment
            if any(process.poll() is not None for process in processes):
                msg = f"a worker ended; see the logs in {log_folder}"
                raise RuntimeError(msg)
            time.sleep(0.02)


def _peak_mib(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.split("VmHWM:")[1].split()[0]) / 1024


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _family_cpu_seconds(pid: int) -> float:
    """A process, its living children and those it has seen end."""
    ended = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[13:15]
    total = _cpu_seconds(pid) + sum(map(int, ended)) / os.sysconf("SC_CLK_TCK")
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with suppress(FileNotFoundError, ProcessLookupError):
            total += _cpu_seconds(int(child))
    return total


def database_limit(run: Servers, rows: int, sensors: int, start_ms: int) -> float:
    """Rows a second of staged COPY with on-conflict into a table like `reading`, one connection, batches of 10 000."""
    with psycopg.connect(run.admin_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE weir.limit_probe (LIKE weir.reading INCLUDING ALL)")
        connection.execute(
            "CREATE TEMP TABLE stage (sensor_no integer, seq integer, at timestamptz, value double precision,"
            " received_at timestamptz) ON COMMIT DELETE ROWS"
        )
        started = time.monotonic()
        for first in range(0, rows, _BATCH_ROWS):
            number = np.arange(first, min(rows, first + _BATCH_ROWS))
            buffer = copy_buffer(
                [
                    (INT4, number % sensors),
                    (INT4, np.zeros(len(number), dtype=np.int32)),
                    (INT8, timestamps(start_ms + number // sensors * 1000)),
                    (FLOAT8, 3.0 + number % 50 / 10),
                    (INT8, 0),
                ]
            )
            with connection.transaction(), connection.cursor() as cursor:
                with cursor.copy("COPY pg_temp.stage FROM STDIN (FORMAT BINARY)") as copy:
                    copy.write(buffer)
                cursor.execute("INSERT INTO weir.limit_probe SELECT * FROM pg_temp.stage ON CONFLICT DO NOTHING")
        seconds = time.monotonic() - started
        connection.execute("DROP TABLE weir.limit_probe")
    return rows / seconds


def run(
    messages: int, hundred_messages: int, devices: int, workers: int, pg_root: Path | None
) -> Iterator[dict[str, object]]:
    """Measure everything once.

    Yields:
        One JSON-able object per measurement, the ratios last.
    """
    now_ms = int(time.time() * 1000)
    with tempfile.TemporaryDirectory(prefix="weir-bench-") as name, servers(Path(name), pg_root) as run_servers:
        folder = Path(name)
        credentials = asyncio.run(create_devices(run_servers, devices))
        limit = database_limit(run_servers, messages, devices, now_ms - 3_600_000)
        yield {"bench": "ingest", "measure": "database_limit", "rows_per_s": round(limit)}
        for label, count, each in (("one_reading", messages, 1), ("hundred_readings", hundred_messages, 100)):
            prefix = f"{label.replace('_', '-')}-"
            ensure_topics(run_servers.bootstrap, prefix, PARTITIONS)
            start_ms = now_ms - 3_000_000 if each == 1 else now_ms - count // devices * each * 1000 - 4_000_000
            size = fill_topic(run_servers, f"{prefix}readings", credentials, count, each, start_ms)
            drained = drain(run_servers, prefix, count, workers, folder)
            yield {
                "bench": "ingest",
                "measure": label,
                "messages": count,
                "workers": workers,
                "bytes_per_message": round(size / count),
                "messages_per_s": round(count / drained.seconds),
                "readings_per_s": round(count * each / drained.seconds),
                "of_database_limit": round(count * each / drained.seconds / limit, 3),
                "worker_cpu_us_per_message": round(drained.worker_cpu_seconds / count * 1e6, 2),
                "database_cpu_us_per_message": round(drained.database_cpu_seconds / count * 1e6, 2),
                "worker_peak_mib": round(drained.worker_peak_mib),
                "first_commit_s": round(drained.first_commit_seconds, 2),
            }
