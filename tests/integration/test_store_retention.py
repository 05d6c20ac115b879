"""Raw readings go when a tenant no longer keeps them; roll-ups, usage and the neighbours' readings stay as they were."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import psycopg
import pytest

from sinks.timescale import retention
from sinks.timescale.migrate import Engine
from sinks.timescale.retention import advance_horizons, drop_expired
from sinks.timescale.rollups import refresher
from tests.integration.servers import Database
from tests.integration.store_scene import (
    DAY_MS,
    HOUR_MS,
    Reading,
    StoreScene,
    assert_same_buckets,
    at,
    expected,
    store_scene,
)

pytestmark = pytest.mark.integration

TODAY = round(datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0).timestamp() * 1000)
NOW = round(datetime.now(UTC).timestamp() * 1000)
# With a retention of 30 days the horizon is the start of the day 30 days ago; these are days around it.
GONE, LAST_GONE, KEPT = TODAY - 40 * DAY_MS, TODAY - 31 * DAY_MS, TODAY - 30 * DAY_MS
LEVELS = ("1m", "1h", "1d")


def run_scene(database: Database, act: Callable[[StoreScene], Awaitable[None]], *, daily: bool = True) -> None:
    """Run a test on sensors 1, 3 of tenant A (keeps 30 days) and 2 of tenant B (keeps all), in one block."""

    async def go() -> None:
        async with store_scene(database) as scene:
            await scene.add_sensors({1: "A", 2: "B", 3: "A"})
            await scene.admin("UPDATE weir.tenant SET raw_retention = interval '30 days' WHERE tenant_id = 'A'")
            if database.engine is Engine.PLAIN:
                first_daily = GONE - 366 * DAY_MS if daily else NOW
                await scene.admin(
                    "UPDATE weir.partition_plan SET daily_from = date_trunc('month', %s)", at(first_daily)
                )
            await act(scene)

    asyncio.run(go())


def readings_of(sensors: list[int], *days: int, seed: int = 1) -> list[Reading]:
    """Forty readings a sensor and day, at random."""
    rng = random.Random(seed)
    return [
        (sensor_no, day + rng.randrange(DAY_MS), 0, round(rng.uniform(-30, 30), 3))
        for day in days
        for sensor_no in sensors
        for _ in range(40)
    ]


async def assert_rollups_as_before(scene: StoreScene) -> None:
    for level in LEVELS:
        wanted = expected(scene.truth, level)
        assert_same_buckets(await scene.rollup(level), wanted)
        for sensor_no in scene.tenants:
            page = await scene.page(sensor_no, level, GONE - 400 * DAY_MS, NOW)
            assert_same_buckets(page, [row for row in wanted if row[0] == sensor_no])


async def raw_rows(scene: StoreScene, tenant: str) -> int:
    rows = await scene.admin(
        "SELECT count(*) FROM weir.reading JOIN weir.sensor USING (sensor_no) WHERE tenant_id = %s", tenant
    )
    return int(rows[0][0])


def test_the_horizon_moves_to_the_start_of_a_day_and_hides_what_is_older_at_once(database: Database) -> None:
    async def act(scene: StoreScene) -> None:
        await scene.write((1, KEPT - 1, 0, 4.0), (1, KEPT, 0, 5.0), (2, KEPT - 1, 0, 6.0))
        assert await advance_horizons(scene.writer, NOW) == {"A": at(KEPT)}
        shown = await scene.admin("SELECT sensor_id, value FROM public.readings ORDER BY 1")
        assert shown == [("s1", 5.0), ("s2", 6.0)]
        assert await advance_horizons(scene.writer, NOW) == {}
        await assert_rollups_as_before(scene)

    run_scene(database, act)


def test_the_horizon_waits_for_open_batches_and_a_clock_ahead_of_the_databases_moves_nothing(
    database: Database,
) -> None:
    async def act(scene: StoreScene) -> None:
        async with scene.batch([(1, KEPT - 1, 0, 4.0)]):
            assert await advance_horizons(scene.writer, NOW) == {}
        assert await advance_horizons(scene.writer, NOW + 3650 * DAY_MS) == {"A": at(KEPT)}

    run_scene(database, act)


@pytest.mark.parametrize("stored", ["refreshed", "still marked"])
def test_roll_ups_equal_the_computation_made_before_the_readings_went(database: Database, stored: str) -> None:
    async def act(scene: StoreScene) -> None:
        await scene.write(*readings_of([1, 2, 3], GONE, LAST_GONE, KEPT, TODAY - DAY_MS))
        if stored == "refreshed":
            await scene.refresh_all()
        await advance_horizons(scene.writer, NOW)
        report = await drop_expired(scene.maintenance, scene.engine)
        assert (report.frozen, report.dropped, report.erased) == (["A"], [], 160)  # 2 sensors x 2 days x 40
        assert (await raw_rows(scene, "A"), await raw_rows(scene, "B")) == (160, 160)
        await assert_rollups_as_before(scene)
        assert (await drop_expired(scene.maintenance, scene.engine)).erased == 0

    run_scene(database, act)


def test_a_neighbour_who_uploads_to_days_that_others_let_go_leaves_their_roll_ups_alone(database: Database) -> None:
    async def act(scene: StoreScene) -> None:
        await scene.write(*readings_of([1, 2, 3], GONE, LAST_GONE))
        await scene.refresh_all()
        await advance_horizons(scene.writer, NOW)
        await drop_expired(scene.maintenance, scene.engine)
        await scene.write(*readings_of([2], GONE, LAST_GONE, seed=2))
        assert {block for block, _ in await scene.markers()} == {0}
        await assert_rollups_as_before(scene)  # marked: the neighbour's hours are computed, the others' are not
        await scene.refresh_all()
        await assert_rollups_as_before(scene)

    run_scene(database, act)


def test_partitions_that_nobody_keeps_go_whole_and_a_later_tenant_may_fill_them_again(database: Database) -> None:
    async def act(scene: StoreScene) -> None:
        await scene.admin("UPDATE weir.tenant SET raw_retention = interval '30 days'")
        await scene.write(*readings_of([1, 2, 3], GONE, LAST_GONE, KEPT))
        await advance_horizons(scene.writer, NOW)
        report = await drop_expired(scene.maintenance, scene.engine)
        assert (len(report.dropped), report.erased) == (2, 0)  # the days GONE and LAST_GONE
        assert await scene.admin("SELECT count(*), min(at) >= %s FROM weir.reading", at(KEPT)) == [(120, True)]
        await assert_rollups_as_before(scene)

        await scene.add_sensors({4: "C"})
        await scene.write(*readings_of([4], GONE, LAST_GONE, seed=3))
        await assert_rollups_as_before(scene)
        await scene.refresh_all()
        await assert_rollups_as_before(scene)

    run_scene(database, act)


def test_a_partition_that_reaches_beyond_the_horizon_loses_only_the_rows_below_it(database: Database) -> None:
    async def act(scene: StoreScene) -> None:
        await scene.admin("UPDATE weir.tenant SET raw_retention = interval '30 days'")
        await scene.write(*readings_of([1, 2, 3], GONE, LAST_GONE, KEPT))
        await advance_horizons(scene.writer, NOW)
        await drop_expired(scene.maintenance, scene.engine)
        assert await scene.admin("SELECT count(*), min(at) >= %s FROM weir.reading", at(KEPT)) == [(120, True)]
        await assert_rollups_as_before(scene)

    run_scene(database, act, daily=False)


def test_a_tenant_that_keeps_everything_loses_nothing(database: Database) -> None:
    async def act(scene: StoreScene) -> None:
        await scene.admin("UPDATE weir.tenant SET raw_retention = NULL")
        await scene.write(*readings_of([1, 2, 3], GONE))
        assert await advance_horizons(scene.writer, NOW) == {}
        report = await drop_expired(scene.maintenance, scene.engine)
        assert (report.frozen, report.dropped, report.erased) == ([], [], 0)
        assert await scene.admin("SELECT count(*) FROM public.readings") == [(120,)]

    run_scene(database, act)


def test_usage_is_not_lowered(database: Database) -> None:
    async def act(scene: StoreScene) -> None:
        await scene.write(*readings_of([1], GONE))
        await scene.admin("INSERT INTO weir.usage VALUES ('A', 'readings', %s, 40, 1)", at(GONE))
        before = await scene.admin("TABLE public.usage_hourly")
        await advance_horizons(scene.writer, NOW)
        assert (await drop_expired(scene.maintenance, scene.engine)).erased == 40
        assert await scene.admin("TABLE public.usage_hourly") == before

    run_scene(database, act)


def test_a_run_that_was_interrupted_after_freezing_is_finished_by_the_next(database: Database) -> None:
    async def act(scene: StoreScene) -> None:
        await scene.write(*readings_of([1, 2, 3], GONE, KEPT))
        await advance_horizons(scene.writer, NOW)
        async with scene.maintenance.connection() as connection, refresher(connection):
            await retention._freeze(connection, scene.engine, retention.RetentionReport())
        await scene.write(*readings_of([2], GONE, seed=2))  # marks hours whose frozen neighbours still have their rows
        await assert_rollups_as_before(scene)
        await scene.refresh_all()
        report = await drop_expired(scene.maintenance, scene.engine)
        assert (report.frozen, report.erased) == ([], 80)
        await assert_rollups_as_before(scene)

    run_scene(database, act)


def test_hours_that_were_not_settled_yet_are_not_frozen(database: Database) -> None:
    async def act(scene: StoreScene) -> None:
        await scene.close_hours_before(LAST_GONE + 5 * HOUR_MS)  # roll-ups have not been kept for a month
        await scene.write(*readings_of([1, 2, 3], GONE, LAST_GONE, KEPT))
        await advance_horizons(scene.writer, NOW)
        report = await drop_expired(scene.maintenance, scene.engine)
        assert report.erased == 80  # 2 sensors x 40 of the day GONE; LAST_GONE is still computed from its rows
        await assert_rollups_as_before(scene)

    run_scene(database, act)


def test_a_reader_who_holds_a_partition_delays_its_drop_but_not_for_good(database: Database) -> None:
    async def act(scene: StoreScene) -> None:
        await scene.admin("UPDATE weir.tenant SET raw_retention = interval '30 days'")
        await scene.write(*readings_of([1, 2, 3], GONE, KEPT))
        await advance_horizons(scene.writer, NOW)
        async with await psycopg.AsyncConnection.connect(database.admin_url) as reader:
            await reader.execute("SELECT count(*) FROM weir.reading")
            with pytest.raises(psycopg.errors.LockNotAvailable):
                await drop_expired(scene.maintenance, scene.engine)
        report = await drop_expired(scene.maintenance, scene.engine)
        assert (len(report.dropped), report.erased) == (1, 0)
        await assert_rollups_as_before(scene)

    run_scene(database, act)


def test_late_readings_and_conflicts_reach_chunks_that_are_columns_already(database: Database) -> None:
    async def act(scene: StoreScene) -> None:
        first = [(sensor_no, KEPT + step * 60_000, 0, float(step)) for sensor_no in (1, 2, 3) for step in range(1440)]
        await scene.write(*first)
        await scene.refresh_all()
        report = await drop_expired(scene.maintenance, scene.engine)
        assert len(report.compressed) == (1 if scene.engine is Engine.TIMESCALE else 0)
        await scene.write(*first[:500])  # duplicates
        await scene.write((1, KEPT, 0, 50.0), (2, KEPT, 0, -50.0), (3, KEPT + 1, 0, 7.0))  # greater, lesser, new
        await assert_rollups_as_before(scene)
        await scene.refresh_all()
        await assert_rollups_as_before(scene)
        again = await drop_expired(scene.maintenance, scene.engine)
        assert again.compressed == report.compressed  # written to since, so packed again
        assert await scene.admin("SELECT count(*) FROM public.readings") == [(3 * 1440 + 1,)]
        await assert_rollups_as_before(scene)

    run_scene(database, act)
