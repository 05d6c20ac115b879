"""`weir bench live`: from producing a reading to its frame at a viewer, fan-out, idle memory, and everybody coming back at once.

Broker, database, worker, API, producer and viewers share the machine, each in a process of its own.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import psycopg

from accounts import provisioning
from accounts.provisioning import DeviceCredentials
from bench.ingest import PARTITIONS, Servers, _cpu_seconds, create_devices, servers
from bench.live_ages import listening
from bench.live_viewers import Seen, connect_all, cut
from bench.rules import _await_first_commit, _paced_producer, send
from core.kafka import ensure_topics
from core.secrets import Vault
from ops.embedded.ports import pick_port

_PREFIX = "paced-"
_SENSORS_EACH = 10
_WARM_UP_S = 3.0
_REST = {"sensors": "/v1/sensors?limit=100", "alerts": "/v1/alerts?limit=100", "usage": "/v1/usage"}


@contextmanager
def _role(run: Servers, folder: Path, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WEIR_")} | {
        "WEIR_DATABASE_URL": run.admin_url,
        "WEIR_KAFKA_BOOTSTRAP": run.bootstrap,
        "WEIR_TOPIC_PREFIX": _PREFIX,
        "WEIR_SECRET_KEY": run.secret_key,
        "WEIR_CONSUMER_SESSION_TIMEOUT_S": "3",
        "WEIR_API_REQUESTS_PER_S": "10000",
    }
    with (folder / f"{command[0]}.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-m", "ops.cli", *command], env=environment, stdout=log, stderr=log
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=20)


@contextmanager
def _api(run: Servers, folder: Path) -> Iterator[tuple[str, int]]:
    """An API that answers: its URL and process id."""
    port = pick_port()
    with _role(run, folder, "api", "--port", str(port)) as process:
        url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"{url}/livez", timeout=5).close()  # noqa: S310 - our own server
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                yield url, process.pid
                return


def _produce(bootstrap: str, devices: list[DeviceCredentials], rate: int, seconds: float) -> None:
    """One-reading messages at a steady rate; a reading's own time is when it was produced."""
    producer, started, sent = _paced_producer(bootstrap), time.monotonic(), 0
    while (elapsed := time.monotonic() - started) < seconds:
        due = int(elapsed * rate)
        for number in range(sent, due):
            device = devices[number % len(devices)]
            send(producer, f"{_PREFIX}readings", device, time.time_ns() // 1_000_000, 3.0 + number % 50 / 10)
        sent = max(sent, due)
        time.sleep(0.002)
    producer.flush()


@contextmanager
def _producing(run: Servers, devices: list[DeviceCredentials], rate: int, seconds: float) -> Iterator[None]:
    process = multiprocessing.get_context("spawn").Process(
        target=_produce, args=(run.bootstrap, devices, rate, seconds), daemon=True
    )
    process.start()
    try:
        yield
    finally:
        process.terminate()
        process.join()


def _tenants(run: Servers) -> dict[str, tuple[str, list[str]]]:
    """Of each tenant a new API key and its sensors."""

    async def keys(tenant_ids: list[str]) -> list[str]:
        vault = Vault.from_secret(run.secret_key)
        async with await psycopg.AsyncConnection.connect(run.admin_url, autocommit=True) as connection:
            return [await provisioning.create_api_key(connection, vault, one, "bench") for one in tenant_ids]

    with psycopg.connect(run.admin_url, autocommit=True) as connection:
        rows = connection.execute(
            "SELECT tenant_id, array_agg(sensor_id) FROM weir.sensor GROUP BY 1 ORDER BY 1"
        ).fetchall()
    api_keys = asyncio.run(keys([tenant_id for tenant_id, _ in rows]))
    return {tenant_id: (key, sensors) for (tenant_id, sensors), key in zip(rows, api_keys, strict=True)}


def _wanted(tenants: dict[str, tuple[str, list[str]]], viewers: int) -> list[tuple[str, dict[str, object]]]:
    """Each viewer watches ten sensors of a tenant."""
    every = list(tenants.values())
    wanted: list[tuple[str, dict[str, object]]] = []
    for number in range(viewers):
        key, sensors = every[number % len(every)]
        first = number // len(every) * _SENSORS_EACH % len(sensors)
        wanted.append((key, {"channel": "readings", "filter": {"sensor_id": sensors[first : first + _SENSORS_EACH]}}))
    return wanted


async def _watch(url: str, wanted: list[tuple[str, dict[str, object]]], seconds: float) -> tuple[Seen, float, int]:
    seen = Seen()
    viewers = await connect_all(url, seen, wanted)
    await asyncio.sleep(_WARM_UP_S)
    seen.__init__()  # type: ignore[misc] # from here on it counts
    started = time.monotonic()
    await asyncio.sleep(seconds)
    took, closed = time.monotonic() - started, seen.closed
    cut(viewers)
    return seen, took, closed


def latency(
    run: Servers, api: tuple[str, int], devices: list[DeviceCredentials], viewers: int, rate: int, seconds: int
) -> dict[str, object]:
    """From producing a reading to its frame at a viewer, and what that costs the API."""
    url, pid = api
    wanted = _wanted(_tenants(run), viewers)
    with _producing(run, devices, rate, seconds + 60), listening(run.admin_url) as ages:
        before = _cpu_seconds(pid)
        began = time.monotonic()
        seen, took, closed = asyncio.run(_watch(url, wanted, seconds))
        cpu = (_cpu_seconds(pid) - before) * took / (time.monotonic() - began)
    latencies = np.array(seen.latencies_ms)
    p50, p99 = np.percentile(latencies, [50, 99]).tolist() if len(latencies) else (float("nan"),) * 2
    return {
        "bench": "live",
        "measure": "produce_to_frame",
        "viewers": viewers,
        "readings_per_s": rate,
        "p50_ms": round(p50, 1),
        "p99_ms": round(p99, 1),
        "p99_of_target": round(p99 / 250, 2),
        **ages.percentiles(),
        "frames_per_s": round(seen.frames / took),
        "readings_fanned_out_per_s": round(seen.readings / took),
        "api_cores": round(cpu / took, 2),
        "frames_per_s_and_core": round(seen.frames / max(cpu, 0.01)),
        "closed": closed,
    }


def _rss_kib(pid: int) -> int:
    return int(Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0])


def idle_memory(run: Servers, api: tuple[str, int], connections: int) -> dict[str, object]:
    """Memory of a connection that is subscribed and silent."""
    url, pid = api
    keys = [key for key, _ in _tenants(run).values()]

    async def measure() -> tuple[int, int]:
        seen = Seen()
        few = await connect_all(url, seen, [(key, {"channel": "alerts"}) for key in keys])
        before = _rss_kib(pid)
        many = await connect_all(url, seen, [(keys[n % len(keys)], {"channel": "alerts"}) for n in range(connections)])
        after = _rss_kib(pid)
        cut([*few, *many])
        return before, after

    before, after = asyncio.run(measure())
    each = (after - before) / connections
    return {
        "bench": "live",
        "measure": "idle_memory",
        "connections": connections,
        "kib_per_connection": round(each, 1),
        "of_target": round(each / 40, 2),
    }


def _transactions(run: Servers) -> int:
    """Transactions of the API's role; it has no prepared workload of its own but for the bridge's ticks."""
    with psycopg.connect(run.admin_url, autocommit=True) as connection:
        connection.execute("SELECT pg_stat_force_next_flush()")
        row = connection.execute(
            "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
        ).fetchone()
    return int(row[0]) if row else 0


def reconnect(run: Servers, api: tuple[str, int], viewers: int) -> dict[str, object]:
    """Everybody is cut and comes back at once with a cursor, after events that all of them missed."""
    url, _ = api
    tenants = _tenants(run)
    keys = [key for key, _ in tenants.values()]

    async def storm() -> tuple[float, int, int, int]:
        seen = Seen()
        stay = await connect_all(url, seen, [(key, {"channel": "alerts"}) for key in keys])
        gone = await connect_all(url, seen, [(keys[n % len(keys)], {"channel": "alerts"}) for n in range(viewers)])
        cursors = [viewer.cursor for viewer in gone]
        cut(gone)
        with psycopg.connect(run.admin_url, autocommit=True) as connection:
            for tenant_id in tenants:
                connection.execute(
                    "SELECT weir.emit_live(array_fill(%s::text, ARRAY[10]), array_fill('alerts'::text, ARRAY[10]),"
                    ' array_fill(\'{"status": "firing"}\'::jsonb, ARRAY[10]))',
                    (tenant_id,),
                )
        await asyncio.sleep(6)
        idle = _transactions(run)
        await asyncio.sleep(5)
        before = _transactions(run)
        missed, started = Seen(), time.monotonic()
        back = await connect_all(
            url,
            missed,
            [(keys[n % len(keys)], {"channel": "alerts", "cursor": cursor}) for n, cursor in enumerate(cursors)],
        )
        took = time.monotonic() - started
        await asyncio.sleep(max(0.0, 5 - took))
        during = _transactions(run) - before
        cut([*stay, *back])
        return took, missed.frames, during, before - idle

    took, frames, during, idle = asyncio.run(storm())
    return {
        "bench": "live",
        "measure": "reconnect",
        "viewers": viewers,
        "seconds_to_all_caught_up": round(took, 2),
        "frames_of_missed_events": frames,
        "database_transactions": during,
        "database_transactions_of_an_idle_time_as_long": idle,
    }


def rest(
    run: Servers, api: tuple[str, int], devices: list[DeviceCredentials], rate: int, seconds: int
) -> dict[str, object]:
    """REST answers while readings are stored at a rate."""
    url, _ = api
    key, sensors = next(iter(_tenants(run).values()))
    paths = _REST | {"readings": f"/v1/sensors/{sensors[0]}/readings", "sensor": f"/v1/sensors/{sensors[0]}"}
    took: dict[str, list[float]] = {name: [] for name in paths}
    with _producing(run, devices, rate, seconds + 60):
        time.sleep(_WARM_UP_S)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for name, path in paths.items():
                started = time.monotonic()
                request = urllib.request.Request(f"{url}{path}", headers={"Authorization": f"Bearer {key}"})  # noqa: S310
                urllib.request.urlopen(request, timeout=30).read()  # noqa: S310
                took[name].append((time.monotonic() - started) * 1000)
                time.sleep(0.02)
    every = [one for each in took.values() for one in each]
    return {
        "bench": "live",
        "measure": "rest_while_ingesting",
        "readings_per_s": rate,
        "requests": len(every),
        "p50_ms": round(float(np.percentile(every, 50)), 1),
        "p95_ms": round(float(np.percentile(every, 95)), 1),
        "p95_of_target": round(float(np.percentile(every, 95)) / 50, 2),
        "p95_ms_by_route": {name: round(float(np.percentile(each, 95)), 1) for name, each in took.items()},
    }


def run(seconds: int, rate: int, sensors: int, pg_root: Path | None) -> Iterator[dict[str, object]]:
    """Measure everything once.

    Yields:
        One JSON-able object per measurement.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="weir-bench-")))
        run_servers = stack.enter_context(servers(folder, pg_root))
        devices = asyncio.run(create_devices(run_servers, sensors))
        ensure_topics(run_servers.bootstrap, _PREFIX, PARTITIONS)
        worker = ExitStack()
        stack.enter_context(worker)
        worker.enter_context(_role(run_servers, folder, "worker"))
        api = stack.enter_context(_api(run_servers, folder))
        _await_first_commit(run_servers, devices)
        for viewers in (100, 1_000):
            yield latency(run_servers, api, devices, viewers, rate, seconds)
        yield rest(run_servers, api, devices, 4 * rate, seconds)
        worker.close()
        yield idle_memory(run_servers, stack.enter_context(_api(run_servers, folder)), 1_000)
        yield reconnect(run_servers, stack.enter_context(_api(run_servers, folder)), 1_000)
