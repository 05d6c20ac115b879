"""What places and devices may be called and hold, and how a wrong field is told."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounts import place_fields
from accounts.place_fields import FieldError, Site, Unit

NOW_MS = 1_795_377_600_000  # 2026-11-22T20:00:00.000Z
MINUTE_MS = 60_000


def refusal(check: Callable[[], object]) -> str:
    """What a check says."""
    with pytest.raises(FieldError) as caught:
        check()
    return str(caught.value)


class TestNames:
    @pytest.mark.parametrize("name", ["x", "Kühlraum 3 (links)", "冷蔵庫", "a" * 128])
    def test_one_readable_line_of_up_to_128_characters_is_a_name(self, name: str) -> None:
        assert place_fields.printable(name, "name") == name

    @pytest.mark.parametrize("name", ["", " ", "a" * 129, "a\nb", "a\0b", "\ud800", "\u202e", 7, None, ["a"]])
    def test_anything_else_is_not(self, name: object) -> None:
        assert "name: found " in refusal(lambda: place_fields.printable(name, "name"))

    @given(st.text())
    def test_a_name_is_kept_as_it_is_or_refused(self, name: str) -> None:
        try:
            assert place_fields.printable(name, "name") == name
        except FieldError:
            assert not name.strip() or len(name) > 128 or not name.isprintable()


class TestTimeZones:
    @pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires"])
    def test_iana_zones_are_known(self, zone: str) -> None:
        assert place_fields.time_zone(zone, "timezone") == zone

    @pytest.mark.parametrize(
        "zone", ["", "Europe", "Mars/Olympus", "../etc/passwd", "/etc/localtime", "europe/berlin\n", 2, None, []]
    )
    def test_nothing_else_is_one(self, zone: object) -> None:
        assert "expected an IANA time zone" in refusal(lambda: place_fields.time_zone(zone, "timezone"))


class TestAttributes:
    def test_numbers_and_short_texts_are_kept(self) -> None:
        held = {"max_celsius": 5, "min_celsius": -1.5, "shelf": "upper", "empty": ""}

        assert place_fields.attributes(held, "attributes") == held

    @pytest.mark.parametrize(
        ("held", "path"),
        [
            ({"a": True}, "attributes.a"),
            ({"a": None}, "attributes.a"),
            ({"a": [1]}, "attributes.a"),
            ({"a": float("nan")}, "attributes.a"),
            ({"a": float("inf")}, "attributes.a"),
            ({"a": 10**400}, "attributes.a"),
            ({"a": "x" * 257}, "attributes.a"),
            ({"a": "\0"}, "attributes.a"),
            ({"": 1}, "attributes"),
            ({"1a": 1}, "attributes"),
            ({"a b": 1}, "attributes"),
            ({"a" * 65: 1}, "attributes"),
            ({f"a{n}": n for n in range(65)}, "attributes"),
            ([1], "attributes"),
            ("max", "attributes"),
        ],
    )
    def test_what_is_wrong_is_named(self, held: object, path: str) -> None:
        assert refusal(lambda: place_fields.attributes(held, "attributes")).startswith(f"{path}: ")


class TestMoments:
    def test_left_out_means_now(self) -> None:
        assert place_fields.effective_from(None, "effective_from", NOW_MS) is None

    def test_a_time_with_an_offset_is_taken_to_the_millisecond(self) -> None:
        found = place_fields.effective_from("2026-11-22T20:30:00.1239+01:00", "effective_from", NOW_MS)

        assert found == datetime(2026, 11, 22, 19, 30, 0, 123_000, UTC)

    @pytest.mark.parametrize(
        "text", ["", "2026-11-22", "2026-11-22T20:00:00", 5, "2009-12-31T23:59:59Z", "2026-11-22T20:06:00Z"]
    )
    def test_no_time_one_before_all_readings_and_one_to_come_are_refused(self, text: object) -> None:
        assert "effective_from: found" in refusal(lambda: place_fields.effective_from(text, "effective_from", NOW_MS))

    def test_a_client_whose_clock_is_ahead_may_mean_now(self) -> None:
        assert place_fields.effective_from("2026-11-22T20:05:00Z", "effective_from", NOW_MS) is not None


class TestDurations:
    @pytest.mark.parametrize(("text", "ms"), [("1s", 1_000), ("1m30s", 90_000), ("30d", 2_592_000_000), (None, None)])
    def test_an_interval_is_a_second_to_thirty_days(self, text: object, ms: int | None) -> None:
        assert place_fields.expected_interval_ms(text, "expected_interval") == ms

    @pytest.mark.parametrize("text", ["0s", "999ms", "31d", "", "-1m", "1 m", 60, True, "9" * 5_000 + "s"])
    def test_no_other_is(self, text: object) -> None:
        assert "expected a duration from 1s to 30d" in refusal(
            lambda: place_fields.expected_interval_ms(text, "expected_interval")
        )

    def test_an_overlap_may_be_nothing(self) -> None:
        assert place_fields.overlap_ms("0s", "overlap") == 0


class TestBodies:
    def test_a_site_has_a_name_and_is_in_utc_unless_told(self) -> None:
        assert place_fields.new_site({"name": "Home"}) == Site("Home", "UTC", {})

    def test_a_unit_has_a_name_and_a_kind(self) -> None:
        assert refusal(lambda: place_fields.new_unit({"kind": "fridge"})).startswith("name: ")
        assert refusal(lambda: place_fields.new_unit({"name": "Fridge"})).startswith("kind: found None, expected one")
        assert place_fields.new_unit({"name": "F", "kind": "fridge"}) == Unit("F", "fridge", None, {})

    def test_a_change_replaces_the_fields_that_it_names_whole(self) -> None:
        unit = Unit("F", "fridge", "sit_1", {"max_celsius": 5, "shelf": "upper"})

        assert place_fields.changed_unit(unit, {"attributes": {"max_celsius": 4}, "site_id": None}) == Unit(
            "F", "fridge", None, {"max_celsius": 4}
        )
        assert place_fields.changed_unit(unit, {}) == unit

    @pytest.mark.parametrize("field", ["name", "kind", "attributes", "archived"])
    def test_what_must_be_there_cannot_be_taken_away(self, field: str) -> None:
        unit = Unit("F", "fridge")

        assert refusal(lambda: place_fields.changed_unit(unit, {field: None})).startswith(f"{field}: found None")
