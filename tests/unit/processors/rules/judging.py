"""Rules and series in few words: minutes as times, one condition, every reading judged."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from processors.rules.judge import Episode, RuleVersion, SensorContext, judge
from schemas.rules import Attribute, Rule, Target, parse_rule

MINUTE = 60_000
HOUR = 60 * MINUTE
SILENT = math.nan


def rule(condition: Mapping[str, Any], **fields: object) -> Rule:
    return parse_rule({"name": "r", "severity": "critical", "condition": condition, **fields})


def context(
    declared_ms: int | None = None, attribute: float = math.nan, covered_from_ms: int = -(1 << 60)
) -> SensorContext:
    """A sensor that every target covers from some time on, all of whose attributes are one number."""

    def applies(_target: Target, at_ms: NDArray[np.int64]) -> NDArray[np.bool_]:
        return at_ms >= covered_from_ms

    def attributes(_attribute: Attribute, at_ms: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.full(len(at_ms), attribute)

    return SensorContext(declared_ms, applies, attributes)


def judged(
    condition: Mapping[str, Any] | Sequence[RuleVersion],
    values: Sequence[float],
    *,
    step_ms: int = MINUTE,
    start_ms: int = 0,
    sensor: SensorContext | None = None,
    **fields: object,
) -> list[Episode]:
    """Episodes of readings one step apart; SILENT leaves one out."""
    at = [start_ms + n * step_ms for n, value in enumerate(values) if not math.isnan(value)]
    kept = [value for value in values if not math.isnan(value)]
    return judged_at(condition, at, kept, sensor=sensor, **fields)


def judged_at(
    condition: Mapping[str, Any] | Sequence[RuleVersion],
    at_ms: Sequence[int],
    values: Sequence[float],
    *,
    sensor: SensorContext | None = None,
    **fields: object,
) -> list[Episode]:
    versions = [RuleVersion(0, rule(condition, **fields))] if isinstance(condition, Mapping) else condition
    seq = np.arange(len(at_ms), dtype=np.int64)
    at, value = np.array(at_ms, np.int64), np.array(values, np.float64)
    return judge(versions, at, seq, value, sensor or context(), from_ms=0)


def minutes(one: Episode) -> tuple[str, float, float | None, float | None]:
    """Status and started, fired, resolved in minutes."""
    times = (one.fired_at_ms, one.resolved_at_ms)
    fired, resolved = (None if at is None else at / MINUTE for at in times)
    return one.status, one.started_at_ms / MINUTE, fired, resolved


def fired(episodes: Sequence[Episode]) -> list[tuple[str, float, float | None, float | None]]:
    return [minutes(one) for one in episodes if one.fired_at_ms is not None]
