"""What is read back of recent windows is what the readings come to, without those of the batch that is under way."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import numpy as np
import pytest

from core.postgres import DatabaseRole, open_pool
from sinks.timescale import binary
from streams.rules.recent import read_buckets
from tests.integration.api_scene import add_readings, add_sensor, instant, new_tenant
from tests.integration.servers import Database

pytestmark = pytest.mark.integration

START = instant("2026-10-01T12:00:00Z")
START_MS = int(START.timestamp() * 1000)


def test_buckets_hold_the_readings_of_a_window_up_to_the_newest_one_before_the_batch(database: Database) -> None:
    sensor_no, _ = add_sensor(database, new_tenant(database), "air")
    # The first lies before the window, the last two are the batch's; sums beyond the range of floats are none.
    values = [(-15, 50.0), (-14, 3.0), (-1, 5.0), (0, 1.7e308), (0.5, 1.7e308), (1, 90.0), (2, 90.0)]
    add_readings(database, sensor_no, [(START + timedelta(minutes=minute), 0, value) for minute, value in values])
    bucket_ms, newest_ms = 300_000, START_MS + 30_000

    async def read() -> list[list[float]]:
        async with (
            open_pool(database.writer_url, DatabaseRole.WRITER, size=1) as pool,
            pool.connection() as connection,
        ):
            binary.register(connection)
            sensor, newest = np.array([sensor_no], np.int32), np.array([newest_ms])
            return sorted((await read_buckets(connection, sensor, newest, 15 * 60_000, bucket_ms)).tolist())

    now = START_MS // bucket_ms
    assert asyncio.run(read()) == [
        [sensor_no, now - 3, 3.0, 3.0, 3.0, 1.0],
        [sensor_no, now - 1, 5.0, 5.0, 5.0, 1.0],
        [sensor_no, now, 1.7e308, 1.7e308, 2e290, 2.0],
    ]
