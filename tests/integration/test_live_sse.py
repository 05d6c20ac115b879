"""Server-sent events: the same stream, resumed by Last-Event-ID, ended and refused as over WebSocket; and what is kept."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from core.tasks import TaskName
from tests.integration.api_scene import client, new_tenant
from tests.integration.job_scene import run_task
from tests.integration.live_scene import emit, event_stream
from tests.integration.servers import Database, Tenant

pytestmark = pytest.mark.integration


@pytest.fixture
def tenant(database: Database) -> Tenant:
    return new_tenant(database)


def test_events_follow_a_snapshot_and_are_resumed_by_their_id(database: Database, tenant: Tenant, url: str) -> None:
    events = event_stream(url, tenant.api_key, "alerts")
    assert [next(events)["op"] for _ in range(2)] == ["snapshot", "sync"]
    emit(database, tenant, {"number": 1})
    frame = next(events)
    assert (frame["op"], frame["items"]) == ("event", [{"number": 1}])
    events.close()

    emit(database, tenant, {"number": 2})
    again = event_stream(url, tenant.api_key, "alerts", frame["cursor"])
    assert [(frame["op"], frame.get("items")) for frame in (next(again), next(again))] == [
        ("event", [{"number": 2}]),
        ("sync", None),
    ]
    strange = event_stream(url, tenant.api_key, "alerts", "strange")
    assert [next(strange)["op"] for _ in range(3)] == ["unrecoverable", "snapshot", "sync"]


def test_a_revoked_key_ends_the_stream(database: Database, tenant: Tenant, url: str) -> None:
    events = event_stream(url, tenant.api_key, "jobs")
    assert next(events)["op"] == "snapshot"
    database.query("UPDATE weir.api_key SET revoked_at = now()")
    *_, frame = events
    assert (frame["op"], frame["code"]) == ("close", 3503)


def test_what_cannot_be_followed_is_refused(url: str, tenant: Tenant) -> None:
    with client(url, tenant.api_key) as api, client(url, None) as nobody:
        api.get("/v1/live/secrets", status=404)
        api.get("/v1/live/usage", status=422, site_id="x")
        assert "header" in api.get("/v1/live/alerts", status=422, token=tenant.api_key)["detail"]
        nobody.get("/v1/live/alerts", status=401)


def test_events_are_kept_for_a_day_and_a_tenants_last_one_for_ever(database: Database, tenant: Tenant) -> None:
    quiet = new_tenant(database, "quiet")
    emit(database, tenant, *({"number": n} for n in range(5)))
    emit(database, quiet, {"number": 1}, {"number": 2})
    old = datetime.now(UTC) - timedelta(hours=25)
    database.query("UPDATE weir.live_event SET at = %s WHERE seq < 4 OR tenant_id = %s", old, quiet.tenant_id)

    run_task(database, TaskName.TRIM_LIVE_EVENTS)
    kept = database.query("SELECT tenant_id, seq FROM weir.live_event ORDER BY 2")
    assert kept == [(quiet.tenant_id, 2), (tenant.tenant_id, 4), (tenant.tenant_id, 5)]
