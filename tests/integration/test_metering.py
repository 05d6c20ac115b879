"""Usage commits with the readings it counts: per hour, revised by late ones, unchanged by duplicates, published."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from schemas.usage import HOUR_MS, Meter, UsageIncrement, usage_increments
from sinks.timescale import usage
from tests.integration.metering_scene import USAGE_TOPIC, MeteringScene, Reading, hours, run_scene
from tests.integration.servers import Database, create_tenant
from tests.integration.store_scene import MINUTE_MS, at, ms

pytestmark = pytest.mark.integration

NOON = ms("2026-03-10T12:00")


def test_a_sensor_is_active_for_the_24_hours_from_its_reading(database: Database) -> None:
    async def act(scene: MeteringScene) -> None:
        [device] = (await create_tenant(database)).devices
        await scene.publish(device, [("air", NOON + 59 * MINUTE_MS, 1.0)])

        assert scene.quantities("readings") == hours(NOON, 1)
        assert scene.quantities("active_sensors") == hours(NOON, *[1] * 24)

    run_scene(database, act)


def test_live_readings_extend_the_active_hours_and_a_second_sensor_adds_to_them(database: Database) -> None:
    async def act(scene: MeteringScene) -> None:
        [device] = (await create_tenant(database)).devices
        await scene.publish(device, [("air", NOON, 1.0), ("air", NOON + MINUTE_MS, 1.0)])
        await scene.publish(device, [("air", NOON + 2 * HOUR_MS, 1.0), ("door", NOON + 2 * HOUR_MS, 1.0)])

        assert scene.quantities("readings") == hours(NOON, 2, 0, 2)
        # air: hours 0-25, door: hours 2-25.
        assert scene.quantities("active_sensors") == hours(NOON, 1, 1, *[2] * 24)

    run_scene(database, act)


def test_a_late_reading_fills_only_hours_in_which_its_sensor_was_not_active(database: Database) -> None:
    async def act(scene: MeteringScene) -> None:
        [device] = (await create_tenant(database)).devices
        await scene.publish(device, [("air", NOON + 30 * HOUR_MS, 1.0)])
        before = scene.usage("active_sensors")
        await scene.publish(device, [("air", NOON + 10 * HOUR_MS, 1.0)])

        # Hours 10-33 by the late one, 30-53 by the first: 10-29 are new, 30-33 keep their revision.
        assert scene.quantities("active_sensors") == hours(NOON + 10 * HOUR_MS, *[1] * 44)
        assert before.items() <= scene.usage("active_sensors").items()

    run_scene(database, act)


def test_replays_change_neither_quantity_nor_revision_nor_publish(database: Database) -> None:
    async def act(scene: MeteringScene) -> None:
        [device] = (await create_tenant(database)).devices
        batches: list[list[Reading]] = [[("air", NOON, 1.0), ("air", NOON - 3 * HOUR_MS, 1.0)], [("door", NOON, 2.0)]]
        for batch in batches:
            await scene.publish(device, batch)
        before = database.query("SELECT * FROM weir.usage ORDER BY 1, 2, 3")
        database.query("DELETE FROM weir.usage_outbox")
        for batch in batches:
            await scene.publish(device, batch, partition=1)
            await scene.publish(device, [(sensor, time, value + 1) for sensor, time, value in batch], partition=1)

        assert database.query("SELECT * FROM weir.usage ORDER BY 1, 2, 3") == before
        assert database.query("SELECT count(*) FROM weir.usage_outbox") == [(0,)]

    run_scene(database, act)


def test_each_change_is_published_under_the_tenants_key_once_a_transaction(database: Database) -> None:
    async def act(scene: MeteringScene) -> None:
        tenant = await create_tenant(database)
        await scene.publish(tenant.devices[0], [("air", NOON + n * MINUTE_MS, 1.0) for n in range(50)])
        await scene.publish(tenant.devices[0], [("air", NOON + 50 * MINUTE_MS, 1.0)])

        async with scene.pool.connection() as connection:
            changes = await usage.unpublished(connection, 10)
        records = [record for change in changes for record in change.records()]
        assert {change.topic for change in changes} == {USAGE_TOPIC}
        assert {key for key, _ in records} == {tenant.tenant_id.encode()}
        documents = [json.loads(value) for _, value in records]
        row = {"tenant_id": tenant.tenant_id, "meter": "readings", "bucket_start": "2026-03-10T12:00:00.000Z"}
        assert [one for one in documents if one["meter"] == "readings"] == [
            row | {"quantity": 50, "revision": 1},
            row | {"quantity": 51, "revision": 2},
        ]
        assert sum(one["meter"] == "active_sensors" for one in documents) == 24

    run_scene(database, act)


def test_any_order_and_any_split_ends_in_the_same_quantities(database: Database) -> None:
    """Two tenants, five sensors each, scattered over eleven days, in pieces of random size, some of them twice."""
    chance = random.Random(20_261_123)

    async def act(scene: MeteringScene) -> None:
        tenants = [await create_tenant(database), await create_tenant(database)]
        readings = [
            (tenant.devices[0], (f"s{chance.randrange(5)}", NOON + chance.randrange(264 * 60) * MINUTE_MS, 1.0))
            for tenant in tenants
            for _ in range(60)
        ]
        chance.shuffle(readings)
        left = readings + chance.sample(readings, 20)
        while left:
            size = chance.randrange(1, 12)
            piece, left = left[:size], left[size:]
            for device in {owner.device_id: owner for owner, _ in piece}.values():
                await scene.publish(device, [reading for owner, reading in piece if owner == device])

        for tenant in tenants:
            own = {reading[:2] for owner, reading in readings if owner == tenant.devices[0]}
            counted = Counter((time // HOUR_MS) * HOUR_MS for _, time in own)
            active = {(sensor, time // HOUR_MS + n) for sensor, time in own for n in range(24)}
            assert _stored(database, tenant.tenant_id, "readings") == dict(counted)
            assert _stored(database, tenant.tenant_id, "active_sensors") == dict(
                Counter(hour * HOUR_MS for _, hour in active)
            )

    run_scene(database, act)


def _stored(database: Database, tenant_id: str, meter: str) -> dict[int, int]:
    statement = (
        "SELECT (extract(epoch FROM bucket_start) * 1000)::bigint, quantity FROM weir.usage"
        " WHERE tenant_id = %s AND meter = %s"
    )
    return dict(database.query(statement, tenant_id, meter))


def test_two_partitions_at_once_count_an_hour_of_a_sensor_once(database: Database) -> None:
    """A device that changed its partition: both workers learn of hours of the same sensor at the same time."""

    async def act(scene: MeteringScene) -> None:
        [device] = (await create_tenant(database)).devices
        await scene.publish(device, [("air", NOON + 240 * HOUR_MS, 1.0)], partition=0)
        await scene.publish(device, [("air", NOON + 240 * HOUR_MS, 1.0)], partition=1)
        for n in range(0, 200, 2):
            await asyncio.gather(
                scene.publish(device, [("air", NOON + n * HOUR_MS, 1.0)], partition=0),
                scene.publish(device, [("air", NOON + (n + 1) * HOUR_MS, 1.0)], partition=1),
            )

        # 200 hours one after the other, then 23 more, and the first reading's 24.
        assert scene.quantities("active_sensors") == hours(NOON, *[1] * 223, *[0] * 17, *[1] * 24)

    run_scene(database, act)


def test_an_hour_that_has_not_begun_is_not_shown_and_a_day_counts_the_sensors_of_that_day(database: Database) -> None:
    async def act(scene: MeteringScene) -> None:
        [device] = (await create_tenant(database)).devices
        today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        now_ms, yesterday_ms = round(now.timestamp() * 1000), round(today.timestamp() * 1000) - HOUR_MS
        await scene.publish(device, [("air", now_ms, 1.0), ("door", yesterday_ms, 1.0), ("air", yesterday_ms, 1.0)])

        shown = "SELECT max(bucket_start) FROM usage_hourly WHERE meter = 'active_sensors'"
        assert database.query(shown)[0][0] <= datetime.now(UTC)
        daily = "SELECT bucket_start, quantity FROM usage_daily WHERE meter = 'active_sensors' ORDER BY 1"
        assert database.query(daily) == [(today - timedelta(days=1), 2), (today, 1)]

    run_scene(database, act)


def test_another_pipeline_adds_its_meters_by_the_same_call(database: Database) -> None:
    async def act(scene: MeteringScene) -> None:
        tenant_id = (await create_tenant(database)).tenant_id
        increments = [
            UsageIncrement(tenant_id, Meter.SCAN_POINTS, NOON, 90_000),
            UsageIncrement(tenant_id, Meter.SCANS, NOON, 1),
        ]
        for _ in range(2):
            async with scene.pool.connection() as connection, connection.transaction():
                await usage.add(connection, usage_increments(increments), USAGE_TOPIC)

        assert scene.usage("scan_points") == {at(NOON): (180_000, 2)}
        daily = "SELECT meter, quantity FROM usage_daily ORDER BY 1"
        assert database.query(daily) == [("scan_points", 180_000), ("scans", 2)]

    run_scene(database, act)
