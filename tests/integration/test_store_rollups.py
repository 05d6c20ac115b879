"""Roll-ups equal what one computes from the readings, whatever is stored, marked or open, on either engine."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import timedelta

import psycopg
import pytest
from psycopg import sql

from sinks.timescale import aggregates, rollups
from sinks.timescale.migrate import Engine
from sinks.timescale.rollups import RefreshReport, advance_frontier, refresh
from tests.integration.servers import Database
from tests.integration.store_scene import (
    DAY_MS,
    HOUR_MS,
    Reading,
    StoreScene,
    assert_same_buckets,
    at,
    columns,
    expected,
    ms,
    store_scene,
)

pytestmark = pytest.mark.integration

NOON = ms("2026-03-10T12:00")
LEVELS = ("1m", "1h", "1d")


async def assert_true(scene: StoreScene) -> None:
    """Every level shows exactly what the stored readings say."""
    for level in LEVELS:
        assert_same_buckets(await scene.rollup(level), expected(scene.truth, level))


def random_readings(rng: random.Random, now: int, sensors: list[int]) -> list[Reading]:
    """A batch: most of it of the last hour, some of the last three days, whole minutes shared, seq used."""
    readings: list[Reading] = []
    for _ in range(rng.randrange(1, 120)):
        age = rng.choice([rng.randrange(HOUR_MS), rng.randrange(6 * HOUR_MS), rng.randrange(3 * DAY_MS)])
        at_ms = (now - age) // 500 * 500
        readings.append((rng.choice(sensors), at_ms, rng.choice([0, 0, 1, 2**31 - 1]), round(rng.uniform(-30, 30), 3)))
    return readings


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_after_any_writes_and_refreshes_every_level_equals_a_computation_from_the_readings(
    database: Database, seed: int
) -> None:
    async def go() -> None:
        rng = random.Random(seed)
        async with store_scene(database) as scene:
            sensors = {1: "A", 2: "B", 63: "A", 64: "A", 65: "B", 200: "B"}
            await scene.add_sensors(sensors)
            await scene.close_hours_before(NOON - 2 * HOUR_MS)
            now = NOON
            for _ in range(14):
                await scene.write(*random_readings(rng, now, list(sensors)))
                now += rng.randrange(3 * HOUR_MS)
                if rng.random() < 0.5:
                    await advance_frontier(scene.writer, now)
                if rng.random() < 0.6:
                    await refresh(scene.maintenance, scene.engine, limit=rng.choice([1, 5, 1000]), settle_s=0)
                await assert_true(scene)
                await assert_pages_equal_views(scene, rng, now)

    asyncio.run(go())


async def assert_pages_equal_views(scene: StoreScene, rng: random.Random, now: int) -> None:
    for level in LEVELS:
        sensor_no = rng.choice(list(scene.tenants))
        whole = [row for row in expected(scene.truth, level) if row[0] == sensor_no]
        start = now - rng.randrange(4 * DAY_MS)
        end = start + rng.randrange(4 * DAY_MS)
        found = await scene.page(sensor_no, level, start, end)
        inside = [row for row in whole if start <= round(row[1].timestamp() * 1000) < end]
        assert_same_buckets(found, inside)
        first = await scene.page(sensor_no, level, start, end, limit=3)
        assert first == found[:3]


# Rows where a level differs from an aggregation of the raw rows under the same snapshot.
DIFFERENCES = """
WITH raw AS (
    SELECT sensor_id, date_bin({step}, at, 'epoch') AS bucket_start, count(*) AS count, min(value) AS min,
           max(value) AS max, (array_agg(value ORDER BY at, seq))[1] AS first,
           (array_agg(value ORDER BY at DESC, seq DESC))[1] AS last
    FROM public.readings GROUP BY 1, 2)
SELECT * FROM raw FULL JOIN public.{view} v USING (sensor_id, bucket_start)
WHERE (raw.count, raw.min, raw.max, raw.first, raw.last) IS DISTINCT FROM (v.count, v.min, v.max, v.first, v.last)
"""
HOUR_9, HOUR_10 = ms("2026-03-10T09:00"), ms("2026-03-10T10:00")


def run_scene(database: Database, act: Callable[[StoreScene], Awaitable[None]]) -> None:
    """Run a test on two sensors of one block, the hours before 10:00 being closed."""

    async def go() -> None:
        async with store_scene(database) as scene:
            await scene.add_sensors({1: "A", 2: "B"})
            await scene.close_hours_before(HOUR_10)
            await act(scene)

    asyncio.run(go())


def test_a_batch_that_is_open_while_its_hour_is_refreshed_is_not_lost(database: Database) -> None:
    async def act(scene: StoreScene) -> None:
        await scene.write((1, HOUR_9, 0, 4.0))
        async with scene.batch([(1, HOUR_9 + 1000, 0, 9.0)]):
            during = await refresh(scene.maintenance, scene.engine, settle_s=0)
            assert (during.hours, during.cleared) == (1, 0)  # recomputed from what was committed, the marker is held
        await assert_true(scene)
        after = await refresh(scene.maintenance, scene.engine, settle_s=0)
        assert (after.hours, after.cleared, after.remaining) == (1, 1, 0)
        await assert_true(scene)

    run_scene(database, act)


def test_a_batch_that_marks_its_hour_after_the_refresher_cleared_it_is_not_lost(database: Database) -> None:
    async def act(scene: StoreScene) -> None:
        await scene.write((1, HOUR_9, 0, 4.0))
        late = (1, HOUR_9 + 1000, 0, 9.0)
        async with scene.batch([late], mark=False) as transaction:
            report = await refresh(scene.maintenance, scene.engine, settle_s=0)
            assert (report.hours, report.cleared) == (1, 1)
            assert await scene.markers() == []
            rows = columns([late])
            await transaction.mark_dirty(rows.sensor_no, rows.at_ms)
        assert await scene.markers() == [(0, at(HOUR_9))]
        await assert_true(scene)

    run_scene(database, act)


def test_a_batch_that_commits_between_the_recomputation_and_the_clearing_keeps_its_marker(database: Database) -> None:
    async def act(scene: StoreScene) -> None:
        await scene.write((1, HOUR_9, 0, 4.0))
        seen = await scene.admin("SELECT version FROM weir.rollup_dirty")
        await scene.write((1, HOUR_9 + 1000, 0, 9.0))
        assert await scene.admin("SELECT version FROM weir.rollup_dirty") == [(seen[0][0] + 1,)]
        async with scene.maintenance.connection() as connection:
            cleared = await rollups._clear(connection, [rollups._Work(at(HOUR_9), [0], [at(HOUR_9)], [seen[0][0]])])
        assert cleared == 0
        await assert_true(scene)

    run_scene(database, act)


def test_the_frontier_waits_for_batches_that_rely_on_it_and_does_not_hold_up_others(database: Database) -> None:
    async def act(scene: StoreScene) -> None:
        now = HOUR_10 + 4 * HOUR_MS
        async with scene.batch([(1, HOUR_10, 0, 4.0)]):  # at the frontier: an open hour, not marked
            blocked = await advance_frontier(scene.writer, now)
            assert blocked.frontier == at(HOUR_10)
            await scene.write((2, HOUR_10 + 1, 0, 5.0), partition=1)
        moved = await advance_frontier(scene.writer, now)
        assert (moved.frontier, moved.settled, moved.marked) == (at(now - 2 * HOUR_MS), at(now - 2 * HOUR_MS), 1)
        assert await scene.markers() == [(0, at(HOUR_10))]
        await assert_true(scene)
        await refresh(scene.maintenance, scene.engine, settle_s=0)
        assert await scene.markers() == []
        await assert_true(scene)

    run_scene(database, act)


def test_a_frontier_run_that_was_interrupted_half_way_is_finished_by_the_next(database: Database) -> None:
    async def act(scene: StoreScene) -> None:
        await scene.write((1, HOUR_10, 0, 4.0))
        await scene.admin("UPDATE weir.rollup_frontier SET frontier = %s", at(HOUR_10 + 2 * HOUR_MS))
        await scene.write(
            (1, HOUR_10 + HOUR_MS, 0, 5.0)
        )  # before the frontier: marked, though still read from raw rows
        assert await scene.markers() == [(0, at(HOUR_10 + HOUR_MS))]
        assert (await refresh(scene.maintenance, scene.engine, settle_s=0)).hours == 0
        await assert_true(scene)
        report = await advance_frontier(scene.writer, HOUR_10 + 4 * HOUR_MS)
        assert (report.settled, report.marked) == (at(HOUR_10 + 2 * HOUR_MS), 1)
        await refresh(scene.maintenance, scene.engine, settle_s=0)
        assert await scene.markers() == []
        await assert_true(scene)

    run_scene(database, act)


def test_the_frontier_never_goes_back_and_never_passes_the_databases_own_clock(database: Database) -> None:
    async def act(scene: StoreScene) -> None:
        assert (await advance_frontier(scene.writer, HOUR_10)).frontier == at(HOUR_10)
        ahead = await advance_frontier(scene.writer, ms("2200-01-01T00:00"))
        clock = (await scene.admin("SELECT date_bin('1 hour', now(), 'epoch')"))[0][0]
        assert clock - timedelta(hours=3) <= ahead.frontier <= clock - timedelta(hours=2)

    run_scene(database, act)


def test_a_day_whose_last_reading_came_hours_before_its_end_is_stored_when_it_is_over(database: Database) -> None:
    async def act(scene: StoreScene) -> None:
        await scene.write((1, HOUR_10, 0, 4.0), (1, HOUR_10 + 30_000, 0, 5.0))
        for now in (HOUR_10 + 3 * HOUR_MS, HOUR_10 + 40 * HOUR_MS):  # the hour is closed at 11:00, the day much later
            await advance_frontier(scene.writer, now)
            await refresh(scene.maintenance, scene.engine, settle_s=0)
        assert await scene.markers() == []
        assert await scene.rollup("1d") == [(1, at(ms("2026-03-10T00:00")), 2, 9.0, 4.0, 5.0, 4.0, 5.0)]

    run_scene(database, act)


def test_only_one_refresher_works_at_a_time(database: Database) -> None:
    async def act(scene: StoreScene) -> None:
        await scene.write((1, HOUR_9, 0, 4.0))
        async with scene.maintenance.connection() as connection, rollups.refresher(connection) as elected:
            assert elected
            assert await refresh(scene.maintenance, scene.engine, settle_s=0) == RefreshReport(elected=False)
        assert (await refresh(scene.maintenance, scene.engine, settle_s=0)).cleared == 1

    run_scene(database, act)


def test_hours_that_are_being_uploaded_are_left_alone_for_a_while(database: Database) -> None:
    async def act(scene: StoreScene) -> None:
        await scene.write((1, HOUR_9, 0, 4.0))
        patient = await refresh(scene.maintenance, scene.engine, settle_s=60)
        assert (patient.hours, patient.remaining) == (0, 1)
        await assert_true(scene)

    run_scene(database, act)


def test_a_greater_value_for_the_same_reading_reaches_stored_roll_ups(database: Database) -> None:
    async def act(scene: StoreScene) -> None:
        await scene.write((1, HOUR_9, 7, 4.0), (1, HOUR_9 + 1, 0, 1.0))
        await refresh(scene.maintenance, scene.engine, settle_s=0)
        await scene.write((1, HOUR_9, 7, 6.0))
        await refresh(scene.maintenance, scene.engine, settle_s=0)
        assert await scene.markers() == []
        assert await scene.rollup("1h") == [(1, at(HOUR_9), 2, 7.0, 1.0, 6.0, 6.0, 1.0)]

    run_scene(database, act)


def test_readings_of_one_millisecond_are_ordered_by_seq(database: Database) -> None:
    async def act(scene: StoreScene) -> None:
        await scene.write((1, HOUR_9, 2**31 - 1, 3.0), (1, HOUR_9, 0, 1.0), (1, HOUR_9, 5, 2.0))
        for _ in ("computed", "stored"):
            assert await scene.rollup("1m") == [(1, at(HOUR_9), 3, 6.0, 1.0, 3.0, 1.0, 3.0)]
            await refresh(scene.maintenance, scene.engine, settle_s=0)

    run_scene(database, act)


def test_sums_beyond_the_range_of_a_double_are_infinite_and_stop_nobody(database: Database) -> None:
    greatest = 1.7976931348623157e308
    expected_sums = {1: float("inf"), 2: 4.5}

    async def act(scene: StoreScene) -> None:
        await scene.write(
            (1, HOUR_9, 0, greatest), (1, HOUR_9 + 1, 0, greatest), (2, HOUR_9, 0, 4.0), (2, HOUR_9 + 70_000, 0, 0.5)
        )
        await scene.write((1, HOUR_10, 0, -greatest), (1, HOUR_10 + 1, 0, greatest))  # an open hour: its sum is 0
        for _ in ("computed", "stored"):
            for level in ("1h", "1d"):
                sums = {row[0]: row[3] for row in await scene.rollup(level) if row[1] <= at(HOUR_9)}
                assert sums == expected_sums
            assert [row[3] for row in await scene.rollup("1h") if row[1] == at(HOUR_10)] == [0.0]
            assert (await refresh(scene.maintenance, scene.engine, settle_s=0)).remaining == 0

    run_scene(database, act)


def test_every_snapshot_agrees_with_its_raw_rows_while_writers_and_refresher_race(database: Database) -> None:
    async def act(scene: StoreScene) -> None:
        await scene.close_hours_before(NOON - 2 * HOUR_MS)
        writing = {0, 1}

        async def write(partition: int) -> None:
            rng = random.Random(partition)
            now = NOON
            for _ in range(25):
                now += rng.randrange(HOUR_MS)
                await scene.write(*random_readings(rng, now, [1, 2]), partition=partition)
            writing.remove(partition)

        async def maintain() -> None:
            now = NOON
            while writing:
                now += HOUR_MS
                await advance_frontier(scene.writer, now)
                await refresh(scene.maintenance, scene.engine, limit=7, settle_s=0)

        async def read() -> None:
            while writing:
                for level, step in (("1m", "1 minute"), ("1h", "1 hour"), ("1d", "1 day")):
                    query = sql.SQL(DIFFERENCES).format(step=step, view=sql.Identifier(f"readings_{level}"))
                    assert await scene.admin(query) == []

        await asyncio.gather(write(0), write(1), maintain(), read())
        await assert_true(scene)
        await refresh(scene.maintenance, scene.engine, limit=10_000, settle_s=0)
        assert await scene.markers() == []
        await assert_true(scene)

    run_scene(database, act)


def test_a_bucket_whose_readings_were_erased_goes_when_its_hour_is_refreshed(database: Database) -> None:
    async def act(scene: StoreScene) -> None:
        await scene.write((1, HOUR_9, 0, 4.0), (1, HOUR_9 + 120_000, 0, 5.0), (2, HOUR_9, 0, 6.0))
        await scene.refresh_all()
        await scene.admin("DELETE FROM weir.reading WHERE sensor_no = 1 AND at < %s", at(HOUR_9 + 60_000))
        await scene.admin("INSERT INTO weir.rollup_dirty VALUES (0, %s)", at(HOUR_9))
        del scene.truth[1, HOUR_9, 0]
        await assert_true(scene)
        await scene.refresh_all()
        await assert_true(scene)

    run_scene(database, act)


def test_markers_stay_while_someone_may_read_by_a_plan_older_than_a_new_chunk(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aggregates, "_POLLS", 3)

    async def act(scene: StoreScene) -> None:
        if scene.engine is Engine.PLAIN:
            pytest.skip("TimescaleDB only: stored roll-ups are single tables on plain PostgreSQL")
        await scene.write((1, HOUR_9, 0, 4.0))
        async with await psycopg.AsyncConnection.connect(database.admin_url) as reader:
            await reader.execute("SELECT count(*) FROM public.readings_1d")
            assert (await refresh(scene.maintenance, scene.engine, settle_s=0)).cleared == 0
        assert (await refresh(scene.maintenance, scene.engine, settle_s=0)).cleared == 1
        await assert_true(scene)

    run_scene(database, act)
