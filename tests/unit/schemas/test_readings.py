"""Records of readings: what is read, in which order, and what is written."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest

from schemas.errors import Reason
from schemas.readings import MAX_RECORD_BYTES, decode_batch, encode_record
from tests.unit.schemas.decoding import (
    AIR,
    DOCUMENTED,
    EIGHT_PM,
    JSON,
    MSGPACK,
    READING,
    Refused,
    decode,
    decode_readings,
    refusals,
    rows,
)


class TestWhatIsRead:
    def test_the_documented_record(self) -> None:
        batch = decode(DOCUMENTED)

        assert rows(batch) == [AIR]
        assert refusals(batch) == []

    def test_columns_have_the_types_that_the_stream_computes_with(self) -> None:
        for batch in (decode(DOCUMENTED), decode(b"junk"), decode_readings(READING, 1), decode_batch([], [])):
            columns = (batch.record, batch.index, batch.at_ms, batch.value, batch.seq)
            assert [column.dtype for column in columns] == [np.int32, np.int32, np.int64, np.float64, np.int32]

    @pytest.mark.parametrize(
        "content_type",
        [
            None,
            "",
            " ",
            JSON,
            "Application/JSON",
            "application/json; charset=utf-8",
            "application/json;charset=latin-1",
        ],
    )
    def test_json_under_every_name_it_goes_by(self, content_type: str | None) -> None:
        assert rows(decode(DOCUMENTED, content_type)) == [AIR]

    @pytest.mark.parametrize("content_type", [MSGPACK, "Application/MsgPack", "application/msgpack; v=5"])
    def test_message_pack_with_the_same_fields(self, content_type: str) -> None:
        value = msgspec.msgpack.encode(msgspec.json.decode(DOCUMENTED))

        assert rows(decode(value, content_type)) == [AIR]

    def test_seq_is_0_unless_given(self) -> None:
        value = b'{"readings":[{"sensor":"air","at":"2026-11-22T20:00:00Z","value":3.8}]}'

        assert rows(decode(value)) == [AIR._replace(seq=0)]

    def test_fields_beyond_the_documented_ones_are_tolerated(self) -> None:
        reading = READING | {"battery": 3.7, "tags": {"a": [1, None, True]}}
        value = json.dumps({"readings": [reading, READING], "sent_at": None, "firmware": "2.1"}).encode()

        assert rows(decode(value)) == [AIR, AIR._replace(reading=1)]

    @pytest.mark.parametrize("sent_at", ["null", "true", "[]", '"yesterday"', "-1"])
    def test_a_strange_sent_at_costs_no_reading(self, sent_at: str) -> None:
        value = f'{{"sent_at":{sent_at},"readings":[{json.dumps(READING)}]}}'.encode()

        assert rows(decode(value)) == [AIR]

    @pytest.mark.parametrize(
        ("at", "at_ms"),
        [
            (EIGHT_PM, EIGHT_PM),
            (EIGHT_PM + 0.999, EIGHT_PM),
            (0, 0),
            (-0.001, -1),
            (-1.5, -2),
            ("2026-11-22T21:00:00.0009+01:00", EIGHT_PM),
            ("1969-12-31T23:59:59.9999Z", -1),
        ],
    )
    def test_times_as_numbers_and_texts_are_floored_to_milliseconds(self, at: float | str, at_ms: int) -> None:
        assert [row.at_ms for row in rows(decode_readings(READING | {"at": at}, READING))] == [at_ms, EIGHT_PM]

    def test_one_immense_number_does_not_change_how_its_neighbours_are_floored(self) -> None:
        value = f'{{"readings":[{{"sensor":"air","at":-1.5,"value":1}},{{"sensor":"air","at":{10**400},"value":1}}]}}'

        assert decode(value.encode()).at_ms.tolist() == [-2]

    @pytest.mark.parametrize(
        "at", ["1970-01-01T00:00:00Z", "2000-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z"]
    )
    def test_an_impossible_time_is_well_formed_and_left_to_admission(self, at: str) -> None:
        assert len(rows(decode_readings(READING | {"at": at}))) == 1

    @pytest.mark.parametrize(
        ("literal", "value"),
        [
            ("4", 4.0),
            ("-0.0", 0.0),
            ("-0", 0.0),
            ("9007199254740993", 9007199254740992.0),  # 2^53 + 1 lies between two doubles; ties go to the even one
            ("123456789012345678901234567890", 1.2345678901234568e29),
            ("1e-400", 0.0),
            ("1.7976931348623157e308", 1.7976931348623157e308),
        ],
    )
    def test_any_number_that_a_double_can_hold_is_a_value(self, literal: str, value: float) -> None:
        text = f'{{"sensor":"air","at":0,"value":{literal}}}'
        strict, careful = decode(f'{{"readings":[{text}]}}'.encode()), decode(f'{{"readings":[{text}],"x":1}}'.encode())

        assert strict.value.tolist() == careful.value.tolist() == [value]
        assert not np.signbit(strict.value[0])
        assert not np.signbit(careful.value[0])

    @pytest.mark.parametrize("sensor", ["a", " ", "x" * 128, "Kühlschrank 3/oben", "温度", "🌡" * 128, "a\\b'\";--"])
    def test_a_sensor_name_is_1_to_128_printable_characters(self, sensor: str) -> None:
        batch = decode_readings(READING | {"sensor": sensor})

        assert batch.sensor == [sensor]
        assert sensor.encode()

    def test_of_equal_keys_the_last_counts(self) -> None:
        reading = '{"sensor":"ice","sensor":"air","at":0,"at":"2026-11-22T20:00:00Z","value":"x","value":1,"value":3.8,"seq":17}'
        strict, careful = f'{{"readings":[],"readings":[{reading}]}}', f'{{"x":0,"readings":1,"readings":[{reading}]}}'

        assert rows(decode(strict.encode())) == rows(decode(careful.encode())) == [AIR]

    def test_10_000_readings_and_1_mib_are_the_most(self) -> None:
        value = encode_record([("air", EIGHT_PM + second, 1.0, 0) for second in range(10_000)])
        padded = value.ljust(MAX_RECORD_BYTES)

        assert len(padded) == 1_048_576
        assert decode(padded).index.tolist() == list(range(10_000))
        assert decode(padded, "APPLICATION/JSON").index.tolist() == list(range(10_000))

    def test_duplicates_within_one_record_are_all_read(self) -> None:
        assert rows(decode_readings(READING, READING)) == [AIR, AIR._replace(reading=1)]


class TestABatch:
    def test_keeps_record_order_then_index_order(self) -> None:
        bad = READING | {"value": "x"}
        values = [
            encode_record([("a", 1, 1.0, 0), ("b", 2, 2.0, 0)]),
            b"junk",
            msgspec.json.encode({"readings": [bad, READING, READING | {"at": "now"}, READING, bad]}),
            msgspec.msgpack.encode({"readings": [READING]}),
            b'{"readings":[]}',
            encode_record([("c", 3, 3.0, 0)]),
        ]
        batch = decode_batch(values, [None, None, JSON, MSGPACK, None, "text/plain"])

        assert [(row.record, row.reading) for row in rows(batch)] == [(0, 0), (0, 1), (2, 1), (2, 3), (3, 0)]
        assert refusals(batch) == [
            Refused(1, None, None, Reason.UNDECODABLE),
            Refused(4, None, None, Reason.EMPTY),
            Refused(5, None, None, Reason.UNSUPPORTED_FORMAT),
            Refused(2, 0, "air", Reason.INVALID_VALUE),
            Refused(2, 2, "air", Reason.INVALID_TIME),
            Refused(2, 4, "air", Reason.INVALID_VALUE),
        ]

    def test_halves_of_a_record_do_not_make_one(self) -> None:
        head, tail = DOCUMENTED[:20], DOCUMENTED[20:]
        batch = decode_batch([head, tail, DOCUMENTED], [None] * 3)

        assert rows(batch) == [AIR._replace(record=2)]
        assert len(batch.record_refusals) == 2

    def test_needs_a_content_type_for_each_record(self) -> None:
        with pytest.raises(ValueError, match="shorter"):
            decode_batch([DOCUMENTED, DOCUMENTED], [None])


class TestEncodeRecord:
    def test_writes_the_documented_form(self) -> None:
        value = encode_record([("air", EIGHT_PM, 3.8, 17)], EIGHT_PM + 1_000)

        assert json.loads(value) == json.loads(DOCUMENTED)

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_refuses_what_json_cannot_say(self, value: float) -> None:
        with pytest.raises(ValueError, match="NaN or infinite"):
            encode_record([("air", EIGHT_PM, value, 0)])

    def test_refuses_a_time_that_rfc_3339_cannot_say(self) -> None:
        with pytest.raises(ValueError, match="years 0001 to 9999"):
            encode_record([("air", 253_402_300_800_000, 1.0, 0)])
