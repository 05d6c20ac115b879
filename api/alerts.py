"""`/v1/alerts`: episodes, their history, and what people say about them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from accounts import rules
from accounts.rules import AlertFilter
from api.auth import Principal, Reader, Writer
from api.errors import Problem
from api.models import problems
from api.pagination import DEFAULT_LIMIT, Cursor, Cursors, Limit
from api.rules import Body
from api.sensors import ServicesOfApp
from api.services import Services
from api.times import parse_instant
from core.postgres import Connection, tenant_transaction
from schemas.rules import SEVERITIES

router = APIRouter(prefix="/v1/alerts", tags=["alerts"])

JSON: Final = "application/json"
STATUSES: Final = ("pending", "firing", "resolved", "retracted")
_MAX_NOTE: Final = 2_000
AlertId = Annotated[str, Path(max_length=200, examples=["alt_4f6e0b7d2c"])]
Instant = Annotated[str | None, Query(max_length=64, examples=["2026-11-22T20:00:00.000Z"])]
Handling = Callable[[Connection, str, str, str], Awaitable[dict[str, Any] | None]]


class BeforeEpisode(msgspec.Struct, array_like=True):
    """Where a page of episodes begins: before this start and number."""

    started_us: int
    episode_no: int


@router.get("", summary="List alerts", responses=problems(401, 403, 422, 429), response_class=Response)
async def list_alerts(
    services: ServicesOfApp,
    principal: Reader,
    status: Annotated[str | None, Query(description=", ".join(STATUSES))] = None,
    severity: Annotated[str | None, Query(description=", ".join(SEVERITIES))] = None,
    sensor_id: Annotated[str | None, Query(max_length=200)] = None,
    start: Instant = None,
    end: Instant = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_LIMIT,
) -> Response:
    """Episodes, newest start first; without a filter all of them, historical and retracted ones too."""
    _require_one_of("status", status, STATUSES)
    _require_one_of("severity", severity, SEVERITIES)
    wanted = AlertFilter(status, severity, sensor_id, _instant(start, "start"), _instant(end, "end"))
    cursors = Cursors(services.vault, "alerts")
    before = None
    if cursor is not None:
        key = cursors.decode(principal.tenant_id, cursor, BeforeEpisode)
        before = (datetime.fromtimestamp(key.started_us / 1_000_000, UTC), key.episode_no)
    async with tenant_transaction(services.pool, principal.tenant_id) as connection:
        rows = await rules.list_alerts(connection, wanted, before, limit + 1)
    page = rows[:limit]
    following = None
    if len(rows) > limit:
        started_us = round(page[-1][0].timestamp() * 1_000_000)
        following = cursors.encode(principal.tenant_id, BeforeEpisode(started_us, page[-1][1]))
    return _answer({"items": [document for _, _, document in page], "next": following})


@router.get("/{alert_id}", summary="Read an alert", responses=problems(401, 403, 404, 429), response_class=Response)
async def read_alert(services: ServicesOfApp, principal: Reader, alert_id: AlertId) -> Response:
    """One episode with what people said about it."""
    async with tenant_transaction(services.pool, principal.tenant_id) as connection:
        document = await rules.find_alert(connection, alert_id)
        if document is None:
            raise Problem.not_found(what="alert")
        return _answer({**document, "notes": await rules.alert_notes(connection, alert_id)})


@router.get("/{alert_id}/history", summary="Read an alert's versions", responses=problems(401, 403, 404, 422, 429))
async def read_history(
    services: ServicesOfApp, principal: Reader, alert_id: AlertId, as_of: Instant = None
) -> Response:
    """Every version as it was shown, oldest first; `as_of` leaves out what was not known yet."""
    async with tenant_transaction(services.pool, principal.tenant_id) as connection:
        if await rules.find_alert(connection, alert_id) is None:
            raise Problem.not_found(what="alert")
        versions = await rules.alert_history(connection, alert_id, _instant(as_of, "as_of"))
    return _answer({"items": versions, "next": None})


@router.post("/{alert_id}/acknowledge", summary="Acknowledge an alert", responses=problems(401, 403, 404, 422, 429))
async def acknowledge(services: ServicesOfApp, principal: Writer, alert_id: AlertId, body: Body) -> Response:
    """Say that somebody has seen it; the episode goes on until readings clear it."""
    return await _handle(services, principal, alert_id, _text(body, "note", required=False), rules.acknowledge)


@router.post("/{alert_id}/comment", summary="Comment on an alert", responses=problems(401, 403, 404, 422, 429))
async def comment(services: ServicesOfApp, principal: Writer, alert_id: AlertId, body: Body) -> Response:
    """Add a comment."""
    return await _handle(services, principal, alert_id, _text(body, "note"), rules.comment)


@router.post("/{alert_id}/assign", summary="Assign an alert", responses=problems(401, 403, 404, 422, 429))
async def assign(services: ServicesOfApp, principal: Writer, alert_id: AlertId, body: Body) -> Response:
    """Give it to somebody."""
    return await _handle(services, principal, alert_id, _text(body, "assignee"), rules.assign)


async def _handle(services: Services, principal: Principal, alert_id: str, text: str, handle: Handling) -> Response:
    async with tenant_transaction(services.pool, principal.tenant_id) as connection:
        document = await handle(connection, alert_id, principal.subject, text)
    if document is None:
        raise Problem.not_found(what="alert")
    return _answer(document)


def _text(body: Mapping[str, Any], field: str, *, required: bool = True) -> str:
    value = body.get(field, None if required else "")
    if not isinstance(value, str) or (required and not value.strip()) or len(value) > _MAX_NOTE:
        raise Problem.invalid(parameter=field, detail=f"{field}: expected text of at most {_MAX_NOTE} characters")
    return value


def _require_one_of(parameter: str, value: str | None, known: tuple[str, ...]) -> None:
    if value is not None and value not in known:
        raise Problem.invalid(parameter=parameter, detail=f"{parameter} is none of {', '.join(known)}")


def _instant(text: str | None, parameter: str) -> datetime | None:
    if text is None:
        return None
    return datetime.fromtimestamp(parse_instant(text, parameter) / 1000, UTC)


def _answer(content: object) -> Response:
    return Response(msgspec.json.encode(content), media_type=JSON)
