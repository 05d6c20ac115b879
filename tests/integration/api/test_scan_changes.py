"""Scans tried again, renamed, moved up and erased: what of it shows, counts and stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from core.tasks import TaskName
from sinks.objects import scan_prefix
from tests.integration.api.test_scans import make_scan, tenant_of
from tests.integration.api_scene import Client, client
from tests.integration.job_scene import run_task
from tests.integration.live_scene import live_client
from tests.integration.rule_scene import send
from tests.integration.scan_scene import plant_result, set_scan
from tests.integration.servers import Database, Tenant

pytestmark = pytest.mark.integration

EXPORTS = {"json": b"{}", "csv": b"name,value\n"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("objects")


@pytest.fixture(scope="module")
def api_options(folder: Path) -> dict[str, Any]:
    return {"objects_url": str(folder)}


@pytest.fixture
def tenant(database: Database) -> Tenant:
    return tenant_of(database)


class TestRetrying:
    def test_a_failed_scan_takes_its_place_in_the_quota_again_once_and_only_if_there_is_one(
        self, url: str, database: Database
    ) -> None:
        with client(url, tenant_of(database, "free").api_key) as poor:  # three a month
            first, second = [make_scan(poor)["scan_id"] for _ in range(2)]
            for scan_id in (first, second):
                fail(database, scan_id)
            assert used(database, first) == 0
            fail(database, first)  # it is given back once
            for _ in range(2):
                make_scan(poor)

            assert send(poor, "POST", f"/v1/scans/{first}/retry")["status"] == "queued"
            assert used(database, first) == 3
            assert send(poor, "POST", f"/v1/scans/{second}/retry", status=429)["code"] == "quota_exceeded"
            assert poor.get(f"/v1/scans/{second}")["status"] == "failed"
            assert used(database, first) == 3

            # It fails again, and the other one may.
            fail(database, first)
            assert send(poor, "POST", f"/v1/scans/{second}/retry")["status"] == "queued"
            assert used(database, first) == 3

    def test_a_failed_scan_of_which_more_comes_goes_on_and_counts(self, url: str, database: Database) -> None:
        with client(url, tenant_of(database, "free").api_key) as poor:
            scan_id = make_scan(poor)["scan_id"]
            fail(database, scan_id)
            for _ in range(3):
                make_scan(poor)

            database.query("SELECT weir.settle_scan(scan_no) FROM weir.scan WHERE scan_id = %s", scan_id)

            assert poor.get(f"/v1/scans/{scan_id}")["status"] == "receiving"
            assert used(database, scan_id) == 4


def fail(database: Database, scan_id: str) -> None:
    """As its job gives a scan up."""
    set_scan(database, scan_id, status="failed", error="it crashed")
    database.query("SELECT weir.give_back_scan(scan_no) FROM weir.scan WHERE scan_id = %s", scan_id)


def used(database: Database, scan_id: str) -> int:
    """How much of its quota the scan's tenant has used."""
    query = "SELECT used FROM weir.quota_use JOIN weir.scan USING (tenant_id) WHERE scan_id = %s"
    return int(database.query(query, scan_id)[0][0])


class TestChanging:
    def test_a_new_name_and_priority_are_shown_told_and_audited(self, api: Client, url: str, tenant: Tenant) -> None:
        scan_id = make_scan(api, name="Kitchen")["scan_id"]
        with live_client(url, tenant.api_key) as viewer:
            viewer.subscribe("scans")

            changed = send(api, "PATCH", f"/v1/scans/{scan_id}", {"name": "Küche", "priority": -5})

            assert [(item["name"], item["priority"]) for item in viewer.hear("event")["items"]] == [("Küche", -5)]
        assert changed == api.get(f"/v1/scans/{scan_id}")
        assert send(api, "PATCH", f"/v1/scans/{scan_id}", {"priority": 7})["name"] == "Küche"
        assert send(api, "PATCH", f"/v1/scans/{scan_id}", {"name": ""})["name"] == ""
        entries = [one for one in api.walk("/v1/audit", subject_id=scan_id) if one["action"] == "changed"]
        assert entries[-1]["changes"] == {
            "name": {"from": "Kitchen", "to": "Küche"},
            "priority": {"from": 0, "to": -5},
        }
        assert len(entries) == 3
        send(api, "PATCH", f"/v1/scans/{scan_id}", {"priority": 7})  # nothing changed, nothing recorded
        assert len(api.walk("/v1/audit", subject_id=scan_id)) == 4

    @pytest.mark.parametrize(
        ("body", "wrong"),
        [({"name": "x" * 201}, "name"), ({"priority": 101}, "priority"), ({"device_id": "d"}, "device_id")],
    )
    def test_a_wrong_field_is_named(self, api: Client, body: dict[str, Any], wrong: str) -> None:
        scan_id = make_scan(api)["scan_id"]

        problem = send(api, "PATCH", f"/v1/scans/{scan_id}", body, status=422)

        assert [error["parameter"] for error in problem["errors"]] == [wrong]

    def test_one_that_waits_moves_ahead_of_the_tenant_s_own(self, api: Client) -> None:
        waiting = [make_scan(api)["scan_id"] for _ in range(3)]
        for scan_id in waiting:
            send(api, "POST", f"/v1/scans/{scan_id}/complete")
        before = api.get(f"/v1/scans/{waiting[2]}")["queue_position"]

        send(api, "PATCH", f"/v1/scans/{waiting[2]}", {"priority": 50})

        assert api.get(f"/v1/scans/{waiting[2]}")["queue_position"] < before


GONE = [
    ("GET", ""),
    ("PATCH", ""),
    ("DELETE", ""),
    ("POST", "/cancel"),
    ("POST", "/retry"),
    ("GET", "/export"),
    ("GET", "/files"),
]


class TestErasing:
    def test_nothing_of_it_is_left_but_what_was_metered(
        self,
        api: Client,
        url: str,
        tenant: Tenant,
        database: Database,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("WEIR_OBJECTS_URL", str(folder))
        scan_id = make_scan(api, name="Bedroom of Mrs Brown")["scan_id"]
        send(api, "PATCH", f"/v1/scans/{scan_id}", {"priority": 1})
        plant_result(database, folder, scan_id, EXPORTS)
        number, prefix = meter(database, tenant, scan_id)
        usage = database.query(
            "SELECT meter, quantity FROM usage_hourly WHERE tenant_id = %s ORDER BY 1", tenant.tenant_id
        )
        assert [meter for meter, _ in usage] == ["scan_points", "scans"]
        with live_client(url, tenant.api_key) as viewer:
            viewer.subscribe("scans")

            assert api.http.delete(f"/v1/scans/{scan_id}").status_code == 204

            assert [(one["scan_id"], one["status"], one["name"]) for one in viewer.hear("event")["items"]] == [
                (scan_id, "erased", "")
            ]
        for method, path in (
            ("GET", ""),
            ("DELETE", ""),
            ("POST", "/cancel"),
            ("POST", "/retry"),
            ("GET", "/export"),
            ("GET", "/files"),
        ):
            send(api, method, f"/v1/scans/{scan_id}{path}", status=404)
        assert api.walk("/v1/scans") == []
        for table in ("scan_frame", "scan_file", "scan_result", "scan_export", "scan_conflict", "scan_upload"):
            query: Any = f"SELECT count(*) FROM weir.{table} WHERE scan_no = %s"  # noqa: S608 - a name from the test
            assert database.query(query, number) == [(0,)], table
        left = "SELECT count(*) FROM weir.live_event WHERE tenant_id = %s AND item::text LIKE '%%Brown%%'"
        assert database.query(left, tenant.tenant_id) == [(0,)]
        told = "SELECT meter, quantity FROM usage_hourly WHERE tenant_id = %s ORDER BY 1"
        assert database.query(told, tenant.tenant_id) == usage
        assert database.query("SELECT * FROM usage_drift WHERE tenant_id = %s", tenant.tenant_id) == []
        assert database.query("SELECT status, points FROM scans WHERE scan_id = %s", scan_id) == [("erased", 500)]
        (entry,) = [one for one in api.walk("/v1/audit", subject_id=scan_id) if one["action"] == "removed"]
        assert entry["actor"] != "system"
        # A job removes the bytes, and only once the scan is erased.
        ((task, args),) = database.query(
            "SELECT task_name, args FROM weir_jobs.procrastinate_jobs WHERE args ->> 'scan_id' = %s", scan_id
        )
        assert any((folder / prefix).rglob("*"))
        run_task(database, TaskName(task), **args)
        assert [one for one in (folder / prefix).rglob("*") if one.is_file()] == []

    def test_its_id_is_not_given_out_again_and_what_is_still_sent_is_refused(
        self, api: Client, database: Database
    ) -> None:
        scan_id = make_scan(api, name="Bedroom of Mrs Brown")["scan_id"]
        send(api, "POST", f"/v1/scans/{scan_id}/complete")
        assert api.http.delete(f"/v1/scans/{scan_id}").status_code == 204

        # The job that was to process it says neither what it was called, nor does its channel.
        assert [(job["scan_id"], job["status"], job["name"]) for job in api.walk("/v1/jobs")] == [
            (scan_id, "cancelled", "")
        ]
        assert database.query("SELECT count(*) FROM weir.live_event WHERE item::text LIKE '%%Brown%%'") == [(0,)]
        rows = database.query("SELECT status, erased_at IS NOT NULL FROM weir.scan WHERE scan_id = %s", scan_id)
        assert rows == [("cancelled", True)]  # as intake and jobs know one that wants nothing more
        assert database.query("SELECT weir.settle_scan(scan_no) FROM weir.scan WHERE scan_id = %s", scan_id) == [
            ("cancelled",)
        ]
        jobs = "SELECT task_name FROM weir_jobs.procrastinate_jobs WHERE args ->> 'scan_id' = %s"
        assert database.query(jobs, scan_id) == [("erase_scan_objects",)]

    def test_staff_may_not(self, api: Client, url: str) -> None:
        scan_id = make_scan(api)["scan_id"]
        key = send(api, "POST", "/v1/api-keys", {"name": "app", "scopes": ["read", "write"]}, status=201)["api_key"]

        with client(url, key) as app:
            assert send(app, "DELETE", f"/v1/scans/{scan_id}", status=403)["code"] == "missing_permission"
        assert api.get(f"/v1/scans/{scan_id}")["status"] == "receiving"


def meter(database: Database, tenant: Tenant, scan_id: str) -> tuple[int, str]:
    """Give a completed scan a frame of 500 points, and bill it; its number, and the folder of its objects."""
    ((number,),) = database.query("SELECT scan_no FROM weir.scan WHERE scan_id = %s", scan_id)
    database.query(
        "INSERT INTO weir.scan_frame (scan_no, seq, type, captured_at, bytes, sha256, object_key, received_at, verdict, points)"
        " VALUES (%s, 0, 'depth', now(), 1, '\\x00', 'k', now(), 'accepted', 500)",
        number,
    )
    database.query("SELECT weir.meter_scan(%s, 't-usage', '[]')", number)
    return number, scan_prefix(tenant.tenant_id, scan_id)
