"""`weir bench growth`: what storing a reading costs while the table grows from 10⁵ to 10⁷ rows.

The same 200 000 new readings go through the writer's own transaction at each size; the ratio of the costs says whether
old rows slow down new ones.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psycopg

from bench.ingest import Servers, create_devices, servers
from core.postgres import DatabaseRole, open_pool
from sinks.timescale.batch_columns import ReadingColumns
from sinks.timescale.partitions import PartitionKeeper
from sinks.timescale.writer import Position, batch_transaction

SENSORS = 1000
_BATCH_ROWS = 10_000
_PROBE_ROWS = 200_000
_INTERVAL_MS = 10_000


def _register_sensors(run: Servers) -> None:
    device = asyncio.run(create_devices(run, 1))[0]
    with psycopg.connect(run.admin_url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO weir.sensor (tenant_id, device_id, name) SELECT tenant_id, device_id, 's' || n"
            " FROM weir.device, generate_series(1, %s) AS n WHERE device_id = %s",
            (SENSORS, device.device_id),
        )


def _fill(run: Servers, rows: int, start_ms: int) -> None:
    """Rows by plain SQL: every sensor every ten seconds from the start on."""
    with psycopg.connect(run.admin_url, autocommit=True) as connection:
        span = rows // SENSORS
        connection.execute(
            "SELECT weir.ensure_partitions(array_agg(d)) FROM generate_series(to_timestamp(%s), now() + interval '1 day',"
            " interval '12 hours') AS d",
            (start_ms / 1000,),
        )
        connection.execute(
            "INSERT INTO weir.reading (sensor_no, seq, at, value, received_at) SELECT s, 0,"
            " to_timestamp(%s) + n * interval '10 seconds', 4.0, now()"
            " FROM generate_series(0, %s) AS n, generate_series(1, %s) AS s ON CONFLICT DO NOTHING",
            (start_ms / 1000, span - 1, SENSORS),
        )
        # What the bulk load left to do must not run during the probe.
        connection.execute("VACUUM ANALYZE weir.reading")
        connection.execute("CHECKPOINT")


async def _probe(run: Servers, first_ms: int, offset: int) -> float:
    """Seconds for storing the probe's rows in transactions of 10 000."""
    pool = open_pool(run.admin_url, DatabaseRole.WRITER, size=2)
    async with pool:
        keeper = PartitionKeeper(pool)
        async with pool.connection() as connection:
            await connection.execute(
                "INSERT INTO weir.stream_position VALUES ('probe', 0, 'probe', 0) ON CONFLICT DO NOTHING"
            )
        started = time.monotonic()
        for number in range(_PROBE_ROWS // _BATCH_ROWS):
            per_sensor = _BATCH_ROWS // SENSORS
            at_ms = first_ms + (number * per_sensor + np.arange(per_sensor)) * _INTERVAL_MS
            rows = ReadingColumns(
                np.repeat(np.arange(1, SENSORS + 1), per_sensor).astype(np.int32),
                np.zeros(_BATCH_ROWS, dtype=np.int32),
                np.tile(at_ms, SENSORS),
                np.full(_BATCH_ROWS, 4.0),
            )
            await keeper.ensure(rows.at_ms)
            position = Position("probe", 0, "probe", offset + number, offset + number + 1)
            async with batch_transaction(pool, position) as transaction:
                await transaction.insert_readings(rows, first_ms, np.ones(_BATCH_ROWS, dtype=bool))
        return time.monotonic() - started


def run(sizes: tuple[int, ...], pg_root: Path | None) -> Iterator[dict[str, object]]:
    """Fill to each size, probe, compare.

    Yields:
        One JSON-able object per size; `cost_ratio` is against the first.
    """
    with tempfile.TemporaryDirectory(prefix="weir-bench-") as name, servers(Path(name), pg_root) as run_servers:
        _register_sensors(run_servers)
        start_ms = int(time.time() * 1000) - max(sizes) // SENSORS * _INTERVAL_MS - 3_600_000
        first = 0.0
        for number, size in enumerate(sizes):
            _fill(run_servers, size, start_ms)
            after_ms = start_ms + size // SENSORS * _INTERVAL_MS
            probes = _PROBE_ROWS // _BATCH_ROWS
            # The first round after a checkpoint writes whole pages; a running system pays that once in 15 minutes.
            asyncio.run(_probe(run_servers, after_ms, 2 * number * probes))
            after_ms += _PROBE_ROWS // SENSORS * _INTERVAL_MS
            seconds = asyncio.run(_probe(run_servers, after_ms, (2 * number + 1) * probes))
            first = first or seconds
            yield {
                "bench": "growth",
                "stored_rows": size,
                "us_per_reading": round(seconds / _PROBE_ROWS * 1e6, 2),
                "cost_ratio": round(seconds / first, 2),
            }
