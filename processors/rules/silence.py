"""Silence: one episode per gap of more than `after` between neighbouring readings.

Durations start at a version's `effective_from`: the deadline of a gap that began before it is `after` later than that. A
closed gap follows from the readings. Whether the last, open one counts is a matter of the evaluation time: the caller
knows when every partition is committed past the deadline. No reading violates a silence rule, so the proven and
possible times of its episodes are 0 and the peak has no value (NaN) and lies at the last reading before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from processors.rules.model import (
    FIRING,
    RESOLVED,
    RULE_CHANGED,
    Episode,
    RuleVersion,
    SensorContext,
    Span,
    Times,
    rungs_of,
    spans_of,
)
from processors.rules.schedules import in_schedule
from schemas.rules import Rule, Silence


def open_silences(
    versions: Sequence[RuleVersion], last_at_ms: int, now_ms: int, context: SensorContext
) -> list[Episode]:
    """What the silence since the last reading has come to at `now_ms`: an episode per rung whose deadline has passed.

    One that a later version has ended is resolved, the others are firing.
    """
    pair = np.array([last_at_ms, max(last_at_ms, now_ms)], np.int64)
    found = [one for rung in rungs_of(versions) for one in silences(spans_of(rung), pair, context, last_at_ms)]
    return [replace(one, status=FIRING, resolved_at_ms=None) if one.reason is None else one for one in found]


def silences(spans: Sequence[Span], at_ms: Times, context: SensorContext, from_ms: int) -> list[Episode]:
    """The closed silences that last beyond `from_ms`, each judged by the version in force at its deadline.

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
    deadline = np.maximum(at_ms[:-1], span.from_ms) + after_ms
    silent = np.flatnonzero((at_ms[1:] > deadline) & (at_ms[1:] > from_ms) & (deadline < span.until_ms))
    judged = in_schedule(rule.schedule, deadline[silent], context) & context.applies(rule.applies_to, deadline[silent])
    return [
        _episode(rule.severity, int(at_ms[n]), int(deadline[n]), int(at_ms[n + 1])) for n in silent[judged].tolist()
    ]


def _cut(one: Episode, later: Sequence[Span]) -> Episode:
    """The episode, resolved at the first later span that is not about silence if that comes before its reading."""
    for span in later:
        if one.resolved_at_ms is None or one.resolved_at_ms <= span.from_ms:
            return one
        if span.rule is None or not isinstance(span.rule.condition, Silence):
            return replace(one, resolved_at_ms=span.from_ms, reason=RULE_CHANGED if span.rule else span.gone)
    return one


def _episode(severity: str, started_ms: int, fired_ms: int, resolved_ms: int) -> Episode:
    return Episode(severity, RESOLVED, started_ms, fired_ms, resolved_ms, started_ms, math.nan, 0, 0, None)
