"""Changes of sensors over a real server: where they are, since when, and who moved them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from api import device_models, reading_models
from tests.integration.api_scene import Client, new_tenant, shown
from tests.integration.device_scene import make_device, make_sensor
from tests.integration.rule_scene import send
from tests.integration.servers import Database, Tenant

pytestmark = pytest.mark.integration

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def tenant(database: Database) -> Tenant:
    return new_tenant(database, devices=0)


class TestSensors:
    @pytest.fixture
    def sensor(self, api: Client, database: Database, tenant: Tenant) -> str:
        return make_sensor(database, tenant, make_device(api))[1]

    @pytest.fixture
    def places(self, api: Client) -> tuple[str, str, str]:
        """Two sites, and a unit at the first."""
        home, away = (send(api, "POST", "/v1/sites", {"name": n}, status=201)["site_id"] for n in ("home", "away"))
        unit = {"name": "Walk-in", "kind": "fridge", "site_id": home}
        return home, away, send(api, "POST", "/v1/units", unit, status=201)["unit_id"]

    def change(self, api: Client, sensor: str, status: int = 200, **fields: Any) -> Any:
        return send(api, "PATCH", f"/v1/sensors/{sensor}", fields, status=status)

    def test_in_a_unit_it_is_at_the_units_site(self, api: Client, sensor: str, places: tuple[str, str, str]) -> None:
        home, away, unit_id = places

        changed = self.change(api, sensor, unit_id=unit_id)

        reading_models.Sensor.model_validate(changed)
        assert (changed["unit_id"], changed["site_id"]) == (unit_id, home)
        assert self.change(api, sensor, site_id=home)["unit_id"] == unit_id
        problem = self.change(api, sensor, 422, site_id=away)
        assert problem["errors"][0]["parameter"] == "site_id"
        assert home in problem["detail"]
        assert api.get(f"/v1/sensors/{sensor}") == changed

    def test_out_of_the_unit_it_stays_at_the_site_or_goes_to_another(
        self, api: Client, sensor: str, places: tuple[str, str, str]
    ) -> None:
        home, away, unit_id = places
        self.change(api, sensor, unit_id=unit_id)

        for fields, site_id in (
            ({"unit_id": None}, home),
            ({"site_id": away}, away),
            ({"unit_id": unit_id}, home),
            ({"unit_id": None, "site_id": None}, None),
        ):
            changed = self.change(api, sensor, **fields)
            assert (changed["unit_id"], changed["site_id"]) == (fields.get("unit_id"), site_id)

    def test_it_is_there_since_when_it_is_said_to_be_and_judged_again_from_then(
        self, api: Client, database: Database, sensor: str, places: tuple[str, str, str]
    ) -> None:
        home, _, unit_id = places
        since = NOW - timedelta(days=5)

        self.change(api, sensor, unit_id=unit_id, effective_from=shown(since))

        assert database.query(
            "SELECT a.effective_from, a.effective_to, a.unit_id, a.site_id, w.from_at FROM sensor_assignments a"
            " JOIN weir.sensor s USING (sensor_id) JOIN weir.place_work w USING (sensor_no) WHERE a.sensor_id = %s",
            sensor,
        ) == [(since, None, unit_id, home, since)]

    def test_where_it_was_is_told_oldest_first(
        self, api: Client, stranger: Client, sensor: str, places: tuple[str, str, str]
    ) -> None:
        home, away, unit_id = places
        path = f"/v1/sensors/{sensor}/assignments"
        days = [shown(NOW - timedelta(days=n)) for n in (9, 6, 3)]
        assert api.get(path) == {"items": [], "next": None}
        self.change(api, sensor, unit_id=unit_id, effective_from=days[0])
        self.change(api, sensor, unit_id=None, effective_from=days[2])
        send(api, "PATCH", f"/v1/units/{unit_id}", {"site_id": away, "effective_from": days[1]})

        found = api.walk(path, limit=1)

        for one in found:
            device_models.Assignment.model_validate(one)
        assert [tuple(one.values()) for one in found] == [
            (days[0], days[1], unit_id, home),
            (days[1], days[2], unit_id, away),
            (days[2], None, None, home),
        ]
        stranger.get(path, status=404)

    def test_the_audit_log_tells_who_moved_it_and_since_when(
        self, api: Client, database: Database, tenant: Tenant, sensor: str, places: tuple[str, str, str]
    ) -> None:
        home, away, unit_id = places
        first, second = (shown(NOW - timedelta(days=n)) for n in (6, 9))
        self.change(api, sensor, unit_id=unit_id, effective_from=first)
        self.change(api, sensor, unit_id=None, site_id=away, effective_from=second)
        ((key,),) = database.query("SELECT api_key_id FROM weir.api_key WHERE tenant_id = %s", tenant.tenant_id)

        entries = api.walk("/v1/audit", kind="assignment", subject_id=sensor)

        told = [(one["actor"], one["action"], one["changes"]["place"]) for one in reversed(entries)]
        in_unit = {"unit_id": unit_id, "site_id": home}
        assert [(who, what, self.without_time(place)) for who, what, place in told] == [
            (key, "created", {"to": in_unit}),
            (key, "removed", {"from": in_unit}),
            (key, "created", {"to": {"unit_id": None, "site_id": away}}),
        ]
        assert [datetime.fromisoformat(place["to"]["effective_from"]) for _, _, place in told[::2]] == [
            datetime.fromisoformat(first),
            datetime.fromisoformat(second),
        ]
        kinds = {one["kind"] for one in api.walk("/v1/audit", subject_id=unit_id)}
        assert kinds == {"unit", "unit_version"}

    @staticmethod
    def without_time(place: dict[str, Any]) -> dict[str, Any]:
        return {
            side: {name: value for name, value in one.items() if name != "effective_from"}
            for side, one in place.items()
        }

    def test_sensors_are_listed_by_place_and_device(
        self, api: Client, database: Database, tenant: Tenant, sensor: str, places: tuple[str, str, str]
    ) -> None:
        home, away, unit_id = places
        device = make_device(api, "Second")
        in_unit, at_site, elsewhere = (make_sensor(database, tenant, device, name)[1] for name in "abc")
        self.change(api, in_unit, unit_id=unit_id)
        self.change(api, at_site, site_id=home)
        self.change(api, elsewhere, site_id=away)

        def listed(**parameters: Any) -> set[str]:
            return {item["sensor_id"] for item in api.walk("/v1/sensors", limit=1, **parameters)}

        assert listed() == {sensor, in_unit, at_site, elsewhere}
        assert listed(unit_id=unit_id) == {in_unit}
        assert listed(site_id=home) == {in_unit, at_site}
        assert listed(site_id=home, device_id=device["device_id"]) == {in_unit, at_site}
        assert listed(device_id=api.get(f"/v1/sensors/{sensor}")["device_id"]) == {sensor}
        api.get("/v1/sensors", site_id="a\0b", status=422)

    def test_unit_interval_and_archiving_are_its_own(self, api: Client, database: Database, sensor: str) -> None:
        changed = self.change(api, sensor, unit="percent", expected_interval="90s", archived=True)

        assert (changed["unit"], changed["expected_interval"]) == ("percent", "1m30s")
        assert api.get("/v1/sensors")["items"] == []
        assert api.get("/v1/sensors", archived=True)["items"] == [changed]
        back = self.change(api, sensor, expected_interval=None, archived=False)
        assert (back["expected_interval"], back["archived_at"], back["unit"]) == (None, None, "percent")
        # Twice another interval, and nothing else that rules ask for.
        assert database.query(
            "SELECT count(*) FROM weir.place_work JOIN weir.sensor USING (sensor_no) WHERE sensor_id = %s", sensor
        ) == [(2,)]

    @pytest.mark.parametrize(
        ("fields", "parameter"),
        [
            ({"name": "other"}, "name"),
            ({"unit": ""}, "unit"),
            ({"unit": None}, "unit"),
            ({"expected_interval": "0s"}, "expected_interval"),
            ({"unit_id": 5}, "unit_id"),
            ({"effective_from": "2026-11-01T00:00:00Z"}, "effective_from"),
            ({"unit_id": None, "effective_from": "2999-01-01T00:00:00Z"}, "effective_from"),
            ({"device_id": "dev_x"}, "device_id"),
        ],
    )
    def test_a_bad_change_is_422_with_the_field(
        self, api: Client, sensor: str, fields: dict[str, Any], parameter: str
    ) -> None:
        before = api.get(f"/v1/sensors/{sensor}")

        assert self.change(api, sensor, 422, **fields)["errors"][0]["parameter"] == parameter
        assert api.get(f"/v1/sensors/{sensor}") == before

    def test_nothing_is_put_into_what_is_archived(self, api: Client, sensor: str, places: tuple[str, str, str]) -> None:
        _, away, unit_id = places
        send(api, "DELETE", f"/v1/units/{unit_id}", status=204)
        send(api, "DELETE", f"/v1/sites/{away}", status=204)

        assert self.change(api, sensor, 409, unit_id=unit_id)["code"] == "archived"
        assert self.change(api, sensor, 409, site_id=away)["code"] == "archived"

    def test_another_tenants_ids_are_404_in_paths_and_bodies(
        self, api: Client, stranger: Client, database: Database, sensor: str, places: tuple[str, str, str]
    ) -> None:
        home, _, unit_id = places
        own = stranger.get("/v1/devices")["items"][0]["device_id"]
        ((own_sensor,),) = database.query(
            "INSERT INTO weir.sensor (tenant_id, device_id, name) SELECT tenant_id, device_id, 'air' FROM weir.device"
            " WHERE device_id = %s RETURNING sensor_id",
            own,
        )
        foreign = api.get(f"/v1/sensors/{sensor}")["device_id"]

        self.change(stranger, sensor, 404, unit="percent")
        self.change(stranger, own_sensor, 404, unit_id=unit_id)
        self.change(stranger, own_sensor, 404, site_id=home)
        self.change(stranger, own_sensor, 404, unit_id=None, site_id=home)
        for method, path in (
            ("GET", f"/v1/devices/{foreign}"),
            ("PATCH", f"/v1/devices/{foreign}"),
            ("DELETE", f"/v1/devices/{foreign}"),
            ("POST", f"/v1/devices/{foreign}/secrets"),
            ("DELETE", f"/v1/devices/{foreign}/secrets/1"),
        ):
            send(stranger, method, path, {"name": "mine"} if method == "PATCH" else None, status=404)
        assert stranger.get("/v1/sensors", device_id=foreign)["items"] == []
        assert database.query("SELECT count(*) FROM weir.sensor_assignment WHERE unit_id = %s", unit_id) == [(0,)]
