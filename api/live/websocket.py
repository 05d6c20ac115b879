"""The WebSocket door `/v1/live`: what is checked before a connection is served.

Origin first, since browsers let any page open a WebSocket; then the query, which must be empty: credentials in URLs end up in
logs and histories. Plain ASGI, because a thousand idle connections should cost little.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from starlette.types import Receive, Scope, Send

from api.errors import Problem
from api.live import protocol
from api.live.connection import Connection
from api.live.protocol import CloseCode
from core.clock import monotonic_s

if TYPE_CHECKING:
    from api.metrics import Metrics
    from api.services import Services

_QUERY: Final = (
    "this address takes no query; send the credential in the first message or the Authorization header, never in a URL"
)
_BEARER: Final = "bearer "


class LiveSocket:
    """The ASGI application of the route; a class, so that Starlette hands it the connection as it is."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one WebSocket."""
        await _serve(scope, receive, send)


async def _serve(scope: Scope, receive: Receive, send: Send) -> None:
    services: Services = scope["app"].state.services
    service = services.live
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    await receive()  # websocket.connect
    if not is_own_origin(headers.get("origin"), headers.get("host", ""), service.origins):
        detail = "this page's origin may not use the live bridge; add it to WEIR_LIVE_ORIGINS"
        await _refuse(send, Problem(HTTPStatus.FORBIDDEN, "foreign_origin", detail))
        return
    connection = Connection(service, receive, send, scope)
    if not service.enter(connection):
        await _refuse(send, Problem.unavailable("too_many_connections", "this server has no room now; come back later"))
        return
    try:
        await send({"type": "websocket.accept"})
        if scope["query_string"]:
            await send({"type": "websocket.send", "text": protocol.failure("credential_in_url", _QUERY)})
            await send({"type": "websocket.close", "code": int(CloseCode.BAD_REQUEST), "reason": _QUERY[:120]})
            return
        await _measured(services.metrics, connection, bearer(headers.get("authorization")))
    finally:
        service.exit(connection)


async def _measured(metrics: Metrics, connection: Connection, credential: str | None) -> None:
    began_s = monotonic_s()
    metrics.live_connections.inc()
    try:
        await connection.run(credential)
    finally:
        metrics.live_connections.dec()
        code = "client" if connection.closing is None else str(int(connection.closing[0]))
        metrics.live_closed.labels(code).inc()
        metrics.live_seconds.inc(monotonic_s() - began_s)


def bearer(header: str | None) -> str | None:
    """The credential of an Authorization header; None without one."""
    if header is None:
        return None
    return header[len(_BEARER) :].strip() if header[: len(_BEARER)].lower() == _BEARER else ""


def is_own_origin(origin: str | None, host: str, allowed: frozenset[str]) -> bool:
    """Whether a page of this origin may connect: it came from this host, is allowed by the settings, or is no page at all."""
    if origin is None or origin in allowed:
        return True
    return bool(host) and urlsplit(origin).netloc.lower() == host.lower()


async def _refuse(send: Send, problem: Problem) -> None:
    """Answer the handshake with an HTTP response instead of a WebSocket."""
    response = problem.response("")
    headers = [*response.raw_headers]
    await send({"type": "websocket.http.response.start", "status": response.status_code, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": bytes(response.body)})
