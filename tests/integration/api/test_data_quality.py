"""`GET /v1/data-quality`: every count against the rows it comes from, gaps against their definition."""

from __future__ import annotations

import asyncio
import statistics
from bisect import bisect_right
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from api import reading_models
from api.data_quality import Spacing, spacings_of
from core.postgres import DatabaseRole, open_pool, tenant_transaction
from sinks.timescale import reader
from tests.integration import recording
from tests.integration.api_scene import Client, add_readings, add_sensor, instant, shown
from tests.integration.servers import Database, Tenant

pytestmark = pytest.mark.integration

DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
NOON = instant("2026-11-20T12:00:00Z")


def between(start: datetime, end: datetime) -> dict[str, Any]:
    return {"start": shown(start), "end": shown(end)}


def only_item(api: Client, start: datetime, end: datetime) -> dict[str, Any]:
    quality = api.get("/v1/data-quality", **between(start, end))
    reading_models.DataQuality.model_validate(quality)
    (item,) = quality["items"]
    found: dict[str, Any] = item
    return found


def gaps_by_definition(times: list[datetime], start: datetime, end: datetime) -> list[dict[str, str]]:
    """INTERFACES §6, word for word, for a sensor without a declared interval and with one reading an instant."""
    gaps = []
    at_s = [round(at.timestamp()) for at in times]
    for number, (earlier, later) in enumerate(pairwise(at_s), 1):
        window = at_s[bisect_right(at_s, later - 86_400) : number + 1]
        spacings = [b - a for a, b in pairwise(window)]
        expected = statistics.median(spacings) if len(window) >= 4 else 300
        if later - earlier > 3 * expected and times[number] > start and times[number - 1] < end:
            gaps.append({"from": shown(times[number - 1]), "to": shown(times[number])})
    return gaps


class TestCounts:
    def test_a_sensor_is_shown_with_all_that_is_known_of_its_readings(
        self, api: Client, database: Database, tenant: Tenant
    ) -> None:
        sensor_no, sensor_id = add_sensor(database, tenant, "air")
        device_id = tenant.devices[0].device_id
        # 12:00, 12:01, 12:02, 12:03, then 12:07: 4 min are more than 3 × 1 min
        add_readings(database, sensor_no, [(NOON + n * MINUTE, 0, float(n)) for n in (0, 1, 2, 3, 7)])
        for value in (-5.0, 0.5):
            database.query(
                "INSERT INTO weir.reading_conflict VALUES (%s, %s, 0, %s, now())", sensor_no, NOON + MINUTE, value
            )
        for hour, duplicates, late in ((11, 100, 100), (12, 3, 1), (13, 2, 4), (14, 100, 100)):
            at = NOON.replace(hour=hour)
            database.query("INSERT INTO weir.quality_hourly VALUES (%s, %s, %s, %s)", sensor_no, at, duplicates, late)
        refuse(database, tenant, "air", "impossible_time", NOON + MINUTE)
        refuse(database, tenant, "air", "impossible_time", NOON - MINUTE)  # before the range
        refuse(database, tenant, "air", "invalid_value", NOON + MINUTE)
        refuse(database, tenant, "air", "invalid_value", NOON + MINUTE, replayed=True)
        refuse(database, tenant, None, "undecodable", NOON + MINUTE)

        # 12:00 <= at < 13:30, so the hours 12 and 13 overlap
        assert only_item(api, NOON, NOON + 90 * MINUTE) == {
            "sensor_id": sensor_id,
            "device_id": device_id,
            "name": "air",
            "accepted": 5,
            "duplicates": 5,
            "late": 5,
            "conflict_count": 1,
            "conflicts": [{"at": "2026-11-20T12:01:00.000Z", "seq": 0, "value": 1.0, "others": [0.5, -5.0]}],
            "quarantined": 1,
            "rejected": 1,
            "gap_count": 1,
            "gaps": [{"from": "2026-11-20T12:03:00.000Z", "to": "2026-11-20T12:07:00.000Z"}],
        }

    def test_accepted_counts_start_inclusive_and_end_exclusive(
        self, api: Client, database: Database, tenant: Tenant
    ) -> None:
        sensor_no, _ = add_sensor(database, tenant, "air")
        add_readings(database, sensor_no, [(NOON + n * MINUTE, 0, 1.0) for n in range(10)])

        assert only_item(api, NOON + 2 * MINUTE, NOON + 5 * MINUTE)["accepted"] == 3

    def test_refusals_without_a_sensor_are_shown_by_device_with_how_many_kept_their_bytes(
        self, api: Client, database: Database, tenant: Tenant
    ) -> None:
        device_id = tenant.devices[0].device_id
        for minute, refused, kept in ((0, 5_000, 1_000), (1, 70, 70), (60, 9, 9)):
            database.query(
                "INSERT INTO weir.refusal_count VALUES (%s, %s, 'undecodable', %s, %s, %s, 1, 2, 'readings', 0)",
                NOON + minute * MINUTE,
                device_id,
                tenant.tenant_id,
                refused,
                kept,
            )

        quality = api.get("/v1/data-quality", **between(NOON, NOON + 60 * MINUTE))

        assert quality["items"] == []
        assert quality["refusals"] == [
            {"device_id": device_id, "reason": "undecodable", "refused": 5_070, "kept": 1_070}
        ]

    def test_the_default_is_the_last_24_hours(self, api: Client) -> None:
        quality = api.get("/v1/data-quality")

        assert instant(quality["end"]) - instant(quality["start"]) == DAY

    def test_readings_below_the_retention_horizon_are_gone_from_every_count(
        self, api: Client, database: Database, tenant: Tenant
    ) -> None:
        sensor_no, _ = add_sensor(database, tenant, "air")
        add_readings(database, sensor_no, [(NOON + n * MINUTE, 0, 1.0) for n in (0, 1, 2, 3, 30, 31)])
        database.query("INSERT INTO weir.reading_conflict VALUES (%s, %s, 0, 0.5, now())", sensor_no, NOON)
        horizon = NOON + 31 * MINUTE
        database.query("UPDATE weir.tenant SET retention_horizon = %s WHERE tenant_id = %s", horizon, tenant.tenant_id)

        item = only_item(api, NOON, NOON + DAY)

        assert (item["accepted"], item["conflicts"], item["gaps"]) == (1, [], [])


_letters = iter(range(1, 1_000_000))


def refuse(
    database: Database, tenant: Tenant, sensor: str | None, reason: str, at: datetime, *, replayed: bool = False
) -> None:
    """A dead letter."""
    offset = next(_letters)
    database.query("INSERT INTO weir.dead_letter_record VALUES ('readings', 'id', 0, %s, NULL, NULL, '[]', 0)", offset)
    database.query(
        "INSERT INTO weir.dead_letter (tenant_id, device_id, sensor, reason, detail, topic, topic_identity, partition,"
        " \"offset\", index, refused_at, replayed_at) VALUES (%s, %s, %s, %s, 'd', 'readings', 'id', 0, %s, 0, %s, %s)",
        tenant.tenant_id,
        tenant.devices[0].device_id,
        sensor,
        reason,
        offset,
        at,
        at if replayed else None,
    )


class TestGaps:
    def test_a_gap_that_only_overlaps_the_range_is_shown_whole(
        self, api: Client, database: Database, tenant: Tenant
    ) -> None:
        sensor_no, _ = add_sensor(database, tenant, "air", expected_interval_ms=60_000)
        add_readings(database, sensor_no, [(NOON, 0, 1.0), (NOON + 50 * DAY / 24, 0, 1.0)])
        gap = {"from": shown(NOON), "to": shown(NOON + 50 * DAY / 24)}

        for start, end in (
            (NOON + 3 * MINUTE, NOON + 4 * MINUTE),  # inside, more than 24 h from the later neighbour
            (NOON - DAY, NOON + MINUTE),
            (NOON + 49 * DAY / 24, NOON + 3 * DAY),
        ):
            assert only_item(api, start, end)["gaps"] == [gap]
        for start, end in ((NOON - DAY, NOON), (NOON + 50 * DAY / 24, NOON + 3 * DAY)):  # it only touches
            assert only_item(api, start, end)["gaps"] == []

    def test_the_silence_after_the_last_reading_is_no_gap_yet(
        self, api: Client, database: Database, tenant: Tenant
    ) -> None:
        sensor_no, _ = add_sensor(database, tenant, "air")
        add_readings(database, sensor_no, [(NOON + n * MINUTE, 0, 1.0) for n in range(10)])

        assert only_item(api, NOON, NOON + DAY)["gaps"] == []

    def test_in_the_recording_of_a_machine_they_are_those_of_the_definition(
        self, api: Client, database: Database, tenant: Tenant
    ) -> None:
        recording.require_recording()
        sensor_no, _ = add_sensor(database, tenant, "machine")
        rows = [(at, seq, value) for at, seq, value in recording.expected_readings()]
        add_readings(database, sensor_no, rows)
        times = [at for at, _, _ in rows]
        start, end = instant("2013-12-15T00:00:00Z"), instant("2014-01-20T00:00:00Z")

        item = only_item(api, start, end)

        near = [at for at in times if start - 2 * DAY <= at <= end + 2 * DAY]
        assert item["accepted"] == sum(start <= at < end for at in times)
        assert item["gaps"] == gaps_by_definition(near, start, end)
        assert item["gap_count"] == len(item["gaps"])


class TestChunks:
    @pytest.mark.parametrize("chunk", [2, 3, 7, 50])
    def test_the_size_of_a_chunk_changes_nothing(self, database: Database, tenant: Tenant, chunk: int) -> None:
        sensor_no, sensor_id = add_sensor(database, tenant, "air")
        times = [NOON + timedelta(minutes=n * n % 97 + 61 * (n // 40)) for n in range(200)]
        rows = [(at, seq, 1.0) for at in sorted(set(times)) for seq in range(1 + at.minute % 3)]
        add_readings(database, sensor_no, rows)

        async def spacing(size: int) -> Spacing:
            async with (
                open_pool(database.reader_url, DatabaseRole.READER) as pool,
                tenant_transaction(pool, tenant.tenant_id) as connection,
            ):
                sensor = await reader.find_sensor(connection, sensor_id)
                assert sensor is not None
                start_ms = round((NOON + 30 * MINUTE).timestamp() * 1_000)
                ((_, found),) = await spacings_of(connection, [sensor], start_ms, start_ms + 7_200_000, size)
                return found

        whole, in_chunks = asyncio.run(spacing(100_000)), asyncio.run(spacing(chunk))

        assert whole.gap_count > 0
        assert in_chunks == whole


class TestPages:
    def test_all_pages_together_are_the_sensors_each_once(
        self, api: Client, database: Database, tenant: Tenant
    ) -> None:
        made = [add_sensor(database, tenant, f"s{n}") for n in range(7)]
        for sensor_no, _ in made:
            add_readings(database, sensor_no, [(NOON + n * MINUTE, 0, 1.0) for n in range(sensor_no % 5 + 1)])

        whole = api.get("/v1/data-quality", **between(NOON, NOON + DAY))["items"]

        assert sorted(item["sensor_id"] for item in whole) == sorted(sensor_id for _, sensor_id in made)
        assert api.walk("/v1/data-quality", limit=2, **between(NOON, NOON + DAY)) == whole

    def test_a_page_ends_early_once_it_has_looked_at_many_readings(
        self, api: Client, database: Database, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for n in range(5):
            sensor_no, _ = add_sensor(database, tenant, f"s{n}")
            add_readings(database, sensor_no, [(NOON + k * MINUTE, 0, 1.0) for k in range(60)])
        monkeypatch.setattr("api.data_quality.READINGS_PER_PAGE", 100)
        monkeypatch.setattr("api.data_quality.GROUP_SENSORS", 2)  # looked at together

        first = api.get("/v1/data-quality", **between(NOON, NOON + DAY))

        assert len(first["items"]) == 2  # 2 × 60 are more than 100
        assert len(api.walk("/v1/data-quality", **between(NOON, NOON + DAY))) == 5

    def test_an_empty_range_holds_nothing_not_even_the_gap_around_it(
        self, api: Client, database: Database, tenant: Tenant
    ) -> None:
        sensor_no, _ = add_sensor(database, tenant, "s")
        add_readings(database, sensor_no, [(NOON, 0, 1.0), (NOON + 10 * MINUTE * 60, 0, 1.0)])

        [item] = api.get("/v1/data-quality", **between(NOON + MINUTE, NOON + MINUTE))["items"]

        assert (item["accepted"], item["gap_count"], item["gaps"]) == (0, 0, [])

    def test_a_cursor_continues_its_own_range_only(self, api: Client, database: Database, tenant: Tenant) -> None:
        for n in range(2):
            add_sensor(database, tenant, f"s{n}")
        cursor = api.get("/v1/data-quality", limit=1, **between(NOON, NOON + DAY))["next"]

        assert len(api.get("/v1/data-quality", cursor=cursor)["items"]) == 1
        problem = api.get("/v1/data-quality", status=422, cursor=cursor, start=shown(NOON + MINUTE))
        assert problem["errors"][0]["parameter"] == "cursor"
