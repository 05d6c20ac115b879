"""Silence: one episode per gap, judged by the version in force at its deadline."""

from __future__ import annotations

import math

import numpy as np

from processors.rules.judge import RuleVersion, judge_silence, open_silence
from tests.unit.processors.rules.judging import MINUTE, context, fired, judged_at, rule

SILENT_3M = rule({"type": "silence", "after": "3m"})


def minutes(*moments: float) -> list[int]:
    return [round(one * MINUTE) for one in moments]


def test_each_gap_longer_than_the_wait_is_one_episode() -> None:
    at = minutes(0, 1, 4, 8, 9, 20)

    # 1 to 4 is 3 min, not longer
    found = judged_at({"type": "silence", "after": "3m"}, at, [5] * 6)

    assert fired(found) == [("resolved", 4, 7, 8), ("resolved", 9, 12, 20)]
    assert [(one.proven_ms, one.possible_ms, one.peak_at_ms) for one in found] == [
        (0, 0, 4 * MINUTE),
        (0, 0, 9 * MINUTE),
    ]
    assert all(math.isnan(one.peak_value) for one in found)


def test_judging_from_a_time_counts_silences_that_start_there_or_later() -> None:
    at = np.array(minutes(0, 10, 20), np.int64)

    assert [one.started_at_ms for one in judge_silence(MINUTE, at, from_ms=1)] == [10 * MINUTE]
    assert [one.started_at_ms for one in judge_silence(MINUTE, at, from_ms=0)] == [0, 10 * MINUTE]


def test_the_open_silence_is_judged_at_a_time() -> None:
    assert open_silence(3 * MINUTE, 0, 3 * MINUTE) is None
    found = open_silence(3 * MINUTE, 0, 3 * MINUTE + 1, severity="major")

    assert found is not None
    assert (found.status, found.severity, found.fired_at_ms, found.resolved_at_ms) == (
        "firing",
        "major",
        3 * MINUTE,
        None,
    )


def test_the_version_in_force_at_the_deadline_judges() -> None:
    versions = [RuleVersion(minutes(5)[0], SILENT_3M)]

    # deadlines 4, before the rule, and 13
    assert fired(judged_at(versions, minutes(1, 10, 20), [5] * 3)) == [("resolved", 10, 13, 20)]
    # the reading at 4 is older than the rule, its deadline at 7 is not
    assert fired(judged_at(versions, minutes(4, 10), [5] * 2)) == [("resolved", 4, 7, 10)]


def test_deleting_the_rule_resolves_a_silence_at_that_moment() -> None:
    versions = [RuleVersion(0, SILENT_3M), RuleVersion(minutes(7)[0], None)]

    [one] = judged_at(versions, minutes(0, 20), [5, 5])

    assert (fired([one]), one.reason) == ([("resolved", 0, 3, 7)], "rule_deleted")


def test_a_longer_wait_later_leaves_an_open_silence_open() -> None:
    versions = [RuleVersion(0, SILENT_3M), RuleVersion(minutes(7)[0], rule({"type": "silence", "after": "1h"}))]

    assert fired(judged_at(versions, minutes(0, 20), [5, 5])) == [("resolved", 0, 3, 20)]


def test_a_gap_past_the_deadlines_of_two_versions_fires_at_the_earlier_one() -> None:
    versions = [RuleVersion(0, SILENT_3M), RuleVersion(minutes(7)[0], rule({"type": "silence", "after": "10m"}))]

    assert fired(judged_at(versions, minutes(0, 20), [5, 5])) == [("resolved", 0, 3, 20)]


def test_turning_a_rule_into_one_about_silence_resolves_what_was_open() -> None:
    versions = [RuleVersion(0, rule({"type": "threshold", "above": 8})), RuleVersion(minutes(3)[0], SILENT_3M)]

    [one] = judged_at(versions, minutes(0, 1, 2, 3, 4), [9] * 5)

    assert (fired([one]), one.reason) == ([("resolved", 0, 0, 3)], "rule_changed")


def test_a_deadline_outside_the_target_or_schedule_is_no_silence() -> None:
    later = context(covered_from_ms=4 * MINUTE)

    assert judged_at({"type": "silence", "after": "3m"}, minutes(0, 20), [5, 5], sensor=later) == []
    at_night = {"weekly": [{"from": "22:00", "to": "23:00"}]}
    assert judged_at({"type": "silence", "after": "3m"}, minutes(0, 20), [5, 5], schedule=at_night) == []
