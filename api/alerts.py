"""`/v1/alerts`: episodes, their history, and what people say about them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Depends, Path, Query
from starlette.responses import Response

from accounts import alerts
from accounts.alerts import AlertFilter, Handling
from api.auth import Principal, Require
from api.bodies import Body, described, require_known
from api.errors import Problem
from api.fields import require_one_of
from api.pagination import DEFAULT_LIMIT, Cursor, Cursors, Limit, continued
from api.rule_models import ALERT_FOUND, ALERT_HANDLED, ALERT_VERSIONS, ALERTS_FOUND, ASSIGN_SCHEMA, NOTE_SCHEMA
from api.sensors import ServicesOfApp
from api.services import Services
from api.times import parse_instant
from core.kafka import Topic, topic_name
from core.postgres import Connection, tenant_transaction
from schemas.rules import SEVERITIES

router = APIRouter(prefix="/v1/alerts", tags=["alerts"])

Reader = Annotated[Principal, Depends(Require("alerts:read"))]
Writer = Annotated[Principal, Depends(Require("alerts:write"))]

JSON: Final = "application/json"
STATUSES: Final = ("pending", "firing", "resolved", "retracted")
_MAX_NOTE: Final = 2_000
_TIME_EXAMPLE = "2026-11-22T20:00:00.000Z"
AlertId = Annotated[str, Path(max_length=200, description="as `/v1/alerts` lists it", examples=["alt_4f6e0b7d2c"])]
Status = Annotated[str | None, Query(description=f"one of {', '.join(STATUSES)}", examples=["firing"])]
Severity = Annotated[str | None, Query(description=f"one of {', '.join(SEVERITIES)}", examples=["critical"])]
SensorId = Annotated[str | None, Query(max_length=200, description="of this sensor", examples=["sen_4f6e0b7d2c"])]
Start = Annotated[str | None, Query(max_length=64, description="RFC 3339: not over by then", examples=[_TIME_EXAMPLE])]
End = Annotated[str | None, Query(max_length=64, description="RFC 3339: started before it", examples=[_TIME_EXAMPLE])]
AsOf = Annotated[
    str | None, Query(max_length=64, description="RFC 3339: what was known then", examples=[_TIME_EXAMPLE])
]

_NOTE_BODY = described(NOTE_SCHEMA, {"note": "door was open"}, "Why; may be left out.", required=False)
_COMMENT_BODY = described({**NOTE_SCHEMA, "required": ["note"]}, {"note": "door was open"}, "The comment.")
_ASSIGN_BODY = described(ASSIGN_SCHEMA, {"assignee": "night shift"}, "Who takes care of it.")


class BeforeEpisode(msgspec.Struct, array_like=True):
    """Which episodes are listed and where a page begins: before this start and number."""

    query: list[str | None]
    started_us: int
    episode_no: int


class AfterVersion(msgspec.Struct, array_like=True):
    """Whose versions are listed and where a page begins: after this one."""

    query: list[str | None]
    version: int


@router.get("", summary="List alerts", responses=ALERTS_FOUND, response_class=Response)
async def list_alerts(
    services: ServicesOfApp,
    principal: Reader,
    status: Status = None,
    severity: Severity = None,
    sensor_id: SensorId = None,
    start: Start = None,
    end: End = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_LIMIT,
) -> Response:
    """Episodes, newest start first; without a filter all of them, historical and retracted ones too."""
    query, before = [status, severity, sensor_id, start, end], None
    cursors = Cursors(services.vault, "alerts")
    if cursor is not None:
        key = cursors.decode(principal.tenant_id, cursor, BeforeEpisode)
        query = continued(key.query, query)
        before = (datetime.fromtimestamp(key.started_us / 1_000_000, UTC), key.episode_no)
    wanted = _filter(*query)
    async with tenant_transaction(services.pool, principal.tenant_id) as connection:
        rows = await alerts.list_alerts(connection, wanted, before, limit + 1)
    page, following = rows[:limit], None
    if len(rows) > limit:
        started_at, episode_no, _ = page[-1]
        state = BeforeEpisode(query, round(started_at.timestamp() * 1_000_000), episode_no)
        following = cursors.encode(principal.tenant_id, state)
    return _answer({"items": [document for _, _, document in page], "next": following})


@router.get("/{alert_id}", summary="Read an alert", responses=ALERT_FOUND, response_class=Response)
async def read_alert(services: ServicesOfApp, principal: Reader, alert_id: AlertId) -> Response:
    """One episode with what people said about it."""
    async with tenant_transaction(services.pool, principal.tenant_id) as connection:
        document = await _require_alert(connection, alert_id)
        notes = await alerts.alert_notes(connection, alert_id)
    return _answer({**document, "notes": notes})


@router.get(
    "/{alert_id}/history", summary="Read an alert's versions", responses=ALERT_VERSIONS, response_class=Response
)
async def read_history(
    services: ServicesOfApp,
    principal: Reader,
    alert_id: AlertId,
    as_of: AsOf = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_LIMIT,
) -> Response:
    """Every version as it was shown, oldest first; `as_of` leaves out what was not known yet."""
    query, after = [alert_id, as_of], 0
    cursors = Cursors(services.vault, "alert history")
    if cursor is not None:
        key = cursors.decode(principal.tenant_id, cursor, AfterVersion)
        query, after = continued(key.query, query), key.version
    known_at = _instant(query[1], "as_of")
    async with tenant_transaction(services.pool, principal.tenant_id) as connection:
        await _require_alert(connection, alert_id)
        versions = await alerts.alert_history(connection, alert_id, known_at, after, limit + 1)
    page, following = versions[:limit], None
    if len(versions) > limit:
        following = cursors.encode(principal.tenant_id, AfterVersion(query, page[-1]["version"]))
    return _answer({"items": page, "next": following})


@router.post(
    "/{alert_id}/acknowledge",
    summary="Acknowledge an alert",
    responses=ALERT_HANDLED,
    response_class=Response,
    openapi_extra=_NOTE_BODY,
    status_code=200,
)
async def acknowledge(services: ServicesOfApp, principal: Writer, alert_id: AlertId, body: Body) -> Response:
    """Says that somebody has seen it; the episode goes on until readings clear it. Who was first stays."""
    return await _handle(services, principal, alert_id, Handling.ACKNOWLEDGE, _text(body, "note", required=False))


@router.post(
    "/{alert_id}/comment",
    summary="Comment on an alert",
    responses=ALERT_HANDLED,
    response_class=Response,
    openapi_extra=_COMMENT_BODY,
    status_code=200,
)
async def comment(services: ServicesOfApp, principal: Writer, alert_id: AlertId, body: Body) -> Response:
    """Adds a comment."""
    return await _handle(services, principal, alert_id, Handling.COMMENT, _text(body, "note"))


@router.post(
    "/{alert_id}/assign",
    summary="Assign an alert",
    responses=ALERT_HANDLED,
    response_class=Response,
    openapi_extra=_ASSIGN_BODY,
    status_code=200,
)
async def assign(services: ServicesOfApp, principal: Writer, alert_id: AlertId, body: Body) -> Response:
    """Gives it to somebody."""
    return await _handle(services, principal, alert_id, Handling.ASSIGN, _text(body, "assignee"))


async def _handle(services: Services, principal: Principal, alert_id: str, handling: Handling, text: str) -> Response:
    topic = topic_name(services.settings.topic_prefix, Topic.ALERTS)
    async with tenant_transaction(services.pool, principal.tenant_id, principal.subject) as connection:
        await _require_alert(connection, alert_id)
        document = await alerts.handle(connection, alert_id, handling, principal.subject, text, topic)
    return _answer(document)


async def _require_alert(connection: Connection, alert_id: str) -> dict[str, Any]:
    document = None if "\0" in alert_id else await alerts.find_alert(connection, alert_id)
    if document is None:
        raise Problem.not_found(what="alert")
    return document


def _filter(
    status: str | None, severity: str | None, sensor_id: str | None, start: str | None, end: str | None
) -> AlertFilter:
    require_one_of("status", status, STATUSES)
    require_one_of("severity", severity, SEVERITIES)
    if sensor_id is not None and "\0" in sensor_id:
        raise Problem.invalid(parameter="sensor_id", detail="sensor_id has a NUL character, which no id has")
    wanted = AlertFilter(status, severity, sensor_id, _instant(start, "start"), _instant(end, "end"))
    if wanted.start is not None and wanted.end is not None and wanted.start >= wanted.end:
        raise Problem.invalid(parameter="start", detail="start is not before end; swap them or leave one out")
    return wanted


def _text(body: Mapping[str, Any], field: str, *, required: bool = True) -> str:
    require_known(body, field)
    value = body.get(field, None if required else "")
    is_text = isinstance(value, str) and len(value) <= _MAX_NOTE and "\0" not in value
    if not is_text or (required and not value.strip()):
        least = "1 to" if required else "at most"
        raise Problem.invalid(parameter=field, detail=f"{field}: expected text of {least} {_MAX_NOTE} characters")
    return str(value)


def _instant(text: str | None, parameter: str) -> datetime | None:
    if text is None:
        return None
    return datetime.fromtimestamp(parse_instant(text, parameter) / 1000, UTC)


def _answer(content: object) -> Response:
    return Response(msgspec.json.encode(content), media_type=JSON)
