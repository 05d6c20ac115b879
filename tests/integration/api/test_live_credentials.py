"""Connections end with their credentials: tokens that expire, sessions that end, roles that change, on each door."""

from __future__ import annotations

import time

import pytest

from accounts.tokens import AccessTokens
from core.clock import SystemClock
from tests.integration.api_scene import api_settings, client, new_tenant, serving
from tests.integration.live_scene import emit, event_stream, live_client
from tests.integration.people_scene import Person, as_person, new_person, send
from tests.integration.servers import VAULT, Database, Tenant

pytestmark = pytest.mark.integration


@pytest.fixture
def person(url: str, tenant: Tenant) -> Person:
    return new_person(url, tenant.api_key, "manager")


def token_for(person: Person, lifetime_s: int) -> str:
    """An access token of the person's session that holds for so long."""
    tokens = AccessTokens(VAULT.token_key)
    claims = tokens.read(person.access_token, time.time())
    assert claims is not None
    return tokens.issue(claims.user_id, claims.session_id, int(time.time()), lifetime_s)


def test_an_expired_token_ends_its_connections_and_a_fresh_one_handed_in_keeps_them(
    database: Database, url: str, tenant: Tenant, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, fresh = token_for(person, 900), token_for(person, 3_600)
    with live_client(url, token) as ends, live_client(url, token) as renews:
        ends.subscribe("alerts")
        renews.subscribe("alerts")
        events = event_stream(url, token, "alerts")
        assert [next(events)["op"] for _ in range(2)] == ["snapshot", "sync"]
        renews.authenticate(fresh)
        now_ms = SystemClock().now_ms
        monkeypatch.setattr(SystemClock, "now_ms", lambda _: now_ms() + 1_000_000)

        code, reason = ends.closed()
        *_, last = events

        assert (code, "expired" in reason) == (3503, True)
        assert (last["op"], last["code"]) == ("close", 3503)
        emit(database, tenant, {"number": 1})
        assert renews.hear("event")["items"] == [{"number": 1}]
    with live_client(url) as late:
        late.say(op="auth", token=token)
        assert late.hear("error")["code"] == "unauthorized"
        assert late.closed()[0] == 3500


def test_a_token_of_another_tenant_cannot_take_a_connection_over(database: Database, url: str, person: Person) -> None:
    stranger = new_tenant(database, "stranger")
    with live_client(url, person.access_token) as viewer:
        viewer.say(op="auth", token=stranger.api_key)
        assert viewer.hear("error")["code"] == "unauthorized"
        assert viewer.closed()[0] == 3500


def test_signing_out_ends_the_connections_of_that_session_and_of_no_other(
    database: Database, url: str, tenant: Tenant, person: Person
) -> None:
    other = new_person(url, tenant.api_key, "staff")
    with live_client(url, person.access_token) as leaves, live_client(url, other.access_token) as stays:
        stays.subscribe("alerts")
        with as_person(url, person) as api:
            send(api, "POST", "/v1/auth/logout", None, 204)
        assert leaves.closed()[0] == 3503
        emit(database, tenant, {"number": 1})
        assert stays.hear("event")["items"] == [{"number": 1}]


def test_a_role_that_may_not_see_a_channel_any_more_ends_the_connections_that_follow_it(
    database: Database, url: str, tenant: Tenant, person: Person
) -> None:
    with live_client(url, person.access_token) as follows, live_client(url, person.access_token) as does_not:
        follows.subscribe("usage")
        does_not.subscribe("alerts")
        with client(url, tenant.api_key) as api:
            send(api, "PATCH", f"/v1/users/{person.user_id}", {"role": "staff"}, 200)
        code, reason = follows.closed()
        assert (code, "may no longer see" in reason) == (3503, True)
        emit(database, tenant, {"number": 1})
        assert does_not.hear("event")["items"] == [{"number": 1}]
        does_not.say(op="subscribe", id=2, channel="usage")
        assert does_not.hear("error")["code"] == "missing_permission"


def test_all_clients_of_a_tenant_together_may_not_say_more_than_their_share(database: Database, tenant: Tenant) -> None:
    other = new_tenant(database, "quiet")
    settings = api_settings(database.reader_url, live_tenant_messages_per_s=0.5, live_message_burst=1_000)
    with (
        serving(settings) as url,
        live_client(url, tenant.api_key) as one,
        live_client(url, tenant.api_key) as two,
        live_client(url, other.api_key) as quiet,
    ):
        for viewer in (one, two, one, two):
            viewer.say(op="ping")
            viewer.hear("pong")
        one.say(op="ping")
        one.say(op="ping")
        assert one.closed()[0] == 3009
        quiet.say(op="ping")
        quiet.hear("pong")


def test_a_server_that_stops_tells_its_event_streams_when_to_come_back(database: Database, tenant: Tenant) -> None:
    with serving(api_settings(database.reader_url)) as url:
        events = event_stream(url, tenant.api_key, "alerts")
        assert [next(events)["op"] for _ in range(2)] == ["snapshot", "sync"]
    *_, last = events
    assert (last["op"], last["code"]) == ("close", 3001)
