"""`weir bench scans --at-once N`: so many phones scan at once; how soon each sees a preview of what it just sent.

Broker, database, stream worker, job worker and phones share the machine. Every phone sends the same recorded room; one tenant
has a single scan among all the others', and nobody may starve. Latency is from producing a frame to the commit of the first
preview that began after the frame was stored.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import psycopg

from accounts.provisioning import DeviceCredentials
from bench.ingest import PARTITIONS, Servers, create_devices, servers
from bench.rules import _paced_producer
from core.kafka import ensure_topics
from ops.simulator.room_scan import RoomScan, timed
from schemas.signing import sign

_DRAIN_S = 120.0
Key = tuple[str, int]


def run(scans: int, seconds: int, frames_per_s: float) -> Iterator[dict[str, object]]:
    """One line for the load.

    Args:
        scans: at once; all but one belong to tenants of a hundred.
        seconds: how long they last.
        frames_per_s: of each.
    """
    values = [record.value for record in timed(RoomScan(), time.time_ns() // 1_000_000)][:-1]
    with tempfile.TemporaryDirectory() as name, servers(Path(name), None) as under, ExitStack() as stack:
        ensure_topics(under.bootstrap, "", PARTITIONS)
        devices = asyncio.run(create_devices(under, -(-scans // 100) * 100 + 1))[-scans:]
        stack.enter_context(_role(under, Path(name), "worker"))
        stack.enter_context(_role(under, Path(name), "jobs", "--queues", "scans", "--concurrency", "3"))
        warm = devices[0]
        _pace(under, [(f"warm-{number}", warm) for number in range(2)], values, 4, 2.0)
        sent = _pace(under, [(f"scan-{n}", device) for n, device in enumerate(devices)], values, seconds, frames_per_s)
        yield {"bench": "scans", "measure": "at_once", "scans": scans, "frames_per_s_each": frames_per_s} | _judge(
            under, sent, seconds, f"scan-{scans - 1}"
        )


@contextmanager
def _role(run: Servers, folder: Path, *command: str) -> Iterator[None]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WEIR_")} | {
        "WEIR_DATABASE_URL": run.admin_url,
        "WEIR_KAFKA_BOOTSTRAP": run.bootstrap,
        "WEIR_SECRET_KEY": run.secret_key,
        "WEIR_CONSUMER_SESSION_TIMEOUT_S": "3",
        "WEIR_OBJECTS_URL": str(folder / "objects"),
    }
    with (folder / f"{command[0]}.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-m", "ops.cli", *command], env=environment, stdout=log, stderr=log
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)


def _pace(
    run: Servers, scans: list[tuple[str, DeviceCredentials]], values: list[bytes], seconds: float, rate: float
) -> dict[Key, float]:
    """Every scan's records at a steady rate, the scans evenly spread over a period; when each was sent."""
    producer, started, sent = _paced_producer(run.bootstrap), time.monotonic(), dict[Key, float]()
    done = [0] * len(scans)
    while (elapsed := time.monotonic() - started) < seconds:
        for number, (scan_id, device) in enumerate(scans):
            due = min(len(values), int(elapsed * rate + number / len(scans)))
            for seq in range(done[number], due):
                key, value = scan_id.encode(), values[seq]
                headers = [("weir-device", device.device_id.encode())]
                headers.append(("weir-signature", sign(device.secret, key, value).encode()))
                producer.send("scan-frames", value, key, headers)
                sent[scan_id, seq] = time.time()
            done[number] = max(done[number], due)
        time.sleep(0.005)
    producer.flush()
    return sent


def _judge(run: Servers, sent: dict[Key, float], seconds: float, single: str) -> dict[str, object]:
    with psycopg.connect(run.admin_url, autocommit=True) as connection:
        _drain(connection)
        stored = connection.execute(
            "SELECT s.scan_id, f.seq, extract(epoch FROM f.received_at)::float8 FROM weir.scan_frame f"
            " JOIN weir.scan s USING (scan_no)"
        ).fetchall()
        previews = connection.execute(
            "SELECT j.args ->> 'scan_id', extract(epoch FROM a.started_at)::float8, extract(epoch FROM a.ended_at)::float8"
            " FROM weir.job_attempt a JOIN weir_jobs.procrastinate_jobs j ON j.id = a.job_id"
            " WHERE a.task = 'scans.preview' AND a.outcome = 'succeeded' ORDER BY a.started_at"
        ).fetchall()
    starts, ends = defaultdict[str, list[float]](list), defaultdict[str, list[float]](list)
    for scan_id, began, ended in previews:
        starts[scan_id].append(began)
        ends[scan_id].append(ended)
    waits = defaultdict[str, list[float]](list)
    for scan_id, seq, received in stored:
        row = int(np.searchsorted(starts[scan_id], received))
        if (scan_id, seq) in sent and row < len(ends[scan_id]):
            waits[scan_id].append(ends[scan_id][row] - sent[scan_id, seq])
    every = np.concatenate([np.array(one) for one in waits.values()] or [np.zeros(0)])
    counts = [len(ends[scan_id]) for scan_id in {scan_id for scan_id, _ in sent}]
    return {
        "frames_sent": len(sent),
        "frames_previewed": len(every),
        "frames_per_s": round(len(sent) / seconds),
        "previews": sum(counts),
        "least_previews_of_a_scan": min(counts),
        "most_previews_of_a_scan": max(counts),
        "preview_ms": round(1000 * float(np.median([end - begin for _, begin, end in previews]))),
        "frame_to_preview_p50_s": round(float(np.percentile(every, 50)), 2),
        "frame_to_preview_p95_s": round(float(np.percentile(every, 95)), 2),
        "worst_scan_p95_s": round(max(float(np.percentile(one, 95)) for one in waits.values()), 2),
        "single_scan_of_a_tenant_p95_s": round(float(np.percentile(waits[single], 95)), 2),
        "machine_load": round(os.getloadavg()[0], 1),
    }


def _drain(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    """Wait until no preview waits."""
    deadline = time.monotonic() + _DRAIN_S
    while time.monotonic() < deadline:
        row = connection.execute(
            "SELECT count(*) FROM weir_jobs.procrastinate_jobs"
            " WHERE starts_with(queue_name, 'scan') AND status IN ('todo', 'doing')"
        ).fetchone()
        if row == (0,):
            return
        time.sleep(0.5)
