"""The shapes of sites and units, as OpenAPI tells them, with an example each; see `api.models`."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field

from accounts.place_fields import MAX_NAME_CHARS, UNIT_KINDS
from api.models import NEXT_EXAMPLE, Model, Responses, answer, problems


class Doing(Model):
    """How the sensors of a place are doing; archived ones are left out."""

    state: Literal["alert", "silent", "ok", "unknown"] = Field(
        description="the first that is true: alert: an alert is firing; silent: a sensor is; ok: a sensor was ever heard"
    )
    sensors: int
    silent: int = Field(description="sensors without a reading for more than three expected intervals")
    alerts: int = Field(description="alerts that are firing")
    unacknowledged: int = Field(description="of these, nobody has acknowledged")
    severity: Literal["critical", "major", "minor", "warning", "info"] | None = Field(description="the worst of these")
    last_at: str | None = Field(description="the newest reading's time")


class Site(Doing):
    """A place of the tenant."""

    site_id: str
    name: str
    timezone: str
    attributes: dict[str, float | str]
    revision: int
    created_at: str
    updated_at: str
    archived_at: str | None = None


class SitePage(Model):
    """Sites in the order of their ids."""

    items: list[Site]
    next: str | None


class Unit(Doing):
    """A monitored fridge, freezer or room."""

    unit_id: str
    name: str
    kind: str
    site_id: str | None
    attributes: dict[str, float | str]
    revision: int
    created_at: str
    updated_at: str
    archived_at: str | None = None


class UnitPage(Model):
    """Units in the order of their ids."""

    items: list[Unit]
    next: str | None


_NAME: Final = {"type": "string", "minLength": 1, "maxLength": MAX_NAME_CHARS}
_ATTRIBUTES: Final = {
    "type": "object",
    "maxProperties": 64,
    "additionalProperties": {"type": ["number", "string"], "maxLength": 256},
}
_CHANGE: Final = {
    "archived": {"type": "boolean"},
    "effective_from": {"type": ["string", "null"], "format": "date-time"},
    "revision": {"type": "integer", "minimum": 1},
}
_SITE: Final = {"name": _NAME, "timezone": {"type": "string"}, "attributes": _ATTRIBUTES}
_UNIT: Final = {
    "name": _NAME,
    "kind": {"enum": list(UNIT_KINDS)},
    "site_id": {"type": ["string", "null"]},
    "attributes": _ATTRIBUTES,
}
SITE_SCHEMA: Final = {"type": "object", "required": ["name"], "properties": _SITE, "additionalProperties": False}
SITE_PATCH_SCHEMA: Final = {"type": "object", "properties": _SITE | _CHANGE, "additionalProperties": False}
UNIT_SCHEMA: Final = {
    "type": "object",
    "required": ["name", "kind"],
    "properties": _UNIT,
    "additionalProperties": False,
}
UNIT_PATCH_SCHEMA: Final = {"type": "object", "properties": _UNIT | _CHANGE, "additionalProperties": False}

SITE_EXAMPLE: Final = {"name": "Harbour Street", "timezone": "Europe/Berlin", "attributes": {"open_from": "06:00"}}
SITE_CHANGE: Final = {"timezone": "Europe/Lisbon", "effective_from": "2026-11-01T00:00:00.000Z", "revision": 1}
UNIT_EXAMPLE: Final = {
    "name": "Walk-in fridge",
    "kind": "fridge",
    "site_id": "sit_7d20c9",
    "attributes": {"max_celsius": 5.0},
}
UNIT_CHANGE: Final = {"attributes": {"max_celsius": 4.0}, "effective_from": "2026-11-01T00:00:00.000Z"}
_DOING: Final = {
    "state": "alert",
    "sensors": 3,
    "silent": 0,
    "alerts": 1,
    "unacknowledged": 1,
    "severity": "critical",
    "last_at": "2026-11-22T20:00:00.000Z",
}
_KEPT: Final = {
    **_DOING,
    "revision": 1,
    "created_at": "2026-11-01T08:00:00.000Z",
    "updated_at": "2026-11-01T08:00:00.000Z",
}
_SITE_SHOWN: Final = {"site_id": "sit_7d20c9", **SITE_EXAMPLE, **_KEPT}
_UNIT_SHOWN: Final = {"unit_id": "uni_c41f88", **UNIT_EXAMPLE, **_KEPT}
_READ: Final = problems(401, 403, 422, 429, 503)
_WRITE: Final = _READ | problems(400, 404, 409, 413)

SITE_CREATED: Final[Responses] = {
    201: answer(Site, "The site.", site=_SITE_SHOWN),
    **_READ,
    **problems(400, 413),
}
SITE_FOUND: Final[Responses] = {200: answer(Site, "The site.", site=_SITE_SHOWN), **_READ, **problems(404)}
SITES_FOUND: Final[Responses] = {
    200: answer(SitePage, "A page of sites.", page={"items": [_SITE_SHOWN], "next": NEXT_EXAMPLE}),
    **_READ,
}
SITE_CHANGED: Final[Responses] = {
    200: answer(Site, "The site as it is now.", site=_SITE_SHOWN | {"revision": 2}),
    **_WRITE,
}
UNIT_CREATED: Final[Responses] = {201: answer(Unit, "The unit.", unit=_UNIT_SHOWN), **_WRITE}
UNIT_FOUND: Final[Responses] = {200: answer(Unit, "The unit.", unit=_UNIT_SHOWN), **_READ, **problems(404)}
UNITS_FOUND: Final[Responses] = {
    200: answer(UnitPage, "A page of units.", page={"items": [_UNIT_SHOWN], "next": NEXT_EXAMPLE}),
    **_READ,
}
UNIT_CHANGED: Final[Responses] = {
    200: answer(Unit, "The unit as it is now.", unit=_UNIT_SHOWN | {"revision": 2}),
    **_WRITE,
}
PLACE_ARCHIVED: Final[Responses] = {204: {"description": "It is archived."}, **_READ, **problems(404, 409)}
