"""Around every request: an id, security headers, measuring, and the last catch for errors that nobody expected.

Border: HTTP only; WebSockets pass through. Plain ASGI, so that a response streams past untouched.
"""

from __future__ import annotations

import re
import secrets
from http import HTTPStatus

import structlog
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import Problem, classify
from api.metrics import Metrics
from core.clock import monotonic_s

log = structlog.get_logger()

_GIVEN_ID = re.compile(rb"[A-Za-z0-9_-]{8,64}")
_SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}


class Guard:
    """The outermost of our own layers.

    Args:
        app: what it stands around.
        metrics: counts what passes.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = scope["weir.request_id"] = _request_id(scope)
        began_s, status = monotonic_s(), 0

        async def send_guarded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _add_headers(message, request_id)
            await send(message)

        try:
            await self._app(scope, receive, send_guarded)
        except Exception as error:
            problem = _problem_of(error, scope, request_id)
            if status:  # half a response is out: only closing the connection tells the client that it is not whole
                raise
            await problem.response(request_id)(scope, receive, send_guarded)
        finally:
            self._metrics.observe_request(_route_of(scope), scope["method"], status, monotonic_s() - began_s)


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _GIVEN_ID.fullmatch(value):
            return str(value.decode())
    return secrets.token_hex(8)


def _add_headers(message: Message, request_id: str) -> None:
    headers = MutableHeaders(scope=message)
    headers["X-Request-Id"] = request_id
    for name, value in _SECURITY_HEADERS.items():
        headers.setdefault(name, value)


def _problem_of(error: Exception, scope: Scope, request_id: str) -> Problem:
    """What the client is told; the log is told the rest, without the query, which may hold what nobody should read."""
    problem = classify(error)
    where = {"request_id": request_id, "method": scope["method"], "route": _route_of(scope)}
    if problem is None:
        log.error("request.failed", **where, exc_info=error)
        detail = f"an error of Weir itself; its operator finds it in the log under request {request_id}"
        return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "internal_error", detail)
    if not isinstance(error, ClientDisconnect):
        log.warning("request.refused", **where, code=problem.code, error=type(error).__name__)
    return problem


def _route_of(scope: Scope) -> str:
    """The route's template: a path itself holds ids and would make a metric of each."""
    return str(getattr(scope.get("route"), "path", "unmatched"))
