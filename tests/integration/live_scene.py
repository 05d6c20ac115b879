"""Live clients of the tests' own: plain `websockets`, frames as dictionaries, and events written as the stream writes them."""

from __future__ import annotations

import itertools
import json
import socket
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx2
import psycopg
from psycopg.types.json import Jsonb
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.integration.servers import Database, Tenant

WAIT_S = 60.0

Frame = dict[str, Any]


class LiveClient:
    """One WebSocket."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    def say(self, **message: Any) -> None:
        """Send one operation."""
        self.socket.send(json.dumps(message))

    def hear(self, op: str | None = None) -> Frame:
        """The next frame, which must be of this kind."""
        frame: Frame = json.loads(self.socket.recv(timeout=WAIT_S))
        assert op is None or frame["op"] == op, frame
        return frame

    def authenticate(self, token: str) -> Frame:
        """Log in by the first message."""
        self.say(op="auth", token=token)
        return self.hear("ready")

    def subscribe(self, channel: str, ref: int = 1, **more: Any) -> list[Frame]:
        """Everything up to `sync`, that included."""
        self.say(op="subscribe", id=ref, channel=channel, **more)
        return self.hear_until("sync", ref)

    def hear_until(self, op: str, ref: int = 1) -> list[Frame]:
        """Frames up to one of this kind, that included."""
        frames = [self.hear()]
        while frames[-1]["op"] != op or frames[-1].get("id") != ref:
            assert frames[-1]["op"] != "error", frames[-1]
            frames.append(self.hear())
        return frames

    def closed(self) -> tuple[int, str]:
        """Code and reason of the close that the server sends, whatever comes before."""
        try:
            while True:
                self.socket.recv(timeout=WAIT_S)
        except ConnectionClosed as error:
            close = error.rcvd
        assert close is not None, "the connection was cut without a close frame"
        return close.code, close.reason


@contextmanager
def live_client(url: str, token: str | None = None, **options: Any) -> Iterator[LiveClient]:
    """Connect to the bridge of an API, authenticated if a token is given."""
    address = url.replace("http://", "ws://") + "/v1/live"
    with connect(address, open_timeout=WAIT_S, compression=None, **options) as socket:
        client = LiveClient(socket)
        if token is not None:
            client.authenticate(token)
        yield client


def event_stream(url: str, token: str, path: str, cursor: str | None = None) -> Generator[Frame, None, None]:
    """The frames of a server-sent events stream, from a cursor on; ended by closing the generator."""
    headers = {"Authorization": f"Bearer {token}"} | ({} if cursor is None else {"Last-Event-ID": cursor})
    with httpx2.stream("GET", f"{url}/v1/live/{path}", headers=headers, timeout=WAIT_S) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"].startswith("text/event-stream")
        fields: dict[str, str] = {}
        for line in response.iter_lines():
            if line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif "event" in fields:
                frame = json.loads(fields["data"])
                assert fields.get("id") == frame.get("cursor"), fields
                yield {"op": fields["event"], **frame}
                fields = {}


def items(frames: list[Frame]) -> list[Any]:
    """The items of all frames."""
    return [item for frame in frames for item in frame.get("items", [])]


def emit(database: Database, tenant: Tenant, *documents: Frame, channel: str = "alerts") -> None:
    """Write events of a log channel in one transaction."""
    with psycopg.connect(database.admin_url) as connection:
        connection.execute(
            "SELECT weir.emit_live(%s, %s, %s)",
            ([tenant.tenant_id] * len(documents), [channel] * len(documents), [Jsonb(one) for one in documents]),
        )


class Switch:
    """A dumb TCP balancer: each new connection goes to the next server that takes it, and all can be cut at once."""

    def __init__(self, ports: list[int]) -> None:
        self._ports = itertools.cycle(ports)
        self._count = len(ports)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._links: set[socket.socket] = set()
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def cut(self) -> None:
        """Cut everything without a goodbye."""
        with self._lock:
            for link in self._links:
                with suppress(OSError):
                    link.shutdown(socket.SHUT_RDWR)
            self._links.clear()

    def close(self) -> None:
        """Cut everything and accept nothing more."""
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = self._server()
                with self._lock:
                    self._links |= {client, server}
                for source, target in ((client, server), (server, client)):
                    threading.Thread(target=_pump, args=(source, target), daemon=True).start()

    def _server(self) -> socket.socket:
        """A connection to the next server that is there.

        Raises:
            OSError: none is.
        """
        for _ in range(self._count - 1):
            with suppress(OSError):
                return socket.create_connection(("127.0.0.1", next(self._ports)))
        return socket.create_connection(("127.0.0.1", next(self._ports)))


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()
