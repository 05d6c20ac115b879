"""The laws of `Fleet.emissions`: a function of seed and span, however the span is cut and however often it is asked."""

from __future__ import annotations

from itertools import pairwise

import pytest

from ops.simulator.fleet import Emission, Fleet, interval_for
from ops.simulator.scenarios import SCENARIOS

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
NOON_MS = 1_763_899_200_000  # 2025-11-23T12:00:00Z
MINUTE_NS = 60_000_000_000


def fleet(
    scenario: str = "mixed",
    *,
    seed: int = 1,
    tenants: int = 1,
    devices: int = 6,
    origin_ms: int = NOON_MS,
    interval_ns: int = MINUTE_NS,
) -> Fleet:
    return Fleet(seed, tenants, devices, scenario=SCENARIOS[scenario], origin_ms=origin_ms, interval_ns=interval_ns)


def emissions(source: Fleet, *cuts_ms: int) -> list[Emission]:
    return [emission for start, end in pairwise(cuts_ms) for emission in source.emissions(start, end)]


class TestEmissions:
    def test_the_same_seed_and_span_give_the_same_emissions(self) -> None:
        span = (NOON_MS, NOON_MS + 2 * HOUR_MS)

        assert emissions(fleet(seed=5), *span) == emissions(fleet(seed=5), *span)
        assert emissions(fleet(seed=5), *span) != emissions(fleet(seed=6), *span)

    @pytest.mark.parametrize("scenario", ["mixed", "late-upload", "dead-sensor"])
    def test_cutting_a_span_changes_nothing(self, scenario: str) -> None:
        # Odd cuts: 1 ms, 17 s, across the hour of the thermal grid, and a fleet that never saw the first parts.
        end = NOON_MS + 2 * HOUR_MS
        cuts = (NOON_MS + 1, NOON_MS + 17_001, NOON_MS + 59 * MINUTE_MS + 3, NOON_MS + 100 * MINUTE_MS)

        whole = emissions(fleet(scenario), NOON_MS, end)

        assert emissions(fleet(scenario), NOON_MS, *cuts, end) == whole
        assert emissions(fleet(scenario), NOON_MS, cuts[2]) + emissions(fleet(scenario), cuts[2], end) == whole

    def test_a_cut_after_a_night_changes_nothing(self) -> None:
        # From 22:00 to 12:10 UTC; the second fleet's run-in begins only in the night between, at 23:00 to 03:00.
        start, cut, end = NOON_MS + 10 * HOUR_MS, NOON_MS + 24 * HOUR_MS, NOON_MS + 24 * HOUR_MS + 10 * MINUTE_MS

        whole = emissions(fleet(tenants=3), start, end)

        assert [each for each in whole if each.send_at_ms >= cut] == emissions(fleet(tenants=3), cut, end)

    def test_a_cut_long_after_a_lasting_failure_changes_nothing(self) -> None:
        # 34 h later two nights have passed, in which healthy units start afresh and the failed ones must not.
        cut, end = NOON_MS + 34 * HOUR_MS, NOON_MS + 34 * HOUR_MS + 10 * MINUTE_MS

        whole = emissions(fleet("compressor-failure"), NOON_MS, end)

        assert [each for each in whole if each.send_at_ms >= cut] == emissions(fleet("compressor-failure"), cut, end)

    def test_a_cut_within_a_burst_of_a_thousand_readings_a_second_changes_nothing(self) -> None:
        # 6 devices x 3 sensors at 1 800/s: an interval of 10 ms, 100 samples a record.
        interval_ns = interval_for(1_800, 6)

        whole = emissions(fleet(interval_ns=interval_ns), NOON_MS, NOON_MS + 4_000)
        cut = emissions(fleet(interval_ns=interval_ns), NOON_MS, NOON_MS + 333, NOON_MS + 1_777, NOON_MS + 4_000)

        assert cut == whole
        assert all(len(each.readings) == 300 for each in whole if not each.copy)

    def test_a_caller_that_stopped_half_way_may_ask_again(self) -> None:
        source = fleet()
        first = emissions(source, NOON_MS - 5 * MINUTE_MS, NOON_MS)
        next(source.emissions(NOON_MS, NOON_MS + HOUR_MS))

        again = emissions(source, NOON_MS, NOON_MS + HOUR_MS)

        assert first + again == emissions(fleet(), NOON_MS - 5 * MINUTE_MS, NOON_MS + HOUR_MS)

    def test_emissions_are_ordered_by_time_of_sending_within_the_span(self) -> None:
        sent = [each.send_at_ms for each in emissions(fleet("late-upload"), NOON_MS, NOON_MS + HOUR_MS)]

        assert sent == sorted(sent)
        assert sent[0] >= NOON_MS
        assert sent[-1] < NOON_MS + HOUR_MS

    def test_more_devices_leave_the_first_ones_as_they_were(self) -> None:
        few = emissions(fleet(tenants=2, devices=2), NOON_MS, NOON_MS + HOUR_MS)
        many = emissions(fleet(tenants=3, devices=5), NOON_MS, NOON_MS + HOUR_MS)

        # Device 2 of the small fleet is the first of the second tenant, as is device 5 of the large one.
        assert bodies(few, 2) == bodies(many, 5)
        assert bodies(few, 1) == bodies(many, 1)
        assert bodies(few, 0) != bodies(few, 2)

    def test_once_a_minute_repeats_what_was_sent_every_ten_seconds(self) -> None:
        span = (NOON_MS, NOON_MS + HOUR_MS)

        minutely = {row for each in emissions(fleet("normal"), *span) for row in each.readings}
        often = {row for each in emissions(fleet("normal", interval_ns=10_000_000_000), *span) for row in each.readings}

        assert len(often) == 6 * len(minutely) == 6 * 6 * 3 * 60
        # The first sample of the hour may have been sent before it, the last after it: radio takes up to 1.5 s.
        assert len(minutely - often) <= 3


def bodies(emitted: list[Emission], device: int) -> list[object]:
    return [(each.send_at_ms, each.readings) for each in emitted if each.device == device]


class TestReadings:
    def test_each_device_reports_three_sensors_a_minute(self) -> None:
        emitted = emissions(fleet("normal"), NOON_MS, NOON_MS + HOUR_MS)

        assert len(emitted) == 6 * 60
        assert {name for each in emitted for name, *_ in each.readings} == {"air", "product", "humidity", "battery"}
        assert [name for name, *_ in emitted[0].readings] == list(fleet().sensor_names(emitted[0].device))

    def test_values_come_in_steps_of_a_tenth(self) -> None:
        values = [row[2] for each in emissions(fleet(), NOON_MS, NOON_MS + HOUR_MS) for row in each.readings]

        assert all(value == round(value, 1) for value in values)

    def test_no_two_samples_share_an_identity_even_at_a_million_a_second(self) -> None:
        # 6 x 3 / 1 000 000 s = 18 us between samples, so some 55 share each millisecond.
        emitted = emissions(fleet("clock-errors", interval_ns=interval_for(1e6, 6)), NOON_MS, NOON_MS + 20)

        identities = [(each.device, name, at, seq) for each in emitted for name, at, _, seq in each.readings]

        assert len(identities) > 10_000
        assert len(set(identities)) == len(identities)
        assert all(0 <= seq < 2**31 for *_, seq in identities)

    def test_a_clock_set_back_repeats_times_but_no_identity(self) -> None:
        # Every 10 s, and 90 s back after two minutes: nine samples of each sensor carry times that were used before.
        source = fleet("clock-errors", interval_ns=10_000_000_000)
        rows = [
            row for each in emissions(source, NOON_MS, NOON_MS + 300_000) if each.device == 0 for row in each.readings
        ]

        air = [(at, seq) for name, at, _, seq in rows if name == "air"]

        assert len(air) - len({at for at, _ in air}) == 9
        assert len(set(air)) == len(air)

    @pytest.mark.parametrize(("rate", "devices"), [(2.0, 1), (500.0, 7), (30_000.0, 40)])
    def test_the_rate_is_reached_across_devices(self, rate: float, devices: int) -> None:
        source = fleet("normal", devices=devices, interval_ns=interval_for(rate, devices))

        readings = sum(len(each.readings) for each in emissions(source, NOON_MS, NOON_MS + 10_000))

        # At most one record per device more or less than 10 s hold.
        assert readings == pytest.approx(10 * rate, rel=0.1)

    @pytest.mark.parametrize("rate", [0.0, -1.0, 1e10])
    def test_an_impossible_rate_is_refused(self, rate: float) -> None:
        with pytest.raises(ValueError, match=r"rate must be above 0|too many for 1 devices"):
            interval_for(rate, 1)

    @pytest.mark.parametrize(("tenants", "devices"), [(0, 1), (1, 0), (1, 2_000_000)])
    def test_an_impossible_number_of_devices_is_refused(self, tenants: int, devices: int) -> None:
        with pytest.raises(ValueError, match="expected at least one tenant"):
            fleet(tenants=tenants, devices=devices)
