"""Roll-ups equal what one computes from the readings, whatever is stored, marked or open, on either engine."""

from __future__ import annotations

import asyncio
import random

import pytest

from sinks.timescale.rollups import advance_frontier, refresh
from tests.integration.servers import Database
from tests.integration.store_scene import (
    DAY_MS,
    HOUR_MS,
    Reading,
    StoreScene,
    assert_same_buckets,
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
        rng = random.Random(seed)  # noqa: S311 - a seed makes it repeatable
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
