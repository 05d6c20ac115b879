"""`/v1/sites` and `/v1/units` over a real server: what they are, since when, how they are doing, and whose they are."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from api import place_models
from tests.integration.api_scene import Client, add_readings, add_sensor, client, new_tenant, shown
from tests.integration.rule_scene import refused, send
from tests.integration.servers import Database, Tenant

pytestmark = pytest.mark.integration

NOW = datetime.now(UTC).replace(microsecond=0)
SITE: dict[str, Any] = {"name": "Harbour Street", "timezone": "Europe/Berlin", "attributes": {"max_celsius": 8}}


def make_site(api: Client, **fields: Any) -> dict[str, Any]:
    return dict(send(api, "POST", "/v1/sites", {**SITE, **fields}, status=201))


def make_unit(api: Client, site_id: str | None = None, **fields: Any) -> dict[str, Any]:
    document = {"name": "Walk-in", "kind": "fridge", "site_id": site_id, **fields}
    return dict(send(api, "POST", "/v1/units", document, status=201))


def change(api: Client, path: str, status: int = 200, **fields: Any) -> Any:
    return send(api, "PATCH", path, fields, status=status)


class TestSites:
    def test_a_created_site_is_read_and_listed_as_it_was_answered(self, api: Client) -> None:
        made = make_site(api)
        place_models.Site.model_validate(made)

        assert {name: made[name] for name in SITE} == SITE
        assert (made["state"], made["sensors"], made["archived_at"], made["revision"]) == ("unknown", 0, None, 1)
        assert api.get(f"/v1/sites/{made['site_id']}") == made
        assert api.get("/v1/sites") == {"items": [made], "next": None}

    def test_pages_walked_to_their_end_are_all_sites_in_order(self, api: Client) -> None:
        made = sorted(make_site(api, name=f"Site {n}")["site_id"] for n in range(5))

        assert [item["site_id"] for item in api.walk("/v1/sites", limit=2)] == made

    def test_a_change_holds_from_the_moment_that_it_names(self, api: Client, database: Database) -> None:
        site_id = make_site(api)["site_id"]

        changed = change(api, f"/v1/sites/{site_id}", timezone="UTC", effective_from=shown(NOW - timedelta(days=3)))

        assert (changed["timezone"], changed["name"], changed["revision"]) == ("UTC", SITE["name"], 2)
        assert database.query(
            "SELECT effective_from, timezone FROM weir.site_version WHERE site_id = %s ORDER BY 1", site_id
        ) == [(datetime(2010, 1, 1, tzinfo=UTC), "Europe/Berlin"), (NOW - timedelta(days=3), "UTC")]

    def test_the_same_again_records_nothing(self, api: Client) -> None:
        site_id = make_site(api)["site_id"]

        assert change(api, f"/v1/sites/{site_id}", **SITE)["revision"] == 1

    def test_whoever_has_not_seen_the_newest_revision_overwrites_nothing(self, api: Client) -> None:
        path = f"/v1/sites/{make_site(api)['site_id']}"
        change(api, path, name="One", revision=1)

        problem = change(api, path, 409, name="Two", revision=1)

        assert (problem["code"], "its revision is 2" in problem["detail"]) == ("changed_meanwhile", True)
        assert api.get(path)["name"] == "One"

    def test_an_archived_site_leaves_the_lists_only_and_comes_back(self, api: Client) -> None:
        site = make_site(api)
        path = f"/v1/sites/{site['site_id']}"
        unit = make_unit(api, site["site_id"])
        for _ in range(2):
            send(api, "DELETE", path, status=204)

        assert api.get("/v1/sites")["items"] == []
        [listed] = api.get("/v1/sites", archived=True)["items"]
        assert listed == api.get(path)
        assert listed["archived_at"] is not None
        assert api.get(f"/v1/units/{unit['unit_id']}")["site_id"] == site["site_id"]
        assert change(api, f"/v1/units/{unit['unit_id']}", name="Renamed")["name"] == "Renamed"
        body = {"name": "New", "kind": "room", "site_id": site["site_id"]}
        assert send(api, "POST", "/v1/units", body, status=409)["code"] == "archived"
        assert change(api, path, archived=False)["archived_at"] is None
        assert len(api.get("/v1/sites")["items"]) == 1

    @pytest.mark.parametrize(
        ("fields", "parameter"),
        [
            ({"name": ""}, "name"),
            ({"name": "a\nb"}, "name"),
            ({"timezone": "Europe"}, "timezone"),
            ({"attributes": {"a": True}}, "attributes.a"),
            ({"tenant_id": "ten_other"}, "tenant_id"),
            ({"revision": 1}, "revision"),
        ],
    )
    def test_a_bad_site_is_422_with_the_field(self, api: Client, fields: dict[str, Any], parameter: str) -> None:
        assert refused(api, {**SITE, **fields}, "/v1/sites")["parameter"] == parameter
        assert api.get("/v1/sites")["items"] == []

    @pytest.mark.parametrize(
        ("fields", "parameter"),
        [
            ({"effective_from": "2999-01-01T00:00:00Z"}, "effective_from"),
            ({"revision": 0}, "revision"),
            ({"archived": "yes"}, "archived"),
            ({"site_id": "sit_other"}, "site_id"),
        ],
    )
    def test_a_bad_change_is_422_with_the_field(self, api: Client, fields: dict[str, Any], parameter: str) -> None:
        path = f"/v1/sites/{make_site(api)['site_id']}"

        assert change(api, path, 422, **fields)["errors"][0]["parameter"] == parameter
        assert api.get(path)["revision"] == 1

    def test_no_more_versions_than_workers_can_hold(self, api: Client, database: Database) -> None:
        site_id = make_site(api)["site_id"]
        database.query(
            "INSERT INTO weir.site_version SELECT site_id, timestamptz '2011-01-01' + n * interval '1 day', tenant_id,"
            " timezone, attributes FROM weir.site, generate_series(1, 999) n WHERE site_id = %s",
            site_id,
        )

        problem = change(api, f"/v1/sites/{site_id}", 422, timezone="UTC")

        assert (problem["code"], problem["detail"].split(",")[0]) == ("too_many", "there are 1000 versions")


class TestUnits:
    def test_a_created_unit_is_read_and_listed_as_it_was_answered(self, api: Client) -> None:
        site_id = make_site(api)["site_id"]
        made = make_unit(api, site_id, attributes={"max_celsius": 4.5})
        place_models.Unit.model_validate(made)

        assert (made["kind"], made["site_id"], made["attributes"]) == ("fridge", site_id, {"max_celsius": 4.5})
        assert api.get(f"/v1/units/{made['unit_id']}") == made
        assert api.get("/v1/units") == {"items": [made], "next": None}

    def test_units_are_listed_by_site_and_kind(self, api: Client) -> None:
        site_id = make_site(api)["site_id"]
        fridge, freezer = make_unit(api, site_id), make_unit(api, site_id, kind="freezer")
        nowhere = make_unit(api)

        def listed(**parameters: Any) -> set[str]:
            return {item["unit_id"] for item in api.walk("/v1/units", limit=1, **parameters)}

        assert listed() == {fridge["unit_id"], freezer["unit_id"], nowhere["unit_id"]}
        assert listed(site_id=site_id) == {fridge["unit_id"], freezer["unit_id"]}
        assert listed(site_id=site_id, kind="freezer") == {freezer["unit_id"]}
        assert listed(site_id="sit_none") == set()
        assert api.get("/v1/units", kind="oven", status=422)["errors"][0]["parameter"] == "kind"
        cursor = api.get("/v1/units", limit=1, site_id=site_id)["next"]
        assert api.get("/v1/units", cursor=cursor)["items"][0]["site_id"] == site_id
        api.get("/v1/units", cursor=cursor, site_id="sit_none", status=422)
        api.get("/v1/sites", cursor=cursor, status=422)

    def test_a_unit_that_moves_takes_its_sensors_along(self, api: Client, database: Database, tenant: Tenant) -> None:
        home, away = make_site(api)["site_id"], make_site(api)["site_id"]
        unit_id = make_unit(api, home)["unit_id"]
        _, sensor_id = add_sensor(database, tenant, "air")
        change(api, f"/v1/sensors/{sensor_id}", unit_id=unit_id)

        assert change(api, f"/v1/units/{unit_id}", site_id=away)["site_id"] == away

        sensor = api.get(f"/v1/sensors/{sensor_id}")
        assert (sensor["unit_id"], sensor["site_id"]) == (unit_id, away)
        assert change(api, f"/v1/units/{unit_id}", site_id=None)["site_id"] is None
        assert api.get(f"/v1/sensors/{sensor_id}")["site_id"] is None


class TestAtTheSameTime:
    def test_changes_at_the_same_time_all_happen_and_leave_one_truth(
        self, api: Client, url: str, database: Database, tenant: Tenant
    ) -> None:
        sites = [make_site(api)["site_id"] for _ in range(2)]
        units = [make_unit(api, site_id)["unit_id"] for site_id in sites]
        sensors = [add_sensor(database, tenant, f"s{n}")[1] for n in range(3)]

        def act(seed: int) -> list[int]:
            some = random.Random(seed)
            with client(url, tenant.api_key) as own:
                return [self.change_something(own, some, sites, units, sensors) for _ in range(12)]

        with ThreadPoolExecutor(6) as pool:
            statuses = [status for each in pool.map(act, range(6)) for status in each]

        assert set(statuses) == {200}
        for sensor_id in sensors:
            sensor = api.get(f"/v1/sensors/{sensor_id}")
            now = (sensor["unit_id"], sensor["site_id"])
            if sensor["unit_id"] is not None:
                assert sensor["site_id"] == api.get(f"/v1/units/{sensor['unit_id']}")["site_id"]
            assert database.query(
                "SELECT unit_id, site_id FROM sensor_assignments WHERE sensor_id = %s AND effective_to IS NULL",
                sensor_id,
            ) in ([now], [] if now == (None, None) else [now])

    @staticmethod
    def change_something(
        api: Client, some: random.Random, sites: list[str], units: list[str], sensors: list[str]
    ) -> int:
        """Move a unit, a sensor, or a site's clock; now or in the past. Answers the status."""
        changes: list[tuple[str, dict[str, Any]]] = [
            (f"/v1/units/{some.choice(units)}", {"site_id": some.choice([*sites, None])}),
            (f"/v1/units/{some.choice(units)}", {"attributes": {"max_celsius": some.randint(1, 9)}}),
            (f"/v1/sensors/{some.choice(sensors)}", {"unit_id": some.choice(units)}),
            (f"/v1/sensors/{some.choice(sensors)}", {"unit_id": None, "site_id": some.choice(sites)}),
            (f"/v1/sites/{some.choice(sites)}", {"timezone": some.choice(["UTC", "Europe/Berlin"])}),
        ]
        path, fields = some.choice(changes)
        since = {"effective_from": shown(NOW - timedelta(days=some.randint(1, 9)))} if some.random() < 0.5 else {}
        return api.http.patch(path, json={**fields, **since}).status_code


class TestStates:
    def test_a_unit_and_its_site_are_as_the_worst_of_their_sensors(
        self, api: Client, database: Database, tenant: Tenant
    ) -> None:
        site_id = make_site(api)["site_id"]
        units = {name: make_unit(api, site_id)["unit_id"] for name in ("ok", "silent", "alert", "unknown", "empty")}
        minute = timedelta(minutes=1)
        # The last reading's age; a minute is expected, so more than three are silence.
        for name, age in (("ok", minute), ("silent", 4 * minute), ("alert", 9 * minute), ("unknown", None)):
            sensor_no, sensor_id = add_sensor(database, tenant, name, 60_000)
            change(api, f"/v1/sensors/{sensor_id}", unit_id=units[name])
            if age is not None:
                add_readings(database, sensor_no, [(datetime.now(UTC) - age, 0, 4.0)])
            if name == "alert":
                self.add_episodes(database, tenant, sensor_no)

        found = {item["unit_id"]: item for item in api.walk("/v1/units", limit=2, site_id=site_id)}

        states = {name: found[unit_id]["state"] for name, unit_id in units.items()}
        assert states == {name: name for name in ("ok", "silent", "alert", "unknown")} | {"empty": "unknown"}
        alert = found[units["alert"]]
        # The pending and resolved ones do not count.
        counts = {name: alert[name] for name in ("sensors", "silent", "alerts", "unacknowledged", "severity")}
        assert counts == {"sensors": 1, "silent": 1, "alerts": 2, "unacknowledged": 1, "severity": "major"}
        [site] = api.get("/v1/sites")["items"]
        assert (site["state"], site["sensors"], site["silent"], site["alerts"]) == ("alert", 4, 2, 2)
        assert api.get(f"/v1/units/{units['alert']}") == alert

    def test_an_archived_sensor_does_not_count(self, api: Client, database: Database, tenant: Tenant) -> None:
        unit_id = make_unit(api)["unit_id"]
        sensor_no, sensor_id = add_sensor(database, tenant, "air", 60_000)
        add_readings(database, sensor_no, [(NOW - timedelta(days=2), 0, 4.0)])
        change(api, f"/v1/sensors/{sensor_id}", unit_id=unit_id)
        assert api.get(f"/v1/units/{unit_id}")["state"] == "silent"

        change(api, f"/v1/sensors/{sensor_id}", archived=True)

        assert (api.get(f"/v1/units/{unit_id}")["state"], api.get(f"/v1/units/{unit_id}")["sensors"]) == ("unknown", 0)

    @staticmethod
    def add_episodes(database: Database, tenant: Tenant, sensor_no: int) -> None:
        ((rule_no,),) = database.query(
            "INSERT INTO weir.rule (rule_id, tenant_id) VALUES ('rul_' || %s, %s) RETURNING rule_no",
            tenant.tenant_id,
            tenant.tenant_id,
        )
        for status, severity, acknowledged in (
            ("firing", "minor", NOW),
            ("firing", "major", None),
            ("pending", "critical", None),
            ("resolved", "critical", None),
        ):
            database.query(
                "INSERT INTO weir.alert_episode (tenant_id, sensor_no, rule_no, severity, status, acknowledged_at,"
                " started_at, peak_at, proven_ms, possible_ms, historical)"
                " VALUES (%s, %s, %s, %s, %s, %s, now(), now(), 0, 0, false)",
                tenant.tenant_id,
                sensor_no,
                rule_no,
                severity,
                status,
                acknowledged,
            )


class TestAccess:
    def test_another_tenants_places_are_404_in_paths_and_bodies(self, api: Client, stranger: Client) -> None:
        site_id = make_site(api)["site_id"]
        unit_id = make_unit(api, site_id)["unit_id"]
        own_unit = make_unit(stranger)["unit_id"]

        for path in (f"/v1/sites/{site_id}", f"/v1/units/{unit_id}", "/v1/sites/a%00b", "/v1/units/a%00b"):
            for method, body in (("GET", None), ("PATCH", {"name": "mine"}), ("DELETE", None)):
                assert send(stranger, method, path, body, status=404)["code"] == "not_found"
        document = {"name": "mine", "kind": "fridge", "site_id": site_id}
        assert send(stranger, "POST", "/v1/units", document, status=404)["detail"] == "there is no such site"
        change(stranger, f"/v1/units/{own_unit}", 404, site_id=site_id)
        assert stranger.get("/v1/sites", archived=True)["items"] == []
        assert stranger.get("/v1/units", site_id=site_id)["items"] == []
        assert api.get(f"/v1/sites/{site_id}")["name"] == SITE["name"]

    def test_a_key_that_may_only_read_changes_nothing(
        self, api: Client, url: str, database: Database, tenant: Tenant
    ) -> None:
        site_id, unit_id = make_site(api)["site_id"], make_unit(api)["unit_id"]
        reading = new_tenant(database)
        database.query("UPDATE weir.api_key SET scopes = '{read}' WHERE tenant_id = %s", reading.tenant_id)

        with client(url, reading.api_key) as reader:
            for method, path in (
                ("POST", "/v1/sites"),
                ("PATCH", f"/v1/sites/{site_id}"),
                ("DELETE", f"/v1/sites/{site_id}"),
                ("POST", "/v1/units"),
                ("PATCH", f"/v1/units/{unit_id}"),
                ("DELETE", f"/v1/units/{unit_id}"),
            ):
                send(reader, method, path, SITE, status=403)
            assert reader.get("/v1/units")["items"] == []
