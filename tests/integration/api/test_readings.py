"""`GET /v1/sensors…` over a real server: pages walked to their end equal the rows, roll-ups equal the raw readings."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from api import models, reading_models
from tests.integration.api_scene import Client, add_readings, add_sensor, client, instant, new_tenant, shown
from tests.integration.servers import Database, Tenant

pytestmark = pytest.mark.integration

START = instant("2026-11-20T22:58:30Z")
STEPS = {"1m": timedelta(minutes=1), "1h": timedelta(hours=1), "1d": timedelta(days=1)}

Row = tuple[datetime, int, float]


def readings_every(seconds: int, count: int) -> list[Row]:
    """Readings of a value that goes up and down; every tenth instant has two."""
    rows = []
    for n in range(count):
        at = START + timedelta(seconds=n * seconds, milliseconds=n % 7)
        rows.append((at, 0, float((n * 37) % 101)))
        if n % 10 == 0:
            rows.append((at, 1, -float(n)))
    return rows


ROWS = readings_every(37, 3_000)  # 30.8 h: three days, a midnight on either side
END = ROWS[-1][0] + timedelta(milliseconds=1)
WHOLE: dict[str, Any] = {"start": shown(START), "end": shown(END)}


@pytest.fixture(scope="module")
def tenant(database: Database) -> Tenant:
    return new_tenant(database)


@pytest.fixture(scope="module")
def sensor(database: Database, tenant: Tenant) -> str:
    sensor_no, sensor_id = add_sensor(database, tenant, "air", expected_interval_ms=37_000)
    add_readings(database, sensor_no, ROWS)
    return sensor_id


def raw_item(row: Row) -> dict[str, Any]:
    at, seq, value = row
    return {"at": shown(at), "value": value, "seq": seq, "received_at": shown(at + timedelta(milliseconds=250))}


def buckets_of(rows: list[Row], step: timedelta) -> list[dict[str, Any]]:
    """What the roll-up of these rows is, from its definition."""
    held: dict[datetime, list[float]] = {}
    for at, _, value in sorted(rows):
        held.setdefault(at - (at - instant("2020-01-01T00:00:00Z")) % step, []).append(value)
    return [
        {
            "at": shown(start),
            "count": len(values),
            "min": min(values),
            "max": max(values),
            "mean": pytest.approx(sum(values) / len(values), rel=1e-9),
            "first": values[0],
            "last": values[-1],
        }
        for start, values in held.items()
    ]


class TestRaw:
    @pytest.mark.parametrize("limit", [7, 1_000, 10_000])
    def test_all_pages_together_are_the_rows_in_their_order(self, api: Client, sensor: str, limit: int) -> None:
        items = api.walk(f"/v1/sensors/{sensor}/readings", limit=limit, **WHOLE)

        assert items == [raw_item(row) for row in sorted(ROWS)]

    def test_a_page_holds_its_limit_and_the_last_one_says_that_it_is(self, api: Client, sensor: str) -> None:
        page = api.get(f"/v1/sensors/{sensor}/readings", limit=len(ROWS) - 1, **WHOLE)
        last = api.get(f"/v1/sensors/{sensor}/readings", limit=len(ROWS) - 1, cursor=page["next"])

        assert len(page["items"]) == len(ROWS) - 1
        assert last == {"items": [raw_item(max(ROWS))], "next": None}
        assert api.get(f"/v1/sensors/{sensor}/readings", limit=len(ROWS), **WHOLE)["next"] is None

    def test_start_is_inclusive_and_end_exclusive_to_the_millisecond(self, api: Client, sensor: str) -> None:
        first, second = sorted({at for at, _, _ in ROWS})[1:3]

        found = api.get(f"/v1/sensors/{sensor}/readings", start=shown(first), end=shown(second))["items"]

        assert [item["at"] for item in found] == [shown(first)]

    def test_times_may_have_an_offset(self, api: Client, sensor: str) -> None:
        east = START.astimezone(instant("2026-01-01T00:00:00+00:00").tzinfo) + timedelta(hours=2)
        text = east.strftime("%Y-%m-%dT%H:%M:%S+02:00")

        found = api.get(f"/v1/sensors/{sensor}/readings", start=text, end=shown(END), limit=1)["items"]

        assert found == [raw_item(min(ROWS))]

    def test_the_default_is_the_last_24_hours_and_stays_so_over_the_pages(
        self, api: Client, database: Database, tenant: Tenant
    ) -> None:
        ((now,),) = database.query("SELECT date_trunc('second', now())")
        sensor_no, sensor_id = add_sensor(database, tenant, "recent")
        add_readings(database, sensor_no, [(now - timedelta(minutes=10 * n - 5), 0, float(n)) for n in range(1, 200)])

        items = api.walk(f"/v1/sensors/{sensor_id}/readings", limit=10)

        assert [item["value"] for item in items] == [float(n) for n in range(144, 0, -1)]  # 24 h / 10 min = 144

    def test_a_sensor_without_readings_has_an_empty_page(self, api: Client, database: Database, tenant: Tenant) -> None:
        _, sensor_id = add_sensor(database, tenant, "new")

        assert api.get(f"/v1/sensors/{sensor_id}/readings", **WHOLE) == {"items": [], "next": None}


class TestRollups:
    @pytest.mark.parametrize("resolution", STEPS)
    @pytest.mark.parametrize("limit", [5, 10_000])
    def test_buckets_are_those_of_the_raw_readings(self, api: Client, sensor: str, resolution: str, limit: int) -> None:
        items = api.walk(f"/v1/sensors/{sensor}/readings", resolution=resolution, limit=limit, **WHOLE)

        assert items == buckets_of(ROWS, STEPS[resolution])

    @pytest.mark.parametrize("resolution", STEPS)
    def test_they_are_the_same_once_stored(self, api: Client, database: Database, sensor: str, resolution: str) -> None:
        before = api.walk(f"/v1/sensors/{sensor}/readings", resolution=resolution, **WHOLE)
        store_rollups(database)

        assert api.walk(f"/v1/sensors/{sensor}/readings", resolution=resolution, **WHOLE) == before

    def test_a_bucket_belongs_to_a_range_by_its_start_and_start_is_floored(self, api: Client, sensor: str) -> None:
        found = api.get(
            f"/v1/sensors/{sensor}/readings",
            resolution="1h",
            start="2026-11-21T03:59:59.999Z",
            end="2026-11-21T05:00:00.001Z",
        )["items"]

        # floor(start) is 03:00; 05:00 is before the end
        assert [item["at"] for item in found] == [f"2026-11-21T0{hour}:00:00.000Z" for hour in (3, 4, 5)]
        assert found == [item for item in buckets_of(ROWS, STEPS["1h"]) if item["at"] in {each["at"] for each in found}]

    def test_empty_buckets_are_absent_however_long_the_range(self, api: Client, sensor: str) -> None:
        items = api.walk(
            f"/v1/sensors/{sensor}/readings",
            resolution="1m",
            start="0001-01-01T00:00:00Z",
            end="9999-12-31T23:59:59Z",
            limit=500,
        )

        assert items == buckets_of(ROWS, STEPS["1m"])

    def test_the_greatest_values_have_no_mean_but_still_their_bucket(
        self, api: Client, database: Database, tenant: Tenant
    ) -> None:
        sensor_no, sensor_id = add_sensor(database, tenant, "odd")
        add_readings(database, sensor_no, [(START + timedelta(seconds=n), 0, 1.7e308) for n in range(3)])

        found = api.get(f"/v1/sensors/{sensor_id}/readings", resolution="1h", **WHOLE)["items"]

        assert [(item["count"], item["max"], item["mean"]) for item in found] == [(3, 1.7e308, None)]


def store_rollups(database: Database) -> None:
    """What the job does: recompute marked hours, take the marks away."""
    if database.engine.value != "plain":
        pytest.skip("TimescaleDB's aggregates are refreshed by the store's own tests")
    database.query(
        "SELECT weir.refresh_block(block, array_agg(hour)) FROM weir.rollup_dirty"
        " GROUP BY block, date_bin('1 day', hour, 'epoch')"
    )
    database.query("DELETE FROM weir.rollup_dirty d USING weir.rollup_settled s WHERE d.hour < s.settled")


class TestSensors:
    def test_all_pages_together_are_the_tenants_sensors_by_id(self, url: str, database: Database) -> None:
        owner = new_tenant(database)
        made = [add_sensor(database, owner, f"s{n}")[1] for n in range(23)]

        with client(url, owner.api_key) as api:
            for limit in (1, 4, 1_000):
                assert [item["sensor_id"] for item in api.walk("/v1/sensors", limit=limit)] == sorted(made)

    def test_a_sensor_has_its_newest_reading_and_is_silent_long_after(
        self, api: Client, tenant: Tenant, sensor: str
    ) -> None:
        newest = max(ROWS)

        assert api.get(f"/v1/sensors/{sensor}") == {
            "sensor_id": sensor,
            "device_id": tenant.devices[0].device_id,
            "name": "air",
            "unit": "celsius",
            "expected_interval": "37s",
            "site_id": None,
            "unit_id": None,
            "last": {"at": shown(newest[0]), "value": newest[2]},
            "status": "silent",
            "archived_at": None,
        }

    def test_the_list_shows_a_sensor_as_it_shows_itself(self, api: Client, sensor: str) -> None:
        assert api.get(f"/v1/sensors/{sensor}") in api.get("/v1/sensors")["items"]


@pytest.mark.parametrize("resolution", ["raw", "1m", "1h", "1d"])
def test_an_empty_interval_is_an_empty_page(api: Client, sensor: str, resolution: str) -> None:
    moment = "2026-11-22T00:00:00Z"
    page = api.get(f"/v1/sensors/{sensor}/readings", start=moment, end=moment, resolution=resolution)

    assert page == {"items": [], "next": None}


class TestRefusals:
    @pytest.mark.parametrize(
        "parameters",
        [
            {"limit": "0"},
            {"limit": "10001"},
            {"limit": "ten"},
            {"resolution": "5m"},
            {"resolution": ""},
            {"start": "yesterday"},
            {"start": "2026-11-22T20:00:00"},
            {"end": "2026-13-01T00:00:00Z"},
            {"start": "2026-11-22T20:00:00Z", "end": "2026-11-22T19:00:00Z"},
            {"cursor": "made-up"},
            {"cursor": "x" * 2_000},
        ],
    )
    def test_a_wrong_parameter_is_422_and_named(self, api: Client, sensor: str, parameters: dict[str, Any]) -> None:
        problem = api.get(f"/v1/sensors/{sensor}/readings", status=422, **parameters)

        assert problem["code"] == "invalid_parameter"
        assert problem["errors"][0]["parameter"] in parameters

    def test_a_cursor_continues_its_own_query_only(
        self, api: Client, sensor: str, database: Database, tenant: Tenant
    ) -> None:
        path = f"/v1/sensors/{sensor}/readings"
        cursor = api.get(path, limit=1, resolution="1h", **WHOLE)["next"]
        _, other = add_sensor(database, tenant, "other")

        assert api.get(path, cursor=cursor)["items"] == api.get(path, resolution="1h", cursor=cursor, **WHOLE)["items"]
        for parameters in (
            {"resolution": "1d"},
            {"start": shown(START - timedelta(1))},
            {"end": shown(END + timedelta(1))},
        ):
            assert api.get(path, status=422, cursor=cursor, **parameters)["errors"][0]["parameter"] == "cursor"
        assert api.get(f"/v1/sensors/{other}/readings", status=422, cursor=cursor)["code"] == "invalid_parameter"
        assert api.get("/v1/sensors", status=422, cursor=cursor)["code"] == "invalid_parameter"

    def test_every_changed_character_of_a_cursor_is_422(self, api: Client, sensor: str) -> None:
        path = f"/v1/sensors/{sensor}/readings"
        cursor = api.get(path, limit=1, **WHOLE)["next"]

        for place in range(0, len(cursor), 5):
            changed = cursor[:place] + ("A" if cursor[place] != "A" else "B") + cursor[place + 1 :]
            api.get(path, status=422, cursor=changed)

    def test_a_sensor_that_is_not_there_is_404(self, api: Client) -> None:
        for sensor_id in ("sen_none", "%00", "a" * 200, "'; DROP TABLE weir.sensor; --", "é"):
            assert api.get(f"/v1/sensors/{sensor_id}", status=404)["code"] == "not_found"
            assert api.get(f"/v1/sensors/{sensor_id}/readings", status=404)["code"] == "not_found"


def test_answers_are_true_to_their_models(api: Client, sensor: str) -> None:
    path = f"/v1/sensors/{sensor}/readings"

    reading_models.SensorPage.model_validate(api.get("/v1/sensors"))
    reading_models.Sensor.model_validate(api.get(f"/v1/sensors/{sensor}"))
    for resolution in ("raw", "1m", "1h", "1d"):
        reading_models.ReadingPage.model_validate(api.get(path, resolution=resolution, **WHOLE))
    models.ProblemDetails.model_validate(api.get(path, status=422, limit=0))
