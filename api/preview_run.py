"""Trying a rule on stored readings, sensor by sensor, by the engine of the stream; says how far it has come.

Border: reads each sensor in a short transaction and judges it in a thread; nothing is written.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

from accounts.rules import WatchedSensor
from api.auth import Principal
from api.errors import Problem
from api.services import Services
from core.postgres import tenant_transaction
from processors.rules.judge import Episode, RuleVersion, judge, look_back_ms, open_silences
from processors.rules.model import SensorContext
from processors.rules.places import Whereabouts, places_of
from schemas import rfc3339
from schemas.rules import Rule
from sinks.timescale.histories import History, sensor_history
from sinks.timescale.places import read_places

MAX_EPISODES: Final = 10_000


@dataclass(frozen=True, slots=True)
class Question:
    """A rule and the range that it is tried on."""

    rule: Rule
    start_ms: int
    end_ms: int


@dataclass(slots=True)
class Findings:
    """What was found so far.

    Args:
        sensors: how many there are to try the rule on.
    """

    sensors: int
    judged: int = 0
    readings: int = 0
    episodes: list[tuple[str, Episode]] = field(default_factory=list)

    @property
    def progress(self) -> float:
        """The share of the sensors that is judged."""
        return round(self.judged / self.sensors, 4) if self.sensors else 1.0

    def answer(self, question: Question) -> dict[str, object]:
        """The body of the answer."""
        return {
            "start": rfc3339.format_ms(question.start_ms),
            "end": rfc3339.format_ms(question.end_ms),
            "sensors": self.sensors,
            "readings": self.readings,
            "items": [_item(sensor_id, one) for sensor_id, one in self.episodes[:MAX_EPISODES]],
            "truncated": len(self.episodes) > MAX_EPISODES,
        }


async def run(
    services: Services, principal: Principal, question: Question, sensors: Sequence[WatchedSensor], most_readings: int
) -> AsyncIterator[Findings]:
    """Judge one sensor after another; yields before the first and after each.

    Raises:
        Problem: there are more readings than `most_readings`.
    """
    found = Findings(len(sensors))
    contexts = await _contexts(services, principal, sensors)
    yield found
    for sensor, context in zip(sensors, contexts, strict=True):
        history = await _history(services, principal, question, sensor, most_readings - found.readings)
        if found.readings + len(history) > most_readings:
            detail = f"the preview would judge more than {most_readings} readings; narrow the range or applies_to"
            raise too_much(detail)
        episodes = await asyncio.to_thread(_judged, question, context, history)
        found.readings += len(history)
        found.episodes += [(sensor.sensor_id, one) for one in episodes]
        found.judged += 1
        yield found


async def _contexts(services: Services, principal: Principal, sensors: Sequence[WatchedSensor]) -> list[SensorContext]:
    """Where the sensors were, as of the readings' times."""
    async with tenant_transaction(services.pool, principal.tenant_id) as connection:
        held = await read_places(connection, [one.sensor_no for one in sensors])
    return [
        Whereabouts(one.sensor_id, places_of(held.assignments.get(one.sensor_no, ()), held.units, held.sites)).context(
            one.expected_interval_ms
        )
        for one in sensors
    ]


async def _history(
    services: Services, principal: Principal, question: Question, sensor: WatchedSensor, room: int
) -> History:
    """The readings of the range and of the look-back before it."""
    from_ms = max(question.start_ms - look_back_ms(question.rule), rfc3339.MIN_MS)
    async with tenant_transaction(services.pool, principal.tenant_id) as connection:
        return await sensor_history(connection, sensor.sensor_no, from_ms, question.end_ms, room + 1)


def too_much(detail: str) -> Problem:
    """A preview that nobody should wait for."""
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "too_much_to_preview", detail)


def _judged(question: Question, context: SensorContext, history: History) -> list[Episode]:
    versions = [RuleVersion(question.start_ms, question.rule)]
    columns = history.at_ms, history.seq, history.value
    episodes = judge(versions, *columns, context, from_ms=question.start_ms)
    opened = [one for one in episodes if one.status != "retracted"]
    silent = open_silences(versions, int(history.at_ms[-1]), question.end_ms, context) if len(history) else []
    return [*opened, *silent]


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
