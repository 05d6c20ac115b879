"""Silence: one episode per gap, judged by the version in force at its deadline."""

from __future__ import annotations

import math

import numpy as np

from processors.rules.judge import RuleVersion, judge, open_silences
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

    def started(from_minute: float) -> list[float]:
        versions, zeros = [RuleVersion(0, SILENT_3M)], np.zeros(3, np.int64)
        found = judge(versions, at, zeros, zeros.astype(np.float64), context(), from_ms=minutes(from_minute)[0])
        return [one.started_at_ms / MINUTE for one in found]

    assert (started(0), started(9.9), started(10), started(20)) == ([0, 10], [0, 10], [10], [])


def open_at(minute: float, *versions: RuleVersion) -> list[tuple[str, float, float | None, float | None]]:
    """Of a sensor that was last heard at minute 0."""
    return fired(open_silences(versions, 0, minutes(minute)[0], context()))


def test_the_open_silence_is_judged_at_a_time() -> None:
    assert open_at(3, RuleVersion(0, SILENT_3M)) == []
    assert open_at(3.001, RuleVersion(0, SILENT_3M)) == [("firing", 0, 3, None)]


def test_a_rule_that_begins_within_an_open_silence_waits_from_then_on() -> None:
    late, later = (RuleVersion(moment, SILENT_3M) for moment in minutes(1, 60))

    assert (open_at(4, late), open_at(4.001, late)) == ([], [("firing", 0, 4, None)])
    assert (open_at(63, later), open_at(63.001, later)) == ([], [("firing", 0, 63, None)])
    # the wait of the version that comes first is over before the next one begins
    assert open_at(63.001, RuleVersion(0, SILENT_3M), later) == [("firing", 0, 3, None)]


def test_deleting_the_rule_resolves_an_open_silence_once_that_moment_has_come() -> None:
    versions = RuleVersion(0, SILENT_3M), RuleVersion(minutes(7)[0], None)

    assert open_at(7, *versions) == [("firing", 0, 3, None)]
    assert open_at(7.001, *versions) == [("resolved", 0, 3, 7)]
    assert open_at(20, RuleVersion(0, SILENT_3M), RuleVersion(minutes(3)[0], None)) == []


def test_each_rung_of_a_silence_has_its_own_deadline() -> None:
    ladder = [{"severity": "info", "condition": {"type": "silence", "after": "10m"}}]
    version = RuleVersion(0, rule({"type": "silence", "after": "3m"}, ladder=ladder))

    assert open_at(10, version) == [("firing", 0, 3, None)]
    assert open_at(10.001, version) == [("firing", 0, 3, None), ("firing", 0, 10, None)]
    assert [one.severity for one in open_silences([version], 0, minutes(11)[0], context())] == ["critical", "info"]


def test_the_version_in_force_at_the_deadline_judges() -> None:
    versions = [RuleVersion(minutes(5)[0], SILENT_3M)]

    # the rule waits 3 min from its effective_from on
    assert fired(judged_at(versions, minutes(1, 8, 20), [5] * 3)) == [("resolved", 8, 11, 20)]
    assert fired(judged_at(versions, minutes(4, 10), [5] * 2)) == [("resolved", 4, 8, 10)]


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
