"""`POST /v1/rules/preview`: what a rule would have found, judged over stored readings by the engine of the stream.

Border: reads one sensor after another, each in a short transaction, and judges it in a thread; nothing is written.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any, Final

import msgspec
import numpy as np
from fastapi import APIRouter, Depends
from numpy.typing import NDArray
from starlette.responses import Response

from accounts import rules
from accounts.rules import WatchedSensor
from api.auth import Principal, Require
from api.bodies import Body, described, require_known
from api.errors import Problem
from api.rule_checks import check, understood
from api.rule_models import PREVIEW_EXAMPLE, PREVIEW_SCHEMA, PREVIEWED
from api.sensors import ServicesOfApp
from api.services import Services
from api.times import DAY_MS, parse_instant, window
from core.postgres import tenant_transaction
from processors.rules.judge import Episode, RuleVersion, SensorContext, judge, look_back_ms, open_silences
from schemas import rfc3339
from schemas.rules import Attribute, Rule, Target
from sinks.timescale.histories import History, sensor_history

router = APIRouter(prefix="/preview", tags=["rules"])

Reader = Annotated[Principal, Depends(Require("rules:read"))]

MAX_SENSORS: Final = 200
MAX_READINGS: Final = 5_000_000
MAX_EPISODES: Final = 10_000
_DEFAULT_DAYS: Final = 30
_BODY = described(
    PREVIEW_SCHEMA, PREVIEW_EXAMPLE, "A rule that need not exist, and a range; default: the last 30 days."
)


@dataclass(frozen=True, slots=True)
class Question:
    """A rule and the range that it is tried on."""

    rule: Rule
    start_ms: int
    end_ms: int


@router.post(
    "", summary="Preview a rule", responses=PREVIEWED, response_class=Response, openapi_extra=_BODY, status_code=200
)
async def preview_rule(services: ServicesOfApp, principal: Reader, body: Body) -> Response:
    """Replays a rule over stored readings, as if it had been in effect from `start` on; nothing is kept of it.

    Its own `effective_from` is ignored. Runs that never fired are left out, but for one that is pending at the end.
    """
    require_known(body, "rule", "start", "end")
    question = _question(body, services.clock.now_ms())
    sensors = await _sensors(services, principal, question, body["rule"])
    readings = 0
    found: list[tuple[str, Episode]] = []
    for sensor in sensors:
        history = await _history(services, principal, question, sensor, MAX_READINGS - readings)
        readings += len(history)
        episodes = await asyncio.to_thread(_judged, question, sensor, history)
        found += [(sensor.sensor_id, one) for one in episodes]
    answer = {
        "start": rfc3339.format_ms(question.start_ms),
        "end": rfc3339.format_ms(question.end_ms),
        "sensors": len(sensors),
        "readings": readings,
        "items": [_item(sensor_id, one) for sensor_id, one in found[:MAX_EPISODES]],
        "truncated": len(found) > MAX_EPISODES,
    }
    return Response(msgspec.json.encode(answer), media_type="application/json")


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
    services: Services, principal: Principal, question: Question, document: Mapping[str, Any]
) -> list[WatchedSensor]:
    target = question.rule.applies_to
    async with tenant_transaction(services.pool, principal.tenant_id) as connection:
        await check(connection, question.rule, document)
        sensors = await rules.watched_sensors(connection, target.kind, target.value, MAX_SENSORS + 1)
    if len(sensors) > MAX_SENSORS:
        detail = f"the rule applies to more than {MAX_SENSORS} sensors; narrow applies_to for the preview"
        raise _too_much(detail)
    return sensors


async def _history(
    services: Services, principal: Principal, question: Question, sensor: WatchedSensor, room: int
) -> History:
    """The readings of the range and of the look-back before it."""
    from_ms = max(question.start_ms - look_back_ms(question.rule), rfc3339.MIN_MS)
    async with tenant_transaction(services.pool, principal.tenant_id) as connection:
        history = await sensor_history(connection, sensor.sensor_no, from_ms, question.end_ms, room + 1)
    if len(history) > room:
        detail = f"the preview would judge more than {MAX_READINGS} readings; narrow the range or applies_to"
        raise _too_much(detail)
    return history


def _too_much(detail: str) -> Problem:
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "too_much_to_preview", detail)


def _judged(question: Question, sensor: WatchedSensor, history: History) -> list[Episode]:
    rule, context = question.rule, _context(sensor)
    versions = [RuleVersion(question.start_ms, rule)]
    columns = history.at_ms, history.seq, history.value
    episodes = judge(versions, *columns, context, from_ms=question.start_ms)
    opened = [one for one in episodes if one.status != "retracted"]
    silent = open_silences(versions, int(history.at_ms[-1]), question.end_ms, context) if len(history) else []
    return [*opened, *silent]


def _context(sensor: WatchedSensor) -> SensorContext:
    """A sensor that was chosen because the rule applies to it; attributes were refused before."""

    def applies(_target: Target, at_ms: NDArray[np.int64]) -> NDArray[np.bool_]:
        return np.ones(len(at_ms), np.bool_)

    def attribute(_wanted: Attribute, at_ms: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.full(len(at_ms), np.nan)

    return SensorContext(sensor.expected_interval_ms, applies, attribute)


def _item(sensor_id: str, episode: Episode) -> dict[str, object]:
    value = None if math.isnan(episode.peak_value) else episode.peak_value
    return {
        "sensor_id": sensor_id,
        "severity": episode.severity,
        "status": episode.status,
        "started_at": rfc3339.format_ms(episode.started_at_ms),
        "fired_at": _instant(episode.fired_at_ms),
        "resolved_at": _instant(episode.resolved_at_ms),
        "peak": {"at": rfc3339.format_ms(episode.peak_at_ms), "value": value},
        "proven_seconds": episode.proven_ms / 1000,
        "possible_seconds": episode.possible_ms / 1000,
        "reason": episode.reason,
    }


def _instant(at_ms: int | None) -> str | None:
    return None if at_ms is None else rfc3339.format_ms(at_ms)
