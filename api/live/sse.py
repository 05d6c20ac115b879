"""`GET /v1/live/{channel}`: the same stream as over WebSocket, as server-sent events, one channel a request.

An event's `id` is its cursor, so a client that comes back with `Last-Event-ID` goes on where it was. Border: a door; the hub
decides what comes through it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Final

from fastapi import APIRouter, Depends, Header, Path, Query, Request
from starlette.responses import StreamingResponse

from api.auth import Principal, Require
from api.errors import Problem
from api.live import protocol
from api.live.hub import PERMISSIONS
from api.live.outbox import Outbox
from api.live.protocol import CloseCode, Criteria, Filter, Message
from api.live.subscription import Subscription
from api.live.websocket import bearer
from api.models import problems
from api.sensors import ServicesOfApp
from core.clock import monotonic_s
from schemas.live import CHANNELS

if TYPE_CHECKING:
    from api.live.service import LiveService

router = APIRouter(prefix="/v1/live", tags=["live"])

_HEARTBEAT_S: Final = 15.0
_STALLED_S: Final = 20.0
_FILTERS: Final = ("sensor_id", "site_id", "unit_id")
_EXAMPLE: Final = (
    'retry: 1000\n\nevent: snapshot\ndata: {"op":"snapshot","items":[],"more":false}\n\n'
    'id: kpIAAJ0\nevent: sync\ndata: {"op":"sync","cursor":"kpIAAJ0"}\n\n'
)
_RESPONSES: Final = {
    200: {
        "description": "Events until one side ends it; `event` is the op of the WebSocket protocol, `id` its cursor.",
        "content": {"text/event-stream": {"schema": {"type": "string"}, "example": _EXAMPLE}},
    },
    **problems(401, 403, 404, 422, 429, 503),
}
Channel = Annotated[str, Path(max_length=20, description=f"one of {', '.join(CHANNELS)}", examples=["alerts"])]
Ids = Annotated[list[str] | None, Query(max_length=1_000, description="only of these; may be repeated")]
LastEventId = Annotated[str | None, Header(max_length=1_024, description="the cursor to go on from")]


@router.get(
    "/{channel}",
    summary="Follow a channel",
    response_class=StreamingResponse,
    responses=_RESPONSES,
    openapi_extra={"x-permission": ", ".join(sorted(set(PERMISSIONS.values())))},
)
async def follow_channel(
    request: Request,
    services: ServicesOfApp,
    principal: Annotated[Principal, Depends(Require(None))],
    channel: Channel,
    sensor_id: Ids = None,
    site_id: Ids = None,
    unit_id: Ids = None,
    last_event_id: LastEventId = None,
) -> StreamingResponse:
    """Server-sent events of one channel; each channel takes its own read permission."""
    _require_allowed(request, principal, channel)
    criteria = Criteria(Filter(tuple(sensor_id or ()), tuple(site_id or ()), tuple(unit_id or ())))
    if criteria.narrows and channel in {"usage", "jobs"}:
        raise Problem.invalid(parameter="channel", detail=f"channel {channel} has no filter; leave it out")
    stream = EventStream(services.live, principal, bearer(request.headers.get("authorization")) or "")
    if services.live.sessions.is_full(principal.tenant_id) or not services.live.enter(stream):
        raise Problem.unavailable(
            code="too_many_connections", detail="there is no room for another live connection; come back later"
        )
    headers = {"X-Accel-Buffering": "no"}
    return StreamingResponse(
        stream.run(channel, criteria, last_event_id), media_type="text/event-stream", headers=headers
    )


def _require_allowed(request: Request, principal: Principal, channel: str) -> None:
    if channel not in CHANNELS:
        raise Problem.not_found(what="channel")
    if not principal.may(PERMISSIONS[channel]):
        detail = f"this credential may not do {PERMISSIONS[channel]}; use one whose role or scopes allow it"
        raise Problem(HTTPStatus.FORBIDDEN, "missing_permission", detail)
    unknown = sorted(set(request.query_params) - set(_FILTERS))
    if unknown:
        detail = f"the query takes {', '.join(_FILTERS)} only; a credential belongs into the Authorization header"
        raise Problem.invalid(parameter="query", detail=detail)


class EventStream:
    """One request that is answered for as long as its client stays.

    Args:
        service: hub and sessions.
        principal: who asks.
        credential: asked again every few seconds.
    """

    def __init__(self, service: LiveService, principal: Principal, credential: str) -> None:
        self._service = service
        self._principal = principal
        self._credential = credential
        self._outbox = Outbox(service.limits.queue_bytes, lambda message, _: _event(message), self._overflowed)
        self._subscription: Subscription | None = None
        self._sending_s: float | None = None
        self._task: asyncio.Task[object] | None = None

    def close(self, code: CloseCode, reason: str) -> None:
        """End it with an event that says why."""
        self._outbox.put(f'event: close\ndata: {{"code":{int(code)},"reason":{protocol.ref_of(reason)}}}\n\n')
        self._outbox.close()

    def drain(self, retry_ms: int) -> None:
        """Ask the client to come back after a time of its own."""
        self._outbox.put(f"retry: {retry_ms}\n\n")
        self.close(CloseCode.DRAINING, "this server stops; come back")

    def permitted(self, principal: Principal) -> bool:
        """Whether its channel is still allowed."""
        return self._subscription is None or principal.may(PERMISSIONS[self._subscription.channel])

    def check(self, now_s: float) -> None:
        """End it if its client has taken nothing for long."""
        if self._task is not None and self._sending_s is not None and now_s - self._sending_s > _STALLED_S:
            self._task.cancel()

    def _overflowed(self) -> None:
        self.close(CloseCode.SLOW, "this client takes too little of what it asked for; come back with the cursor")

    async def run(self, channel: str, criteria: Criteria, cursor: str | None) -> AsyncIterator[str]:
        """The events as text."""
        self._task = asyncio.current_task()
        self._service.sessions.enter(self._credential, self._principal, self)
        subscription = self._subscription = Subscription(
            self._principal.tenant_id, channel, criteria, "1", self._outbox, self.close
        )
        joining = asyncio.create_task(self._join(subscription, cursor))
        try:
            yield f"retry: {self._service.spread_ms(self._service.limits.retry_ms)}\n\n"
            while (text := await self._next()) is not None:
                self._sending_s = monotonic_s()
                yield text
                self._sending_s = None
        finally:
            joining.cancel()
            self._service.leave(subscription)
            self._service.sessions.leave(self._credential, self)
            self._service.exit(self)

    async def _join(self, subscription: Subscription, cursor: str | None) -> None:
        try:
            await self._service.join(subscription, cursor)
        except Exception:
            self.close(CloseCode.SERVER_ERROR, "the server cannot serve this now; come back with the cursor")

    async def _next(self) -> str | None:
        try:
            return await asyncio.wait_for(self._outbox.next(), _HEARTBEAT_S)
        except TimeoutError:
            return ": still here\n\n"


def _event(message: Message) -> str:
    cursor = "" if message.cursor is None else f"id: {message.cursor}\n"
    return f"{cursor}event: {message.op}\ndata: {message.content()}\n\n"
