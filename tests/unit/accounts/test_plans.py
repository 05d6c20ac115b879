"""What a tenant may do is a function of its plan, its payment, its usage and the time; ingest and alerts are no part of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from accounts.billing.plans import PLANS, Feature, Refusal, Standing, entitlements
from schemas.usage import Meter

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
LIMIT = PLANS["basic"].included[Meter.READINGS]


def refused(
    plan: str,
    status: str | None,
    days_since: float = 0,
    used: dict[Meter, int] | None = None,
    noticed: dict[Meter, datetime] | None = None,
) -> dict[Feature, Refusal]:
    standing = Standing(plan, status, NOW - timedelta(days=days_since), used or {}, noticed or {})
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


OVER = {Feature.HISTORY: Refusal.QUOTA, Feature.EXPORTS: Refusal.QUOTA}


@pytest.mark.parametrize(
    ("used", "days_since_notice", "is_refused"),
    [
        (LIMIT, 30.0, False),
        (LIMIT + 1, None, False),  # nobody was told yet: the grace has not begun
        (LIMIT + 1, 2.9, False),
        (LIMIT + 1, 3.0, True),
    ],
)
def test_history_and_exports_wait_three_days_after_it_was_told_that_the_quota_of_the_basic_plan_is_used_up(
    used: int, days_since_notice: float | None, is_refused: bool
) -> None:
    noticed = {} if days_since_notice is None else {Meter.READINGS: NOW - timedelta(days=days_since_notice)}
    found = refused("basic", "active", used={Meter.READINGS: used}, noticed=noticed)
    assert found == {Feature.WEBHOOKS: Refusal.NOT_INCLUDED} | (OVER if is_refused else {})


@pytest.mark.parametrize("meter", [Meter.READINGS, Meter.ACTIVE_SENSORS])
def test_each_plan_has_a_grace_of_its_own_and_the_free_one_none(meter: Meter) -> None:
    graces = {name: plan.quota_grace.days for name, plan in PLANS.items()}
    assert graces == {"free": 0, "basic": 3, "professional": 7, "enterprise": 0}
    used = {meter: PLANS["free"].included[meter] + 1}
    assert refused("free", None, used=used)[Feature.HISTORY] is Refusal.QUOTA
    used = {meter: PLANS["professional"].included[meter] + 1}
    assert refused("professional", "active", used=used, noticed={meter: NOW - timedelta(days=6.9)}) == {}
    assert refused("professional", "active", used=used, noticed={meter: NOW - timedelta(days=7)}) == OVER


def test_one_meter_in_its_grace_does_not_excuse_another() -> None:
    used = {meter: PLANS["basic"].included[meter] + 1 for meter in (Meter.READINGS, Meter.ACTIVE_SENSORS)}
    noticed = {Meter.READINGS: NOW, Meter.ACTIVE_SENSORS: NOW - timedelta(days=4)}
    assert refused("basic", "active", used=used, noticed=noticed)[Feature.HISTORY] is Refusal.QUOTA


@pytest.mark.parametrize(("used", "is_over"), [(19, False), (20, True)])
def test_no_further_scan_begins_once_all_included_ones_are_used(used: int, is_over: bool) -> None:
    assert (refused("basic", "active", used={Meter.SCANS: used}).get(Feature.SCANS) is Refusal.QUOTA) is is_over


@pytest.mark.parametrize(("used", "share"), [(79, None), (80, 0.8), (100, 1.0)])
def test_a_warning_comes_at_80_percent(used: int, share: float | None) -> None:
    standing = Standing("basic", "active", NOW, {Meter.READINGS: LIMIT // 100 * used})
    assert entitlements(standing, NOW).warnings.get(Meter.READINGS) == share
