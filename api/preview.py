"""`POST /v1/rules/preview`: what a rule would have found, answered at once or, asked for as lines, with its progress."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Depends, Header
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from accounts import rules
from accounts.rules import WatchedSensor
from api.auth import Principal, Require
from api.bodies import Body, described, require_known
from api.errors import Problem, classify, request_id_of
from api.preview_run import Findings, Question, run, too_much
from api.rule_checks import check, understood
from api.rule_models import NDJSON, PREVIEW_EXAMPLE, PREVIEW_SCHEMA, PREVIEWED
from api.sensors import ServicesOfApp
from api.services import Services
from api.times import DAY_MS, parse_instant, window
from core.postgres import tenant_transaction
from schemas import rfc3339

router = APIRouter(prefix="/preview", tags=["rules"])

MAX_SENSORS: Final = 200
MAX_READINGS: Final = 5_000_000
MAX_SENSORS_IN_LINES: Final = 2_000
MAX_READINGS_IN_LINES: Final = 50_000_000
_DEFAULT_DAYS: Final = 30
_BODY = described(
    PREVIEW_SCHEMA, PREVIEW_EXAMPLE, "A rule that need not exist, and a range; default: the last 30 days."
)
Reader = Annotated[Principal, Depends(Require("rules:read"))]
Accept = Annotated[str, Header(description=f"`{NDJSON}` gives lines with progress, and then the preview")]


@router.post(
    "", summary="Preview a rule", responses=PREVIEWED, response_class=Response, openapi_extra=_BODY, status_code=200
)
async def preview_rule(
    request: Request, services: ServicesOfApp, principal: Reader, body: Body, accept: Accept = "*/*"
) -> Response:
    """Replays a rule over stored readings, as if it had been in effect from `start` on; nothing is kept of it.

    Its own `effective_from` is ignored. Runs that never fired are left out, but for one that is pending at the end.
    For much history, accept `application/x-ndjson`: up to 2 000 sensors and 50 000 000 readings, with a line of
    `{"progress", "readings"}` after each sensor; the last line is `{"progress": 1.0, "preview"}`, or `{"problem"}`.
    Going away ends it.
    """
    require_known(body, "rule", "start", "end")
    question = _question(body, services.clock.now_ms())
    in_lines = NDJSON in accept.lower()
    sensors = await _sensors(
        services, principal, question, body["rule"], MAX_SENSORS_IN_LINES if in_lines else MAX_SENSORS
    )
    if in_lines:
        steps = run(services, principal, question, sensors, MAX_READINGS_IN_LINES)
        return StreamingResponse(_lines(question, steps, request_id_of(request)), media_type=NDJSON)
    async for found in run(services, principal, question, sensors, MAX_READINGS):
        last = found
    return Response(msgspec.json.encode(last.answer(question)), media_type="application/json")


async def _lines(question: Question, steps: AsyncIterator[Findings], request_id: str) -> AsyncIterator[bytes]:
    """One JSON text a line; a problem that comes up on the way is the last one."""
    try:
        async for found in steps:
            yield _line({"progress": found.progress, "readings": found.readings})
        yield _line({"progress": 1.0, "preview": found.answer(question)})
    except Exception as error:
        problem = classify(error)
        if problem is None:
            raise
        yield _line({"problem": msgspec.json.decode(bytes(problem.response(request_id).body))})


def _line(content: Mapping[str, object]) -> bytes:
    return msgspec.json.encode(content) + b"\n"


def _question(body: Mapping[str, Any], now_ms: int) -> Question:
    if "rule" not in body:
        raise Problem.invalid(parameter="rule", detail="rule: is missing; send the document that POST /v1/rules takes")
    rule = understood(body["rule"])
    start, end = (_text(body, name) for name in ("start", "end"))
    start_ms, end_ms = window(start, end, now_ms)
    if start is None:
        start_ms = max(end_ms - _DEFAULT_DAYS * DAY_MS, rfc3339.MIN_MS)
    # Times after now hold nothing yet, and silence is not judged ahead.
    return Question(rule, start_ms, max(min(end_ms, now_ms), start_ms))


def _text(body: Mapping[str, Any], name: str) -> str | None:
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise Problem.invalid(parameter=name, detail=f"{name}: expected an RFC 3339 time with an offset, as text")
    if value is not None:
        parse_instant(value, name)
    return value


async def _sensors(
    services: Services, principal: Principal, question: Question, document: Mapping[str, Any], most: int
) -> list[WatchedSensor]:
    """Those that the rule applies to now, and those it applied to when they were elsewhere."""
    target = question.rule.applies_to
    async with tenant_transaction(services.pool, principal.tenant_id) as connection:
        await check(connection, question.rule, document)
        sensors = await rules.watched_sensors(connection, target.kind, target.value, most + 1, ever=True)
    if len(sensors) > most:
        detail = f"the rule applies to more than {most} sensors; narrow applies_to for the preview"
        raise too_much(detail)
    return sensors
