"""Which changes of an open episode are growth: those that a version need not show at once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from processors.rules.amend import StoredEpisode, amend
from processors.rules.model import Episode

FIRING = Episode("major", "firing", 1000, 1000, None, 1000, 9.0, 0, 0, None)


def is_growth(judged: Episode, stored: Episode = FIRING) -> bool:
    [change] = amend([StoredEpisode("alt_1", stored)], [judged])
    return change.is_growth


def test_a_higher_peak_and_longer_times_of_an_open_episode_are_growth() -> None:
    assert is_growth(replace(FIRING, peak_at_ms=2000, peak_value=9.5, proven_ms=1000, possible_ms=1000))
    pending = replace(FIRING, status="pending", fired_at_ms=None)
    assert is_growth(replace(pending, proven_ms=1000, possible_ms=1000), pending)


@pytest.mark.parametrize(
    "change",
    [
        {"status": "resolved", "resolved_at_ms": 3000},
        {"started_at_ms": 500},
        {"fired_at_ms": 2000},
        {"severity": "critical"},
        {"reason": "rule_changed"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_any_other_change_is_told_at_once(change: dict[str, int | str]) -> None:
    assert not is_growth(replace(FIRING, possible_ms=1000, **change))  # type: ignore[arg-type]


def test_an_episode_that_begins_is_told_at_once() -> None:
    [change] = amend([], [FIRING])
    assert not change.is_growth
