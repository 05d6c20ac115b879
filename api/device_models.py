"""The shapes of devices, changes of sensors and the organization, as OpenAPI tells them; see `api.models`."""

from __future__ import annotations

from typing import Final

from pydantic import Field

from accounts.place_fields import MAX_NAME_CHARS
from api.models import NEXT_EXAMPLE, Model, Responses, answer, problems
from api.reading_models import SENSOR_EXAMPLE, Sensor


class KeptSecret(Model):
    """A secret that holds."""

    secret_id: str
    created_at: str
    expires_at: str | None = Field(None, description="when it stops to hold; null: when it is revoked")


class NewSecret(KeptSecret):
    """A new secret, shown once."""

    device_id: str
    secret: str


class Device(Model):
    """What publishes."""

    device_id: str
    name: str
    sensors: int
    last_received_at: str | None = Field(description="when the newest reading of its sensors came")
    secrets: list[KeptSecret]
    created_at: str
    revoked_at: str | None = None
    archived_at: str | None = None


class NewDevice(Device):
    """A new device with its first secret, shown once."""

    secret: str


class DevicePage(Model):
    """Devices in the order of their ids."""

    items: list[Device]
    next: str | None


class Assignment(Model):
    """Where a sensor was for a while."""

    effective_from: str
    effective_to: str | None = Field(None, description="null: it is there")
    unit_id: str | None = None
    site_id: str | None = None


class AssignmentPage(Model):
    """Where a sensor was, oldest first."""

    items: list[Assignment]
    next: str | None = None


class Organization(Model):
    """The tenant."""

    organization_id: str
    tenant_id: str
    name: str
    plan: str
    raw_retention: str | None = Field(None, description="how long raw readings are kept; null: for ever")
    created_at: str


_NAMED: Final = {"name": {"type": "string", "minLength": 1, "maxLength": MAX_NAME_CHARS}}
DEVICE_SCHEMA: Final = {"type": "object", "required": ["name"], "properties": _NAMED, "additionalProperties": False}
ORGANIZATION_SCHEMA: Final = {"type": "object", "properties": _NAMED, "additionalProperties": False}
OVERLAP_SCHEMA: Final = {
    "type": "object",
    "properties": {"overlap": {"type": "string"}},
    "additionalProperties": False,
}
SENSOR_SCHEMA: Final = {
    "type": "object",
    "properties": {
        "unit": {"type": "string", "minLength": 1, "maxLength": 32},
        "expected_interval": {"type": ["string", "null"]},
        "unit_id": {"type": ["string", "null"]},
        "site_id": {"type": ["string", "null"]},
        "effective_from": {"type": ["string", "null"], "format": "date-time"},
        "archived": {"type": "boolean"},
    },
    "additionalProperties": False,
}
SENSOR_CHANGE: Final = {
    "expected_interval": "1m",
    "unit_id": "uni_c41f88",
    "effective_from": "2026-11-01T00:00:00.000Z",
}

_SECRET: Final = "V2hhdCBhIGRldmljZSBzaWducyB3aXRoLCBvbmNl"  # noqa: S105 - an example
_KEPT_SECRET: Final = {"secret_id": "17", "created_at": "2026-11-01T08:00:00.000Z"}
_DEVICE: Final = {
    "device_id": "dev_91c3f0a7b2",
    "name": "Kitchen gateway",
    "sensors": 3,
    "last_received_at": "2026-11-22T20:00:00.412Z",
    "secrets": [_KEPT_SECRET],
    "created_at": "2026-11-01T08:00:00.000Z",
}
_ORGANIZATION: Final = {
    "organization_id": "ten_0a1b2c",
    "tenant_id": "ten_0a1b2c",
    "name": "Harbour Kitchens",
    "plan": "enterprise",
    "created_at": "2026-11-01T08:00:00.000Z",
}
_NOW: Final = {"effective_from": "2026-11-20T09:00:00.000Z", "unit_id": "uni_c41f88", "site_id": "sit_7d20c9"}
_BEFORE: Final = {
    "effective_from": "2026-11-01T00:00:00.000Z",
    "effective_to": "2026-11-20T09:00:00.000Z",
    "site_id": "sit_7d20c9",
}
_READ: Final = problems(401, 403, 422, 429, 503)
_READ_ONE: Final = _READ | problems(404)
_WRITE: Final = _READ | problems(400, 413)

DEVICE_CREATED: Final[Responses] = {
    201: answer(NewDevice, "The device, and its secret.", device=_DEVICE | {"secret": _SECRET}),
    **_WRITE,
}
DEVICE_FOUND: Final[Responses] = {200: answer(Device, "The device.", device=_DEVICE), **_READ_ONE}
DEVICES_FOUND: Final[Responses] = {
    200: answer(DevicePage, "A page of devices.", page={"items": [_DEVICE], "next": NEXT_EXAMPLE}),
    **_READ,
}
DEVICE_CHANGED: Final[Responses] = {200: answer(Device, "The device.", device=_DEVICE), **_WRITE, **problems(404)}
DEVICE_REVOKED: Final[Responses] = {204: {"description": "It is revoked."}, **_READ_ONE}
SECRET_CREATED: Final[Responses] = {
    201: answer(NewSecret, "The secret.", secret=_KEPT_SECRET | {"device_id": "dev_91c3f0a7b2", "secret": _SECRET}),
    **_WRITE,
    **problems(404, 409),
}
ORGANIZATION_FOUND: Final[Responses] = {200: answer(Organization, "The tenant.", organization=_ORGANIZATION), **_READ}
ORGANIZATION_CHANGED: Final[Responses] = {
    200: answer(Organization, "The tenant.", organization=_ORGANIZATION),
    **_WRITE,
}
SENSOR_CHANGED: Final[Responses] = {
    200: answer(Sensor, "The sensor as it is now.", sensor=SENSOR_EXAMPLE),
    **_WRITE,
    **problems(404, 409),
}
ASSIGNMENTS_FOUND: Final[Responses] = {
    200: answer(AssignmentPage, "A page of assignments.", page={"items": [_BEFORE, _NOW], "next": NEXT_EXAMPLE}),
    **_READ_ONE,
}
