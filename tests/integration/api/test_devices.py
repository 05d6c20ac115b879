"""`/v1/devices` and `/v1/organization` over a real server: secrets shown once, revoked at once."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from api import device_models
from core.postgres import DatabaseRole, open_pool
from sinks.timescale import credentials
from tests.integration.api_scene import Client, add_readings, client, new_tenant, shown
from tests.integration.device_scene import make_device, make_sensor
from tests.integration.rule_scene import refused, send
from tests.integration.servers import VAULT, Database, Tenant, wait_until

pytestmark = pytest.mark.integration

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(scope="module")
def api_options() -> dict[str, Any]:
    return {"api_ingest_timeout_s": 0.2}


@pytest.fixture
def tenant(database: Database) -> Tenant:
    return new_tenant(database, devices=0)


def secrets_that_workers_know(database: Database, device_id: str) -> set[str]:
    """The usable secrets of a device, opened."""

    async def look() -> set[str]:
        async with open_pool(database.writer_url, DatabaseRole.WRITER) as pool:
            row = await credentials.find_device(pool, device_id)
        return set() if row is None else {VAULT.unseal(sealed, device_id) for sealed in row.sealed}

    return asyncio.run(look())


def is_believed(url: str, device_id: str, secret: str) -> bool:
    """Whether the API takes a record from the device: then it tries the broker, which is not there."""
    with client(url, f"{device_id}.{secret}") as device:
        body = {"readings": [{"sensor": "air", "at": shown(NOW), "value": 4.0}]}
        status = device.http.post("/v1/readings", json=body).status_code
    assert status in {401, 503}
    return status == 503


class TestDevices:
    def test_a_created_device_shows_its_secret_once(self, api: Client, database: Database) -> None:
        made = make_device(api)
        device_models.NewDevice.model_validate(made)
        secret = made.pop("secret")

        assert api.get(f"/v1/devices/{made['device_id']}") == made
        assert api.get("/v1/devices") == {"items": [made], "next": None}
        assert secret not in api.http.get("/v1/devices").text
        assert secrets_that_workers_know(database, made["device_id"]) == {secret}
        assert "." not in made["device_id"]

    def test_a_device_tells_how_many_sensors_it_has_and_when_it_was_heard(
        self, api: Client, database: Database, tenant: Tenant
    ) -> None:
        device = make_device(api)
        for name in ("air", "product"):
            sensor_no, _ = make_sensor(database, tenant, device, name)
            add_readings(database, sensor_no, [(NOW, 0, 4.0)])
        make_device(api, "Silent")

        found = {item["name"]: item for item in api.walk("/v1/devices", limit=1)}

        heard = shown(NOW + timedelta(milliseconds=250))
        assert {name: (item["sensors"], item["last_received_at"]) for name, item in found.items()} == {
            "Gateway": (2, heard),
            "Silent": (0, None),
        }

    def test_a_rotated_secret_holds_beside_the_old_one_for_the_overlap(self, api: Client, database: Database) -> None:
        made = make_device(api)
        device_id = made["device_id"]

        rotated = send(api, "POST", f"/v1/devices/{device_id}/secrets", {"overlap": "2h"}, status=201)

        device_models.NewSecret.model_validate(rotated)
        assert secrets_that_workers_know(database, device_id) == {made["secret"], rotated["secret"]}
        first, second = api.get(f"/v1/devices/{device_id}")["secrets"]
        expires_in = datetime.fromisoformat(first["expires_at"]) - datetime.fromisoformat(second["created_at"])
        assert expires_in == timedelta(hours=2)
        assert (second["secret_id"], second["expires_at"]) == (rotated["secret_id"], None)
        database.query("UPDATE weir.device_secret SET expires_at = now() WHERE expires_at IS NOT NULL")
        assert secrets_that_workers_know(database, device_id) == {rotated["secret"]}

    def test_without_an_overlap_the_old_secret_is_refused_within_seconds(self, api: Client, url: str) -> None:
        made = make_device(api)
        assert is_believed(url, made["device_id"], made["secret"])

        rotated = send(api, "POST", f"/v1/devices/{made['device_id']}/secrets", {"overlap": "0s"}, status=201)

        wait_until(lambda: not is_believed(url, made["device_id"], made["secret"]), 60, "the end of the old secret")
        assert is_believed(url, made["device_id"], rotated["secret"])

    def test_one_secret_of_several_can_be_revoked(self, api: Client, database: Database) -> None:
        made = make_device(api)
        path = f"/v1/devices/{made['device_id']}/secrets"
        rotated = send(api, "POST", path, status=201)
        [first, _] = api.get(f"/v1/devices/{made['device_id']}")["secrets"]

        send(api, "DELETE", f"{path}/{first['secret_id']}", status=204)

        assert secrets_that_workers_know(database, made["device_id"]) == {rotated["secret"]}
        for other in (first["secret_id"], "0", "x", "9" * 30, "%C2%B2"):
            send(api, "DELETE", f"{path}/{other}", status=404)

    def test_no_more_than_five_secrets_hold_at_once(self, api: Client) -> None:
        path = f"/v1/devices/{make_device(api)['device_id']}/secrets"
        for _ in range(4):
            send(api, "POST", path, status=201)

        assert send(api, "POST", path, status=409)["code"] == "too_many_secrets"
        send(api, "POST", path, {"overlap": "0s"}, status=201)

    def test_a_revoked_device_is_refused_within_seconds_and_leaves_the_list_only(
        self, api: Client, url: str, database: Database
    ) -> None:
        made = make_device(api)
        path = f"/v1/devices/{made['device_id']}"
        assert is_believed(url, made["device_id"], made["secret"])
        ((before,),) = database.query("SELECT generation FROM weir.catalog_generation")

        for _ in range(2):
            send(api, "DELETE", path, status=204)

        # Workers look at the generation with every batch.
        assert database.query("SELECT generation > %s FROM weir.catalog_generation", before) == [(True,)]
        assert secrets_that_workers_know(database, made["device_id"]) == set()
        wait_until(lambda: not is_believed(url, made["device_id"], made["secret"]), 60, "the end of the device")
        assert api.get("/v1/devices")["items"] == []
        [listed] = api.get("/v1/devices", archived=True)["items"]
        assert (listed["secrets"], listed["revoked_at"] is not None) == ([], True)
        assert send(api, "POST", f"{path}/secrets", status=409)["code"] == "revoked"

    @pytest.mark.parametrize(
        ("fields", "parameter"), [({}, "name"), ({"name": ""}, "name"), ({"name": "x", "secret": "s"}, "secret")]
    )
    def test_a_bad_device_is_422_with_the_field(self, api: Client, fields: dict[str, Any], parameter: str) -> None:
        assert refused(api, fields, "/v1/devices")["parameter"] == parameter

    def test_a_device_is_renamed_but_never_changes_its_tenant(self, api: Client, stranger: Client) -> None:
        path = f"/v1/devices/{make_device(api)['device_id']}"
        other = stranger.get("/v1/organization")["tenant_id"]

        assert send(api, "PATCH", path, {"name": "Cellar"})["name"] == "Cellar"
        problem = send(api, "PATCH", path, {"tenant_id": other}, status=422)
        assert problem["errors"][0]["parameter"] == "tenant_id"

    def test_a_bad_overlap_is_422(self, api: Client) -> None:
        path = f"/v1/devices/{make_device(api)['device_id']}/secrets"

        for overlap in ("-1s", "31d", 5, None):
            assert refused(api, {"overlap": overlap}, path)["parameter"] == "overlap"


class TestOrganization:
    def test_it_is_the_credentials_own_and_can_be_renamed(self, api: Client, stranger: Client, tenant: Tenant) -> None:
        found = api.get("/v1/organization")
        device_models.Organization.model_validate(found)

        assert (found["tenant_id"], found["plan"], found["raw_retention"]) == (tenant.tenant_id, "enterprise", None)
        assert send(api, "PATCH", "/v1/organization", {"name": "Harbour"}) == {**found, "name": "Harbour"}
        assert api.get("/v1/organization")["name"] == "Harbour"
        assert stranger.get("/v1/organization")["name"] == "other"

    @pytest.mark.parametrize("fields", [{"name": ""}, {"plan": "free"}, {"tenant_id": "ten_other"}])
    def test_nothing_else_can(self, api: Client, fields: dict[str, Any]) -> None:
        problem = send(api, "PATCH", "/v1/organization", fields, status=422)

        assert problem["errors"][0]["parameter"] == next(iter(fields))
