"""Times and durations on the API's surface."""

from __future__ import annotations

import pytest

from api.errors import Problem
from api.times import format_duration, format_instants, parse_instant, window

EVENING = 1_795_377_600_000  # 2026-11-22T20:00:00.000Z
DAY = 86_400_000


class TestParseInstant:
    @pytest.mark.parametrize(
        ("text", "at_ms"),
        [
            ("2026-11-22T20:00:00Z", EVENING),
            ("2026-11-22t20:00:00.000z", EVENING),
            ("2026-11-22T21:30:00+01:30", EVENING),
            ("2026-11-22T12:00:00-08:00", EVENING),
            ("2026-11-22T20:00:00.1239Z", EVENING + 123),
        ],
    )
    def test_rfc_3339_with_any_offset_is_read_and_finer_times_are_floored(self, text: str, at_ms: int) -> None:
        assert parse_instant(text, "start") == at_ms

    def test_a_plus_that_arrived_as_a_space_is_a_plus(self) -> None:
        assert parse_instant("2026-11-22T21:30:00 01:30", "start") == EVENING

    @pytest.mark.parametrize(
        "text", ["", "now", "2026-11-22T20:00:00", "2026-11-22", "1795377600000", "2026-02-30T00:00:00Z"]
    )
    def test_anything_else_is_refused_by_the_parameters_name(self, text: str) -> None:
        with pytest.raises(Problem) as refusal:
            parse_instant(text, "end")

        assert refusal.value.status == 422
        assert refusal.value.errors[0]["parameter"] == "end"


class TestFormatInstants:
    def test_every_time_has_milliseconds_and_z(self) -> None:
        assert format_instants([EVENING, EVENING + 7]) == ["2026-11-22T20:00:00.000Z", "2026-11-22T20:00:00.007Z"]

    def test_no_times_no_texts(self) -> None:
        assert format_instants([]) == []


class TestFormatDuration:
    @pytest.mark.parametrize(
        ("duration_ms", "text"),
        [
            (60_000, "1m"),
            (90_000, "1m30s"),
            (250, "250ms"),
            (86_400_000 * 30, "30d"),
            (3_661_001, "1h1m1s1ms"),
            (0, "0s"),
        ],
    )
    def test_as_prometheus_writes_it(self, duration_ms: int, text: str) -> None:
        assert format_duration(duration_ms) == text


class TestWindow:
    def test_the_last_24_hours_by_default(self) -> None:
        assert window(None, None, EVENING) == (EVENING - DAY, EVENING)

    def test_24_hours_before_an_end_that_is_given(self) -> None:
        assert window(None, "2026-11-22T20:00:00Z", EVENING + 5 * DAY) == (EVENING - DAY, EVENING)

    def test_until_now_from_a_start_that_is_given(self) -> None:
        assert window("2026-11-22T20:00:00Z", None, EVENING + 5) == (EVENING, EVENING + 5)

    def test_an_interval_may_be_empty(self) -> None:
        assert window("2026-11-22T20:00:00Z", "2026-11-22T20:00:00.000Z", EVENING) == (EVENING, EVENING)

    def test_an_end_before_the_start_is_refused(self) -> None:
        with pytest.raises(Problem, match="is after end"):
            window("2026-11-22T20:00:00Z", "2026-11-22T19:59:59.999Z", EVENING)

    def test_the_first_day_of_all_has_no_24_hours_before_it(self) -> None:
        assert window(None, "0001-01-01T01:00:00Z", EVENING) == (-62_135_596_800_000, -62_135_593_200_000)
