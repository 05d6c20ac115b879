"""Partitions made by many workers at once: each exactly once, no one fails."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import psycopg
import pytest

from sinks.timescale.migrate import Engine
from tests.integration.servers import Database

pytestmark = pytest.mark.integration

DAYS = [f"2026-10-{day:02}T12:00:00Z" for day in range(1, 11)]


def test_workers_that_need_the_same_days_at_once_all_succeed(database: Database) -> None:
    if database.engine is Engine.TIMESCALE:
        pytest.skip("TimescaleDB makes its chunks itself")
    ready = Barrier(4)

    def ensure(_worker: int) -> int:
        with psycopg.connect(database.writer_url, autocommit=True) as connection:
            connection.execute("SET ROLE weir_writer")
            ready.wait(10)
            made = 0
            for day in DAYS:
                row = connection.execute("SELECT weir.ensure_partitions(%s::timestamptz[])", ([day],)).fetchone()
                made += row[0] if row else 0
            return made

    with ThreadPoolExecutor(4) as workers:
        made = list(workers.map(ensure, range(4)))

    assert sum(made) == 10
