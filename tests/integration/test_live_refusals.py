"""What the live bridge refuses, each with its error or close code (and nothing of it in a log)."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from api.live import connection as live_connection
from ops.commands import api as api_command
from tests.integration.api_scene import api_settings, new_tenant, serving
from tests.integration.live_scene import WAIT_S, live_client
from tests.integration.servers import Database, Tenant

pytestmark = pytest.mark.integration


@pytest.fixture
def tenant(database: Database) -> Tenant:
    return new_tenant(database)


@pytest.fixture
def url(database: Database) -> Iterator[str]:
    settings = api_settings(
        database.reader_url,
        live_connections_per_tenant=3,
        live_subscriptions_per_connection=10,
        live_message_burst=1_000,
        live_origins="https://dashboards.example.com",
    )
    with serving(settings) as url:
        yield url


@pytest.mark.parametrize(
    ("message", "code", "close"),
    [
        ('{"op": "subscribe", "id": 1, "channel": "alerts"}', "unauthenticated", 3500),
        ('{"op": "auth", "token": "romo_live_of_nobody"}', "unauthorized", 3500),
        ('{"op": "auth"}', "invalid_message", 3501),
        ("not json", "malformed", 3501),
        (b"\x00\x01", "malformed", 3501),
    ],
)
def test_before_authentication_anything_else_ends_the_connection(
    url: str, message: str | bytes, code: str, close: int
) -> None:
    with live_client(url) as viewer:
        viewer.socket.send(message)
        assert viewer.hear("error")["code"] == code
        assert viewer.closed()[0] == close


@pytest.mark.parametrize(
    ("message", "code", "ref"),
    [
        ("[" * 10_000, "malformed", None),
        ("[1]", "malformed", None),
        ('{"op": "drop", "id": 5}', "unknown_op", 5),
        ('{"op": "subscribe", "id": 5}', "invalid_message", 5),
        ('{"op": "subscribe", "id": [5], "channel": "alerts"}', "invalid_message", None),
        ('{"op": "subscribe", "id": 5, "channel": "secrets"}', "unknown_channel", 5),
        ('{"op": "subscribe", "id": 5, "channel": "alerts", "filter": {"tenant_id": "x"}}', "invalid_message", 5),
        ('{"op": "subscribe", "id": 5, "channel": "usage", "filter": {"site_id": "x"}}', "invalid_filter", 5),
        ('{"op": "unsubscribe", "id": 5}', "unknown_id", 5),
        (b"{}", "malformed", None),
    ],
)
def test_a_bad_message_is_answered_and_the_connection_lives_on(
    url: str, tenant: Tenant, message: str | bytes, code: str, ref: int | None
) -> None:
    with live_client(url, tenant.api_key) as viewer:
        viewer.socket.send(message)
        error = viewer.hear("error")
        assert (error["code"], error["id"]) == (code, ref)
        assert error["message"]
        viewer.say(op="ping")
        viewer.hear("pong")


def test_ten_thousand_subscriptions_are_refused_past_the_limit_and_then_the_connection_is(
    url: str, tenant: Tenant
) -> None:
    with live_client(url, tenant.api_key) as viewer:
        viewer.subscribe("jobs", 0)
        viewer.say(op="subscribe", id=0, channel="jobs")
        assert viewer.hear("error")["code"] == "duplicate_id"
        for ref in range(1, 10):
            viewer.subscribe("jobs", ref)
        for ref in range(10, 110):
            viewer.say(op="subscribe", id=ref, channel="jobs")
        errors = [viewer.hear("error") for _ in range(100)]
        assert {error["code"] for error in errors} == {"too_many_subscriptions"}
        assert viewer.closed()[0] == 3504


def test_all_connections_of_a_tenant_together_follow_no_more_than_their_share(
    database: Database, tenant: Tenant
) -> None:
    stranger = new_tenant(database, "stranger")
    with (
        serving(api_settings(database.reader_url, live_subscriptions_per_tenant=3)) as url,
        live_client(url, tenant.api_key) as one,
        live_client(url, tenant.api_key) as other,
        live_client(url, stranger.api_key) as foreign,
    ):
        one.subscribe("alerts", 1)
        one.subscribe("jobs", 2)
        other.subscribe("alerts", 1)
        other.say(op="subscribe", id=2, channel="jobs")
        assert other.hear("error")["code"] == "too_many_subscriptions"
        foreign.subscribe("alerts")
        one.say(op="unsubscribe", id=2)
        one.say(op="ping")
        one.hear("pong")
        other.subscribe("jobs", 2)


def test_too_many_messages_or_connections_are_told_to_come_back_later(database: Database, tenant: Tenant) -> None:
    settings = api_settings(database.reader_url, live_connections_per_tenant=1, live_message_burst=5)
    with serving(settings) as url, live_client(url, tenant.api_key) as viewer:
        with live_client(url) as second:
            second.say(op="auth", token=tenant.api_key)
            error = second.hear("error")
            assert error["code"] == "too_many_connections"
            assert error["retry_ms"] >= 15_000
            assert second.closed()[0] == 3010
        with suppress(ConnectionClosed):  # it may be sent away before all is said
            for _ in range(40):
                viewer.say(op="ping")
        assert viewer.closed()[0] == 3009


def test_oversized_messages_and_compression_bombs_end_the_connection(url: str, tenant: Tenant) -> None:
    with live_client(url, tenant.api_key) as viewer:
        viewer.socket.send("x" * 70_000)
        assert viewer.closed()[0] == 1009  # WebSocket's own code for "too big"
    with live_client(url, tenant.api_key) as viewer:
        # A frame that says it is compressed, which nobody agreed on.
        viewer.socket.socket.sendall(bytes([0xC1, 0x80 | 100, 0, 0, 0, 0]) + b"\x00" * 100)
        assert viewer.closed()[0] == 1002
    with connect(url.replace("http", "ws") + "/v1/live", compression="deflate") as offered:
        assert offered.response is not None
        assert "Sec-WebSocket-Extensions" not in offered.response.headers


def test_a_token_in_the_url_is_refused_and_in_no_log(
    url: str, tenant: Tenant, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)  # what `weir api` sets for libraries
    with connect(f"{url.replace('http', 'ws')}/v1/live?token={tenant.api_key}") as socket_:
        assert json.loads(socket_.recv(timeout=WAIT_S))["code"] == "credential_in_url"
    assert socket_.close_code == 3501
    output = capfd.readouterr()
    assert tenant.api_key not in caplog.text + output.out + output.err


@pytest.mark.parametrize("origin", ["https://evil.example.com", "null", "http://127.0.0.1:1"])
def test_a_page_of_another_origin_cannot_connect_and_makes_no_error_of_ours(
    url: str, caplog: pytest.LogCaptureFixture, origin: str
) -> None:
    with pytest.raises(InvalidStatus) as refused, live_client(url, origin=origin):
        pass
    assert refused.value.response.status_code == 403
    assert json.loads(refused.value.response.body)["code"] == "foreign_origin"
    with live_client(url):  # by now the server has done with the one before
        assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_the_own_page_and_allowed_origins_connect_and_a_header_may_authenticate(url: str, tenant: Tenant) -> None:
    for origin in (url, "https://dashboards.example.com"):
        headers = {"Authorization": f"Bearer {tenant.api_key}"}
        with live_client(url, origin=origin, additional_headers=headers) as viewer:
            assert viewer.hear("ready")["tenant_id"] == tenant.tenant_id
    with live_client(url, additional_headers={"Authorization": "Basic eDp5"}) as viewer:
        assert viewer.closed()[0] == 3500


def test_who_says_nothing_is_closed_after_the_deadline(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_connection, "AUTH_S", 0.2)
    with live_client(url) as viewer:
        assert viewer.closed()[0] == 3502


def test_a_half_open_socket_is_noticed_by_its_silence(
    database: Database, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_command, "_PING_S", 0.2)
    monkeypatch.setattr(api_command, "_PONG_S", 0.2)
    with ExitStack() as stack:
        host, port = stack.enter_context(serving(api_settings(database.reader_url)))[len("http://") :].split(":")
        raw = stack.enter_context(socket.create_connection((host, int(port))))
        key = "dGhlIHNhbXBsZSBub25jZQ=="
        head = (
            f"GET /v1/live HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nAuthorization: Bearer {tenant.api_key}\r\n\r\n"
        )
        raw.sendall(head.encode())
        raw.settimeout(WAIT_S)
        received = b""
        while b'"ready"' not in received:
            received += raw.recv(65_536)
        # A ping that is never answered: WebSocket's own 0x89, then the close frame 0x88 with code 1011.
        while b"\x03\xf3" not in received:
            block = raw.recv(65_536)
            assert block, received
            received += block
    assert b"\x89" in received


def test_a_key_without_the_permission_sees_no_such_channel(database: Database, url: str, tenant: Tenant) -> None:
    database.query("UPDATE weir.api_key SET scopes = '{write}' WHERE tenant_id = %s", tenant.tenant_id)
    with live_client(url, tenant.api_key) as viewer:
        viewer.say(op="subscribe", id=1, channel="alerts")
        assert viewer.hear("error")["code"] == "missing_permission"
