"""The log channels across bridges: nothing missed, nothing doubled, whatever is cut, killed, slow or revoked."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import Any

import pytest

from api.live import log as live_log
from sinks.timescale import live as store
from tests.integration.api_scene import api_settings, client, new_tenant, serving
from tests.integration.live_scene import WAIT_S, LiveClient, emit, items, live_client
from tests.integration.servers import Database, Tenant, wait_until

pytestmark = pytest.mark.integration


@pytest.fixture
def tenant(database: Database) -> Tenant:
    return new_tenant(database)


def alert(number: int, **more: Any) -> dict[str, Any]:
    return {"alert_id": f"alt_{number}", "number": number, **more}


def numbers(found: list[Any]) -> list[int]:
    return [item["number"] for item in found]


def kill_listener(database: Database) -> bool:
    return bool(
        database.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE query LIKE 'LISTEN%' AND datname = current_database()"
        )
    )


def test_resuming_from_recent_cursors_asks_the_database_nothing(
    database: Database, tenant: Tenant, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with live_client(url, tenant.api_key) as stays:
        cursor = stays.subscribe("alerts")[-1]["cursor"]
        emit(database, tenant, *(alert(n) for n in range(10)))
        assert numbers(items([stays.hear("event")])) == list(range(10))
        monkeypatch.setattr(store, "snapshot", None)  # would fail if called
        monkeypatch.setattr(store, "events_after", None)
        for _ in range(20):
            with live_client(url, tenant.api_key) as returns:
                frames = returns.subscribe("alerts", cursor=cursor)
                assert [frame["op"] for frame in frames] == ["event", "sync"]
                assert numbers(items(frames)) == list(range(10))


def test_a_cursor_older_than_memory_is_honoured_from_the_store(
    database: Database, tenant: Tenant, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_log, "_MAX_EVENTS", 5)
    with live_client(url, tenant.api_key) as viewer:
        cursor = viewer.subscribe("alerts")[-1]["cursor"]
        emit(database, tenant, *(alert(n, text="x" * 200) for n in range(1_200)))
        wait_until(lambda: viewer.hear()["items"][-1]["number"] == 1_199, WAIT_S, "the last event")
        assert numbers(items(viewer.subscribe("alerts", 2, cursor=cursor))) == list(range(1_200))


@pytest.mark.parametrize("kind", ["garbage", "of another tenant", "of another channel", "ancient", "of a lost future"])
def test_a_cursor_that_cannot_be_honoured_is_answered_with_unrecoverable_and_a_snapshot(
    database: Database, tenant: Tenant, url: str, kind: str
) -> None:
    with live_client(url, tenant.api_key) as viewer:
        channel = "jobs" if kind == "of another channel" else "alerts"
        cursor = viewer.subscribe(channel, 7)[-1]["cursor"]
        emit(database, tenant, *(alert(n) for n in range(4)))
        if kind == "of another tenant":
            other = new_tenant(database, "other")
            with live_client(url, other.api_key) as stranger:
                cursor = stranger.subscribe("alerts")[-1]["cursor"]
        elif kind == "of a lost future":
            cursor = viewer.hear("event")["cursor"]
    if kind == "garbage":
        cursor = f"{cursor[:-2]}!!"
    elif kind == "ancient":
        database.query("DELETE FROM weir.live_event WHERE seq < 3")
    elif kind == "of a lost future":  # a restored backup: the same numbers, other events
        database.query("UPDATE weir.live_event SET at = at + interval '1 hour'")
    with serving(api_settings(database.reader_url)) as fresh, live_client(fresh, tenant.api_key) as viewer:
        frames = viewer.subscribe("alerts", cursor=cursor)
        assert [frame["op"] for frame in frames] == ["unrecoverable", "snapshot", "sync"]
        emit(database, tenant, alert(9))
        assert numbers(viewer.hear("event")["items"]) == [9]


def test_a_bridge_whose_listening_connection_is_killed_loses_nothing(
    database: Database, tenant: Tenant, url: str
) -> None:
    with live_client(url, tenant.api_key) as viewer:
        viewer.subscribe("alerts")
        got: list[int] = []
        for number in range(0, 30, 2):
            if number in {6, 20}:
                wait_until(lambda: kill_listener(database), WAIT_S, "a listening connection to kill")
            emit(database, tenant, alert(number), alert(number + 1))
        while len(got) < 30:
            got += numbers(viewer.hear("event")["items"])
        assert got == list(range(30))


def test_a_client_that_reads_nothing_is_sent_away_and_slows_nobody(database: Database, tenant: Tenant) -> None:
    settings = api_settings(database.reader_url, live_queue_bytes=65_536)
    with (
        serving(settings) as url,
        live_client(url, tenant.api_key) as reads,
        live_client(url, tenant.api_key, max_queue=1) as sleeps,
        client(url, None) as api,
    ):
        reads.subscribe("alerts")
        cursor = sleeps.subscribe("alerts")[-1]["cursor"]
        got: list[int] = []
        sent = 0
        # 100 events of 20 kB at a time: sooner or later buffers of kernel and client are full, and memory has moved on.
        while 'weir_live_closed_connections_total{code="3008"}' not in api.http.get("/metrics").text:
            assert sent < 20_000, "the sleeping client was never sent away"
            emit(database, tenant, *(alert(sent + n, text="x" * 20_000) for n in range(100)))
            sent += 100
            while len(got) < sent:
                got += numbers(reads.hear("event")["items"])
        assert got == list(range(sent))
        with live_client(url, tenant.api_key) as returns:
            frames = returns.subscribe("alerts", cursor=cursor)
            assert numbers(items(frames)) == list(range(sent))


def test_revoking_a_key_closes_its_connections_and_no_others(database: Database, tenant: Tenant, url: str) -> None:
    other = new_tenant(database, "other")
    with live_client(url, tenant.api_key) as viewer, live_client(url, other.api_key) as stays:
        viewer.subscribe("alerts")
        stays.subscribe("alerts")
        database.query("UPDATE weir.api_key SET revoked_at = now() WHERE tenant_id = %s", tenant.tenant_id)
        code, reason = viewer.closed()
        assert (code, "revoked" in reason) == (3503, True)
        emit(database, other, alert(1))
        assert numbers(stays.hear("event")["items"]) == [1]
        with live_client(url) as again:
            again.say(op="auth", token=tenant.api_key)
            assert again.hear("error")["code"] == "unauthorized"
            assert again.closed()[0] == 3500


def test_tenants_share_a_bridge_and_see_only_their_own(database: Database, tenant: Tenant, url: str) -> None:
    other = new_tenant(database, "other")
    channels = ("alerts", "scans", "jobs", "notifications")
    with live_client(url, tenant.api_key) as one, live_client(url, other.api_key) as two:
        viewers: list[tuple[Tenant, LiveClient]] = [(tenant, one), (other, two)]
        for _, viewer in viewers:
            for ref, channel in enumerate(channels):
                viewer.subscribe(channel, ref)
        for owner, _ in viewers:
            for channel in channels:
                emit(database, owner, alert(1, canary=f"canary of {owner.tenant_id}"), channel=channel)
        for owner, viewer in viewers:
            frames = [viewer.hear("event") for _ in channels]
            assert [frame["id"] for frame in frames] == [0, 1, 2, 3]
            assert {item["canary"] for item in items(frames)} == {f"canary of {owner.tenant_id}"}


def test_filters_narrow_events_by_sensor_and_by_the_site_it_stands_in(
    database: Database, tenant: Tenant, url: str
) -> None:
    database.query(
        "INSERT INTO weir.site (site_id, tenant_id, name, timezone)"
        " VALUES ('site_1', %s, 'one', 'UTC'), ('site_2', %s, 'two', 'UTC')",
        *(tenant.tenant_id,) * 2,
    )
    database.query(
        "INSERT INTO weir.sensor (sensor_id, tenant_id, device_id, name, site_id) VALUES"
        " ('sen_a', %s, %s, 'a', 'site_1'), ('sen_b', %s, %s, 'b', 'site_2')",
        *(tenant.tenant_id, tenant.devices[0].device_id) * 2,
    )
    with live_client(url, tenant.api_key) as viewer:
        viewer.subscribe("alerts", 1, filter={"sensor_id": ["sen_a", "sen_x"]})
        viewer.subscribe("alerts", 2, filter={"site_id": "site_2"})
        viewer.subscribe("alerts", 3, filter={"sensor_id": ["sen_a"], "site_id": "site_2"})
        viewer.subscribe("alerts", 4)
        emit(database, tenant, alert(1, sensor_id="sen_a"), alert(2, sensor_id="sen_b"))
        frames = [viewer.hear("event") for _ in range(3)]
        assert {frame["id"]: numbers(frame["items"]) for frame in frames} == {1: [1], 2: [2], 4: [1, 2]}


def test_a_server_that_stops_sends_everybody_away_with_a_time_of_their_own_to_come_back(
    database: Database, tenant: Tenant
) -> None:
    with ExitStack() as clients, ExitStack() as servers:
        server = servers.enter_context(serving(api_settings(database.reader_url)))
        viewers = [clients.enter_context(live_client(server, tenant.api_key)) for _ in range(8)]
        for viewer in viewers:
            viewer.subscribe("alerts")
        stopping = threading.Thread(target=servers.pop_all().close)
        stopping.start()
        farewells = [viewer.hear("error") for viewer in viewers]
        assert {farewell["code"] for farewell in farewells} == {"draining"}
        assert len({farewell["retry_ms"] for farewell in farewells}) > 4
        assert {viewer.closed()[0] for viewer in viewers} == {3001}
        stopping.join(WAIT_S)
