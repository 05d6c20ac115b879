"""SenML packs (RFC 8428) as readings."""

from __future__ import annotations

import json
from typing import Any

import pytest

from schemas.errors import Reason
from tests.unit.schemas.decoding import EIGHT_PM, SENML, Refused, decode, refusals, rows, whole_record_refused

T = 1_795_377_600  # 2026-11-22T20:00:00Z in seconds


def read(pack: Any) -> list[tuple[str, int, float]]:
    """(sensor, at_ms, value) of a pack of which nothing is refused."""
    batch = decode(pack.encode() if isinstance(pack, str) else json.dumps(pack).encode(), SENML)
    assert refusals(batch) == []
    return [(row.sensor, row.at_ms, row.value) for row in rows(batch)]


def refused(*pack: Any) -> list[Refused]:
    return refusals(decode(json.dumps(pack).encode(), SENML))


def whole_pack_refused(pack: Any) -> Reason:
    return whole_record_refused(json.dumps(pack).encode(), SENML)


class TestResolving:
    def test_the_example_of_rfc_8428_section_5_1_2(self) -> None:
        pack = """[
          {"bn":"urn:dev:ow:10e2073a0108006:","bt":1.276020076001e+09,"bu":"A","bver":5,"n":"voltage","u":"V","v":120.1},
          {"n":"current","t":-5,"v":1.2}, {"n":"current","t":-4,"v":1.3}, {"n":"current","v":1.7}]"""

        assert read(pack) == [
            ("urn:dev:ow:10e2073a0108006:voltage", 1_276_020_076_001, 120.1),
            ("urn:dev:ow:10e2073a0108006:current", 1_276_020_071_001, 1.2),
            ("urn:dev:ow:10e2073a0108006:current", 1_276_020_072_001, 1.3),
            ("urn:dev:ow:10e2073a0108006:current", 1_276_020_076_001, 1.7),
        ]

    def test_a_base_holds_until_it_is_set_again(self) -> None:
        pack = [{"bn": "a", "bt": T, "v": 1}, {"t": 1, "v": 2}, {"bn": "b", "v": 3}, {"bt": T + 60, "n": "c", "v": 4}]

        assert read(pack) == [
            ("a", EIGHT_PM, 1.0),
            ("a", EIGHT_PM + 1_000, 2.0),
            ("b", EIGHT_PM, 3.0),
            ("bc", EIGHT_PM + 60_000, 4.0),
        ]

    def test_an_entry_of_base_fields_alone_is_no_reading(self) -> None:
        batch = decode(json.dumps([{"bn": "a", "bt": T}, {"v": 1}]).encode(), SENML)

        assert [(row.reading, row.sensor) for row in rows(batch)] == [(1, "a")]
        assert refusals(batch) == []

    def test_a_base_value_is_added(self) -> None:
        assert read([{"n": "a", "bt": T, "bv": 20.1, "v": 0.2}]) == [("a", EIGHT_PM, 20.3)]

    def test_seq_is_0(self) -> None:
        assert decode(json.dumps([{"n": "a", "t": T, "v": 1, "seq": 5}]).encode(), SENML).seq.tolist() == [0]

    @pytest.mark.parametrize(
        ("seconds", "at_ms"),
        [
            ("1276020076.001", 1_276_020_076_001),  # the nearest double is 1276020076.0009999…
            ("1276020076.001" + "9" * 28, 1_276_020_076_001),
            ("1276020076.001" + "9" * 100, 1_276_020_076_001),
            ("1.276020076e9", 1_276_020_076_000),
            ("268435456", 268_435_456_000),
            ("253402300799.9999", 253_402_300_799_999),
        ],
    )
    def test_times_are_floored_as_written(self, seconds: str, at_ms: int) -> None:
        assert read(f'[{{"n":"a","t":{seconds},"v":1}}]') == [("a", at_ms, 1.0)]

    def test_a_time_split_between_base_and_entry_is_added_exactly(self) -> None:
        assert read(f'[{{"n":"a","bt":{T}.0001,"t":0.0009,"v":1}}]') == [("a", EIGHT_PM + 1, 1.0)]

    @pytest.mark.parametrize(
        ("unit", "value", "celsius"),
        [
            ("Cel", 3.8, 3.8),
            ("K", 276.95, 3.8),
            ("K", 0, -273.15),
            ("%RH", 60, 60.0),
            ("hPa", 1013.25, 1013.25),
            ("", 1, 1.0),
        ],
    )
    def test_kelvin_becomes_celsius_and_other_registered_units_stay(
        self, unit: str, value: float, celsius: float
    ) -> None:
        assert read([{"n": "a", "t": T, "u": unit, "v": value}]) == [("a", EIGHT_PM, celsius)]
        assert read([{"n": "a", "t": T, "bu": unit, "v": value}]) == [("a", EIGHT_PM, celsius)]

    def test_the_entrys_unit_goes_before_the_base_unit(self) -> None:
        assert read([{"bn": "a", "bt": T, "bu": "K", "u": "Cel", "v": 3}, {"t": 1, "v": 273.15}]) == [
            ("a", EIGHT_PM, 3.0),
            ("a", EIGHT_PM + 1_000, 0.0),
        ]

    def test_unknown_fields_are_ignored(self) -> None:
        assert read([{"n": "a", "t": T, "v": 1, "ut": 60, "s": 3, "bs": 1, "colour": "red"}]) == [("a", EIGHT_PM, 1.0)]

    def test_numbers_too_small_for_a_double_are_zero(self) -> None:
        assert read('[{"n":"a","t":2e9,"v":1e-99999999999999999999}]') == [("a", 2_000_000_000_000, 0.0)]


class TestSingleEntryRefused:
    @pytest.mark.parametrize("entry", [{"bn": "a"}, {"bn": "a", "bt": T, "bu": "Cel"}, {"bt": T, "bver": 10}])
    def test_a_dangling_base(self, entry: dict[str, Any]) -> None:
        assert refused(entry) == [Refused(0, 0, None, Reason.WRONG_SHAPE)]
        assert refused({"n": "a", "t": T, "v": 1}, entry) == [Refused(0, 1, None, Reason.WRONG_SHAPE)]

    def test_no_name(self) -> None:
        assert refused({"t": T, "v": 1}, {"n": 5, "t": T, "v": 1}) == [
            Refused(0, 0, None, Reason.INVALID_SENSOR),
            Refused(0, 1, None, Reason.INVALID_SENSOR),
        ]

    @pytest.mark.parametrize("name", ["x" * 129, "a\n"])
    def test_a_name_that_no_sensor_may_have(self, name: str) -> None:
        assert refused({"n": name, "t": T, "v": 1}) == [Refused(0, 0, None, Reason.INVALID_SENSOR)]

    @pytest.mark.parametrize("time", [{}, {"t": 0}, {"t": -5}, {"t": 2**28 - 1}, {"t": -1e300}, {"bt": T, "t": -T}])
    def test_a_time_relative_to_now(self, time: dict[str, float]) -> None:
        pack = json.dumps([{"n": "a", "v": 1} | time]).encode()
        [refusal] = decode(pack, SENML).reading_refusals

        assert refusal.reason == Reason.INVALID_TIME
        assert refusal.detail.endswith("send bt or t as seconds since 1970-01-01T00:00:00Z")

    @pytest.mark.parametrize("time", ["2026-11-22T20:00:00Z", None, True, [], 253_402_300_800, 1e300, 10**400])
    def test_what_is_no_time(self, time: object) -> None:
        assert [refusal.reason for refusal in refused({"n": "a", "t": time, "v": 1})] == [Reason.INVALID_TIME]

    @pytest.mark.parametrize(
        "fields",
        [
            {"vs": "warm"},
            {"vb": True},
            {"vd": "aGk"},
            {"s": 3.5},
            {"v": "3.8"},
            {"v": True},
            {"v": None},
            {"v": 10**400},
            {"v": 1, "u": "degF"},
            {"v": 1, "u": "cel"},
            {"v": 1, "u": None},
            {"v": 1, "u": 1},
            {"v": 1, "u": []},
        ],
    )
    def test_what_is_no_number_in_a_registered_unit(self, fields: dict[str, Any]) -> None:
        assert [refusal.reason for refusal in refused({"n": "a", "t": T} | fields)] == [Reason.INVALID_VALUE]

    @pytest.mark.parametrize(
        ("fields", "reason"),
        [
            ({"vs": "warm"}, Reason.INVALID_VALUE),
            ({"vb": True}, Reason.INVALID_VALUE),
            ({"v": 1, "vb": True}, Reason.WRONG_SHAPE),
            ({"v": 1, "t": 1}, Reason.INVALID_TIME),
        ],
    )
    def test_the_sensor_of_a_refused_entry_is_named(self, fields: dict[str, Any], reason: Reason) -> None:
        assert refused({"bn": "cellar-", "n": "door", "t": T} | fields) == [Refused(0, 0, "cellar-door", reason)]

    @pytest.mark.parametrize("fields", [{}, {"v": 1, "vs": "warm"}, {"v": 1, "vb": True}])
    def test_no_value_or_two(self, fields: dict[str, Any]) -> None:
        assert [refusal.reason for refusal in refused({"n": "a", "t": T} | fields)] == [Reason.WRONG_SHAPE]

    @pytest.mark.parametrize("entry", [1, None, "a", [], {}])
    def test_another_shape(self, entry: object) -> None:
        batch = decode(json.dumps([{"bn": "a", "bt": T, "v": 1}, entry, {"t": 1, "v": 2}]).encode(), SENML)

        assert [row.reading for row in rows(batch)] == [0, 2]
        # {} still has the base's name and time, but no value of its own.
        assert [(refusal.reading, refusal.reason) for refusal in refusals(batch)] == [(1, Reason.WRONG_SHAPE)]


class TestWholePackRefused:
    @pytest.mark.parametrize("pack", ["{}", "1", '{"e":[]}', "null"])
    def test_another_shape(self, pack: str) -> None:
        assert whole_record_refused(pack.encode(), SENML) == Reason.WRONG_SHAPE

    @pytest.mark.parametrize(
        "pack", ["", "[", '[{"n":"a","t":2e9,"v":NaN}]', '[{"n":"a","t":2e9,"v":1e400}]', '[{"x":-1e400}]']
    )
    def test_undecodable(self, pack: str) -> None:
        assert whole_record_refused(pack.encode(), SENML) == Reason.UNDECODABLE

    def test_nothing(self) -> None:
        assert whole_pack_refused([]) == Reason.EMPTY

    def test_10_001_readings_but_not_10_000_and_a_base(self) -> None:
        entries = [{"t": second, "v": 1} for second in range(10_000)]

        assert len(read([{"bn": "a", "bt": T}, *entries])) == 10_000
        assert whole_pack_refused([{"bn": "a", "bt": T, "v": 1}, *entries]) == Reason.TOO_MANY_READINGS

    @pytest.mark.parametrize("version", [11, 10.5, 26, 10**30])
    def test_a_version_of_the_future(self, version: float) -> None:
        assert whole_pack_refused([{"n": "a", "t": T, "v": 1}, {"bver": version}]) == Reason.UNSUPPORTED_FORMAT

    def test_two_versions(self) -> None:
        assert whole_pack_refused([{"bver": 5, "n": "a", "t": T, "v": 1}, {"bver": 10, "v": 1}]) == Reason.WRONG_SHAPE
        assert len(read([{"bver": 5, "n": "a", "t": T, "v": 1}, {"bver": 5.0, "n": "b", "t": T, "v": 1}])) == 2

    def test_a_label_that_must_be_understood(self) -> None:
        assert (
            whole_pack_refused([{"n": "a", "t": T, "v": 1}, {"n": "a", "v": 1, "must_": 1}])
            == Reason.UNSUPPORTED_FORMAT
        )

    @pytest.mark.parametrize(
        "base",
        [{"bn": 1}, {"bn": None}, {"bt": "0"}, {"bt": None}, {"bt": True}, {"bu": 1}, {"bv": "1"}, {"bver": "10"}],
    )
    def test_a_base_of_the_wrong_type(self, base: dict[str, Any]) -> None:
        assert whole_pack_refused([{"n": "a", "t": T, "v": 1} | base]) == Reason.WRONG_SHAPE
