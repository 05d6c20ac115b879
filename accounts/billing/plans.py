"""Plans as data, and what a tenant may do as a pure function of plan, payment, usage and time.

No answer here ever stops the storing of a reading or an alert on it: there is no such feature to ask for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from schemas.usage import Meter

GRACE: Final = timedelta(days=14)
_WARN_AT: Final = 0.8
# What is taken beforehand, as scans are, cannot be over.
_GRACED: Final = (Meter.READINGS, Meter.ACTIVE_SENSORS)


class Feature(StrEnum):
    """What a plan may include, beyond ingest and alerts."""

    HISTORY = "history"
    EXPORTS = "exports"
    SCANS = "scans"
    WEBHOOKS = "webhooks"


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan.

    Args:
        monthly_cents: the flat price.
        included: most units of a meter in a calendar month; a meter that is absent has no limit.
        retention: how long raw readings are kept; None: for ever.
        features: what it includes.
        quota_grace: how long history and exports go on once a month's readings or sensors are used up.
    """

    name: str
    monthly_cents: int
    included: Mapping[Meter, int]
    retention: timedelta | None
    features: frozenset[Feature]
    quota_grace: timedelta


def _plan(
    name: str, cents: int, included: Mapping[Meter, int], days: int | None, grace_days: int, *features: Feature
) -> Plan:
    retention = None if days is None else timedelta(days=days)
    grace = timedelta(days=grace_days)
    return Plan(name, cents, MappingProxyType(dict(included)), retention, frozenset(features), grace)


PLANS: Final[Mapping[str, Plan]] = MappingProxyType(
    {
        plan.name: plan
        for plan in (
            _plan(
                "free", 0, {Meter.READINGS: 500_000, Meter.ACTIVE_SENSORS: 5, Meter.SCANS: 3}, 30, 0,
                Feature.HISTORY, Feature.SCANS,
            ),
            _plan(
                "basic", 1_900, {Meter.READINGS: 5_000_000, Meter.ACTIVE_SENSORS: 25, Meter.SCANS: 20}, 365, 3,
                Feature.HISTORY, Feature.EXPORTS, Feature.SCANS,
            ),
            _plan(
                "professional", 9_900, {Meter.READINGS: 100_000_000, Meter.ACTIVE_SENSORS: 250, Meter.SCANS: 500}, 1_825, 7,
                *Feature,
            ),
            _plan("enterprise", 49_900, {}, None, 0, *Feature),
        )
    }
)  # fmt: skip


class Refusal(StrEnum):
    """Why something is not allowed now."""

    NOT_INCLUDED = "not_included"
    UNPAID = "unpaid"
    QUOTA = "quota_exceeded"


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of a tenant.

    Args:
        plan: its plan's name.
        status: of its subscription as Stripe names them; None: never subscribed.
        since: when that status began.
        used: this month's usage by meter.
        noticed: when it was told that all of a meter's quota is used, this month.
    """

    plan: str
    status: str | None
    since: datetime | None
    used: Mapping[Meter, int]
    noticed: Mapping[Meter, datetime] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Entitlements:
    """What a tenant may do now.

    Args:
        refused: features it may not use, and why; everything else is allowed.
        warnings: meters at 80 % and more of what is included.
    """

    refused: Mapping[Feature, Refusal]
    warnings: Mapping[Meter, float]

    def refusal(self, feature: Feature) -> Refusal | None:
        """Why the feature is not allowed; None: it is."""
        return self.refused.get(feature)


def entitlements(standing: Standing, now: datetime) -> Entitlements:
    """What a tenant may do; a plan that is unknown counts as the free one."""
    plan = PLANS.get(standing.plan, PLANS["free"])
    shares = {meter: standing.used.get(meter, 0) / limit for meter, limit in plan.included.items() if limit > 0}
    refused = {feature: Refusal.NOT_INCLUDED for feature in Feature if feature not in plan.features}
    if not _pays(standing, plan, now):
        refused |= dict.fromkeys(plan.features, Refusal.UNPAID)
    elif any(shares.get(meter, 0.0) > 1 and not _has_grace(standing, plan, meter, now) for meter in _GRACED):
        refused |= dict.fromkeys(plan.features & {Feature.HISTORY, Feature.EXPORTS}, Refusal.QUOTA)
    if shares.get(Meter.SCANS, 0.0) >= 1 and Feature.SCANS not in refused:
        refused[Feature.SCANS] = Refusal.QUOTA
    return Entitlements(refused, {meter: share for meter, share in shares.items() if share >= _WARN_AT})


def grace_end(plan: Plan, noticed_at: datetime | None) -> datetime | None:
    """Until when a quota that is used up refuses nothing; None: it has not begun, as nobody was told."""
    return None if noticed_at is None else noticed_at + plan.quota_grace


def _has_grace(standing: Standing, plan: Plan, meter: Meter, now: datetime) -> bool:
    """Whether the tenant was told less than the grace ago, or not yet; a plan without grace waits for nothing."""
    end = grace_end(plan, standing.noticed.get(meter))
    return bool(plan.quota_grace) and (end is None or now < end)


def _pays(standing: Standing, plan: Plan, now: datetime) -> bool:
    """Whether the plan is paid for, or not yet overdue for longer than the grace."""
    if plan.monthly_cents == 0 or standing.status is None or standing.status in ("active", "trialing"):
        return True
    if standing.status in ("past_due", "incomplete") and standing.since is not None:
        return now < standing.since + GRACE
    return False
