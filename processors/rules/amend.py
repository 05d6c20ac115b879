"""What judging an interval again changes in the stored episodes: opened, extended, merged, split, retracted.

Stored episodes keep their ids, acknowledgements and comments wherever a judged one can be seen as the same: on a merge the
one with the earliest `fired_at` survives and the others point to it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from processors.rules.model import Episode
from schemas.rules import SEVERITIES

_FOREVER = 1 << 62


@dataclass(frozen=True, slots=True)
class StoredEpisode:
    """An episode row, by its id and what judging may change in it."""

    alert_id: str
    episode: Episode


@dataclass(frozen=True, slots=True)
class Amendment:
    """One change: insert (`alert_id` None), update, or retract (`episode` None)."""

    alert_id: str | None
    episode: Episode | None
    merged_into: str | None = None
    reason: str | None = None
    # Only what a run adds up to moved, of an episode that stays open.
    is_growth: bool = False


def amend(
    stored: Sequence[StoredEpisode],
    judged: Sequence[Episode],
    retraction: str = "corrected",
    *,
    by_severity: bool = False,
) -> list[Amendment]:
    """The changes that turn the stored episodes of one (sensor, rule) into the judged ones.

    Args:
        stored: those that are not retracted and lie in the judged interval.
        judged: in order; runs that ended without firing are `retracted`.
        retraction: the reason for taking back an episode that had fired.
        by_severity: the rule has a ladder, whose rungs have nothing to do with each other; else an episode may change
            its severity.
    """
    if not by_severity:
        return _amend(stored, judged, retraction)
    severities = sorted({one.severity for one in (*judged, *(each.episode for each in stored))}, key=SEVERITIES.index)
    return [
        change
        for severity in severities
        for change in _amend(
            [one for one in stored if one.episode.severity == severity],
            [one for one in judged if one.severity == severity],
            retraction,
        )
    ]


def _amend(stored: Sequence[StoredEpisode], judged: Sequence[Episode], retraction: str) -> list[Amendment]:
    # A run that has ended without firing is told as what it was, whatever begins after it.
    ended_ms = {episode.started_at_ms for episode in judged if episode.status == "retracted"}
    over = [one for one in stored if one.episode.fired_at_ms is None and one.episode.started_at_ms in ended_ms]
    free = sorted((one for one in stored if one not in over), key=_seniority)
    changes: list[Amendment] = []
    real = [episode for episode in judged if episode.status != "retracted"]
    survivors: dict[int, StoredEpisode] = {}
    for number, episode in sorted(enumerate(real), key=lambda item: (item[1].fired_at_ms is None, item[0])):
        match = next((one for one in free if _overlap(one.episode, episode)), None)
        if match is not None:
            survivors[number] = match
            free.remove(match)
    for number, episode in enumerate(real):
        survivor = survivors.get(number)
        if survivor is None:
            changes.append(Amendment(None, episode))
        elif not _same(survivor.episode, episode):
            changes.append(Amendment(survivor.alert_id, episode, is_growth=_is_growth(survivor.episode, episode)))
    changes += [Amendment(one.alert_id, None, reason="not_confirmed") for one in over]
    for left in free:
        heir = next(
            (survivors[n] for n, one in enumerate(real) if n in survivors and _overlap(left.episode, one)), None
        )
        if heir is not None:
            changes.append(Amendment(left.alert_id, None, merged_into=heir.alert_id, reason="merged"))
        else:
            never_fired = left.episode.fired_at_ms is None
            changes.append(Amendment(left.alert_id, None, reason="not_confirmed" if never_fired else retraction))
    return changes


def _same(left: Episode, right: Episode) -> bool:
    """Equal in every field; a silence's peak has no value, and NaN is not equal to itself."""
    if math.isnan(left.peak_value) and math.isnan(right.peak_value):
        left, right = replace(left, peak_value=0.0), replace(right, peak_value=0.0)
    return left == right


def _is_growth(left: Episode, right: Episode) -> bool:
    """Whether an open episode differs in its peak and its proven and possible time alone."""
    summed = replace(
        right,
        peak_at_ms=left.peak_at_ms,
        peak_value=left.peak_value,
        proven_ms=left.proven_ms,
        possible_ms=left.possible_ms,
    )
    return right.status in {"pending", "firing"} and _same(left, summed)


def _seniority(stored: StoredEpisode) -> tuple[int, int, str]:
    fired = stored.episode.fired_at_ms
    return (_FOREVER if fired is None else fired, stored.episode.started_at_ms, stored.alert_id)


def _overlap(left: Episode, right: Episode) -> bool:
    """Whether they have a moment in common; two silences more than the reading that ends one and begins the other."""
    if math.isnan(left.peak_value) and math.isnan(right.peak_value):
        return bool(left.started_at_ms < _end(right) and right.started_at_ms < _end(left))
    return bool(left.started_at_ms <= _end(right) and right.started_at_ms <= _end(left))


def _end(episode: Episode) -> int:
    return _FOREVER if episode.resolved_at_ms is None else episode.resolved_at_ms
