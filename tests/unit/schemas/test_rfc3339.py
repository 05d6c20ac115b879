"""Times as text: what is read, what is refused, and that nothing is ever rounded up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.rfc3339 import MAX_LENGTH, MAX_MS, MIN_MS, format_ms, parse

EIGHT_PM = 1_795_377_600_000  # 2026-11-22T20:00:00Z: 20 779 days of 86 400 s since 1970, and 20 h
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ALPHABET = "0123456789-:.+TtZz é"


def read(text: str) -> int | None:
    at_ms, valid = parse([text])
    return int(at_ms[0]) if valid[0] else None


@pytest.mark.parametrize(
    ("text", "at_ms"),
    [
        ("2026-11-22T20:00:00Z", EIGHT_PM),
        ("2026-11-22T20:00:00.000Z", EIGHT_PM),
        ("2026-11-22t20:00:00z", EIGHT_PM),
        ("2026-11-22T20:00:00+00:00", EIGHT_PM),
        ("2026-11-22T20:00:00-00:00", EIGHT_PM),
        ("2026-11-22T21:00:00+01:00", EIGHT_PM),
        ("2026-11-22t10:30:00.000-09:30", EIGHT_PM),
        ("2026-11-23T19:59:00+23:59", EIGHT_PM),
        ("2026-11-22T20:00:00.5Z", EIGHT_PM + 500),
        ("2026-11-22T20:00:00.05Z", EIGHT_PM + 50),
        ("2026-11-22T20:00:00.123456+00:00", EIGHT_PM + 123),
        ("1970-01-01T00:00:00Z", 0),
        ("2000-02-29T00:00:00Z", 951_782_400_000),  # 11 016 days
        ("0001-01-01T00:00:00Z", MIN_MS),
        ("9999-12-31T23:59:59.999Z", MAX_MS),
    ],
)
def test_a_time_with_an_offset_is_read(text: str, at_ms: int) -> None:
    assert read(text) == at_ms


@pytest.mark.parametrize(
    ("text", "at_ms"),
    [
        ("2026-11-22T20:00:00.0009Z", EIGHT_PM),
        ("2026-11-22T20:00:00.999999999Z", EIGHT_PM + 999),
        ("1969-12-31T23:59:59.9999Z", -1),
        ("1969-12-31T23:59:59.0001Z", -1_000),
        ("1969-12-31T23:59:58.9999999999999999999999Z", -1_001),
    ],
)
def test_finer_times_are_floored_also_before_1970(text: str, at_ms: int) -> None:
    assert read(text) == at_ms


def test_a_leap_second_is_the_second_that_follows_it() -> None:
    new_year_2017 = 1_483_228_800_000  # 17 167 days

    assert read("2016-12-31T23:59:60Z") == new_year_2017
    assert read("2016-12-31T23:59:60.250Z") == new_year_2017 + 250
    assert read("2017-01-01T01:59:60+02:00") == new_year_2017
    assert read("2016-12-31T23:58:60Z") is None
    assert read("2016-12-31T22:59:60Z") is None
    assert read("2017-01-01T23:59:60+02:00") is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Z",
        "yesterday",
        "2026-11-22",
        "2026-11-22T20:00:00",
        "2026-11-22T20:00:00.000",
        "2026-11-22 20:00:00Z",
        "2026-11-22T20:00Z",
        "2026-11-22T20:00:00.Z",
        "2026-11-22T20:00:00,000Z",
        "2026-11-22T20:00:00+01",
        "2026-11-22T20:00:00+0100",
        "2026-11-22T20:00:00+01:0",
        "2026-11-22T20:00:00.+01:00",
        "2026-11-22T20:00:00+24:00",
        "2026-11-22T20:00:00+01:60",
        "2026-11-22T20:00:00*01:00",
        "2026-11-22T20:00:00+01.00",
        "2026-11-22T24:00:00Z",
        "2026-11-22T20:60:00Z",
        "2026-11-22T20:00:61Z",
        "2026-00-22T20:00:00Z",
        "2026-13-22T20:00:00Z",
        "2026-11-00T20:00:00Z",
        "2026-11-31T20:00:00Z",
        "2026-02-29T20:00:00Z",
        "2100-02-29T20:00:00Z",
        "2026/11/22T20:00:00Z",
        "2026-11-22T20-00-00Z",
        "2026-11-2:T20:00:00Z",
        "2026-11-22T20:00:0/Z",
        "2026-11-22T20:00:00ZZ",
        " 2026-11-22T20:00:00Z",
        "2026-11-22T20:00:00Z\n",
        "+2026-11-22T20:00:00Z",
        "12026-11-22T20:00:00Z",
        "٢٠٢٦-11-22T20:00:00Z",
        "2026-11-22T20:00:00.00é",
        "0000-12-31T00:00:00Z",
        "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
        "9999-12-31T23:59:60Z",
        "2026-W47-7T20:00:00Z",
    ],
)
def test_anything_else_is_no_time(text: str) -> None:
    assert read(text) is None


@pytest.mark.parametrize("text", ["2026-11-22T20:00:00.000Z", "2026-11-22T20:00:00.000+00:00", "2026-11-22T20:00:00Z"])
@pytest.mark.parametrize("wrong", ["/", ":", ".", "T", "Z", "é"])
def test_no_character_can_be_another(text: str, wrong: str) -> None:
    changed = [text[:place] + wrong + text[place + 1 :] for place in range(len(text)) if text[place] != wrong]

    assert not parse(changed)[1].any()


def test_a_fraction_may_have_as_many_digits_as_the_longest_text_holds() -> None:
    head = "2026-11-22T20:00:00."  # 20 characters, then 43 digits and Z make 64

    assert read(head + "9" * 43 + "Z") == EIGHT_PM + 999
    assert read(head + "9" * 44 + "Z") is None
    assert MAX_LENGTH == 64


def test_no_texts_give_no_times() -> None:
    at_ms, valid = parse([])

    assert len(at_ms) == len(valid) == 0


@given(
    st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30)),  # noqa: DTZ001 - the zone is drawn below
    st.integers(-1439, 1439),
)
def test_every_time_of_every_zone_is_floored_as_exact_arithmetic_does(local: datetime, offset_minutes: int) -> None:
    time = local.replace(tzinfo=timezone(timedelta(minutes=offset_minutes)))
    microseconds = (time - EPOCH) // timedelta(microseconds=1)

    assert read(time.isoformat(timespec="microseconds")) == microseconds // 1_000


@given(st.integers(MIN_MS, MAX_MS))
def test_what_is_written_is_read_again(at_ms: int) -> None:
    text = format_ms(at_ms)

    assert len(text) == len("2026-11-22T20:00:00.000Z")
    assert read(text) == at_ms


@given(st.lists(st.text(ALPHABET, max_size=30) | st.integers(MIN_MS, MAX_MS).map(format_ms), max_size=8))
def test_a_text_is_judged_alone_whatever_stands_beside_it(texts: list[str]) -> None:
    at_ms, valid = parse(texts)

    assert [int(at) if ok else None for at, ok in zip(at_ms, valid, strict=True)] == [read(text) for text in texts]


def test_texts_that_only_together_look_like_times_are_none() -> None:
    time = "2026-11-22T20:00:00Z"

    assert not parse([time[:-1], "Z" + time])[1].any()  # 19 and 21 characters: 40, as two times have


@pytest.mark.parametrize("at_ms", [MIN_MS - 1, MAX_MS + 1])
def test_a_time_outside_the_years_1_to_9999_cannot_be_written(at_ms: int) -> None:
    with pytest.raises(ValueError, match="years 0001 to 9999"):
        format_ms(at_ms)
