"""The shapes of rules and alerts, as OpenAPI tells them, with an example each; see `api.models`."""

from __future__ import annotations

from typing import Any, Final, Literal

from api.models import Model, Responses, answer, problems

Severity = Literal["critical", "major", "minor", "warning", "info"]
Status = Literal["pending", "firing", "resolved", "retracted"]


class Rule(Model):
    """A rule's newest version."""

    rule_id: str
    name: str
    applies_to: dict[str, Any]
    severity: Severity
    condition: dict[str, Any]
    schedule: dict[str, Any] | None
    ladder: list[dict[str, Any]] | None
    effective_from: str
    version: int
    progress: float
    created_at: str
    updated_at: str


class RecordedRule(Rule):
    """A rule as it was just recorded."""

    warnings: list[str]


class RulePage(Model):
    """Rules in the order of their ids."""

    items: list[Rule]
    next: str | None


class Peak(Model):
    """The worst violating reading."""

    at: str
    value: float | None = None


class Alert(Model):
    """An episode: one continuous violation of one rule by one sensor. All times but the two of handling are readings'."""

    alert_id: str
    tenant_id: str
    sensor_id: str
    rule_id: str
    severity: Severity
    status: Status
    acknowledged_by: str | None
    acknowledged_at: str | None
    assigned_to: str | None
    started_at: str
    fired_at: str | None
    resolved_at: str | None
    peak: Peak
    proven_seconds: float
    possible_seconds: float
    historical: bool
    merged_into: str | None = None
    reason: str | None = None
    version: int
    updated_at: str


class Note(Model):
    """What somebody said about an episode."""

    kind: Literal["acknowledge", "comment", "assign"]
    author: str
    note: str
    created_at: str


class AlertWithNotes(Alert):
    """An episode and what was said about it, the newest 1 000 notes."""

    notes: list[Note]


class AlertPage(Model):
    """Episodes, newest start first."""

    items: list[Alert]
    next: str | None


class AlertVersionPage(Model):
    """Versions of one episode, oldest first."""

    items: list[Alert]
    next: str | None


class PreviewedEpisode(Model):
    """An episode that a rule would have opened."""

    sensor_id: str
    severity: Severity
    status: Literal["pending", "firing", "resolved"]
    started_at: str
    fired_at: str | None
    resolved_at: str | None
    peak: Peak
    proven_seconds: float
    possible_seconds: float
    reason: str | None = None


class Preview(Model):
    """What a rule would have found."""

    start: str
    end: str
    sensors: int
    readings: int
    items: list[PreviewedEpisode]
    truncated: bool


CONDITION_EXAMPLE: Final = {"type": "threshold", "above": 8.0, "for": "30m", "clear": {"below": 7.5, "for": "5m"}}
RULE_EXAMPLE: Final = {
    "name": "fridge too warm",
    "applies_to": {"sensor_id": "sen_4f6e0b7d2c"},
    "severity": "critical",
    "effective_from": "2026-11-01T00:00:00.000Z",
    "condition": CONDITION_EXAMPLE,
    "schedule": {
        "timezone": "Europe/Berlin",
        "weekly": [{"days": ["mon", "tue", "wed", "thu", "fri"], "from": "06:00", "to": "22:00"}],
    },
    "ladder": [{"severity": "info", "condition": {"type": "threshold", "above": 6.0, "for": "1h"}}],
}
PREVIEW_EXAMPLE: Final = {
    "rule": {"name": "too warm", "applies_to": {"all": True}, "severity": "major", "condition": CONDITION_EXAMPLE},
    "start": "2026-10-23T00:00:00.000Z",
    "end": "2026-11-22T00:00:00.000Z",
}
RULE_SCHEMA: Final = {
    "type": "object",
    "required": ["name", "severity", "condition"],
    "properties": {
        "name": {"type": "string", "maxLength": 200},
        "applies_to": {"type": "object"},
        "severity": {"enum": ["critical", "major", "minor", "warning", "info"]},
        "effective_from": {"type": "string", "format": "date-time"},
        "condition": {"type": "object", "required": ["type"]},
        "schedule": {"type": ["object", "null"]},
        "ladder": {
            "type": ["array", "null"],
            "items": {
                "type": "object",
                "required": ["severity", "condition"],
                "properties": {
                    "severity": {"enum": ["critical", "major", "minor", "warning", "info"]},
                    "condition": {"type": "object", "required": ["type"]},
                },
            },
        },
    },
}
PATCH_SCHEMA: Final = {"type": "object", "properties": RULE_SCHEMA["properties"]}
PREVIEW_SCHEMA: Final = {
    "type": "object",
    "required": ["rule"],
    "properties": {
        "rule": RULE_SCHEMA,
        "start": {"type": "string", "format": "date-time"},
        "end": {"type": "string", "format": "date-time"},
    },
}
NOTE_SCHEMA: Final = {"type": "object", "properties": {"note": {"type": "string", "maxLength": 2000}}}
ASSIGN_SCHEMA: Final = {
    "type": "object",
    "required": ["assignee"],
    "properties": {"assignee": {"type": "string", "maxLength": 2000}},
}

NDJSON: Final = "application/x-ndjson"

_RULE: Final = {
    "rule_id": "rul_4f6e0b7d2c",
    **RULE_EXAMPLE,
    "version": 2,
    "progress": 0.75,
    "created_at": "2026-11-01T08:00:00.000Z",
    "updated_at": "2026-11-22T20:00:00.000Z",
}
_EPISODE: Final = {
    "sensor_id": "sen_4f6e0b7d2c",
    "severity": "critical",
    "status": "resolved",
    "started_at": "2026-11-22T12:10:00.000Z",
    "fired_at": "2026-11-22T12:40:00.000Z",
    "resolved_at": "2026-11-22T12:50:00.000Z",
    "peak": {"at": "2026-11-22T12:20:00.000Z", "value": 9.5},
    "proven_seconds": 1800.0,
    "possible_seconds": 2400.0,
}
_ALERT: Final = {
    "alert_id": "alt_4f6e0b7d2c",
    "tenant_id": "ten_0a1b2c",
    "rule_id": "rul_4f6e0b7d2c",
    **_EPISODE,
    "acknowledged_by": "key_91c3f0a7b2",
    "acknowledged_at": "2026-11-22T12:44:10.250Z",
    "assigned_to": "night shift",
    "historical": False,
    "version": 5,
    "updated_at": "2026-11-22T12:50:00.412Z",
}
_NOTE: Final = {
    "kind": "acknowledge",
    "author": "key_91c3f0a7b2",
    "note": "door was open",
    "created_at": "2026-11-22T12:44:10.250Z",
}
ALERT_EXAMPLE: Final = _ALERT
_NEXT: Final = "kq1zZW5fNGY2ZTBiN2QyYy0"
_READ: Final = problems(401, 403, 422, 429, 503)
_READ_ONE: Final = _READ | problems(404)
_WRITE: Final = _READ | problems(400, 413)
_WARNING: Final = "no sensor has unit_id uni_c41f88 yet; the rule judges nothing until one has"

RULE_CREATED: Final[Responses] = {
    201: answer(RecordedRule, "The rule is recorded.", rule=_RULE | {"version": 1, "warnings": [_WARNING]}),
    **_WRITE,
}
RULE_CHANGED: Final[Responses] = {
    200: answer(RecordedRule, "The next version is recorded.", rule=_RULE | {"warnings": []}),
    **_WRITE,
    **problems(404, 409),
}
RULE_DELETED: Final[Responses] = {204: {"description": "It is deleted."}, **_READ_ONE, **problems(409)}
RULE_FOUND: Final[Responses] = {200: answer(Rule, "The rule.", rule=_RULE), **_READ_ONE}
RULES_FOUND: Final[Responses] = {
    200: answer(RulePage, "A page of rules.", page={"items": [_RULE], "next": _NEXT}),
    **_READ,
}
_PREVIEW: Final = {
    "start": "2026-10-23T00:00:00.000Z",
    "end": "2026-11-22T00:00:00.000Z",
    "sensors": 1,
    "readings": 43_200,
    "items": [_EPISODE],
    "truncated": False,
}
_PREVIEW_FOUND: Final = answer(
    Preview, "The episodes that the rule would have opened, the first 10 000.", preview=_PREVIEW
)
_PREVIEW_LINES: Final = {
    "schema": {
        "type": "object",
        "description": "one line",
        "properties": {
            "progress": {"type": "number", "minimum": 0, "maximum": 1},
            "readings": {"type": "integer"},
            "preview": {"$ref": "#/components/schemas/Preview"},
            "problem": {"$ref": "#/components/schemas/ProblemDetails"},
        },
    },
    "examples": {
        "on the way": {"value": {"progress": 0.5, "readings": 43_200}},
        "last": {"value": {"progress": 1.0, "preview": _PREVIEW}},
    },
}
PREVIEWED: Final[Responses] = {
    200: _PREVIEW_FOUND | {"content": _PREVIEW_FOUND["content"] | {NDJSON: _PREVIEW_LINES}},
    **_WRITE,
}
ALERTS_FOUND: Final[Responses] = {
    200: answer(AlertPage, "A page of episodes.", page={"items": [_ALERT], "next": _NEXT}),
    **_READ,
}
ALERT_FOUND: Final[Responses] = {
    200: answer(AlertWithNotes, "The episode.", alert=_ALERT | {"notes": [_NOTE]}),
    **_READ_ONE,
}
ALERT_VERSIONS: Final[Responses] = {
    200: answer(AlertVersionPage, "A page of versions.", page={"items": [_ALERT], "next": _NEXT}),
    **_READ_ONE,
}
ALERT_HANDLED: Final[Responses] = {
    200: answer(Alert, "The episode's new version.", alert=_ALERT),
    **_WRITE,
    **problems(404),
}
