"""The Socket.IO door `/socket.io`, for front ends that speak it already: events are the operations and frames of `/v1/live`.

`socket.emit("subscribe", {id, channel, filter, cursor})` and the like go in; `snapshot`, `sync`, `event`, `error` … come out
with the same content. Whoever follows a channel is in the room `<tenant>:<channel>`, or `<tenant>:<site>:<channel>` for each
site of its filter. Border: an adapter; each client is a `Connection` as over WebSocket, so there is no second path.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs

import msgspec
import socketio
import structlog
from starlette.types import ASGIApp

from api.live.connection import ABORT, Connection
from api.live.websocket import bearer, is_own_origin

if TYPE_CHECKING:
    from api.live.service import LiveService

log = structlog.get_logger()

PATH: Final = "/socket.io"

_OPERATIONS: Final = ("auth", "subscribe", "unsubscribe", "ping")
# Engine.IO's own; anything else could be a credential.
_QUERY: Final = frozenset({"EIO", "transport", "sid", "t", "b64", "j"})
_WAITING_OPERATIONS: Final = 64
_HEAD: Final = '{"op":"'


class SocketIoDoor:
    """All Socket.IO clients of this process.

    Args:
        service: hub, sessions and limits, shared with the other doors.
        max_bytes: longest message that a client may send.
    """

    def __init__(self, service: LiveService, max_bytes: int) -> None:
        self._service = service
        self._clients: dict[str, _Client] = {}
        self._server = socketio.AsyncServer(
            async_mode="asgi",
            # One after the other, so that a client that floods waits for itself.
            async_handlers=False,
            cors_allowed_origins=self._is_allowed,
            max_http_buffer_size=max_bytes,
            http_compression=False,
            logger=False,
            engineio_logger=False,
        )
        self._server.on("connect", self._connect)
        self._server.on("disconnect", self._disconnect)
        for operation in _OPERATIONS:
            self._server.on(operation, self._handler(operation))

    @property
    def app(self) -> ASGIApp:
        """What serves the path."""
        app: ASGIApp = socketio.ASGIApp(self._server, socketio_path=PATH)
        return app

    def _is_allowed(self, origin: str | None, environ: Mapping[str, Any]) -> bool:
        return is_own_origin(origin, str(environ.get("HTTP_HOST", "")), self._service.origins)

    async def _connect(self, sid: str, environ: Mapping[str, Any], auth: object = None) -> None:
        """Let in who has a credential.

        Raises:
            socketio.exceptions.ConnectionRefusedError: the client learns the reason.
        """
        if set(parse_qs(str(environ.get("QUERY_STRING", "")), keep_blank_values=True)) - _QUERY:
            raise socketio.exceptions.ConnectionRefusedError("send the credential as auth.token, never in a URL")  # noqa: EM101
        token = auth.get("token") if isinstance(auth, dict) else bearer(environ.get("HTTP_AUTHORIZATION"))
        principal = await self._service.sessions.authenticate(token) if isinstance(token, str) else None
        if not isinstance(token, str) or principal is None:
            raise socketio.exceptions.ConnectionRefusedError("the credential is unknown, revoked or expired")  # noqa: EM101
        client = _Client(self._service, self._server, sid, principal.tenant_id)
        if not self._service.enter(client.connection):
            raise socketio.exceptions.ConnectionRefusedError("this server has no room now; come back later")  # noqa: EM101
        self._clients[sid] = client
        client.start(token)

    async def _disconnect(self, sid: str, _reason: str = "") -> None:
        client = self._clients.pop(sid, None)
        if client is not None:
            client.stop()

    def _handler(self, operation: str) -> Any:  # noqa: ANN401
        async def handle(sid: str, content: object = None) -> None:
            client = self._clients.get(sid)
            if client is not None:
                await client.say(operation, content)

        return handle


class _Client:
    """One client: a connection whose messages travel as Socket.IO events."""

    def __init__(self, service: LiveService, server: Any, sid: str, tenant_id: str) -> None:  # noqa: ANN401
        self._service = service
        self._server = server
        self._sid = sid
        self._eio_sid = server.manager.eio_sid_from_sid(sid, "/")
        self._tenant_id = tenant_id
        self._said: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue(_WAITING_OPERATIONS)
        self._rooms: dict[str, list[str]] = {}
        self._task: asyncio.Task[None] | None = None
        self.connection = Connection(service, self._said.get, self._send, {"extensions": {ABORT: self.stop}})

    def start(self, token: str) -> None:
        """Serve it beside everything else."""
        self._task = asyncio.create_task(self._run(token))

    def stop(self) -> None:
        """The client is gone."""
        if self._task is not None:
            self._task.cancel()

    async def say(self, operation: str, content: object) -> None:
        """Hand an operation over."""
        fields = content if isinstance(content, dict) else {}
        await self._said.put(
            {"type": "websocket.receive", "text": msgspec.json.encode({**fields, "op": operation}).decode()}
        )
        await self._move(operation, fields)

    async def _run(self, token: str) -> None:
        try:
            await self.connection.run(token)
        except Exception:
            log.exception("live.failed")
        finally:
            self._service.exit(self.connection)
            await self._server.disconnect(self._sid)

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        """A frame as an event named by its op; the text is shared, so it is not decoded and encoded again."""
        if message["type"] == "websocket.close":
            content = msgspec.json.encode({"code": message["code"], "reason": message["reason"]}).decode()
            await self._emit("close", content)
            await self._server.disconnect(self._sid)
            await self._said.put({"type": "websocket.disconnect"})
            return
        text: str = message["text"]
        await self._emit(text[len(_HEAD) : text.index('"', len(_HEAD))], text)

    async def _emit(self, name: str, content: str) -> None:
        socket = self._server.eio.sockets.get(self._eio_sid)
        if socket is not None:
            # Engine.IO's own queue has no bound: waiting until it is empty keeps what is slow in our outbox, where it conflates.
            await socket.queue.join()
            await self._server.eio.send(self._eio_sid, f'2["{name}",{content}]')

    async def _move(self, operation: str, fields: Mapping[str, Any]) -> None:
        """Into the rooms of a subscription, or out of them."""
        ref = msgspec.json.encode(fields.get("id")).decode()
        if operation == "subscribe":
            self._rooms[ref] = rooms(self._tenant_id, fields)
            for room in self._rooms[ref]:
                await self._server.enter_room(self._sid, room)
        elif operation == "unsubscribe":
            left = self._rooms.pop(ref, [])
            for room in set(left) - {room for kept in self._rooms.values() for room in kept}:
                await self._server.leave_room(self._sid, room)


def rooms(tenant_id: str, subscribe: Mapping[str, Any]) -> list[str]:
    """The rooms of a subscription: of its tenant, or of each site that its filter names."""
    wanted = subscribe.get("filter")
    sites = wanted.get("site_id") if isinstance(wanted, dict) else None
    named = [sites] if isinstance(sites, str) else [site for site in sites or () if isinstance(site, str)]
    channel = subscribe.get("channel")
    return [f"{tenant_id}:{site}:{channel}" for site in named] or [f"{tenant_id}:{channel}"]
