"""What a reading and a record look like on the wire, and what is refused before it gets there."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from kafka.partitioner import murmur2
from weir_device import wire


def encoded(**changes: object) -> dict[str, object]:
    arguments: dict[str, Any] = {"sensor": "air", "value": 3.8, "at": 1_795_377_600_000, "seq": 0} | changes
    reading: dict[str, object] = json.loads(wire.reading_entry(**arguments).data)
    return reading


def test_a_reading_has_the_fields_of_the_interface() -> None:
    assert encoded(seq=17) == {"sensor": "air", "at": 1_795_377_600_000, "value": 3.8, "seq": 17}


def test_seq_zero_is_left_out() -> None:
    assert encoded() == {"sensor": "air", "at": 1_795_377_600_000, "value": 3.8}


def test_a_value_keeps_every_bit() -> None:
    assert encoded(value=0.1 + 0.2)["value"] == 0.30000000000000004


@pytest.mark.parametrize(
    ("at", "expected_ms"),
    [
        (datetime(2026, 11, 22, 20, 0, tzinfo=UTC), 1_795_377_600_000),
        (datetime(2026, 11, 22, 21, 0, tzinfo=timezone(timedelta(hours=1))), 1_795_377_600_000),
        (datetime(2026, 11, 22, 20, 0, 0, 999, tzinfo=UTC), 1_795_377_600_000),  # 0.999 ms
        (datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), -1),  # floored, not cut towards zero
        (0, 0),
    ],
)
def test_times_are_floored_to_epoch_milliseconds(at: datetime | int, expected_ms: int) -> None:
    assert wire.epoch_ms(at) == expected_ms


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"at": datetime(2026, 11, 22, 20, 0)}, "no offset"),  # noqa: DTZ001 - the mistake under test
        ({"at": 253_402_300_800_000}, "years 0001 to 9999"),
        ({"at": -62_135_596_800_001}, "years 0001 to 9999"),
        ({"at": datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))}, "years 0001 to 9999"),
        ({"value": float("nan")}, "finite"),
        ({"value": float("-inf")}, "finite"),
        ({"value": 10**400}, "finite"),
        ({"sensor": ""}, "0 characters"),
        ({"sensor": "s" * 129}, "129 characters"),
        ({"sensor": "a\nb"}, "printable"),
        ({"seq": -1}, "0 to 2147483647"),
        ({"seq": 2**31}, "0 to 2147483647"),
    ],
)
def test_what_the_other_end_would_refuse_is_a_value_error(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        encoded(**changes)


@pytest.mark.parametrize(
    "changes",
    [{"value": "3.8"}, {"value": True}, {"value": None}, {"at": 1.5}, {"at": True}, {"seq": 1.0}, {"sensor": 7}],
)
def test_what_is_no_number_or_no_name_is_a_type_error(changes: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        encoded(**changes)


def test_the_longest_name_and_the_greatest_seq_are_accepted() -> None:
    assert encoded(sensor="ä" * 128, seq=2**31 - 1)["seq"] == 2_147_483_647


def test_readings_are_joined_into_one_record() -> None:
    entries = [wire.reading_entry("air", value, 1000, 0).data for value in (1.0, 2.0)]

    record = wire.readings_record(entries, sent_at_ms=2000)

    assert json.loads(record.value) == {
        "readings": [{"sensor": "air", "at": 1000, "value": 1.0}, {"sensor": "air", "at": 1000, "value": 2.0}],
        "sent_at": 2000,
    }
    assert (record.content_type, record.readings) == ("application/json", 2)
    assert len(record.value) <= wire.joined_bytes(sum(map(len, entries)), 2)


@pytest.mark.parametrize(
    ("size", "content_type", "readings", "complaint"),
    [
        (10, "text/plain", 1, "unknown"),
        (10, "application/json", 0, "1 to 10000 readings"),
        (10, "application/json", 10_001, "1 to 10000 readings"),
        (900 * 1024 + 1, "application/json", 1, "at most 921600 bytes"),
    ],
)
def test_a_whole_record_outside_the_limits_is_refused(
    size: int, content_type: str, readings: int, complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        wire.record_entry(b"x" * size, content_type, readings)


def test_the_signature_is_hmac_sha256_of_key_zero_byte_value() -> None:
    signature = wire.sign("sésame".encode(), b"fridge-1", b"{}")

    # printf 'fridge-1\\0{}' | openssl dgst -sha256 -hmac sésame
    assert signature == "97a12282c6a890578ace79b75bead936cebd79f100136d092da317ba123cabb2"


@pytest.mark.parametrize(
    ("key", "java"),
    [  # of org.apache.kafka.common.utils.UtilsTest.testMurmur2, signed 32-bit numbers
        (b"21", -973_932_308),
        (b"foobar", -790_332_482),
        (b"a-little-bit-long-string", -985_981_536),
        (b"a-little-bit-longer-string", -1_486_304_829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        (b"abc", 479_470_107),
    ],
)
def test_keys_are_hashed_as_javas_client_does(key: bytes, java: int) -> None:
    assert murmur2(key) == java & 0xFFFF_FFFF
