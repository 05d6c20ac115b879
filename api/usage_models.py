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


class Period(Model):
    """From the first hour to before the last."""

    start: str
    end: str


class BilledMeter(Model):
    """A meter in this period: the sum of its hours; of active sensors the last hour."""

    meter: str
    metered: int
    pushed: int | None = Field(description="acknowledged by the payment provider")
    adjusted: int = Field(description="in corrections instead")
    stripe: int | None = Field(description="as the payment provider read it back last; null: never")
    in_flight: int | None = Field(description="not there yet, hours that go on included")
    rejected: int = Field(description="hours that the payment provider refused")


class QuotaState(Model):
    """What of a calendar month's quota is used."""

    meter: str
    included: int
    used: int
    percent: int
    warning: str | None = Field(description="near: 80 percent and more; over: 100 and more")
    noticed_at: dict[str, str] = Field(description="when the warnings of 80 and 100 percent were given")
    grace_end: str | None = Field(
        None, description="until when being over refuses nothing; null: it is not over, or has no grace"
    )


class UsageCorrection(Model):
    """Usage that came after its invoice was final or its hour too old to be pushed."""

    meter: str
    bucket_start: str
    quantity: int
    reason: str
    created_at: str
    charge: str = Field(
        description="its line on the next invoice: gathered, pending, sent, ambiguous, acknowledged, rejected, or free"
    )


class BillingStatement(Model):
    """The bill as it stands."""

    plan: str
    monthly_cents: int
    status: str | None = Field(description="of the subscription, as Stripe names it; null: never subscribed")
    is_subscribed: bool
    is_sold: bool = Field(description="whether this system sells subscriptions")
    cancel_at_period_end: bool
    period: Period = Field(description="that of the subscription, else the calendar month in UTC")
    refused: dict[str, str] = Field(description="features that may not be used now, and why")
    meters: list[BilledMeter]
    quotas: list[QuotaState] = Field(description="of meters that the plan limits")
    corrections: list[UsageCorrection] = Field(description="the newest 100")


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
_STATEMENT: Final[dict[str, Any]] = {
    "plan": "basic",
    "monthly_cents": 1_900,
    "status": "active",
    "is_subscribed": True,
    "is_sold": True,
    "cancel_at_period_end": False,
    "period": {"start": "2026-11-01T00:00:00.000Z", "end": "2026-12-01T00:00:00.000Z"},
    "refused": {"webhooks": "not_included"},
    "meters": [
        {
            "meter": "readings",
            "metered": 4_100_000,
            "pushed": 4_099_000,
            "adjusted": 0,
            "stripe": 4_090_000,
            "in_flight": 1_000,
            "rejected": 0,
        }
    ],
    "quotas": [
        {
            "meter": "readings",
            "included": 5_000_000,
            "used": 4_100_000,
            "percent": 82,
            "warning": "near",
            "noticed_at": {"80": "2026-11-22T20:05:00.000Z"},
            "grace_end": None,
        }
    ],
    "corrections": [
        {
            "meter": "readings",
            "bucket_start": "2026-10-31T20:00:00.000Z",
            "quantity": 60,
            "reason": "the invoice of the period is final",
            "created_at": "2026-11-03T09:00:00.000Z",
            "charge": "acknowledged",
        }
    ],
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
STATEMENT_RESPONSES: Final[Responses] = {
    200: answer(BillingStatement, "The bill as it stands.", bill=_STATEMENT),
    **_OF_A_TENANT,
    **problems(404),
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
