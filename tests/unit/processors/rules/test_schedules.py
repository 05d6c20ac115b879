"""Schedules keep local hours over the changes of clocks."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from processors.rules.places import Place, Whereabouts
from processors.rules.schedules import in_schedule, utc_offsets_ms
from tests.unit.processors.rules.judging import HOUR, MINUTE, context, rule

BERLIN = "Europe/Berlin"


def judges(schedule: dict[str, object], *moments: str) -> list[bool]:
    parsed = rule({"type": "threshold", "above": 8}, schedule=schedule).schedule
    at = np.array([round(datetime.fromisoformat(one).timestamp() * 1000) for one in moments], np.int64)
    inside: list[bool] = in_schedule(parsed, at, context()).tolist()
    return inside


def weekly(start: str, end: str, *days: str, zone: str = BERLIN) -> dict[str, object]:
    return {
        "timezone": zone,
        "weekly": [{"days": list(days), "from": start, "to": end} if days else {"from": start, "to": end}],
    }


def test_without_a_schedule_every_moment_is_judged() -> None:
    assert in_schedule(None, np.array([0, 1 << 40], np.int64), context()).tolist() == [True, True]


def test_a_span_is_half_open_on_its_days() -> None:
    moments = [
        "2026-11-02T05:59:59.999+01:00",
        "2026-11-02T06:00+01:00",
        "2026-11-02T22:00+01:00",
        "2026-11-03T12:00+01:00",
    ]

    assert judges(weekly("06:00", "22:00", "mon"), *moments) == [False, True, False, False]


def test_a_span_past_midnight_belongs_to_the_day_it_starts_on() -> None:
    saturday_night = weekly("22:00", "06:00", "sat")

    # 2026-11-07 is a Saturday
    assert judges(saturday_night, "2026-11-07T03:00+01:00", "2026-11-07T23:00+01:00") == [False, True]
    assert judges(saturday_night, "2026-11-08T05:59+01:00", "2026-11-08T06:00+01:00") == [True, False]


def test_24_00_is_the_end_of_the_day() -> None:
    assert judges(weekly("00:00", "24:00", "mon"), "2026-11-02T23:59+01:00", "2026-11-03T00:00+01:00") == [True, False]


def test_six_in_the_morning_stays_six_when_clocks_go_forward_and_back() -> None:
    morning = weekly("06:00", "07:00")

    # Berlin is UTC+1 until 2026-03-29 01:00 UTC and from 2026-10-25 01:00 UTC
    assert judges(morning, "2026-03-28T05:00Z", "2026-03-29T05:00Z", "2026-03-29T04:00Z") == [True, False, True]
    assert judges(morning, "2026-10-24T04:00Z", "2026-10-25T04:00Z", "2026-10-25T05:00Z") == [True, False, True]


def test_the_hour_that_repeats_is_judged_twice_and_the_one_that_is_skipped_not_at_all() -> None:
    two_to_three = weekly("02:00", "03:00")

    assert judges(two_to_three, "2026-10-25T00:30Z", "2026-10-25T01:30Z") == [True, True]
    assert judges(two_to_three, "2026-03-29T00:59:59Z", "2026-03-29T01:00Z") == [False, False]


@pytest.mark.parametrize(
    "zone", [BERLIN, "America/St_Johns", "Australia/Lord_Howe", "Pacific/Apia", "Africa/Casablanca"]
)
def test_offsets_are_those_of_the_time_zone_database_at_every_quarter_of_an_hour(zone: str) -> None:
    start = 1_767_225_600_000  # 2026-01-01
    at = np.arange(start, start + 365 * 24 * HOUR, 15 * MINUTE)
    expected = [
        round(datetime.fromtimestamp(one / 1000, ZoneInfo(zone)).utcoffset().total_seconds() * 1000)  # type: ignore[union-attr]
        for one in at.tolist()
    ]

    assert utc_offsets_ms(ZoneInfo(zone), at).tolist() == expected


def test_a_schedule_without_a_time_zone_is_in_that_of_the_site_at_each_time() -> None:
    parsed = rule({"type": "threshold", "above": 8}, schedule={"weekly": [{"from": "06:00", "to": "07:00"}]}).schedule
    moments = [datetime.fromisoformat(f"2026-11-02T{hour:02}:30Z").timestamp() * 1000 for hour in (5, 6, 11, 21)]
    at = np.array(moments, np.int64)
    moved = [Place(int(at[1]), timezone=BERLIN), Place(int(at[2]), timezone="America/New_York")]

    # 06:30 in New York is 11:30 UTC; Berlin's 06:30 at 05:30 UTC was before the move there
    assert in_schedule(parsed, at, Whereabouts("s", moved).context(None)).tolist() == [False, False, True, False]
    assert in_schedule(parsed, at, Whereabouts("s", [Place(0, timezone=BERLIN)]).context(None)).tolist() == [
        True,
        False,
        False,
        False,
    ]
    assert in_schedule(parsed, at, Whereabouts("s", []).context(None)).tolist() == [False, True, False, False]
