"""While the hours of a wide back-fill wait to be stored, every view is right and is read span by span, not hour by hour."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from psycopg import sql

from tests.integration.servers import Database
from tests.integration.store_scene import (
    HOUR_MS,
    STEPS,
    StoreScene,
    assert_same_buckets,
    expected,
    ms,
    store_scene,
)

pytestmark = pytest.mark.integration

FIRST = ms("2026-01-01T00:00")
HOURS = 3_000
# 65 is of another block, in which every eighth hour is marked: farther apart than what is taken together.
SENSORS = {1: "A", 2: "B", 3: "A", 65: "B"}


async def back_filled(scene: StoreScene) -> None:
    """One reading an hour and sensor since January, all of whose hours wait."""
    await scene.add_sensors(SENSORS)
    await scene.close_hours_before(FIRST + HOURS * HOUR_MS)
    spacing = {65: 8}
    await scene.write(
        *(
            (sensor, FIRST + hour * HOUR_MS + 1000, 0, float(sensor + hour % 24))
            for sensor in SENSORS
            for hour in range(0, HOURS + 2, spacing.get(sensor, 1))
        )
    )
    assert len(await scene.markers()) == HOURS + HOURS // 8
    await scene.admin("ANALYZE")


async def scans(scene: StoreScene, view: str) -> int:
    """How often a table or an index was gone into to read a whole view."""
    query = sql.SQL("EXPLAIN (ANALYZE, TIMING OFF, BUFFERS OFF, FORMAT JSON) SELECT * FROM public.{}")
    [(plans,)] = await scene.admin(query.format(sql.Identifier(view)))
    return sum(node["Actual Loops"] for node in nodes(plans[0]["Plan"]) if "Relation Name" in node)


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


def test_views_over_thousands_of_marked_hours_are_right_and_read_in_spans(database: Database) -> None:
    async def go() -> None:
        async with store_scene(database) as scene:
            await back_filled(scene)
            for level in STEPS:
                wanted = expected(scene.truth, level)
                assert_same_buckets(await scene.rollup(level), wanted)
                # 3 sensors x 3 000 hours and 375 hours of the fourth, were each asked for by itself.
                assert await scans(scene, f"readings_{level}") < (3 * HOURS + HOURS // 8) / 2
                for sensor in (1, 65):
                    page = await scene.page(sensor, level, FIRST, FIRST + (HOURS + 2) * HOUR_MS)
                    assert_same_buckets(page, [bucket for bucket in wanted if bucket[0] == sensor])

    asyncio.run(go())


def test_hours_of_a_back_fill_that_are_stored_already_are_shown_as_stored(database: Database) -> None:
    async def go() -> None:
        async with store_scene(database) as scene:
            await back_filled(scene)
            await scene.refresh_all()
            # Marked anew: every fifth hour, and one reading more in it.
            await scene.write(*((1, FIRST + hour * HOUR_MS + 2000, 0, 99.0) for hour in range(0, HOURS, 5)))
            for level in STEPS:
                assert_same_buckets(await scene.rollup(level), expected(scene.truth, level))
            day = FIRST + 9 * HOUR_MS
            page = await scene.page(1, "1h", day, day + 30 * HOUR_MS)
            assert [bucket[2] for bucket in page] == [2 if hour % 5 == 0 else 1 for hour in range(9, 39)]

    asyncio.run(go())
