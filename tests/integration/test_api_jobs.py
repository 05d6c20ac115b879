"""Background work as its tenant sees it: in lists, one by one, and live, from the change that makes it to its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from api.jobs import JobPage
from api.live import log as live_log
from tests.integration.api_scene import Client, add_readings, add_sensor, api_settings, client, new_tenant, serving
from tests.integration.canary_scene import START
from tests.integration.conftest import Broker
from tests.integration.live_scene import LiveClient, items, live_client
from tests.integration.people_scene import post
from tests.integration.scan_scene import set_scan
from tests.integration.servers import Database, Tenant, WorkerProcess, wait_until

pytestmark = pytest.mark.integration

RULE = {
    "name": "too warm",
    "severity": "minor",
    "condition": {"type": "threshold", "above": 8.0},
    "effective_from": "2026-01-01T00:00:00.000Z",
}


@pytest.fixture
def url(database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    # Who asks within a second would get the snapshot of who asked before, and what came since as events.
    monkeypatch.setattr(live_log, "_SNAPSHOT_S", 0.0)
    with serving(api_settings(database.reader_url)) as url:
        yield url


@pytest.fixture
def tenant(database: Database) -> Tenant:
    return new_tenant(database)


def told(viewer: LiveClient, job_id: str, end: str) -> list[tuple[str, int]]:
    """Status and progress of a job at each event, until it has a status."""
    seen: list[tuple[str, int]] = []
    while not seen or seen[-1][0] != end:
        frame = viewer.hear("event")
        seen += [(job["status"], job["progress"]) for job in frame["items"] if job["job_id"] == job_id]
    return seen


def listed(api: Client, **parameters: str | int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    page: dict[str, Any] = {"next": None}
    while not found or page["next"] is not None:
        page = api.http.get("/v1/jobs", params={**parameters, "cursor": page["next"]} if found else parameters).json()
        JobPage.model_validate(page)
        found += page["items"]
        if not page["items"]:
            break
    return found


def test_a_rule_from_the_past_and_a_moved_sensor_are_judged_before_everybodys_eyes(
    database: Database,
    broker: Broker,
    topic_prefix: str,
    tenant: Tenant,
    url: str,
    new_worker: Callable[..., WorkerProcess],
) -> None:
    sensors = [add_sensor(database, tenant, f"probe {n}") for n in range(4)]
    for number, _ in sensors:
        add_readings(database, number, [(START + timedelta(minutes=n), 0, 9.5) for n in range(5)])
    with client(url, tenant.api_key) as api, live_client(url, tenant.api_key) as viewer:
        assert items(viewer.subscribe("jobs")) == []
        rule_id = post(api, "/v1/rules", {**RULE, "applies_to": {"all": True}}, 201)["rule_id"]
        unit = {"name": "walk-in", "kind": "fridge"}
        unit_id = post(api, "/v1/units", unit, 201)["unit_id"]
        for _, sensor_id in sensors[:2]:
            assert api.http.patch(f"/v1/sensors/{sensor_id}", json={"unit_id": unit_id}).status_code == 200
        assert api.http.patch(f"/v1/units/{unit_id}", json={"attributes": {"max_celsius": 5}}).status_code == 200

        waiting = listed(api, status="queued")
        assert [(job["kind"], job["name"]) for job in waiting] == [
            ("place_evaluation", "walk-in"),
            ("place_evaluation", "probe 1"),
            ("place_evaluation", "probe 0"),
            ("rule_evaluation", "too warm"),
        ]
        of_unit, moved, _, of_rule = waiting
        assert (of_unit["unit_id"], moved["sensor_id"], of_rule["rule_id"]) == (unit_id, sensors[1][1], rule_id)

        database.query(
            "INSERT INTO weir.place_work (tenant_id, sensor_no, from_at) VALUES (%s, %s, now())",
            tenant.tenant_id,
            sensors[3][0],
        )
        with live_client(url, tenant.api_key) as late:
            assert items(late.subscribe("jobs")) == waiting
            # As by a worker that was killed after it began: what goes on where that left off is no other attempt.
            database.query("SELECT weir.begin_place_jobs(ARRAY(SELECT work_id FROM weir.place_work))")
            new_worker()
            assert told(viewer, of_rule["job_id"], "succeeded")[-1] == ("succeeded", 100)
            heard = told(late, of_unit["job_id"], "succeeded")
            assert heard[-1] == ("succeeded", 100)
            assert heard[0][0] == "running"
            assert api.get(f"/v1/jobs/{of_unit['job_id']}")["attempts"] == 1
        done = api.get(f"/v1/jobs/{of_rule['job_id']}")
        assert (done["status"], done["attempts"], done["error"]) == ("succeeded", 1, None)
        assert done["created_at"] <= done["started_at"] <= done["finished_at"]
        assert listed(api, status="queued") == listed(api, status="running") == []
        # Work of a release that had no jobs yet is done like any.
        undone = "SELECT count(*) FROM weir.place_work WHERE done_at IS NULL"
        wait_until(lambda: database.query(undone) == [(0,)], 60, "the work without a job")


def test_progress_is_told_by_whole_percents_and_an_attempt_that_begins_anew_is_counted(
    database: Database, tenant: Tenant, url: str
) -> None:
    with client(url, tenant.api_key) as api, live_client(url, tenant.api_key) as viewer:
        viewer.subscribe("jobs")
        post(api, "/v1/rules", {**RULE, "applies_to": {"all": True}}, 201)
        [job] = viewer.hear("event")["items"]
        assert (job["status"], job["progress"], job["attempts"]) == ("queued", 0, 0)

        database.query("UPDATE weir.rule_work SET sensors_total = 400")
        for done in (1, 3, 4, 7, 8):
            database.query("UPDATE weir.rule_work SET sensors_done = %s", done)
        database.query("UPDATE weir.rule_work SET sensors_total = 400")
        database.query("UPDATE weir.rule_work SET sensors_done = 400")
        database.query("UPDATE weir.rule_work SET done_at = now()")

        # 4 of 400 are one percent; all sensors but no end is 99; what began again began at 0.
        assert told(viewer, job["job_id"], "succeeded") == [
            ("running", 0),
            ("running", 1),
            ("running", 2),
            ("running", 0),
            ("running", 99),
            ("succeeded", 100),
        ]
        assert api.get(f"/v1/jobs/{job['job_id']}")["attempts"] == 2


def test_a_change_that_is_rolled_back_makes_no_job_and_tells_none(database: Database, tenant: Tenant, url: str) -> None:
    with psycopg.connect(database.admin_url) as connection:
        connection.execute("SELECT set_config('weir.tenant', %s, true)", (tenant.tenant_id,))
        connection.execute("SELECT weir.record_rule('rul_x', 1, NULL, '{\"name\": \"x\"}', 'test')")
        connection.rollback()

    assert database.query("SELECT count(*) FROM weir.tenant_job") == [(0,)]
    assert database.query("SELECT count(*) FROM weir.live_event WHERE channel = 'jobs'") == [(0,)]


def test_the_processing_of_a_scan_is_a_job_from_its_end_to_its_result_or_failure(
    database: Database, tenant: Tenant, url: str
) -> None:
    with client(url, tenant.api_key) as api, live_client(url, tenant.api_key) as viewer:
        viewer.subscribe("jobs")
        scan_id = post(api, "/v1/scans", {"name": "Kitchen"}, 201)["scan_id"]
        set_scan(database, scan_id, status="queued")
        [job] = viewer.hear("event")["items"]
        assert (job["kind"], job["scan_id"], job["name"], job["status"]) == (
            "scan_processing",
            scan_id,
            "Kitchen",
            "queued",
        )
        for status, progress in (("processing", 0), ("processing", 40), ("processing", 0), ("queued", 0)):
            database.query(
                "UPDATE weir.scan SET status = %s, progress = %s WHERE scan_id = %s", status, progress, scan_id
            )
        database.query(
            "UPDATE weir.scan SET status = 'failed', error = 'processing failed: it took more than 3 GiB' WHERE scan_id = %s",
            scan_id,
        )
        seen = [
            (each["status"], each["progress"], each["attempts"], each["error"])
            for _ in range(5)
            for each in viewer.hear("event")["items"]
        ]
        # More records came meanwhile, so it waited again; two attempts were begun.
        assert seen == [
            ("running", 0, 1, None),
            ("running", 40, 1, None),
            ("running", 0, 2, None),
            ("queued", 0, 2, None),
            ("failed", 0, 2, "processing failed: it took more than 3 GiB"),
        ]

        set_scan(database, scan_id, status="queued")
        set_scan(database, scan_id, status="completed")
        again, before = listed(api)
        assert (again["status"], again["progress"], before["status"]) == ("succeeded", 100, "failed")
        assert again["job_id"] != before["job_id"] == job["job_id"]


def test_who_comes_back_with_a_cursor_gets_every_change_since(database: Database, tenant: Tenant, url: str) -> None:
    with client(url, tenant.api_key) as api:
        with live_client(url, tenant.api_key) as viewer:
            cursor = viewer.subscribe("jobs")[-1]["cursor"]
        post(api, "/v1/rules", {**RULE, "applies_to": {"all": True}}, 201)
        database.query("UPDATE weir.rule_work SET sensors_total = 1")
        with live_client(url, tenant.api_key) as viewer:
            frames = viewer.subscribe("jobs", cursor=cursor)
            assert [frame["op"] for frame in frames] == ["event", "sync"]
            assert [job["status"] for job in items(frames)] == ["queued", "running"]
        with live_client(url, tenant.api_key) as fresh:
            assert [job["status"] for job in items(fresh.subscribe("jobs"))] == ["running"]


def test_jobs_are_listed_page_by_page_by_status_and_kind_and_to_their_tenant_only(
    database: Database, tenant: Tenant, url: str
) -> None:
    stranger = new_tenant(database, "stranger")
    with client(url, tenant.api_key) as api, client(url, stranger.api_key) as other:
        for number in range(3):
            post(api, "/v1/rules", {**RULE, "name": f"rule {number}", "applies_to": {"all": True}}, 201)
        scan_id = post(api, "/v1/scans", {"name": "Hall"}, 201)["scan_id"]
        set_scan(database, scan_id, status="queued")
        database.query(
            "UPDATE weir.rule_work SET done_at = now() WHERE work_id = (SELECT min(work_id) FROM weir.rule_work)"
        )

        assert [job["name"] for job in listed(api, limit=1)] == ["Hall", "rule 2", "rule 1", "rule 0"]
        assert [job["name"] for job in listed(api, kind="rule_evaluation", limit=2)] == ["rule 2", "rule 1", "rule 0"]
        assert [job["name"] for job in listed(api, status="succeeded")] == ["rule 0"]
        assert listed(other) == []
        job_id = listed(api)[0]["job_id"]
        other.get(f"/v1/jobs/{job_id}", status=404)
        api.get("/v1/jobs/job_%00", status=404)
        cursor = api.get("/v1/jobs", limit=1)["next"]
        for query in ("status=late", "kind=usage", f"cursor={cursor}&kind=rule_evaluation"):
            assert api.http.get(f"/v1/jobs?{query}").status_code == 422, query
        other.get("/v1/jobs", status=422, cursor=cursor)
