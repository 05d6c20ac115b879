"""The Socket.IO door with the real `socket.io-client` from npm, and with python-socketio's where Node is not there."""

from __future__ import annotations

import asyncio
import json
import subprocess
import threading
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
import socketio

from tests.integration import npm
from tests.integration.api_scene import new_tenant
from tests.integration.live_scene import WAIT_S, emit
from tests.integration.servers import Database, Tenant

pytestmark = pytest.mark.integration

CLIENT = Path(__file__).parent / "socketio_client.cjs"


@pytest.fixture
def tenant(database: Database) -> Tenant:
    return new_tenant(database)


@pytest.fixture(scope="module")
def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with socket.io-client installed."""
    return npm.install(tmp_path_factory.mktemp("node"), "socket.io-client@4", CLIENT)


class Events:
    """What a client prints."""

    def __init__(self, folder: Path, url: str, token: str, **subscription: Any) -> None:
        command = ["node", CLIENT.name, url, token, json.dumps({"id": 1, **subscription})]
        self.process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
        self._lines: Queue[list[Any]] = Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(json.loads(line))

    def next(self, name: str) -> Any:
        """The content of the next event, which must have this name."""
        found, content = self._lines.get(timeout=WAIT_S)
        assert found == name, (found, content)
        return content

    def __enter__(self) -> Events:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(10)
        self._reader.join(10)
        assert self.process.stdout is not None
        self.process.stdout.close()


def test_the_real_client_follows_its_tenant_resumes_and_is_sent_away_when_its_key_is_revoked(
    database: Database, tenant: Tenant, url: str, node_folder: Path
) -> None:
    other = new_tenant(database, "other")
    with Events(node_folder, url, tenant.api_key, channel="alerts") as events:
        assert events.next("ready")["tenant_id"] == tenant.tenant_id
        assert events.next("snapshot")["items"] == []
        cursor = events.next("sync")["cursor"]
        emit(database, other, {"canary": "other"})
        emit(database, tenant, {"number": 1})
        assert events.next("event")["items"] == [{"number": 1}]

        with Events(node_folder, url, tenant.api_key, channel="alerts", cursor=cursor) as again:
            again.next("ready")
            assert again.next("event")["items"] == [{"number": 1}]
            again.next("sync")

        database.query("UPDATE weir.api_key SET revoked_at = now() WHERE tenant_id = %s", tenant.tenant_id)
        assert events.next("close")["code"] == 3503
        events.next("disconnect")
    with Events(node_folder, url, tenant.api_key, channel="alerts") as refused:
        assert "revoked" in refused.next("connect_error")


async def python_client(url: str, token: str, *subscriptions: dict[str, Any]) -> list[tuple[str, Any]]:
    """Events up to the `sync` or `error` of each subscription."""
    seen: list[tuple[str, Any]] = []
    done = asyncio.Event()

    def see(name: str, content: Any = None) -> None:
        seen.append((name, content))
        if sum(name in {"sync", "error"} for name, _ in seen) == len(subscriptions):
            done.set()

    async with socketio.AsyncSimpleClient() as simple:
        await simple.connect(url, auth={"token": token}, transports=["websocket"])
        simple.client.on("*", see)
        for subscription in subscriptions:
            await simple.client.emit("subscribe", subscription)
        await asyncio.wait_for(done.wait(), WAIT_S)
    return [(name, content) for name, content in seen if name != "ready"]


def test_operations_and_frames_are_those_of_the_websocket(database: Database, tenant: Tenant, url: str) -> None:
    seen = asyncio.run(
        python_client(
            url,
            tenant.api_key,
            {"id": 1, "channel": "jobs"},
            {"id": 2, "channel": "secrets"},
            {"id": 1, "channel": "jobs"},
        )
    )
    assert [(name, content.get("id"), content.get("code")) for name, content in seen] == [
        ("snapshot", 1, None),
        ("sync", 1, None),
        ("error", 2, "unknown_channel"),
        ("error", 1, "duplicate_id"),
    ]


@pytest.mark.parametrize("way", ["no token", "wrong token", "token in the URL", "foreign origin"])
def test_nobody_gets_in_without_a_credential_or_from_a_foreign_page(url: str, tenant: Tenant, way: str) -> None:
    async def attempt() -> None:
        client = socketio.AsyncClient(reconnection=False)
        address = f"{url}?token={tenant.api_key}" if way == "token in the URL" else url
        auth = {"no token": None, "wrong token": {"token": "x"}}.get(way, {"token": tenant.api_key})
        headers = {"Origin": "https://evil.example.com"} if way == "foreign origin" else {}
        # aiohttp says RuntimeError where the server hangs up before the refusal's body was read.
        with pytest.raises((socketio.exceptions.ConnectionError, RuntimeError)):
            await client.connect(address, auth=auth, headers=headers, wait_timeout=20)
        assert not client.connected
        if client.eio.http is not None:
            await client.eio.http.close()

    asyncio.run(attempt())
