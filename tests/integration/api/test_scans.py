"""`/v1/scans` over a real server: made, listed, ended, cancelled; what came of them, live and as files."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from api import scan_models
from tests.integration.api_scene import Client, client, new_tenant
from tests.integration.live_scene import items, live_client
from tests.integration.rule_scene import send
from tests.integration.scan_scene import RESULT, plant_export, plant_result, set_scan
from tests.integration.servers import Database, Tenant

pytestmark = pytest.mark.integration

EXPORTS = {"json": b"{}", "csv": b"name,value\n", "points.ply": b"ply\n", "glb": b"glTF"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("objects")


@pytest.fixture(scope="module")
def api_options(folder: Path) -> dict[str, Any]:
    return {"objects_url": str(folder)}


def tenant_of(database: Database, plan: str = "enterprise") -> Tenant:
    tenant = new_tenant(database)
    database.query("UPDATE weir.tenant SET plan = %s WHERE tenant_id = %s", plan, tenant.tenant_id)
    return tenant


@pytest.fixture
def tenant(database: Database) -> Tenant:
    return tenant_of(database)


def make_scan(api: Client, **body: Any) -> dict[str, Any]:
    made = send(api, "POST", "/v1/scans", body, status=201)
    scan_models.Scan.model_validate(made)
    return dict(made)


class TestCreating:
    def test_a_scan_is_made_with_an_id_for_its_frames(self, api: Client, tenant: Tenant) -> None:
        device_id = tenant.devices[0].device_id

        made = make_scan(api, name="Kitchen", device_id=device_id, priority=10)

        assert (made["name"], made["device_id"], made["priority"], made["status"]) == (
            "Kitchen",
            device_id,
            10,
            "receiving",
        )
        assert made["frames"]["received"] == 0
        assert api.get(f"/v1/scans/{made['scan_id']}") == made

    def test_nothing_has_to_be_said(self, api: Client) -> None:
        response = api.http.post("/v1/scans")

        assert response.status_code == 201
        assert (response.json()["name"], response.json()["device_id"], response.json()["priority"]) == ("", None, 0)

    @pytest.mark.parametrize(
        ("body", "wrong"),
        [
            ({"name": 7}, "name"),
            ({"name": "x" * 201}, "name"),
            ({"priority": 101}, "priority"),
            ({"priority": True}, "priority"),
            ({"priority": 1.5}, "priority"),
            ({"device": "x"}, "device"),
        ],
    )
    def test_a_wrong_field_is_named(self, api: Client, body: dict[str, Any], wrong: str) -> None:
        problem = send(api, "POST", "/v1/scans", body, status=422)

        assert [error["parameter"] for error in problem["errors"]] == [wrong]

    def test_a_device_of_nobody_and_of_another_tenant_are_told_apart_by_nobody(
        self, api: Client, database: Database
    ) -> None:
        other = new_tenant(database, "other").devices[0].device_id

        for device_id in (other, "dev_none"):
            problem = send(api, "POST", "/v1/scans", {"device_id": device_id}, status=404)
            assert problem["detail"] == "there is no such device"

    def test_a_plan_without_more_begins_no_scan_but_reads_those_it_has(self, database: Database, url: str) -> None:
        with client(url, tenant_of(database, "free").api_key) as poor:
            made = [make_scan(poor)["scan_id"] for _ in range(3)]  # so many a month

            assert send(poor, "POST", "/v1/scans", {}, status=429)["code"] == "quota_exceeded"
            assert [one["scan_id"] for one in poor.walk("/v1/scans")] == made[::-1]

    def test_a_refused_device_takes_nothing_of_the_quota(self, database: Database, url: str) -> None:
        with client(url, tenant_of(database, "free").api_key) as poor:
            for _ in range(5):
                send(poor, "POST", "/v1/scans", {"device_id": "dev_none"}, status=404)

            make_scan(poor)

    def test_the_audit_log_names_who_made_and_who_cancelled_it(self, api: Client) -> None:
        scan_id = make_scan(api, name="Kitchen")["scan_id"]
        send(api, "POST", f"/v1/scans/{scan_id}/cancel")

        entries = api.walk("/v1/audit", subject_id=scan_id)

        assert [(each["action"], each["kind"]) for each in entries] == [("changed", "scan"), ("created", "scan")]
        assert entries[0]["changes"]["status"] == {"from": "receiving", "to": "cancelled"}
        assert entries[0]["actor"] == entries[1]["actor"] != "system"


class TestListing:
    def test_pages_show_the_newest_first_and_each_once(self, api: Client) -> None:
        made = [make_scan(api, name=str(n))["scan_id"] for n in range(5)]

        assert [each["scan_id"] for each in api.walk("/v1/scans", limit=2)] == made[::-1]

    def test_filters_narrow_and_stay_with_the_cursor(self, api: Client, tenant: Tenant, database: Database) -> None:
        device_id = tenant.devices[0].device_id
        made = [make_scan(api, device_id=device_id if n % 2 else None)["scan_id"] for n in range(6)]
        for scan_id in made[:4]:
            set_scan(database, scan_id, status="completed")
        set_scan(database, made[5], status="failed")

        def found(**query: Any) -> list[int]:
            response = api.http.get("/v1/scans", params=query)
            return [made.index(each["scan_id"]) for each in response.json()["items"]]

        assert [made.index(each["scan_id"]) for each in api.walk("/v1/scans", device_id=device_id, limit=1)] == [
            5,
            3,
            1,
        ]
        assert found(status="completed", device_id=device_id) == [3, 1]
        assert found(status=["failed", "receiving"]) == [5, 4]
        page = api.http.get("/v1/scans", params={"status": "completed", "limit": 1}).json()
        following = api.get("/v1/scans", cursor=page["next"])["items"]
        assert [made.index(each["scan_id"]) for each in (page["items"] + following)] == [3, 2, 1, 0]
        refused = api.http.get("/v1/scans", params={"cursor": page["next"], "status": "failed"})
        assert refused.status_code == 422

    def test_an_unknown_status_is_refused(self, api: Client) -> None:
        assert api.http.get("/v1/scans", params={"status": "done"}).status_code == 422


class TestEnding:
    def test_a_completed_scan_waits_for_its_processing_and_is_not_ended_twice(self, api: Client) -> None:
        scan_id = make_scan(api)["scan_id"]

        first = send(api, "POST", f"/v1/scans/{scan_id}/complete", {"frames": 0})
        second = send(api, "POST", f"/v1/scans/{scan_id}/complete")

        assert (first["status"], second["status"]) == ("queued", "queued")

    def test_a_scan_whose_records_are_missing_is_still_received(self, api: Client) -> None:
        scan_id = make_scan(api)["scan_id"]

        document = send(api, "POST", f"/v1/scans/{scan_id}/complete", {"frames": 3})

        assert document["status"] == "receiving"
        assert document["frames"]["missing"] == [0, 1, 2]

    def test_what_has_its_result_is_not_cancelled(self, api: Client, database: Database) -> None:
        scan_id = make_scan(api)["scan_id"]
        set_scan(database, scan_id, status="completed")

        assert send(api, "POST", f"/v1/scans/{scan_id}/cancel", status=409)["code"] == "finished"

    def test_a_cancelled_scan_is_neither_completed_nor_tried_again(self, api: Client) -> None:
        scan_id = make_scan(api)["scan_id"]
        assert send(api, "POST", f"/v1/scans/{scan_id}/cancel")["status"] == "cancelled"

        assert send(api, "POST", f"/v1/scans/{scan_id}/cancel")["status"] == "cancelled"
        assert send(api, "POST", f"/v1/scans/{scan_id}/complete", status=409)["code"] == "ended"
        assert send(api, "POST", f"/v1/scans/{scan_id}/retry", status=409)["code"] == "not_failed"

    def test_a_failed_scan_is_tried_again(self, api: Client, database: Database) -> None:
        scan_id = make_scan(api)["scan_id"]
        set_scan(
            database, scan_id, status="failed", error="the memory limit was reached", all_arrived=True, end_frames=0
        )
        assert api.get(f"/v1/scans/{scan_id}")["error"] == "the memory limit was reached"

        assert send(api, "POST", f"/v1/scans/{scan_id}/retry")["status"] == "queued"


class TestResults:
    def test_the_document_shows_what_was_measured_and_which_files_there_are(
        self, api: Client, database: Database, folder: Path
    ) -> None:
        scan_id = make_scan(api, name="Kitchen")["scan_id"]
        plant_result(database, folder, scan_id, EXPORTS)

        document = api.get(f"/v1/scans/{scan_id}")

        scan_models.Scan.model_validate(document)
        assert {name: document[name] for name in RESULT if name != "model"} == {
            name: value for name, value in RESULT.items() if name != "model"
        }
        assert document["model"]["formats"] == sorted(EXPORTS)
        assert document["progress"] == 100

    def test_an_export_comes_as_it_is_there(self, api: Client, database: Database, folder: Path) -> None:
        scan_id = make_scan(api, name='Küche "EG"')["scan_id"]
        plant_result(database, folder, scan_id, EXPORTS)

        for name, content in EXPORTS.items():
            if name == "json":
                continue
            response = api.http.get(f"/v1/scans/{scan_id}/export", params={"format": name})
            assert (response.status_code, response.content) == (200, content)
            assert response.headers["etag"] == f'"{hashlib.sha256(content).hexdigest()}"'
            assert int(response.headers["content-length"]) == len(content)
        assert response.headers["content-type"] == "model/gltf-binary"
        assert response.headers["content-disposition"] == (
            "attachment; filename=\"K_che _EG_.glb\"; filename*=UTF-8''K%C3%BCche%20%22EG%22.glb"
        )
        again = api.http.get(
            f"/v1/scans/{scan_id}/export", params={"format": "glb"}, headers={"If-None-Match": response.headers["etag"]}
        )
        assert (again.status_code, again.content) == (304, b"")

    def test_as_json_all_of_a_scan_is_told(self, api: Client, database: Database, folder: Path) -> None:
        scan_id = make_scan(api, name="EG")["scan_id"]
        plant_result(database, folder, scan_id, EXPORTS)

        response = api.http.get(f"/v1/scans/{scan_id}/export")
        again = api.http.get(f"/v1/scans/{scan_id}/export", headers={"If-None-Match": response.headers["etag"]})

        assert response.json() == api.get(f"/v1/scans/{scan_id}")
        assert response.headers["content-disposition"] == "attachment; filename=\"EG.json\"; filename*=UTF-8''EG.json"
        assert (again.status_code, again.content) == (304, b"")

    def test_a_large_export_is_whole(self, api: Client, database: Database, folder: Path) -> None:
        scan_id, content = make_scan(api)["scan_id"], bytes(range(256)) * 20_000
        plant_result(database, folder, scan_id, {"points.ply": content})

        response = api.http.get(f"/v1/scans/{scan_id}/export", params={"format": "points.ply"})

        assert response.content == content
        assert "-points.ply" in response.headers["content-disposition"]

    def test_what_is_not_there_is_409_and_what_is_no_format_422(self, api: Client) -> None:
        scan_id = make_scan(api)["scan_id"]

        problem = send(api, "GET", f"/v1/scans/{scan_id}/export?format=glb", status=409)

        assert (problem["code"], "receiving" in problem["detail"]) == ("not_exported", True)
        assert (
            send(api, "GET", f"/v1/scans/{scan_id}/export?format=dwg", status=422)["errors"][0]["parameter"] == "format"
        )

    def test_the_free_plan_has_the_preview_but_no_exports(self, url: str, database: Database, folder: Path) -> None:
        with client(url, tenant_of(database, "free").api_key) as free:
            scan_id = make_scan(free)["scan_id"]
            plant_result(database, folder, scan_id, {"json": b"{}", "preview.ply": b"ply\n"})

            assert send(free, "GET", f"/v1/scans/{scan_id}/export?format=json", status=402)["code"] == "not_included"
            preview = free.http.get(f"/v1/scans/{scan_id}/export", params={"format": "preview.ply"})
        assert (preview.status_code, preview.content) == (200, b"ply\n")

    def test_bytes_that_went_missing_are_told_as_such(self, api: Client, database: Database, folder: Path) -> None:
        scan_id = make_scan(api)["scan_id"]
        key = plant_export(database, folder, scan_id, "csv", b"gone")
        (folder / key).unlink()

        assert send(api, "GET", f"/v1/scans/{scan_id}/export?format=csv", status=503)["code"] == "object_missing"


class TestLive:
    def test_the_snapshot_has_the_scans_and_events_tell_of_each_change(
        self, url: str, tenant: Tenant, api: Client
    ) -> None:
        scan = make_scan(api, name="Kitchen")
        with live_client(url, tenant.api_key) as viewer:
            frames = viewer.subscribe("scans")
            assert items(frames) == [scan]

            send(api, "POST", f"/v1/scans/{scan['scan_id']}/cancel")

            event = viewer.hear("event")
            assert [(item["scan_id"], item["status"]) for item in event["items"]] == [(scan["scan_id"], "cancelled")]

    def test_a_stranger_sees_nothing(self, url: str, database: Database, api: Client) -> None:
        make_scan(api)
        with live_client(url, new_tenant(database, "other").api_key) as viewer:
            assert items(viewer.subscribe("scans")) == []
