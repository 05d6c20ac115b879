"""Simulated units behave as fridges, freezers and rooms do."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

import numpy as np
import pytest

from ops.simulator.fleet import Fleet
from ops.simulator.scenarios import SCENARIOS
from ops.simulator.thermal import Trajectories
from ops.simulator.units import Kind

HOUR_MS = 3_600_000
MIDNIGHT_MS = 1_763_856_000_000  # 2025-11-23T00:00:00Z
Series = dict[tuple[int, str], list[tuple[int, float]]]


def series(scenario: str, hours: float, *, origin_ms: int = MIDNIGHT_MS, tenants: int = 1, seed: int = 1) -> Series:
    """(at, value) by device and sensor, in order of time; six devices per tenant."""
    fleet = Fleet(seed, tenants, 6, scenario=SCENARIOS[scenario], origin_ms=origin_ms)
    found: Series = defaultdict(list)
    for emission in fleet.emissions(origin_ms, origin_ms + int(hours * HOUR_MS)):
        for name, at, value, _ in emission.readings:
            found[emission.device, name].append((at, value))
    return {key: sorted(rows) for key, rows in found.items()}


@pytest.fixture(scope="module")
def normal_day() -> Series:
    """24 h of 4 kitchens: 12 fridges, 8 freezers, 4 rooms."""
    return series("normal", 24, tenants=4)


def of_kind(day: Series, sensor: str, *slots: int) -> list[list[float]]:
    return [
        [value for _, value in rows] for (device, name), rows in day.items() if name == sensor and device % 6 in slots
    ]


class TestNormalDay:
    def test_every_fridge_stays_within_0_and_8_degrees_for_99_percent_of_the_day(self, normal_day: Series) -> None:
        fridges = of_kind(normal_day, "air", 0, 3, 5)

        assert len(fridges) == 12
        for values in fridges:
            assert sum(0 <= value <= 8 for value in values) > 0.99 * 1440
            assert 3.5 < np.mean(values) < 5.0

    def test_every_freezer_stays_below_minus_15_for_95_percent_of_the_day(self, normal_day: Series) -> None:
        freezers = of_kind(normal_day, "air", 1, 4)

        assert len(freezers) == 8
        for values in freezers:
            assert sum(value < -15 for value in values) > 0.95 * 1440
            assert -21 < np.mean(values) < -18

    def test_a_compressor_starts_once_or_twice_an_hour(self, normal_day: Series) -> None:
        # Device 0 at night, 03:00 to 06:00 UTC, between its first two defrosts: a saw-tooth between 3 and 5 °C.
        night = [value for _, value in normal_day[0, "air"]][180:360]

        rises = sum(before < 4.0 <= after for before, after in pairwise(smoothed(night)))

        assert 3 <= rises <= 6
        assert 2.5 < min(night) < max(night) < 5.6

    def test_a_defrost_warms_the_freezer_three_or_four_times_a_day(self, normal_day: Series) -> None:
        # Its product probe tells them from door openings, which are too short to reach it.
        values = smoothed([value for _, value in normal_day[1, "product"]])

        bumps = sum(before < -18.0 <= after for before, after in pairwise(values))

        assert 3 <= bumps <= 4

    def test_doors_are_opened_by_day_and_shut_at_night(self, normal_day: Series) -> None:
        # A door is a jump of a degree within a minute. Tenant 0's local time is UTC.
        rows = normal_day[0, "air"]
        jumps = [at for (at, before), (_, after) in pairwise(rows) if after - before > 1.0]
        hours = [(at - MIDNIGHT_MS) / HOUR_MS for at in jumps]

        assert len(hours) > 10
        assert all(6 <= hour < 22 for hour in hours)

    def test_the_product_is_steadier_than_the_air(self, normal_day: Series) -> None:
        air = [value for _, value in normal_day[0, "air"]]
        product = [value for _, value in normal_day[0, "product"]]

        assert np.std(product) < 0.7 * np.std(air)

    def test_a_room_follows_the_day_around_20_degrees_and_dries_as_it_warms(self, normal_day: Series) -> None:
        air = np.array([value for _, value in normal_day[2, "air"]])
        humidity = np.array([value for _, value in normal_day[2, "humidity"]])

        assert 17 < air.min() < air.max() < 24
        assert air[14 * 60 : 16 * 60].mean() > air[2 * 60 : 4 * 60].mean() + 1.0
        assert 30 < humidity.min() < humidity.max() < 75
        assert np.corrcoef(air, humidity)[0, 1] < -0.3

    def test_a_battery_falls_slowly(self) -> None:
        # At the hour, 30 days apart; 95 % in 500 to 1100 days is 2.6 to 5.7 % in 30.
        begin = series("normal", 0.1)
        later = series("normal", 0.1, origin_ms=MIDNIGHT_MS + 30 * 24 * HOUR_MS)

        falls = [begin[device, "battery"][0][1] - later[device, "battery"][0][1] for device in range(6)]

        assert all(2.0 < fall < 6.5 for fall in falls if fall > 0)
        assert sum(fall > 0 for fall in falls) >= 4  # one or two may have been changed


class TestFailures:
    def test_a_failed_compressor_lets_the_unit_warm_slowly_to_ambient(self) -> None:
        failed = series("compressor-failure", 48, origin_ms=MIDNIGHT_MS + 4 * HOUR_MS)
        fridge = [value for _, value in failed[0, "air"]]
        freezer = [value for _, value in failed[1, "air"]]

        # Time constants of 4 and 9 h: not there after an hour, within a few degrees of 18 to 27 °C after 5 of them.
        assert fridge[60] < 12
        assert freezer[60] < -10
        assert 16 < min(fridge[20 * 60 :]) < max(fridge[20 * 60 :]) < 28
        assert 14 < np.mean(freezer[45 * 60 :]) < 28

    def test_other_units_are_not_touched(self) -> None:
        failed, healthy = series("compressor-failure", 6), series("normal", 6)

        assert failed[3, "air"] == healthy[3, "air"]
        assert failed[0, "air"] != healthy[0, "air"]

    def test_a_freezer_recovers_once_its_door_is_shut(self) -> None:
        opened = [value for _, value in series("door-left-open", 3, origin_ms=MIDNIGHT_MS + 4 * HOUR_MS)[1, "air"]]

        assert max(opened[:31]) > -5
        assert opened[150] < -15


class TestTrajectories:
    def test_every_unit_is_at_its_cut_out_when_it_starts_afresh(self) -> None:
        # The claim on which independence of the beginning rests: even on days with incidents the jump is below 0.3 K.
        fleet = Fleet(7, 2, 30, scenario=SCENARIOS["mixed"], origin_ms=MIDNIGHT_MS)
        units, incidents = fleet.units, fleet._incidents
        trajectories = Trajectories(7, units, incidents, MIDNIGHT_MS)
        cooled = np.flatnonzero(units.kind != Kind.ROOM)

        for day in (2, 3):
            before_ms = MIDNIGHT_MS + day * 24 * HOUR_MS + units.anchor_ms[cooled] - 1
            trajectories.keep(int(before_ms.min()), int(before_ms.max()))
            air, _ = trajectories.sample(cooled, before_ms)

            assert np.abs(air - units.cut_out[cooled]).max() < 0.3


def smoothed(values: list[float]) -> list[float]:
    return [float(mean) for mean in np.convolve(values, np.ones(7) / 7, mode="valid")]
