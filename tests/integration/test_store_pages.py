"""Pages of one sensor cost what they show, not what is stored or waits to be refreshed."""

from __future__ import annotations

import asyncio
import random
from typing import LiteralString

import psycopg
import pytest

from core.postgres import tenant_transaction
from sinks.timescale.rollups import advance_frontier, refresh
from tests.integration.servers import Database
from tests.integration.store_scene import DAY_MS, HOUR_MS, StoreScene, at, ms, store_scene

pytestmark = pytest.mark.integration

# The 60 rows of the open hour, and a chunk of a few pages may be read whole: of a million, nothing.
SPARE = 300
# 31 x 24 = 744 hours; the open hour is the 745th and of the 32nd day.
PAGES: dict[LiteralString, int] = {
    "SELECT * FROM weir_tenant.sensor_rollup(1, '1h', '2026-03-01Z', '2026-04-01Z', 10000)": 744,
    "SELECT * FROM weir_tenant.sensor_rollup(1, '1h', '2026-03-01Z', '2026-04-02Z', 10000)": 745,
    "SELECT * FROM weir_tenant.sensor_rollup(1, '1m', '2026-03-10T10:00Z', '2026-04-02Z', 1000)": 1000,
    "SELECT * FROM weir_tenant.sensor_rollup(1, '1d', '2026-03-01Z', 'infinity', 10000)": 32,
    "SELECT * FROM weir_tenant.sensor_raw(1, '2026-03-01Z', '2026-04-02Z', NULL, NULL, 1000)": 1000,
    "SELECT * FROM weir_tenant.sensor_raw(1, '2026-03-01Z', '2026-04-02Z', '2026-03-20T10:00Z', 0, 1000)": 1000,
    "SELECT * FROM weir_tenant.sensor_raw(1, '-infinity', 'infinity', NULL, NULL, 1000)": 1000,
}


async def rows_read(scene: StoreScene, query: LiteralString) -> tuple[int, int]:
    """Rows that a query gives and rows that it fetched from readings, roll-ups and markers to do so."""
    async with await psycopg.AsyncConnection.connect(scene.database.admin_url) as connection:
        await connection.execute("SET TIME ZONE 'UTC'")
        await connection.execute("SET LOCAL weir.tenant = 'A'")
        given = len(await (await connection.execute(query)).fetchall())
        cursor = await connection.execute(
            "SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0))::integer FROM pg_stat_xact_user_tables"
            " WHERE relname ~ '^reading|^rollup_1|^kept_|^rollup_dirty|^_hyper|^_compressed'"
        )
        row = await cursor.fetchone()
        assert row is not None
        return given, row[0]


def test_a_page_reads_what_it_shows_and_the_open_hours_however_much_is_stored_or_marked(database: Database) -> None:
    async def go() -> None:
        async with store_scene(database) as scene:
            await check(scene)

    async def check(scene: StoreScene) -> None:
        await scene.add_sensors({1: "A"} | dict.fromkeys(range(2, 40), "B"))
        # March: 31 days of a reading every 2.6784 s = 1 000 000; the last hour before "now" is open and has 60 more.
        start, end = ms("2026-03-01T00:00"), ms("2026-04-01T00:00")
        await scene.close_hours_before(start)
        days = [at(start + day * DAY_MS) for day in range(32)]
        await scene.admin("SELECT weir.ensure_partitions(%s)", days)
        await scene.admin(
            "INSERT INTO weir.reading SELECT 1, 0, %s + i * interval '2678.4 ms', sin(i), now()"
            " FROM generate_series(0, 999999) AS i",
            at(start),
        )
        await scene.admin(
            "INSERT INTO weir.reading SELECT s, 0, %s + i * interval '10 minutes', 0, now()"
            " FROM generate_series(2, 39) AS s, generate_series(0, 31 * 144 - 1) AS i",
            at(start),
        )
        await scene.admin(
            "INSERT INTO weir.reading SELECT 1, 0, %s + i * interval '1 minute', 0, now() FROM generate_series(0, 59) AS i",
            at(end + HOUR_MS),
        )
        await advance_frontier(scene.writer, end + 3 * HOUR_MS)  # settled: end + 1 h
        while (await refresh(scene.maintenance, scene.engine, settle_s=0)).remaining:
            pass
        await scene.admin(
            "INSERT INTO weir.rollup_dirty (block, hour) SELECT b, %s + h * interval '1 hour'"
            " FROM generate_series(1, 200) AS b, generate_series(0, 499) AS h",
            at(start),
        )
        await scene.admin("ANALYZE")
        for query, given in PAGES.items():
            shown, fetched = await rows_read(scene, query)
            assert shown == given
            assert fetched <= given + SPARE, query

    asyncio.run(go())


def test_raw_pages_put_together_are_all_readings_in_order_of_time_and_seq(database: Database) -> None:
    noon = ms("2026-03-10T12:00")

    async def go() -> None:
        async with store_scene(database) as scene:
            await scene.add_sensors({1: "A", 2: "B"})
            rng = random.Random(1)
            # Two days around a boundary of partitions; several seqs share a millisecond, also across pages.
            await scene.write(
                *(
                    (rng.choice((1, 2)), noon + rng.randrange(20) * 6_000_000, rng.randrange(9), rng.random())
                    for _ in range(300)
                )
            )
            wanted = [(at(key[1]), value, key[2]) for key, value in sorted(scene.truth.items()) if key[0] == 1]
            assert await raw_pages(scene, limit=7) == wanted
            async with tenant_transaction(scene.reader, "A") as connection:
                cursor = await connection.execute("SELECT at, value, seq FROM weir_tenant.readings ORDER BY at, seq")
                assert await cursor.fetchall() == wanted
            await scene.admin("UPDATE weir.tenant SET retention_horizon = '2026-03-11Z'")
            assert await raw_pages(scene, limit=7) == [row for row in wanted if row[0] >= at(ms("2026-03-11T00:00"))]

    asyncio.run(go())


async def raw_pages(scene: StoreScene, *, limit: int) -> list[tuple[object, ...]]:
    """All pages of sensor 1 as its tenant reads them."""
    rows: list[tuple[object, ...]] = []
    after: tuple[object, object] = (None, None)
    while True:
        async with tenant_transaction(scene.reader, "A") as connection:
            cursor = await connection.execute(
                "SELECT at, value, seq FROM weir_tenant.sensor_raw(1, '-infinity', 'infinity', %s, %s, %s)",
                (*after, limit),
            )
            page = await cursor.fetchall()
        rows += page
        if len(page) < limit:
            return rows
        after = (page[-1][0], page[-1][2])
