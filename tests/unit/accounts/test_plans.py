"""What a tenant may do is a function of its plan, its payment, its usage and the time; ingest and alerts are no part of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from accounts.billing.plans import PLANS, Feature, Refusal, Standing, entitlements
from schemas.usage import Meter

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
LIMIT = PLANS["basic"].included[Meter.READINGS]


def refused(
    plan: str, status: str | None, days_since: float = 0, used: dict[Meter, int] | None = None
) -> dict[Feature, Refusal]:
    standing = Standing(plan, status, NOW - timedelta(days=days_since), used or {})
    return dict(entitlements(standing, NOW).refused)


def test_enterprise_that_pays_may_do_everything_however_much_it_uses() -> None:
    assert refused("enterprise", "active", used={Meter.READINGS: 10**12, Meter.SCANS: 10**6}) == {}


def test_nothing_that_can_be_refused_is_ingest_or_an_alert() -> None:
    assert {feature.value for feature in Feature} == {"history", "exports", "scans", "webhooks"}


@pytest.mark.parametrize(
    ("status", "days", "pays"),
    [
        ("active", 0, True),
        ("trialing", 0, True),
        ("past_due", 13.9, True),
        ("past_due", 14, False),
        ("incomplete", 1, True),
        ("unpaid", 0, False),
        ("paused", 0, False),
        ("canceled", 0, False),
        ("incomplete_expired", 0, False),
        ("a status of next year", 0, False),
        (None, 0, True),
    ],
)
def test_a_status_pays_or_has_grace_or_does_not(status: str | None, days: float, pays: bool) -> None:
    expected = {} if pays else dict.fromkeys(Feature, Refusal.UNPAID)
    assert refused("enterprise", status, days) == expected


def test_the_free_plan_needs_no_payment_but_has_not_everything() -> None:
    missing = {Feature.EXPORTS: Refusal.NOT_INCLUDED, Feature.WEBHOOKS: Refusal.NOT_INCLUDED}
    assert refused("free", "canceled") == missing
    assert refused("a plan that was withdrawn", None) == missing


@pytest.mark.parametrize(("used", "is_over"), [(LIMIT, False), (LIMIT + 1, True)])
def test_history_and_exports_wait_once_more_than_the_quota_is_used(used: int, is_over: bool) -> None:
    found = refused("basic", "active", used={Meter.READINGS: used})
    over = {Feature.HISTORY: Refusal.QUOTA, Feature.EXPORTS: Refusal.QUOTA} if is_over else {}
    assert found == {Feature.WEBHOOKS: Refusal.NOT_INCLUDED} | over


@pytest.mark.parametrize(("used", "is_over"), [(19, False), (20, True)])
def test_no_further_scan_begins_once_all_included_ones_are_used(used: int, is_over: bool) -> None:
    assert (refused("basic", "active", used={Meter.SCANS: used}).get(Feature.SCANS) is Refusal.QUOTA) is is_over


@pytest.mark.parametrize(("used", "share"), [(79, None), (80, 0.8), (100, 1.0)])
def test_a_warning_comes_at_80_percent(used: int, share: float | None) -> None:
    standing = Standing("basic", "active", NOW, {Meter.READINGS: LIMIT // 100 * used})
    assert entitlements(standing, NOW).warnings.get(Meter.READINGS) == share
