"""Each scenario shows the fault that it is named after, and only on the devices that have it."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from ops.simulator.fleet import Emission, Fleet
from ops.simulator.scenarios import SCENARIOS, Incident, find_scenario
from schemas.readings import encode_record

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
START_MS = 1_763_899_200_000  # 2025-11-23T12:00:00Z
TEN_SECONDS_NS = 10_000_000_000
FIVE_MINUTES_NS = 300_000_000_000


@cache
def run(scenario: str, minutes: float, *, devices: int = 6, seed: int = 1) -> list[Emission]:
    fleet = Fleet(seed, 1, devices, scenario=SCENARIOS[scenario], origin_ms=START_MS, interval_ns=TEN_SECONDS_NS)
    return list(fleet.emissions(START_MS, START_MS + int(minutes * MINUTE_MS)))


def air(emitted: list[Emission], device: int) -> list[tuple[float, float]]:
    """(minutes since the start, °C) of one device's air probe."""
    return [
        ((at - START_MS) / MINUTE_MS, value)
        for each in emitted
        if each.device == device
        for name, at, value, _ in each.readings
        if name == "air"
    ]


def is_faultless(emitted: list[Emission]) -> bool:
    return not any(each.late or each.copy for each in emitted)


class TestScenarios:
    def test_the_named_ones_exist_and_mixed_is_the_first(self) -> None:
        assert list(SCENARIOS) == [
            "mixed",
            "normal",
            "warm-fridge",
            "compressor-failure",
            "door-left-open",
            "dead-sensor",
            "late-upload",
            "duplicates",
            "clock-errors",
        ]

    def test_an_unknown_name_is_refused_with_the_known_ones(self) -> None:
        with pytest.raises(ValueError, match=r"no scenario is named 'hot'; expected one of mixed, normal"):
            find_scenario("hot")

    def test_normal_has_no_faults(self) -> None:
        emitted = run("normal", 30)

        assert is_faultless(emitted)
        assert len(emitted) == 6 * 30 * 6
        assert all(0 <= each.send_at_ms - each.readings[0][1] <= 1500 for each in emitted)

    def test_the_warm_fridge_exceeds_8_degrees_within_five_minutes(self) -> None:
        values = air(run("warm-fridge", 10), 0)

        assert max(value for minute, value in values if minute < 0.5) < 8
        assert max(value for minute, value in values if minute < 5) > 8

    def test_a_single_device_shows_the_warm_fridge_too(self) -> None:
        assert air(run("warm-fridge", 10, devices=1), 0) == air(run("warm-fridge", 10), 0)

    def test_the_failed_compressor_warms_by_the_hour(self) -> None:
        values = air(run("compressor-failure", 60), 0)

        assert values[-1][1] > values[0][1] + 2

    def test_the_open_door_is_felt_within_minutes(self) -> None:
        emitted = run("door-left-open", 60)

        assert max(value for minute, value in air(emitted, 0) if minute < 5) > 10
        assert min(value for minute, value in air(emitted, 0) if minute > 50) < 9

    def test_the_dead_probe_falls_silent_and_its_device_does_not(self) -> None:
        emitted = run("dead-sensor", 30)

        assert max(minute for minute, _ in air(emitted, 0)) < 0.5
        assert len(air(emitted, 1)) == 30 * 6
        assert [name for name, *_ in [each for each in emitted if each.device == 0][-1].readings] == [
            "product",
            "battery",
        ]

    def test_the_stuck_probe_repeats_one_value(self) -> None:
        later = [value for minute, value in air(run("dead-sensor", 30), 3) if minute > 1]

        assert len(set(later)) == 1
        assert len({value for minute, value in air(run("normal", 30), 3) if minute > 1}) > 5


class TestLateUpload:
    def test_late_readings_keep_the_times_at_which_they_were_taken(self) -> None:
        emitted = run("late-upload", 1)

        late = [each for each in emitted if each.late and each.device == 0]

        # Out of reach from 40 min before the start to 3 s after it: 2403 s at one sample in 10 s.
        assert len(late) == 240
        assert late[0].readings[0][1] < START_MS - 39 * MINUTE_MS
        assert all(each.send_at_ms >= START_MS + 3_000 for each in late)
        assert [each.readings[0][1] for each in late] == sorted(each.readings[0][1] for each in late)
        assert all(each.readings[0][1] < each.sent_at_ms for each in late)

    def test_the_same_values_as_with_a_working_radio(self) -> None:
        late = {row for each in run("late-upload", 30) if each.device == 0 for row in each.readings}
        prompt = {row for each in run("normal", 30) if each.device == 0 for row in each.readings}

        assert prompt - late == set()

    def test_nothing_is_lost_within_the_buffer(self) -> None:
        # Three days every five minutes, losses of up to 5 h in half of all quarters: every sample arrives once.
        fleet = Fleet(3, 1, 6, scenario=SCENARIOS["late-upload"], origin_ms=START_MS, interval_ns=FIVE_MINUTES_NS)
        emitted = list(fleet.emissions(START_MS, START_MS + 3 * 24 * HOUR_MS))

        waits = [each.send_at_ms - each.readings[0][1] for each in emitted if each.late]
        taken = sorted({each.readings[0][1] for each in emitted if each.device == 5})

        assert max(waits) > 2 * HOUR_MS
        assert len(taken) == sum(each.device == 5 for each in emitted)
        assert set(np.diff(taken)) == {5 * MINUTE_MS}

    def test_a_full_buffer_stops_recording(self) -> None:
        # Ten samples a second fill 4 000 places in 400 s; the loss lasts 2403 s.
        fleet = Fleet(1, 1, 1, scenario=SCENARIOS["late-upload"], origin_ms=START_MS, interval_ns=100_000_000)

        late = [each for each in fleet.emissions(START_MS, START_MS + 60_000) if each.late]

        assert sum(len(each.readings) for each in late) == 4000 * 3
        assert late[-1].readings[-1][1] - late[0].readings[0][1] == 3999 * 100


class TestDuplicates:
    def test_copies_have_the_same_bytes(self) -> None:
        emitted = run("duplicates", 60)

        originals = {encode_record(each.readings, each.sent_at_ms) for each in emitted if not each.copy}
        copies = [encode_record(each.readings, each.sent_at_ms) for each in emitted if each.copy]

        assert set(copies[10:]) <= originals  # the first ones repeat what was sent before the start
        assert len(copies) / len(originals) == pytest.approx(0.2, abs=0.03)

    def test_a_copy_follows_within_half_a_minute(self) -> None:
        emitted = run("duplicates", 60)
        first = {(each.device, each.readings[0][1]): each.send_at_ms for each in emitted if not each.copy}

        waits = [
            each.send_at_ms - first[each.device, each.readings[0][1]]
            for each in emitted
            if each.copy and (each.device, each.readings[0][1]) in first
        ]

        assert 5_000 <= min(waits) <= max(waits) <= 30_000


class TestClockErrors:
    @pytest.mark.parametrize(
        ("device", "error_s"),
        [(2, -180.0), (3, 600.0), (4, 120.0), (5, 0.0)],
        ids=["slow", "so far ahead that it is quarantined", "ahead within tolerance", "right"],
    )
    def test_a_skewed_clock_is_wrong_by_a_constant(self, device: int, error_s: float) -> None:
        wrong = [at for at, _ in air(run("clock-errors", 5), device)]
        right = [at for at, _ in air(run("normal", 5), device)]

        assert np.subtract(wrong, right) * 60 == pytest.approx(error_s)

    def test_the_first_device_steps_back_by_90_seconds_after_two_minutes(self) -> None:
        times = [at * 60 for at, _ in air(run("clock-errors", 5), 0)]

        steps = np.diff(times)

        assert sorted(steps)[0] == pytest.approx(10 - 90)
        assert sorted(steps)[1] == pytest.approx(10)

    def test_the_second_device_loses_six_seconds_a_day(self) -> None:
        # 69 ppm of 86 400 s are 5.96 s, taken back once a week.
        fleet = Fleet(1, 1, 2, scenario=SCENARIOS["clock-errors"], origin_ms=START_MS)
        errors = [fleet._clocks.shown_ms(np.array([1]), np.array([START_MS + day * 86_400_000]))[0] for day in range(8)]

        drift_s = np.diff([error - START_MS - day * 86_400_000 for day, error in enumerate(errors)]) / 1000

        assert sorted(drift_s)[:6] == pytest.approx([-5.96] * 6, abs=0.01)
        assert sorted(drift_s)[6] == pytest.approx(6 * 5.96, abs=0.05)


class TestMixed:
    def test_three_days_of_twelve_devices_have_a_bit_of_everything(self) -> None:
        fleet = Fleet(1, 1, 12, scenario=SCENARIOS["mixed"], origin_ms=START_MS, interval_ns=FIVE_MINUTES_NS)
        emitted = list(fleet.emissions(START_MS, START_MS + 3 * 24 * HOUR_MS))

        total = len(emitted)

        assert 0.005 < sum(each.late for each in emitted) / total < 0.10
        assert 0.010 < sum(each.copy for each in emitted) / total < 0.02
        assert any(len(each.readings) == 2 for each in emitted), "no probe died"
        assert any(name == "air" and 9 < value < 16 for each in emitted for name, _, value, _ in each.readings)

    def test_each_incident_happens_as_often_as_its_share_says(self) -> None:
        # 600 devices for a day, every 4 min, the length of the shortest incident: 18 to 36 of each are expected.
        incidents = Fleet(1, 1, 600, scenario=SCENARIOS["mixed"], origin_ms=START_MS)._incidents
        times = START_MS + np.arange(0, 24 * 60, 4, dtype=np.int64) * MINUTE_MS

        masks = incidents.on_grid(times)

        for incident, chance in SCENARIOS["mixed"].chances.items():
            struck = masks[incident].any(axis=0).sum()
            assert struck == pytest.approx(600 * chance.share, rel=0.5), incident

    def test_one_sample_is_judged_as_the_grid_is(self) -> None:
        incidents = Fleet(1, 1, 60, scenario=SCENARIOS["mixed"], origin_ms=START_MS)._incidents
        times = START_MS + np.arange(0, 24 * 60, 10, dtype=np.int64) * MINUTE_MS
        device, time = np.broadcast_arrays(np.arange(60), times[:, None])

        masks = incidents.on_grid(times)

        for incident in Incident:
            assert np.array_equal(incidents.at(incident, device, time), masks[incident])
            assert masks[incident].any()

    def test_a_second_run_over_the_same_hours_repeats_the_readings(self) -> None:
        # Its faults do not depend on when the run began, so what it sends again are duplicates, not conflicts.
        early, late = (
            Fleet(1, 1, 6, scenario=SCENARIOS["mixed"], origin_ms=origin)
            for origin in (START_MS, START_MS + 5 * HOUR_MS)
        )
        span = (START_MS + 3 * HOUR_MS, START_MS + 9 * HOUR_MS)

        assert list(early.emissions(*span)) == list(late.emissions(*span))
