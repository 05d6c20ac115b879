"""Silence: one episode per gap of more than `after` between neighbouring readings.

A closed gap follows from the readings. Whether the last, open one counts is a matter of the evaluation time: the caller
knows when every partition is committed past the deadline. No reading violates a silence rule, so the proven and
possible times of its episodes are 0 and the peak has no value (NaN) and lies at the last reading before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from processors.rules.model import (
    FIRING,
    RESOLVED,
    RULE_CHANGED,
    RULE_DELETED,
    Episode,
    SensorContext,
    Span,
    Times,
)
from processors.rules.schedules import in_schedule
from schemas.rules import Rule, Silence


def judge_silence(after_ms: int, at_ms: Times, *, from_ms: int, severity: str = "") -> list[Episode]:
    """The closed gaps of more than `after_ms` whose earlier reading is not before `from_ms`."""
    silent = np.flatnonzero((np.diff(at_ms) > after_ms) & (at_ms[:-1] >= from_ms))
    return [_episode(severity, int(at_ms[n]), after_ms, int(at_ms[n + 1])) for n in silent]


def open_silence(after_ms: int, last_at_ms: int, now_ms: int, *, severity: str = "") -> Episode | None:
    """The silence since the last reading, if it is longer than `after_ms` at `now_ms`."""
    return _episode(severity, last_at_ms, after_ms, None) if now_ms - last_at_ms > after_ms else None


def silences(spans: Sequence[Span], at_ms: Times, context: SensorContext, from_ms: int) -> list[Episode]:
    """The closed silences, each judged by the version in force at its deadline `a.at + after`.

    Schedule and target are asked at the deadline. A gap has one episode, of the earliest deadline; it stays open while
    later versions are about silence, and resolves where the rule is deleted or becomes another condition.
    """
    found: dict[int, Episode] = {}
    for n, span in enumerate(spans):
        if span.rule is None or not isinstance(span.rule.condition, Silence):
            continue
        for one in _silences_of(span, span.rule, span.rule.condition.after_ms, at_ms, context, from_ms):
            found.setdefault(one.started_at_ms, _cut(one, spans[n + 1 :]))
    return list(found.values())


def _silences_of(
    span: Span, rule: Rule, after_ms: int, at_ms: Times, context: SensorContext, from_ms: int
) -> list[Episode]:
    closed = judge_silence(after_ms, at_ms, from_ms=from_ms, severity=rule.severity)
    within = [one for one in closed if span.from_ms <= one.started_at_ms + after_ms < span.until_ms]
    deadlines = np.array([one.started_at_ms + after_ms for one in within], np.int64)
    judged = in_schedule(rule.schedule, deadlines) & context.applies(rule.applies_to, deadlines)
    return [one for one, is_judged in zip(within, judged, strict=True) if is_judged]


def _cut(one: Episode, later: Sequence[Span]) -> Episode:
    """The episode, resolved at the first later span that is not about silence if that comes before its reading."""
    for span in later:
        if span.rule is None or not isinstance(span.rule.condition, Silence):
            if one.resolved_at_ms is None or one.resolved_at_ms <= span.from_ms:
                return one
            reason = RULE_DELETED if span.rule is None else RULE_CHANGED
            return _episode(one.severity, one.started_at_ms, _after_ms(one), span.from_ms, reason)
    return one


def _after_ms(one: Episode) -> int:
    return (one.fired_at_ms or 0) - one.started_at_ms


def _episode(
    severity: str, started_ms: int, after_ms: int, resolved_ms: int | None, reason: str | None = None
) -> Episode:
    status = FIRING if resolved_ms is None else RESOLVED
    return Episode(severity, status, started_ms, started_ms + after_ms, resolved_ms, started_ms, math.nan, 0, 0, reason)
