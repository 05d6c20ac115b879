"""Thresholds, combinations, versions and schedules, to the pair of readings."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import numpy as np
import pytest

from processors.rules.judge import RuleVersion, judge, look_back_ms
from tests.unit.processors.rules.judging import HOUR, MINUTE, SILENT, context, fired, judged, judged_at, minutes, rule

DAY = 24 * HOUR


class TestBounds:
    @pytest.mark.parametrize(
        ("kind", "fires", "does_not"),
        [
            ("above", 30.1, 30.0),
            ("at_or_above", 30.0, 29.9),
            ("below", 29.9, 30.0),
            ("at_or_below", 30.0, 30.1),
        ],
    )
    def test_inclusive_bounds_fire_at_the_number_and_exclusive_ones_beyond_it(
        self, kind: str, fires: float, does_not: float
    ) -> None:
        assert fired(judged({"type": "threshold", kind: 30.0}, [fires])) == [("firing", 0, 0, None)]
        assert judged({"type": "threshold", kind: 30.0}, [does_not]) == []

    def test_a_number_is_read_from_an_attribute_and_nothing_violates_an_absent_one(self) -> None:
        condition = {"type": "threshold", "above": {"attribute": "max_celsius", "of": "unit"}}

        assert fired(judged(condition, [8, 9], sensor=context(attribute=8.0))) == [("firing", 1, 1, None)]
        assert judged(condition, [8, 1e300], sensor=context(attribute=math.nan)) == []

    def test_the_peak_is_the_worst_violating_reading_and_the_earliest_of_equals(self) -> None:
        [high] = judged({"type": "threshold", "above": 8}, [9, 12, 12, 9, 5])
        [low] = judged({"type": "threshold", "below": 2}, [1, -3, 0, -3, 5])

        assert (high.peak_at_ms, high.peak_value) == (MINUTE, 12.0)
        assert (low.peak_at_ms, low.peak_value) == (MINUTE, -3.0)


class TestDuration:
    def test_it_is_pending_until_the_duration_is_reached_and_fires_at_that_reading(self) -> None:
        condition = {"type": "threshold", "above": 8, "for": "3m"}

        assert [minutes(one) for one in judged(condition, [5, 9, 9, 9])] == [("pending", 1, None, None)]
        assert [minutes(one) for one in judged(condition, [5, 9, 9, 9, 9])] == [("firing", 1, 4, None)]

    def test_one_reading_that_does_not_violate_starts_the_duration_again(self) -> None:
        found = judged({"type": "threshold", "above": 8, "for": "3m"}, [9, 9, 9, 8, 9, 9, 9, 9])

        assert [minutes(one) for one in found] == [("retracted", 0, None, None), ("firing", 4, 7, None)]

    def test_a_single_reading_three_hours_old_never_satisfies_an_hour(self) -> None:
        [one] = judged_at({"type": "threshold", "above": 8, "for": "1h"}, [3 * HOUR], [50])

        assert minutes(one) == ("pending", 180, None, None)

    def test_a_gap_ends_a_pending_run(self) -> None:
        # a minute apart, then 6 h: not six hours of heat
        found = judged({"type": "threshold", "above": 8, "for": "1h"}, [9] * 5 + [SILENT] * 359 + [9])

        assert [minutes(one) for one in found] == [("retracted", 0, None, None), ("pending", 364, None, None)]

    def test_a_gap_is_possible_time_of_a_fired_run_and_not_proven(self) -> None:
        # hot for 4 min, silent for 6 h, hot for 2 min, cool: 4 + 2 proven, 4 + 360 + 2 + 1 possible
        [one] = judged({"type": "threshold", "above": 8, "for": "4m"}, [9] * 5 + [SILENT] * 359 + [9] * 3 + [5])

        assert minutes(one) == ("resolved", 0, 4, 367)
        assert (one.proven_ms, one.possible_ms) == (6 * MINUTE, 367 * MINUTE)

    def test_pairs_that_lead_in_and_out_are_possible(self) -> None:
        [one] = judged({"type": "threshold", "above": 8}, [5, 9, 9, 5, 5])

        assert (one.proven_ms, one.possible_ms) == (1 * MINUTE, 3 * MINUTE)

    def test_silence_never_resolves(self) -> None:
        assert fired(judged({"type": "threshold", "above": 8}, [9] * 5 + [SILENT] * 5000 + [9])) == [
            ("firing", 0, 0, None)
        ]


class TestConsecutive:
    def test_the_nth_violating_reading_in_a_row_fires(self) -> None:
        condition = {"type": "threshold", "above": 8, "consecutive": 3}

        assert fired(judged(condition, [9, 9, 5, 9, 9, 9, 5])) == [("resolved", 3, 5, 6)]

    def test_both_the_duration_and_the_count_must_be_reached(self) -> None:
        condition = {"type": "threshold", "above": 8, "for": "2m", "consecutive": 5}

        assert fired(judged(condition, [9] * 6)) == [("firing", 0, 4, None)]
        assert fired(judged({**condition, "for": "5m"}, [9] * 6)) == [("firing", 0, 5, None)]

    def test_a_gap_starts_the_count_again(self) -> None:
        condition = {"type": "threshold", "above": 8, "consecutive": 3}

        assert fired(judged(condition, [9, 9, *[SILENT] * 20, 9, 9])) == []


class TestClearing:
    CONDITION = {"type": "threshold", "above": 8.0, "clear": {"below": 7.5, "for": "2m"}}  # noqa: RUF012

    def test_clear_must_hold_for_its_duration(self) -> None:
        assert fired(judged(self.CONDITION, [9, 7, 7, 7])) == [("resolved", 0, 0, 3)]
        assert fired(judged(self.CONDITION, [9, 7, 7])) == [("firing", 0, 0, None)]

    def test_the_band_between_the_bounds_starts_the_clear_time_again(self) -> None:
        assert fired(judged(self.CONDITION, [9, 7, 7.75, 7, 7, 7])) == [("resolved", 0, 0, 5)]

    def test_a_gap_starts_the_clear_time_again(self) -> None:
        assert fired(judged(self.CONDITION, [9, 7, 7, *[SILENT] * 20, 7, 7])) == [("firing", 0, 0, None)]

    def test_a_violation_starts_the_clear_time_again_and_is_one_episode(self) -> None:
        assert fired(judged(self.CONDITION, [9, 7, 7, 9, 7, 7, 7])) == [("resolved", 0, 0, 6)]

    def test_keep_firing_adds_to_the_clear_time_and_a_flap_inside_it_is_one_episode(self) -> None:
        condition = {**self.CONDITION, "keep_firing_for": "3m"}

        # 2 + 3 min after the first clear reading at 1 and, the flap at 5, at 6
        assert fired(judged(condition, [9, 7, 7, 7, 7, 7, 7])) == [("resolved", 0, 0, 6)]
        assert fired(judged(condition, [9, 7, 7, 7, 7, 9, *[7] * 6])) == [("resolved", 0, 0, 11)]

    def test_a_pending_run_ends_in_the_band(self) -> None:
        condition = {**self.CONDITION, "for": "3m"}

        assert fired(judged(condition, [9, 9, 7.75, 9, 9])) == []

    def test_a_clear_bound_whose_attribute_is_absent_means_not_violating(self) -> None:
        condition = {"type": "threshold", "above": 8, "clear": {"below": {"attribute": "calm", "of": "unit"}}}

        assert fired(judged(condition, [9, 7, 5, 4], sensor=context(attribute=4.5))) == [("resolved", 0, 0, 3)]
        assert fired(judged(condition, [9, 7, 5, 4])) == [("resolved", 0, 0, 1)]


class TestVersions:
    HOT = rule({"type": "threshold", "above": 8})

    def test_each_version_judges_the_readings_of_its_time(self) -> None:
        versions = [RuleVersion(0, self.HOT), RuleVersion(3 * MINUTE, rule({"type": "threshold", "above": 10}))]

        assert fired(judged(versions, [5, 9, 9, 9, 9, 11])) == [("resolved", 1, 1, 3), ("firing", 5, 5, None)]

    def test_a_version_recorded_later_supersedes_those_before_from_its_time_on(self) -> None:
        later = [RuleVersion(4 * MINUTE, rule({"type": "threshold", "above": 99})), RuleVersion(2 * MINUTE, self.HOT)]

        assert fired(judged(later, [9, 9, 9, 9, 9, 9])) == [("firing", 2, 2, None)]

    def test_a_pending_run_starts_again_under_a_new_version(self) -> None:
        slow = rule({"type": "threshold", "above": 8, "for": "3m"})

        found = judged([RuleVersion(0, slow), RuleVersion(2 * MINUTE, slow)], [9] * 6)

        assert [minutes(one) for one in found] == [("retracted", 0, None, None), ("firing", 2, 5, None)]

    def test_a_fired_run_carries_over_and_takes_the_new_severity(self) -> None:
        minor = rule({"type": "threshold", "above": 8, "for": "1h"}, severity="minor")

        [one] = judged([RuleVersion(0, self.HOT), RuleVersion(2 * MINUTE, minor)], [9] * 4)

        assert (minutes(one), one.severity, one.proven_ms) == (("firing", 0, 0, None), "minor", 3 * MINUTE)

    def test_each_reading_of_a_carried_run_counts_by_its_own_version(self) -> None:
        versions = [RuleVersion(0, self.HOT), RuleVersion(2 * MINUTE, rule({"type": "threshold", "above": 8.5}))]

        # 8.2 violates the first version only: 0 to 1 and 1 to 2 are proven
        [one] = judged(versions, [8.2, 8.2, 9, 5])

        assert (minutes(one), one.proven_ms) == (("resolved", 0, 0, 3), 2 * MINUTE)

    def test_durations_start_at_the_version(self) -> None:
        # the pair from 1 to 2 min began half a minute before the version: half of it is possible
        [one] = judged([RuleVersion(90_000, self.HOT)], [9, 9, 9])

        assert (minutes(one), one.proven_ms, one.possible_ms) == (("firing", 2, 2, None), 0, 30_000)

    def test_windows_look_back_before_the_version(self) -> None:
        mean = rule({"type": "aggregate", "function": "count", "window": "10m", "at_or_above": 5})

        assert fired(judged([RuleVersion(4 * MINUTE, mean)], [1] * 5)) == [("firing", 4, 4, None)]

    def test_a_version_about_silence_that_no_reading_came_under_ends_nothing(self) -> None:
        silence = rule({"type": "silence", "after": "1h"})
        between = [RuleVersion(0, self.HOT), RuleVersion(130_000, silence), RuleVersion(150_000, self.HOT)]

        assert fired(judged(between, [9] * 5)) == [("firing", 0, 0, None)]
        # One that a reading came under does.
        [first, _] = fired(judged([*between[:2], RuleVersion(200_000, self.HOT)], [9] * 5))
        assert first == ("resolved", 0, 0, 130_000 / MINUTE)

    def test_deleting_resolves_at_that_moment_and_retracts_what_is_pending(self) -> None:
        slow = rule({"type": "threshold", "above": 8, "for": "1h"})

        [open_one] = judged([RuleVersion(0, self.HOT), RuleVersion(150_000, None)], [9] * 5)
        [pending] = judged([RuleVersion(0, slow), RuleVersion(150_000, None)], [9] * 5)

        assert (minutes(open_one), open_one.reason) == (("resolved", 0, 0, 2.5), "rule_deleted")
        assert (minutes(pending), pending.reason) == (("retracted", 0, None, None), "rule_deleted")

    def test_what_is_recorded_later_for_the_same_moment_takes_its_place(self) -> None:
        versions = [RuleVersion(0, self.HOT), RuleVersion(2 * MINUTE, None), RuleVersion(2 * MINUTE, self.HOT)]

        assert fired(judged(versions, [9] * 4)) == [("firing", 0, 0, None)]

    def test_a_rule_with_no_version_yet_judges_nothing(self) -> None:
        assert judged([], [9, 9]) == []
        assert judged([RuleVersion(DAY, self.HOT)], [9, 9]) == []


class TestScheduleAndTarget:
    NIGHT = {"timezone": "Europe/Berlin", "weekly": [{"days": ["sat"], "from": "22:00", "to": "06:00"}]}  # noqa: RUF012

    def test_outside_the_schedule_a_reading_is_clear(self) -> None:
        # Saturday 2024-03-30 22:00 in Berlin is 21:00 UTC
        start = 1_711_832_400_000
        found = judged(
            {"type": "threshold", "above": 8}, [9] * 12, step_ms=HOUR, start_ms=start - HOUR, schedule=self.NIGHT
        )

        # local 21:00, 22:00 .. 01:00, 03:00 (2:00 is skipped), 04:00, 05:00, 06:00: fired at 21:00 UTC, ended at 04:00
        assert [(one.fired_at_ms, one.resolved_at_ms) for one in found] == [(start, start + 7 * HOUR)]

    def test_outside_the_target_a_reading_is_clear(self) -> None:
        found = judged({"type": "threshold", "above": 8}, [9] * 4, sensor=context(covered_from_ms=2 * MINUTE))

        assert fired(found) == [("firing", 2, 2, None)]


class TestCombinations:
    def test_any_of_fires_with_the_first_member_and_starts_with_the_first_run(self) -> None:
        condition = {"type": "preset", "name": "food-code-6h"}

        # above 5 from minute 1 on, above 21 at minute 3
        assert fired(judged(condition, [4, 6, 6, 22, 6, 4])) == [("resolved", 1, 3, 4)]

    def test_all_of_holds_while_every_member_does(self) -> None:
        members = [{"type": "threshold", "above": 8, "for": "2m"}, {"type": "threshold", "above": 10}]
        found = judged({"type": "all_of", "conditions": members}, [9, 9, 9, 11, 11, 9, 5])

        # the first has fired at 2 and pends for the second, which holds from 3 to 5
        assert fired(found) == [("resolved", 0, 3, 5)]
        assert found[0].peak_value == 11.0

    def test_a_budget_is_known_of_when_it_is_spent_and_moves_the_start_back(self) -> None:
        exposure = {"type": "exposure", "above": 8, "budget": "3m", "within": "1h"}
        members = [{"type": "threshold", "above": 10, "for": "10m"}, exposure]
        found = judged({"type": "all_of", "conditions": members}, [9, 11, 11, 11])

        # from minute 1 by the threshold; at 3 the budget is spent, by readings from minute 0 on
        assert [minutes(one) for one in found] == [("retracted", 1, None, None), ("pending", 0, None, None)]


def test_a_reading_one_year_ahead_does_not_mute_the_sensor() -> None:
    at = [*range(0, 10 * MINUTE, MINUTE), 365 * DAY]
    found = judged_at({"type": "threshold", "above": 8, "for": "3m"}, at, [5, 9, 9, 9, 9, 9, 5, 5, 9, 5, 5])

    assert fired(found) == [("resolved", 1, 4, 6)]


def test_columns_of_different_lengths_are_refused() -> None:
    none = np.zeros(0, np.int64)
    with pytest.raises(ValueError, match="1 times, 0 sequence numbers and 0 values"):
        judge([], np.zeros(1, np.int64), none, none.astype(np.float64), context(), from_ms=0)


def test_the_look_back_is_the_widest_window_and_a_day() -> None:
    assert look_back_ms(rule({"type": "threshold", "above": 8, "for": "9h"})) == DAY
    assert look_back_ms(rule({"type": "preset", "name": "usp-cold-chain"})) == 31 * DAY


@pytest.mark.parametrize(
    "condition",
    [
        {"type": "threshold", "above": 8, "for": "10m"},
        {"type": "threshold", "above": 8},
        {"type": "aggregate", "function": "mean", "window": "24h", "above": 8},
        {"type": "preset", "name": "usp-cold-chain"},
    ],
    ids=["pending", "flapping", "mean", "preset"],
)
def test_thirty_days_at_one_minute_are_judged_in_well_under_a_second(condition: dict[str, object]) -> None:
    values = (8 + np.random.default_rng(3).normal(0, 2, 43_200)).tolist()
    started = time.process_time()

    judged(condition, values)

    assert time.process_time() - started < 2.0  # 0.05 to 0.4 s here; generous for busy machines


def test_a_changed_name_alone_leaves_a_fired_run_as_it_is() -> None:
    hot = TestVersions.HOT
    versions = [RuleVersion(0, hot), RuleVersion(2 * MINUTE, replace(hot, name="renamed"))]

    assert judged(versions, [5, 9, 10, 9, 5]) == judged([RuleVersion(0, hot)], [5, 9, 10, 9, 5])
