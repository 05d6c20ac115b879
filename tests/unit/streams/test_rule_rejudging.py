"""Which tasks go on from batch to batch, how far others reach, and what their ends and what is found no more mean."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from processors.rules.amend import StoredEpisode
from processors.rules.model import Episode, RuleVersion
from schemas.rules import parse_rule
from streams.rules.book import BookedRule
from streams.rules.judging import Touched, _is_open_at_end, _retraction, _still_silent, _unfired_ms
from tests.unit.streams.test_rule_judging import DAY_MS, MINUTE_MS, NOW_MS, task

HOT: dict[str, object] = {"type": "threshold", "above": 8.0}
SILENT: dict[str, object] = {"type": "silence", "after": "10m"}
LIVE = Touched(NOW_MS, NOW_MS, NOW_MS - MINUTE_MS)


def booked(condition: dict[str, object], **more: object) -> BookedRule:
    rule = parse_rule({"name": "r", "severity": "major", "condition": condition, **more})
    return BookedRule(1, "ten_1", (RuleVersion(0, rule),))


def episode(status: str, started_ms: int, fired_ms: int | None, resolved_ms: int | None) -> Episode:
    return Episode("major", status, started_ms, fired_ms, resolved_ms, started_ms, 9.0, 0, 0, None)


def stored(*episodes: Episode) -> list[StoredEpisode]:
    return [StoredEpisode(f"alt_{number}", one) for number, one in enumerate(episodes)]


def test_only_a_live_rule_of_one_severity_that_is_not_about_silence_is_carried() -> None:
    ladder = [{"severity": "info", "condition": {"type": "threshold", "above": 5.0}}]
    about = {"plain": booked(HOT), "silence": booked(SILENT), "ladder": booked(HOT, ladder=ladder)}
    carried = {name: replace(task(LIVE), booked=one).is_carried for name, one in about.items()}

    assert carried == {"plain": True, "silence": False, "ladder": False}
    assert not task(Touched(NOW_MS, NOW_MS), HOT).is_carried


def test_each_widening_reaches_further_until_it_reaches_now() -> None:
    late = NOW_MS - 30 * DAY_MS
    one = task(Touched(late, late), HOT | {"for": "1h"})

    # 24 h of spacing, 24 h of look-back, an hour unfired.
    assert one.to_ms(1, NOW_MS) == late + 2 * DAY_MS + 60 * MINUTE_MS
    assert one.to_ms(4, NOW_MS) == late + 4 * (2 * DAY_MS + 60 * MINUTE_MS)
    assert one.to_ms(16, NOW_MS) is None
    assert one.to_ms(1, late + 2 * DAY_MS + 60 * MINUTE_MS) is None
    assert task(LIVE, HOT).to_ms(1, NOW_MS + 365 * DAY_MS) is None


def test_a_combination_is_looked_for_as_long_as_its_longest_member() -> None:
    both: dict[str, object] = {"type": "all_of", "conditions": [HOT | {"for": "5m"}, HOT | {"for": "20m"}]}
    mean: dict[str, object] = {"type": "aggregate", "function": "mean", "window": "15m", "above": 8.0, "for": "7m"}

    found = [_unfired_ms(booked(condition).rules[0].condition, DAY_MS) for condition in (both, mean, SILENT)]

    assert found == [20 * MINUTE_MS, 7 * MINUTE_MS, 0]


@pytest.mark.parametrize(
    ("one", "cut"),
    [
        (episode("firing", 10, 20, None), True),
        (episode("resolved", 10, 20, 99), False),
        (episode("resolved", 10, 20, 100), True),
        (episode("retracted", 10, 20, None), False),
    ],
    ids=["open", "resolved before the end", "resolved at the end", "retracted"],
)
def test_an_end_cuts_what_is_not_over_before_it_judged_or_stored(one: Episode, cut: bool) -> None:
    assert _is_open_at_end([one], [], 100) is cut
    assert _is_open_at_end([], [one], 100) is cut


@pytest.mark.parametrize(
    ("at_ms", "reason"),
    [([10, 50], "corrected"), ([10, 20], "data_recovered"), ([10, 15, 50], "data_recovered"), ([5, 21], "corrected")],
    ids=["nothing in it", "at the moment it fired", "within it", "around it"],
)
def test_a_silence_is_taken_back_for_recovered_data_only_if_readings_lie_in_it(at_ms: list[int], reason: str) -> None:
    silence = stored(episode("firing", 10, 20, None))

    assert _retraction(booked(SILENT), silence, np.array(at_ms)) == reason
    assert _retraction(booked(HOT), silence, np.array(at_ms)) == "corrected"


def test_a_silence_after_the_last_reading_is_as_old_as_it_was_found_and_no_older() -> None:
    last = NOW_MS - 60 * MINUTE_MS
    at_ms = np.array([last - MINUTE_MS, last])
    asked = task(LIVE, SILENT)

    def found(one: Episode) -> list[tuple[int, int | None]]:
        return [(each.started_at_ms, each.fired_at_ms) for each in _still_silent(asked, stored(one), at_ms, NOW_MS)]

    fired = last + 10 * MINUTE_MS
    assert found(episode("firing", last, fired, None)) == [(last, fired)]
    # Known to be silent for a minute less than the rule asks for, and nothing known of this silence.
    assert found(episode("firing", last, fired - MINUTE_MS, None)) == []
    assert found(episode("resolved", last - MINUTE_MS, fired, last)) == []
    assert found(episode("pending", last, None, None)) == []
