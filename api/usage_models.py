"""The shapes of usage and of its reconciliation, as OpenAPI tells them."""

from __future__ import annotations

from typing import Any, Final

from pydantic import Field

from api.models import Model, Responses, answer, problems


class Usage(Model):
    """What one meter counted in one bucket."""

    tenant_id: str
    meter: str = Field(description="readings, active_sensors, scans or scan_points")
    bucket_start: str
    quantity: int
    revision: int = Field(description="grows with each change of the quantity")
    sensor_days: int | None = Field(
        None, description="of active sensors by day or month: days on which each sensor had readings, added up"
    )


class UsagePage(Model):
    """Usage in the order of buckets and meters."""

    items: list[Usage]
    next: str | None


class UsageDifference(Model):
    """An hour in which two counts of the same differ."""

    tenant_id: str
    meter: str
    bucket_start: str
    stored: int = Field(description="counted anew from the stored rows")
    metered: int = Field(description="as /v1/usage shows it")
    pushed: int | None = Field(description="acknowledged by the payment provider; null without a subscription")
    adjusted: int | None = Field(description="billed by adjustments instead")
    stripe: int | None = Field(description="as the payment provider reads it back")
    difference: int = Field(description="too much (+) or missing (-) where it is first seen")
    explanation: str


class ReconciliationPage(Model):
    """Differences in the order of hours and meters."""

    items: list[UsageDifference]
    next: str | None


class Redirect(Model):
    """Where to send the person."""

    url: str


_NEXT: Final = "lqRob3VyzwAAAZqzoA"
_USAGE: Final[dict[str, Any]] = {
    "tenant_id": "ten_5d2f8c01",
    "meter": "readings",
    "bucket_start": "2026-11-22T20:00:00.000Z",
    "quantity": 3_600,
    "revision": 12,
}
_ACTIVE: Final = _USAGE | {"meter": "active_sensors", "quantity": 24, "revision": 3, "sensor_days": 24}
_DIFFERENCE: Final = {
    "tenant_id": "ten_5d2f8c01",
    "meter": "readings",
    "bucket_start": "2026-11-22T20:00:00.000Z",
    "stored": 3_600,
    "metered": 3_599,
    "pushed": 3_599,
    "adjusted": 0,
    "stripe": 3_599,
    "difference": -1,
    "explanation": "stored rows were not metered",
}
_OF_A_TENANT = problems(401, 403, 422, 429, 503)

USAGE_RESPONSES: Final[Responses] = {
    200: answer(
        UsagePage,
        "A page of usage.",
        hours={"items": [_USAGE], "next": _NEXT},
        days={"items": [_ACTIVE], "next": _NEXT},
    ),
    **_OF_A_TENANT,
}
RECONCILIATION_RESPONSES: Final[Responses] = {
    200: answer(
        ReconciliationPage,
        "A page of differences.",
        differ={"items": [_DIFFERENCE], "next": _NEXT},
    ),
    **_OF_A_TENANT,
}
REDIRECT_RESPONSES: Final[Responses] = {
    201: answer(Redirect, "The page to open.", page={"url": "http://127.0.0.1:8500/pay/cs_test_a1"}),
    **_OF_A_TENANT,
    **problems(404),
}
