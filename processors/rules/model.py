"""What goes into judging and what comes out: rule versions, what is known of the sensor, readings, episodes.

Plain data. What the fields mean to the pair of readings is INTERFACES §6; how they are found is `judge`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from processors.gaps import DEFAULT_INTERVAL_MS, GAP_INTERVALS, expected_intervals_ms
from schemas.rules import Attribute, Rule, Target

Times = NDArray[np.int64]
Values = NDArray[np.float64]
Flags = NDArray[np.bool_]
Names = NDArray[np.str_]

PENDING: Final = "pending"
FIRING: Final = "firing"
RESOLVED: Final = "resolved"
RETRACTED: Final = "retracted"

RULE_DELETED: Final = "rule_deleted"
RULE_CHANGED: Final = "rule_changed"


@dataclass(frozen=True, slots=True)
class RuleVersion:
    """What a rule says from some time on; `rule` is None where it says nothing, `gone` why."""

    effective_from_ms: int
    rule: Rule | None
    gone: str = RULE_DELETED


def utc_everywhere(at_ms: Times) -> Names:
    """The time zones of a sensor without a site."""
    return np.full(len(at_ms), "UTC")


@dataclass(frozen=True, slots=True)
class SensorContext:
    """What rules need to know of a sensor, as of the readings' times.

    Args:
        declared_interval_ms: the expected interval that was declared; None takes the median spacing.
        applies: whether a target covers the sensor at each of these times.
        attribute: the number held at each of these times; NaN where there is none, which never violates.
        timezone: the name of the site's time zone at each of these times.
    """

    declared_interval_ms: int | None
    applies: Callable[[Target, Times], Flags]
    attribute: Callable[[Attribute, Times], Values]
    timezone: Callable[[Times], Names] = utc_everywhere


@dataclass(frozen=True, slots=True)
class Episode:
    """One run of one rule on one sensor; all times are readings' (or deadlines and deletions that follow from them)."""

    severity: str
    status: str
    started_at_ms: int
    fired_at_ms: int | None
    resolved_at_ms: int | None
    peak_at_ms: int
    peak_value: float
    proven_ms: int
    possible_ms: int
    reason: str | None


@dataclass(frozen=True, slots=True)
class Span:
    """The stretch of event time, half open, that one version judges."""

    from_ms: int
    until_ms: int
    rule: Rule | None
    gone: str = RULE_DELETED


@dataclass(frozen=True, slots=True)
class Series:
    """A sensor's readings in (at, seq) order; `gap[i]` tells whether the pair (i - 1, i) is a gap."""

    at_ms: Times
    value: Values
    gap: Flags


FOREVER_MS: Final = int(np.iinfo(np.int64).max)


def spans_of(versions: Sequence[RuleVersion]) -> list[Span]:
    """The versions in force, by event time: one recorded later supersedes earlier ones from its `effective_from` on."""
    in_force: list[RuleVersion] = []
    for version in versions:
        while in_force and in_force[-1].effective_from_ms >= version.effective_from_ms:
            in_force.pop()
        in_force.append(version)
    ends = [version.effective_from_ms for version in in_force][1:] + [FOREVER_MS] * bool(in_force)
    return [Span(one.effective_from_ms, end, one.rule, one.gone) for one, end in zip(in_force, ends, strict=True)]


def rungs_of(versions: Sequence[RuleVersion]) -> list[list[RuleVersion]]:
    """The versions as a rule of its own for each rung of the ladder, the first being what the rule says by itself.

    A rung is known by its severity: where a version lacks it, that rung's rule is gone.
    """
    ladder = {rung.severity for one in versions if one.rule is not None for rung in one.rule.ladder}
    if not ladder:
        return [list(versions)]
    return [[_rung(one, severity) for one in versions] for severity in (None, *sorted(ladder))]


def _rung(version: RuleVersion, severity: str | None) -> RuleVersion:
    if version.rule is None:
        return version
    first, *rungs = version.rule.rungs
    found = first if severity is None else next((one for one in rungs if one.severity == severity), None)
    return RuleVersion(version.effective_from_ms, found, RULE_CHANGED)


def series_of(at_ms: Times, value: Values, declared_interval_ms: int | None) -> Series:
    """Readings with the gaps between them."""
    gap = np.zeros(len(at_ms), np.bool_)
    spacing = np.diff(at_ms)
    if (spacing > _surely_no_gap_ms(spacing, declared_interval_ms)).any():
        gap[1:] = spacing > GAP_INTERVALS * expected_intervals_ms(at_ms, declared_interval_ms)
    return Series(at_ms, value, gap)


def _surely_no_gap_ms(spacing: Times, declared_interval_ms: int | None) -> int:
    """A spacing that is no gap whatever the median: that is at least the least spacing above 0, or the mean of it and 0.

    Most sensors are regular, and the sliding median costs a thousand times this.
    """
    if declared_interval_ms is not None:
        return GAP_INTERVALS * declared_interval_ms
    positive = spacing[spacing > 0]
    least = int(positive.min(initial=DEFAULT_INTERVAL_MS))
    return GAP_INTERVALS * least // (1 if len(positive) == len(spacing) else 2)
