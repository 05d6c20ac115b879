"""Rule documents (INTERFACES §6): parsing with explanations, durations, presets.

A document is plain JSON; `parse_rule` turns it into frozen dataclasses or says which part is wrong, what was found, what
was expected and how to mend it. Nothing here judges readings: that is `processors.rules`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from schemas.rule_conditions import parse_condition, parse_object
from schemas.rule_model import (
    BOUNDS,
    DAYS,
    FUNCTIONS,
    MAX_WINDOW_MS,
    SEVERITIES,
    TARGETS,
    Aggregate,
    Attribute,
    Bound,
    Clear,
    Combination,
    Condition,
    DegreeMinutes,
    Exposure,
    MeanKineticTemperature,
    Number,
    Rule,
    RuleError,
    Rung,
    Schedule,
    Silence,
    Span,
    Target,
    Threshold,
    format_duration,
    parse_duration_ms,
    shown,
)
from schemas.rule_presets import PRESETS

__all__ = [
    "BOUNDS",
    "DAYS",
    "FUNCTIONS",
    "MAX_WINDOW_MS",
    "PRESETS",
    "SEVERITIES",
    "TARGETS",
    "Aggregate",
    "Attribute",
    "Bound",
    "Clear",
    "Combination",
    "Condition",
    "DegreeMinutes",
    "Exposure",
    "MeanKineticTemperature",
    "Number",
    "Rule",
    "RuleError",
    "Rung",
    "Schedule",
    "Silence",
    "Span",
    "Target",
    "Threshold",
    "format_duration",
    "parse_condition",
    "parse_duration_ms",
    "parse_rule",
]

_CLOCK = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])|24:00")
_FIELDS = {"name", "applies_to", "severity", "effective_from", "condition", "schedule", "ladder"}
_MAX_NAME = 200
_MINUTES_A_DAY = 1440


def parse_rule(document: object) -> Rule:
    """Understand a rule document.

    Raises:
        RuleError: the first part that cannot be used.
    """
    fields = parse_object(document, "rule", _FIELDS)
    name = fields.get("name")
    if not isinstance(name, str) or not 0 < len(name) <= _MAX_NAME or not name.isprintable():
        raise RuleError(path="name", detail=f"expected 1 to {_MAX_NAME} printable characters; give the rule a name")
    severity = _severity(fields.get("severity"), "severity")
    schedule = fields.get("schedule")
    return Rule(
        name,
        _target(fields.get("applies_to", {"all": True})),
        severity,
        parse_condition(fields.get("condition"), "condition"),
        None if schedule is None else _schedule(schedule),
        _effective_from(fields.get("effective_from")),
        _ladder(fields.get("ladder"), severity),
    )


def _severity(value: object, path: str) -> str:
    if value not in SEVERITIES:
        raise RuleError(path, f"found {shown(value)}, expected one of {', '.join(SEVERITIES)}")
    return str(value)


def _ladder(document: object, severity: str) -> tuple[Rung, ...]:
    """The further severities; each is one episode's, so none comes twice."""
    if document is None:
        return ()
    if not isinstance(document, list):
        raise RuleError(path="ladder", detail=f"found {shown(document)}, expected a list of {{severity, condition}}")
    taken, rungs = {severity}, []
    for n, one in enumerate(document):
        path = f"ladder[{n}]"
        fields = parse_object(one, path, {"severity", "condition"})
        rung = _severity(fields.get("severity"), f"{path}.severity")
        if rung in taken:
            raise RuleError(path=f"{path}.severity", detail=f"{rung} is the severity of another rung; use each once")
        taken.add(rung)
        rungs.append(Rung(rung, parse_condition(fields.get("condition"), f"{path}.condition")))
    return tuple(rungs)


def _target(document: object) -> Target:
    fields = parse_object(document, "applies_to", set(TARGETS))
    if len(fields) != 1:
        raise RuleError(path="applies_to", detail=f"expected exactly one of {', '.join(TARGETS)}")
    [(kind, value)] = fields.items()
    if kind == "all":
        if value is not True:
            raise RuleError(path="applies_to.all", detail="expected true")
        return Target("all")
    if not isinstance(value, str) or not value:
        raise RuleError(path=f"applies_to.{kind}", detail=f"found {shown(value)}, expected an id")
    return Target(kind, value)


def _effective_from(value: object) -> int | None:
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise RuleError(path="effective_from", detail=f"found {shown(value)}, expected an RFC 3339 time with an offset")
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def _schedule(document: object) -> Schedule:
    fields = parse_object(document, "schedule", {"timezone", "weekly"})
    zone = fields.get("timezone")
    if zone is not None:
        _require_zone(zone)
    weekly = fields.get("weekly")
    if not isinstance(weekly, list) or not weekly:
        raise RuleError(
            path="schedule.weekly", detail="expected a list of {days, from, to}; leave the schedule out to judge always"
        )
    return Schedule(
        None if zone is None else str(zone), tuple(_span(one, f"schedule.weekly[{n}]") for n, one in enumerate(weekly))
    )


def _require_zone(zone: object) -> None:
    try:
        ZoneInfo(str(zone))
    except (ZoneInfoNotFoundError, ValueError, OSError) as exc:
        detail = (
            f"found {shown(zone)}, expected a zone such as Europe/Berlin; leave it out for that of the sensor's site"
        )
        raise RuleError(path="schedule.timezone", detail=detail) from exc


def _span(document: object, path: str) -> Span:
    fields = parse_object(document, path, {"days", "from", "to"})
    days = fields.get("days", list(DAYS))
    if not isinstance(days, list) or not days or any(day not in DAYS for day in days):
        raise RuleError(path=f"{path}.days", detail=f"found {shown(days)}, expected a list of {', '.join(DAYS)}")
    start, end = (_minutes(fields.get(name), f"{path}.{name}") for name in ("from", "to"))
    if start == _MINUTES_A_DAY:
        raise RuleError(path=f"{path}.from", detail="found '24:00', expected a time before midnight such as 00:00")
    return Span(frozenset(DAYS.index(day) for day in days), start, end)


def _minutes(value: object, path: str) -> int:
    if not isinstance(value, str) or not _CLOCK.fullmatch(value):
        raise RuleError(path, f"found {shown(value)}, expected a time of day such as 06:00 or 24:00")
    hours, minutes = value.split(":")
    return int(hours) * 60 + int(minutes)
