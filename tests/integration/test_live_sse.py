"""Server-sent events: the same stream, resumed by Last-Event-ID, ended and refused as over WebSocket; and what is kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import httpx2
import pytest

from core.tasks import TaskName
from tests.integration.api_scene import api_settings, client, new_tenant, serving
from tests.integration.job_scene import run_task
from tests.integration.live_scene import WAIT_S, Frame, emit
from tests.integration.servers import Database, Tenant

pytestmark = pytest.mark.integration


@pytest.fixture
def tenant(database: Database) -> Tenant:
    return new_tenant(database)


@pytest.fixture
def url(database: Database) -> Iterator[str]:
    with serving(api_settings(database.reader_url)) as url:
        yield url


def follow(
    url: str, tenant: Tenant, path: str, last_event_id: str | None = None
) -> Iterator[tuple[str, str | None, Frame]]:
    """Event, id and data of each event."""
    headers = {"Authorization": f"Bearer {tenant.api_key}"} | (
        {} if last_event_id is None else {"Last-Event-ID": last_event_id}
    )
    with httpx2.stream("GET", f"{url}/v1/live/{path}", headers=headers, timeout=WAIT_S) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"].startswith("text/event-stream")
        fields: dict[str, str] = {}
        for line in response.iter_lines():
            if line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif "event" in fields:
                yield fields["event"], fields.get("id"), json.loads(fields["data"])
                fields = {}


def test_events_follow_a_snapshot_and_are_resumed_by_their_id(database: Database, tenant: Tenant, url: str) -> None:
    events = follow(url, tenant, "alerts")
    assert [next(events)[0] for _ in range(2)] == ["snapshot", "sync"]
    emit(database, tenant, {"number": 1})
    kind, cursor, frame = next(events)
    assert (kind, frame["items"], frame["cursor"]) == ("event", [{"number": 1}], cursor)
    events.close()  # type: ignore[attr-defined] # a generator

    emit(database, tenant, {"number": 2})
    again = follow(url, tenant, "alerts", cursor)
    assert [(kind, frame.get("items")) for kind, _, frame in (next(again), next(again))] == [
        ("event", [{"number": 2}]),
        ("sync", None),
    ]
    strange = follow(url, tenant, "alerts", "strange")
    assert [next(strange)[0] for _ in range(3)] == ["unrecoverable", "snapshot", "sync"]


def test_a_revoked_key_ends_the_stream(database: Database, tenant: Tenant, url: str) -> None:
    events = follow(url, tenant, "jobs")
    assert next(events)[0] == "snapshot"
    database.query("UPDATE weir.api_key SET revoked_at = now()")
    *_, (kind, _, frame) = events
    assert (kind, frame["code"]) == ("close", 3503)


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
