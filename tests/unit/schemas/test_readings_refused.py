"""Records of readings: every refusal with its reason, and nothing else disturbed."""

from __future__ import annotations

import json
import sys

import msgspec
import pytest

from schemas.errors import Reason
from schemas.readings import encode_record
from tests.unit.schemas.decoding import (
    AIR,
    DOCUMENTED,
    EIGHT_PM,
    MSGPACK,
    READING,
    Refused,
    decode,
    decode_readings,
    refusals,
    rows,
    whole_record_refused,
)


def nested(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


def reading_refused(reading: object) -> Reason:
    """The reason, after making sure that the neighbours were kept."""
    batch = decode_readings(READING, reading, READING)
    [refusal] = batch.reading_refusals
    assert [row.reading for row in rows(batch)] == [0, 2]
    assert (refusal.record, refusal.index) == (0, 1)
    return refusal.reason


def reading_refused_of_json(changed: dict[str, object]) -> Reason:
    """As `reading_refused`, with integers of any length."""
    wrong, right = json.dumps(READING | changed), json.dumps(READING)
    batch = decode(f'{{"readings":[{right},{wrong},{right}]}}'.encode())
    [refusal] = batch.reading_refusals
    assert [row.reading for row in rows(batch)] == [0, 2]
    assert refusal.index == 1
    return refusal.reason


class TestWholeRecordRefused:
    @pytest.mark.parametrize(
        "value",
        [
            b"",
            b"hello",
            b"\x00",
            b"{",
            DOCUMENTED[:-1],
            DOCUMENTED + b"x",
            DOCUMENTED + DOCUMENTED,
            b"\xef\xbb\xbf" + DOCUMENTED,
            DOCUMENTED.replace(b"3.8", b"NaN"),
            DOCUMENTED.replace(b"3.8", b"Infinity"),
            DOCUMENTED.replace(b"3.8", b"-Infinity"),
            DOCUMENTED.replace(b"3.8", b"1e400"),
            DOCUMENTED.replace(b"3.8", b"-1e400"),
            DOCUMENTED.replace(b"17", b"1e400"),
            DOCUMENTED.replace(b'"sent_at"', b'"x":1e400,"sent_at"'),
            DOCUMENTED.replace(b'"seq"', b'"x":1e400,"seq"'),
            DOCUMENTED.replace(b'"seq"', b'"x":"\xff","seq"'),
            DOCUMENTED.replace(b'"seq"', b'"\xff":1,"seq"'),
            DOCUMENTED.replace(b"3.8", b"03.8"),
            DOCUMENTED.replace(b"3.8", b"'3.8'"),
            DOCUMENTED.replace(b"air", b"a\xffr"),
            DOCUMENTED.replace(b"air", b"a\xed\xa0\x80r"),
            DOCUMENTED.replace(b"air", b"a\\ud800r"),
            DOCUMENTED.replace(b"air", b"a\nr"),
            DOCUMENTED.replace(b'"sent_at"', b'"x":"\xff","sent_at"'),
            DOCUMENTED.replace(b'"sent_at"', b'"\xff":1,"sent_at"'),
        ],
    )
    def test_undecodable_json(self, value: bytes) -> None:
        assert whole_record_refused(value) == Reason.UNDECODABLE

    @pytest.mark.parametrize(
        "value",
        [b"null", b"17", b'"readings"', b"[]", b"{}", b'{"Readings":[]}', b'{"readings":null}', b'{"readings":{}}'],
    )
    def test_json_of_another_shape(self, value: bytes) -> None:
        assert whole_record_refused(value) == Reason.WRONG_SHAPE

    @pytest.mark.parametrize("value", [b'{"readings":[]}', b'{"readings":[],"x":1}'])
    def test_no_readings(self, value: bytes) -> None:
        assert whole_record_refused(value) == Reason.EMPTY

    def test_10_001_readings(self) -> None:
        value = encode_record([("air", EIGHT_PM + second, 1.0, 0) for second in range(10_001)])

        assert whole_record_refused(value) == Reason.TOO_MANY_READINGS
        assert whole_record_refused(b'{"readings":[' + b"0," * 10_000 + b"0]}") == Reason.TOO_MANY_READINGS

    @pytest.mark.parametrize("content_type", [None, MSGPACK, "application/senml+json", "text/plain"])
    def test_above_1_mib(self, content_type: str | None) -> None:
        assert whole_record_refused(DOCUMENTED.ljust(1_048_577), content_type) == Reason.TOO_LARGE
        assert whole_record_refused(bytes(5 * 1_048_576), content_type) == Reason.TOO_LARGE

    @pytest.mark.parametrize(
        "content_type", ["text/plain", "application/xml", "application/json5", "application", "x;y"]
    )
    def test_a_format_that_is_not_spoken_here(self, content_type: str) -> None:
        assert whole_record_refused(DOCUMENTED, content_type) == Reason.UNSUPPORTED_FORMAT

    @pytest.mark.parametrize("levels", [64, 900, 1_100, 100_000])
    @pytest.mark.parametrize("content_type", [None, "application/senml+json"])
    def test_json_nested_deeply_anywhere(self, levels: int, content_type: str | None) -> None:
        for place in (b'"air"', b'"2026-11-22T20:00:00.000Z"', b"3.8", b"17", b'"2026-11-22T20:00:01.000Z"'):
            value = DOCUMENTED.replace(place, nested(levels))
            assert whole_record_refused(value, content_type) == Reason.UNDECODABLE
        for value in (nested(levels + 1), b"[" * levels * 2, b'{"a":' * levels * 2, b'{"readings":' + b"[{" * levels):
            assert whole_record_refused(value, content_type) == Reason.UNDECODABLE

    def test_64_levels_are_allowed_and_no_more(self) -> None:
        def extended(levels: int) -> bytes:
            return DOCUMENTED.replace(b'"sent_at"', b'"x":%b,"sent_at"' % nested(levels))

        assert rows(decode(extended(63))) == [AIR]  # the record itself is the first level
        assert whole_record_refused(extended(64)) == Reason.UNDECODABLE

        within = DOCUMENTED.replace(b'"seq"', b'"x":%b,"seq"' % nested(61))  # after record, list and reading
        assert rows(decode(within)) == [AIR]
        for levels in (62, 1_100):
            beyond = DOCUMENTED.replace(b'"seq"', b'"x":%b,"seq"' % nested(levels))
            assert whole_record_refused(beyond) == Reason.UNDECODABLE

    def test_the_verdict_on_nesting_does_not_depend_on_the_callers_stack(self) -> None:
        def extended(levels: int) -> bytes:
            return DOCUMENTED.replace(b'"sent_at"', b'"x":%b,"sent_at"' % nested(levels))

        def decode_below(frames: int) -> tuple[int, int]:
            if frames:
                return decode_below(frames - 1)
            return len(rows(decode(extended(63)))), len(rows(decode(extended(300))))

        assert decode_below(0) == decode_below(sys.getrecursionlimit() - 300) == (1, 0)

    def test_message_pack_nested_deeply(self) -> None:
        def extended(levels: int) -> bytes:
            return b"\x82\xa1x" + b"\x91" * levels + b"\xc0" + b"\xa8readings\x91" + msgspec.msgpack.encode(READING)

        assert rows(decode(extended(63), MSGPACK)) == [AIR]
        for levels in (64, 900, 1_100, 500_000):
            assert whole_record_refused(extended(levels), MSGPACK) == Reason.UNDECODABLE
            assert whole_record_refused(b"\x91" * levels * 2, MSGPACK) == Reason.UNDECODABLE
            as_key = b"\x81" + b"\x91" * levels + b"\xc0\xc0"
            assert whole_record_refused(as_key, MSGPACK) == Reason.UNDECODABLE

    def test_message_pack_cut_anywhere_or_followed_by_more(self) -> None:
        value = msgspec.msgpack.encode(msgspec.json.decode(DOCUMENTED))

        for length in range(len(value)):
            assert whole_record_refused(value[:length], MSGPACK) == Reason.UNDECODABLE
        assert whole_record_refused(value + b"\xc0", MSGPACK) == Reason.UNDECODABLE

    @pytest.mark.parametrize(
        "value",
        [
            b"\xc1",
            b"\xdd\xff\xff\xff\xff",  # an array said to have 4 294 967 295 items
            b"\xdf\xff\xff\xff\xff",
            b"\x81\xa8readings\xdd\xff\xff\xff\xff",
            b"\x81\xa8readings\x91\x81\xa6sensor\xa1\xff",
            b"\x81\x80\xc0",  # a map as the key of a map
            b"\xd7\xff" + b"\xff" * 8,  # a timestamp with too many nanoseconds
        ],
    )
    def test_undecodable_message_pack(self, value: bytes) -> None:
        assert whole_record_refused(value, MSGPACK) == Reason.UNDECODABLE

    @pytest.mark.parametrize("document", [None, [READING], {b"readings": [READING]}, {1: [READING]}])
    def test_message_pack_of_another_shape(self, document: object) -> None:
        assert whole_record_refused(msgspec.msgpack.encode(document), MSGPACK) == Reason.WRONG_SHAPE


class TestSingleReadingRefused:
    @pytest.mark.parametrize(
        "reading",
        [
            None,
            1,
            "air",
            [],
            [READING],
            {},
            *({k: READING[k] for k in READING if k != lost} for lost in ("sensor", "at", "value")),
        ],
    )
    def test_another_shape(self, reading: object) -> None:
        assert reading_refused(reading) == Reason.WRONG_SHAPE

    @pytest.mark.parametrize(
        "sensor",
        [
            "",
            "x" * 129,
            "x" * 10_000,
            "a\0",
            "a\nb",
            "\t",
            "\x7f",
            "a\u200b",
            "a\u00a0b",
            "\u202eair",
            "\ue000",
            None,
            1,
            True,
            ["a"],
        ],
    )
    def test_a_sensor_name_that_is_too_long_unprintable_or_no_text(self, sensor: object) -> None:
        assert reading_refused(READING | {"sensor": sensor}) == Reason.INVALID_SENSOR

    @pytest.mark.parametrize(
        "at",
        [
            "2026-11-22T20:00:00",
            "2026-11-22 20:00:00Z",
            "now",
            "",
            "10000-01-01T00:00:00Z",
            -62_135_596_800_001,
            253_402_300_800_000,
            10**18,
            10**30,
            10**400,
            1e308,
            None,
            True,
            [EIGHT_PM],
            {"ms": 1},
        ],
    )
    def test_what_is_no_time(self, at: object) -> None:
        assert reading_refused_of_json({"at": at}) == Reason.INVALID_TIME

    @pytest.mark.parametrize("value", ["3.8", "", None, True, False, [3.8], {}, 10**400, -(10**400)])
    def test_what_is_no_finite_number(self, value: object) -> None:
        assert reading_refused_of_json({"value": value}) == Reason.INVALID_VALUE

    @pytest.mark.parametrize("seq", [-1, 2**31, 10**30, 1.0, 1.5, "1", None, True, []])
    def test_what_is_no_sequence_number(self, seq: object) -> None:
        assert reading_refused(READING | {"seq": seq}) == Reason.INVALID_SEQ

    @pytest.mark.parametrize("seq", [0, 2**31 - 1])
    def test_the_first_and_the_last_sequence_number_pass(self, seq: int) -> None:
        assert decode_readings(READING | {"seq": seq}).seq.tolist() == [seq]

    @pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
    def test_nan_and_infinity_which_message_pack_can_say(self, number: float) -> None:
        found = [READING | {"value": number}, READING, READING | {"at": number}]
        batch = decode(msgspec.msgpack.encode({"readings": found}), MSGPACK)

        assert rows(batch) == [AIR._replace(reading=1)]
        assert refusals(batch) == [
            Refused(0, 0, "air", Reason.INVALID_VALUE),
            Refused(0, 2, "air", Reason.INVALID_TIME),
        ]

    def test_message_pack_timestamps_bytes_and_extensions_are_no_times(self) -> None:
        for at in (b"2026-11-22T20:00:00Z", msgspec.msgpack.Ext(5, b"x"), msgspec.msgpack.Ext(-1, b"\0\0\0\1")):
            batch = decode(msgspec.msgpack.encode({"readings": [READING | {"at": at}]}), MSGPACK)
            assert refusals(batch) == [Refused(0, 0, "air", Reason.INVALID_TIME)]

    def test_the_first_wrong_field_of_name_value_seq_and_time_is_named(self) -> None:
        wrong = {"sensor": "\0", "at": "now", "value": 1.0, "seq": -1}

        assert reading_refused(wrong) == Reason.INVALID_SEQ
        assert reading_refused(wrong | {"seq": 0}) == Reason.INVALID_SENSOR
        assert reading_refused(wrong | {"value": "x"}) == Reason.INVALID_VALUE
        assert reading_refused(wrong | {"value": "x", "sensor": ""}) == Reason.INVALID_SENSOR

    def test_the_sensor_is_reported_only_if_its_name_is_valid(self) -> None:
        batch = decode_readings(READING | {"at": "now"}, READING | {"sensor": "a\0", "seq": -1}, {"sensor": "door"}, 1)

        assert [refusal.sensor for refusal in batch.reading_refusals] == ["air", None, "door", None]

    def test_details_say_what_to_do_about_a_missing_offset(self) -> None:
        batch = decode_readings(READING | {"at": "2026-11-22T20:00:00.000"}, READING | {"at": "now"})

        assert [refusal.detail for refusal in batch.reading_refusals] == [
            "at is a local time without an offset; end it with Z or ±hh:mm",
            "at is neither an RFC 3339 time (2026-11-22T20:00:00.000Z) nor epoch milliseconds, years 0001 to 9999",
        ]

    def test_details_never_repeat_the_payload(self) -> None:
        secret = "correct-horse-battery-staple"
        wrong = [secret, {"sensor": secret * 10}, *(READING | {field: secret} for field in ("at", "value", "seq"))]
        batch = decode_readings(*wrong, READING | {"sensor": [secret]}, READING | {"x_": secret, "value": {secret: 1}})

        assert len(batch.reading_refusals) == 7
        assert secret not in str(batch.reading_refusals)
