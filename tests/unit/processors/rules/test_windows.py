"""Windows by literal numbers: means, budgets, degree-minutes and mean kinetic temperature."""

from __future__ import annotations

import math

import pytest

from processors.rules.judge import Episode
from tests.unit.processors.rules.judging import HOUR, MINUTE, SILENT, context, fired, judged, judged_at

QUARTER = 15 * MINUTE


def last_peak(condition: dict[str, object], at_ms: list[int], values: list[float]) -> float:
    """What the window of the last reading says, of a condition that every value violates."""
    *_, last = judged_at(condition, at_ms, values, sensor=context(declared_ms=QUARTER))
    return last.peak_value


class TestMeanKineticTemperature:
    """A reading stands for the time since the one before, so a day has 96 readings of 15 min after the one it follows."""

    def of_day(self, values: list[float], times: list[int] | None = None) -> float:
        """Of the 24 h after a first reading: above a bound that only the window of the last reading is past."""
        at = times or [n * QUARTER for n in range(len(values))]
        condition = {"type": "mean_kinetic_temperature", "window": "24h"}
        worst = math.nan
        for bound in (-50, *range(4, 24)):
            episodes = judged_at({**condition, "above": bound}, at, values, sensor=context(declared_ms=QUARTER))
            if episodes and episodes[-1].status == "firing":
                worst = episodes[-1].peak_value
        return round(worst, 3)

    def test_a_constant_is_its_own(self) -> None:
        assert self.of_day([5.0] * 97) == 5.000

    def test_an_hour_at_25_weighs_more_than_its_24th(self) -> None:
        # 92 × 15 min at 5 °C and 4 × 15 min at 25 °C; their mean is 5.833
        assert self.of_day([5.0] * 93 + [25.0] * 4) == 7.756

    def test_three_hours_at_15(self) -> None:
        # 84 × 15 min at 5 °C and 12 × 15 min at 15 °C
        assert self.of_day([5.0] * 85 + [15.0] * 12) == 7.107

    def test_it_goes_by_time_not_by_readings(self) -> None:
        # 23 h at 5 °C every 15 min and 1 h at 20 °C every minute; by readings it would be 14.010
        at = [n * QUARTER for n in range(93)] + [23 * HOUR + n * MINUTE for n in range(1, 61)]

        assert self.of_day([5.0] * 93 + [20.0] * 60, at) == 6.551

    def test_gaps_have_no_weight(self) -> None:
        # 10 min at 5 °C, 5 h of silence, 10 min at 15 °C: the reading after the silence stands for no time
        condition = {"type": "mean_kinetic_temperature", "window": "24h", "above": 10.0}
        [one] = judged(condition, [5.0] * 11 + [SILENT] * 299 + [15.0] * 11)
        kinetic = 10_000 / -math.log((math.exp(-10_000 / 278.15) + math.exp(-10_000 / 288.15)) / 2) - 273.15

        assert (round(one.peak_value, 6), one.peak_at_ms) == (round(kinetic, 6), 320 * MINUTE)

    def test_one_reading_says_nothing_of_time(self) -> None:
        assert judged({"type": "mean_kinetic_temperature", "window": "24h", "above": 8}, [50]) == []

    def test_a_constant_is_not_above_itself(self) -> None:
        values = [8.0] * 50 + [7.3] * 50 + [5.3] * 300

        assert judged({"type": "mean_kinetic_temperature", "window": "24h", "above": 8.0}, values) == []


class TestAggregates:
    def aggregate(self, function: str, bound: dict[str, float], values: list[float]) -> list[Episode]:
        return judged({"type": "aggregate", "function": function, "window": "3m", **bound}, values)

    @pytest.mark.parametrize(
        ("function", "bound", "values", "at", "peak"),
        [
            ("mean", {"above": 7.0}, [6, 6, 9, 9], 3, 8.0),  # (6 + 9 + 9) / 3, the first 6 is 3 min old
            ("min", {"above": 5.0}, [5, 6, 7, 8], 3, 6.0),
            ("max", {"below": 7.0}, [7, 6, 5, 4], 3, 6.0),
            ("count", {"at_or_above": 3}, [1, 1, 1], 2, 3.0),
            ("range", {"above": 3.0}, [5, 5, 7, 9], 3, 4.0),
            ("rate_per_hour", {"above": 60.0}, [5, 5, 5, 8], 3, 90.0),  # 3 in 2 min
        ],
    )
    def test_a_function_of_the_readings_later_than_the_width_before(
        self, function: str, bound: dict[str, float], values: list[float], at: int, peak: float
    ) -> None:
        [one] = self.aggregate(function, bound, values)

        assert (one.fired_at_ms, one.peak_value) == (at * MINUTE, peak)

    def test_readings_of_one_moment_have_no_rate(self) -> None:
        condition = {"type": "aggregate", "function": "rate_per_hour", "window": "3m", "above": 60.0}

        assert judged_at(condition, [MINUTE, MINUTE], [5, 50]) == []

    def test_the_mean_of_equal_readings_is_that_reading(self) -> None:
        # 0.1 + 0.1 + 0.1 is more than 0.3
        assert self.aggregate("mean", {"above": 0.1}, [0.1] * 9) == []

    def test_a_duration_counts_from_the_first_window_that_violates(self) -> None:
        condition = {"type": "aggregate", "function": "mean", "window": "2m", "above": 7, "for": "2m"}

        # means 5, 7, 9, 9, 9, 7
        assert fired(judged(condition, [5, 9, 9, 9, 9, 5])) == [("resolved", 2, 4, 5)]

    def test_hysteresis_is_of_the_mean(self) -> None:
        condition = {"type": "aggregate", "function": "mean", "window": "2m", "above": 7, "clear": {"below": 6}}

        # means 9, 9, 7, 6, 5.5
        assert fired(judged(condition, [9, 9, 5, 7, 4])) == [("resolved", 0, 0, 4)]


class TestExposure:
    """Readings every 15 min; three pieces of 200 min make 10 h."""

    PIECES = ([5.0] + [31.0] * 14 + [5.0] * 30) * 2 + [5.0] + [31.0] * 15 + [5.0]

    def test_ten_hours_in_three_pieces_fire_the_cumulative_rule_and_not_the_continuous_one(self) -> None:
        # pieces of 14, 14 and 15 readings: 13 + 13 + 14 pairs of 15 min are 10 h, at the very last hot reading
        exposure = {"type": "exposure", "at_or_above": 30, "budget": "10h", "within": "60d"}

        [one] = judged(exposure, self.PIECES, step_ms=QUARTER)

        assert fired([one]) == [("firing", 15, 105 * 15, None)]
        assert (one.proven_ms, one.peak_value) == (10 * HOUR, 31.0)
        assert fired(judged({"type": "threshold", "at_or_above": 30, "for": "10h"}, self.PIECES, step_ms=QUARTER)) == []

    def test_what_leaves_the_window_is_forgotten(self) -> None:
        exposure = {"type": "exposure", "above": 8, "budget": "3m", "within": "5m"}

        # hot from 0 to 3; at minute 6 only the part after minute 1 is left of it: 2 min
        assert fired(judged(exposure, [9, 9, 9, 9, 5, 5, 5])) == [("resolved", 0, 3, 6)]

    def test_a_pair_at_the_edge_counts_with_the_part_inside(self) -> None:
        exposure = {"type": "exposure", "above": 8, "budget": "90s", "within": "3m"}

        # hot from 0 to 2 min; 1.5 min before minute 3.5 that leaves half a minute of the first pair: 1.5 min
        at = [0, MINUTE, 2 * MINUTE, 200_000, 210_000, 220_000]
        assert fired(judged_at(exposure, at, [9, 9, 9, 5, 5, 5])) == [("resolved", 0, 2, 220_000 / MINUTE)]

    def test_gaps_prove_nothing(self) -> None:
        exposure = {"type": "exposure", "above": 8, "budget": "1h", "within": "30d"}

        assert judged(exposure, [9, 9, *[SILENT] * 300, 9, 9]) == []

    def test_time_outside_the_target_is_no_exposure(self) -> None:
        exposure = {"type": "exposure", "above": 8, "budget": "3m", "within": "1h"}

        # covered from minute 2 on: minutes 2 to 5 count
        assert fired(judged(exposure, [9] * 7, sensor=context(covered_from_ms=2 * MINUTE))) == [("firing", 2, 5, None)]

    def test_outside_the_schedule_a_spent_budget_does_not_hold(self) -> None:
        exposure = {"type": "exposure", "above": 8, "budget": "3m", "within": "1h"}
        schedule = {"weekly": [{"from": "00:00", "to": "00:05"}]}

        assert fired(judged(exposure, [9] * 7, schedule=schedule)) == [("resolved", 0, 3, 5)]


class TestDegreeMinutes:
    def test_the_mean_excess_of_both_ends_counts_for_each_pair(self) -> None:
        condition = {"type": "degree_minutes", "above": 8.0, "budget": 6.0, "within": "1h"}

        # excess 1, 2, 4, 2: pairs of 1.5, 3 and 3 degree-minutes; 4.5 after two, 7.5 after three
        assert fired(judged(condition, [9, 10, 12, 10])) == [("firing", 0, 3, None)]
        assert fired(judged({**condition, "budget": 4.5}, [9, 10, 12, 10])) == [("firing", 0, 2, None)]
        assert judged({**condition, "budget": 7.51}, [9, 10, 12, 10]) == []

    def test_degrees_below_count_as_degrees(self) -> None:
        condition = {"type": "degree_minutes", "below": 2.0, "budget": 6.0, "within": "1h"}

        assert fired(judged(condition, [0, -2, -2])) == [("firing", 0, 2, None)]  # 3 + 4

    def test_thirty_minutes_of_a_tenth_are_three(self) -> None:
        condition = {"type": "degree_minutes", "above": 8.0, "budget": 3.0, "within": "1h"}

        assert fired(judged(condition, [8.1] * 31)) == [("firing", 0, 30, None)]
