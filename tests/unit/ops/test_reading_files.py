"""What each form of file says, line by line, and what is wrong with lines that say nothing."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest

from ops.reading_files import (
    BadLine,
    FileReading,
    Format,
    TimeReading,
    TimeUnit,
    csv_readings,
    format_of,
    ndjson_readings,
)
from schemas.errors import Misconfigured

T20_MS = 1_795_377_600_000  # 2026-11-22T20:00:00Z


def from_csv(text: str, sensor: str | None = "air", times: TimeReading | None = None) -> list[FileReading | BadLine]:
    return list(csv_readings(io.StringIO(text, newline=""), sensor, times or TimeReading(), print))


def from_ndjson(text: str, sensor: str | None = "air") -> list[FileReading | BadLine]:
    return list(ndjson_readings(io.StringIO(text, newline=""), sensor, TimeReading()))


def problem(found: list[FileReading | BadLine]) -> str:
    [bad] = found
    assert isinstance(bad, BadLine)
    return bad.problem


class TestCsv:
    def test_all_columns_are_read_wherever_they_stand(self) -> None:
        found = from_csv("seq,Value ,sensor,at\r\n7,3.8,door,2026-11-22T20:00:00Z\r\n,-1e-3,,2026-11-22T20:00:00Z\r\n")

        assert found == [FileReading(2, "door", T20_MS, 3.8, 7), FileReading(3, "air", T20_MS, -0.001, 0)]

    def test_the_time_column_may_be_called_timestamp(self) -> None:
        assert from_csv("timestamp,value\n2026-11-22T20:00:00Z,1\n") == [FileReading(2, "air", T20_MS, 1.0, 0)]

    @pytest.mark.parametrize("header", ["", "at", "value", "at,timestamp,value", "at,value,value", "time,value"])
    def test_a_header_without_time_and_value_once_each_is_refused(self, header: str) -> None:
        with pytest.raises(Misconfigured, match=r"expected at \(or timestamp\) and value"):
            from_csv(f"{header}\n")

    def test_a_file_that_names_no_sensor_needs_one(self) -> None:
        with pytest.raises(Misconfigured, match="--sensor"):
            from_csv("at,value\n", sensor=None)

    def test_columns_that_are_not_used_are_said(self) -> None:
        notes: list[str] = []
        list(csv_readings(io.StringIO("at,value,label\n"), "air", TimeReading(), notes.append))

        assert notes == ["columns not used: label"]

    @pytest.mark.parametrize(
        ("row", "complaint"),
        [
            ("2026-11-22T20:00:00Z", "has 1 fields, the header has 2"),
            ("2026-11-22T20:00:00Z,1,2", "has 3 fields"),
            ("2026-11-22T20:00:00Z,", "value '' is not a number"),
            ('2026-11-22T20:00:00Z,"3,8"', "value '3,8' is not a number"),
            ("2026-11-22T20:00:00Z,nan", "'nan' is not a number"),
            ("2026-11-22T20:00:00Z,1_0", "'1_0' is not a number"),
            ("2026-11-22T25:00:00Z,1", "not RFC 3339"),
            ("2026-11-22T20:00:00,1", "has no offset; add one (Z, +01:00), or pass --assume-utc"),
            ("2026-11-22,1", "not RFC 3339"),
            (",1", "not RFC 3339"),
            ("tomorrow,1", "not RFC 3339"),
        ],
    )
    def test_what_is_wrong_with_a_row_is_said(self, row: str, complaint: str) -> None:
        assert complaint in problem(from_csv(f"at,value\n{row}\n"))

    def test_a_bad_row_costs_only_itself_and_blank_ones_nothing(self) -> None:
        found = from_csv("at,value\n2026-11-22T20:00:00Z,x\n\n2026-11-22T20:00:00Z,1\n")

        assert [line.line for line in found] == [2, 4]
        assert isinstance(found[1], FileReading)

    def test_lines_are_counted_as_an_editor_does(self) -> None:
        found = from_csv('at,value,sensor\n2026-11-22T20:00:00Z,1,"a\nb"\n2026-11-22T20:00:00Z,2,c\n')

        assert [line.line for line in found] == [2, 4]  # the first row takes lines 2 and 3

    def test_a_long_file_is_read_as_it_is_asked_for(self) -> None:
        def endless() -> Iterator[str]:
            yield "at,value\n"
            while True:
                yield "2026-11-22T20:00:00Z,1\n"

        found = csv_readings(endless(), "air", TimeReading(), print)

        assert [next(found).line for _ in range(2_500)] == list(range(2, 2_502))


class TestTimes:
    @pytest.mark.parametrize(
        ("text", "expected_ms"),
        [
            ("2026-11-22T20:00:00Z", T20_MS),
            ("2026-11-22 21:00:00+01:00", T20_MS),
            ("2026-11-22T20:00:00.0019Z", T20_MS + 1),
            ("1795377600000", T20_MS),
            ("1795377600000.9", T20_MS),
            ("-0.5", -1),
        ],
    )
    def test_notations_and_numbers(self, text: str, expected_ms: int) -> None:
        [found] = from_csv(f"at,value\n{text},1\n")

        assert isinstance(found, FileReading)
        assert found.at_ms == expected_ms

    @pytest.mark.parametrize("text", ["2026-11-22 20:00:00", "2026-11-22T20:00:00.000", "2026-11-22T21:00:00+01:00"])
    def test_an_offset_is_only_assumed_where_there_is_none(self, text: str) -> None:
        [found] = from_csv(f"at,value\n{text},1\n", times=TimeReading(assume_utc=True))

        assert isinstance(found, FileReading)
        assert found.at_ms == T20_MS

    @pytest.mark.parametrize(
        ("unit", "text"),
        [
            (TimeUnit.SECONDS, "1795377600.0019999"),
            (TimeUnit.MILLISECONDS, "1795377600001"),
            (TimeUnit.MICROSECONDS, "1795377600001999"),
            (TimeUnit.NANOSECONDS, "1795377600001999999"),
        ],
    )
    def test_numbers_count_the_unit_that_was_said(self, unit: TimeUnit, text: str) -> None:
        [found] = from_csv(f"at,value\n{text},1\n", times=TimeReading(unit=unit))

        assert isinstance(found, FileReading)
        assert found.at_ms == T20_MS + 1


class TestNdjson:
    def test_fields_and_defaults(self) -> None:
        found = from_ndjson(
            '{"at": "2026-11-22T20:00:00Z", "value": 3}\n'
            "\n"
            '{"seq": 2, "sensor": "door", "value": 0.1, "at": 1795377600000.5}\n'
        )

        assert found == [FileReading(1, "air", T20_MS, 3.0, 0), FileReading(3, "door", T20_MS, 0.1, 2)]

    @pytest.mark.parametrize(
        ("line", "complaint"),
        [
            ("nonsense", "not a reading"),
            ("[]", "not a reading"),
            ('{"value": 1}', "`at`"),
            ('{"at": 1}', "`value`"),
            ('{"at": 1, "value": "1"}', "not a reading"),
            ('{"at": 1, "value": NaN}', "not a reading"),
            ('{"at": 1, "value": 1e999}', "not a reading"),
            ('{"at": 1, "value": 1, "seq": 1.5}', "not a reading"),
            ('{"at": 1, "value": 1, "unit": "K"}', "unknown field `unit`"),
            ('{"readings": {}}', "Expected `array`"),
            ('{"readings": [], "unit": "K"}', "unknown field `unit`"),
            ('{"readings": [{"at": 1}]}', "reading 0: not a reading: Object missing required field `value`"),
            ('{"readings": [1]}', "reading 0: not a reading"),
            ('{"at": null, "value": 1}', "not RFC 3339"),
            ('{"at": [1], "value": 1}', "not RFC 3339"),
            ('{"at": "\udcff", "value": 1}', "not UTF-8"),  # a byte that is no UTF-8, as files are opened
        ],
    )
    def test_what_is_wrong_with_a_line_is_said(self, line: str, complaint: str) -> None:
        assert complaint in problem(from_ndjson(line))

    def test_a_line_may_be_a_record_of_several(self) -> None:
        found = from_ndjson(
            '{"readings": [{"sensor": "door", "at": "2026-11-22T20:00:00.000Z", "value": 3.8, "seq": 17},'
            ' {"at": 1, "value": "warm"}, {"at": 1795377600000, "value": 4}], "sent_at": "2026-11-22T20:00:01.000Z"}\n'
            '{"sensor": "readings", "at": 1795377600000, "value": 5}\n'
        )

        assert [found[0], *found[2:]] == [
            FileReading(1, "door", T20_MS, 3.8, 17),
            FileReading(1, "air", T20_MS, 4.0, 0),
            FileReading(2, "readings", T20_MS, 5.0, 0),
        ]
        assert isinstance(found[1], BadLine)
        assert found[1].problem.startswith("reading 1: not a reading")

    def test_a_record_without_readings_is_nothing(self) -> None:
        assert from_ndjson('{"readings": []}') == []

    def test_a_line_without_a_sensor_needs_one(self) -> None:
        assert "--sensor" in problem(from_ndjson('{"at": 1, "value": 1}', sensor=None))


class TestFormatOf:
    @pytest.mark.parametrize(
        ("file", "expected"),
        [
            ("a.CSV", Format.CSV),
            ("a.ndjson", Format.NDJSON),
            ("a.jsonl", Format.NDJSON),
            ("a.senml.json", Format.SENML),
        ],
    )
    def test_the_suffix_says_it(self, file: str, expected: Format) -> None:
        assert format_of(file, None) is expected

    def test_an_option_overrides_the_suffix(self) -> None:
        assert format_of("a.csv", Format.SENML) is Format.SENML

    @pytest.mark.parametrize("file", ["-", "readings", "readings.txt"])
    def test_otherwise_an_option_is_needed(self, file: str) -> None:
        with pytest.raises(Misconfigured, match="--format"):
            format_of(file, None)
