"""Readings from a device through Kafka and the worker into the database: each claim of INTERFACES §4 on real servers."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from kafka import KafkaConsumer

from tests.integration.conftest import Broker
from tests.integration.publishing import ThirdPartyDevice, body, reading, signed_headers
from tests.integration.servers import (
    Database,
    create_tenant,
    wait_until,
)
from tests.integration.stream_scene import Own

pytestmark = pytest.mark.integration

AT = "2026-10-01T12:00:00.000Z"


@pytest.fixture
def own(database: Database) -> Own:
    return Own(database, asyncio.run(create_tenant(database, devices=2)))


class TestStoring:
    def test_a_reading_of_a_third_party_client_becomes_a_row(self, own: Own, device: ThirdPartyDevice) -> None:
        device.send_all(own.tenant.devices[0], [body(reading(AT, 3.8, seq=17))])

        own.wait_for_readings(1)

        assert own.stored() == [(datetime(2026, 10, 1, 12, tzinfo=UTC), 17, 3.8)]
        assert own.usage() == [("readings", datetime(2026, 10, 1, 12, tzinfo=UTC), 1)]

    def test_json_messagepack_and_senml_are_stored_alike(self, own: Own, device: ThirdPartyDevice) -> None:
        first, second = own.tenant.devices
        device.send(first, body(reading(AT, 1.5)))
        device.send(
            first,
            msgspec.msgpack.encode({"readings": [reading(1_790_856_060_000, 2.5)]}),
            content_type="application/msgpack",
        )
        senml = json.dumps([{"n": "air", "u": "Cel", "t": 1_790_856_120.0, "v": 3.5}]).encode()
        device.send(second, senml, content_type="application/senml+json")
        device.flush()

        own.wait_for_readings(3)

        assert sorted(value for _, _, value in own.stored()) == [1.5, 2.5, 3.5]

    def test_duplicates_are_stored_once_and_billed_once(self, own: Own, device: ThirdPartyDevice) -> None:
        value = body(reading(AT, 3.8), reading(AT, 3.8), reading("2026-10-01T12:01:00Z", 4.0))
        device.send_all(own.tenant.devices[0], [value, value])
        device.send_all(own.tenant.devices[0], [value, body(reading("2026-10-01T12:02:00Z", 4.1))])

        own.wait_for_readings(3)

        assert [value for _, _, value in own.stored()] == [3.8, 4.0, 4.1]
        assert [quantity for _, _, quantity in own.usage()] == [3]
        # Ten copies arrived of three readings: 4 + 4 + … = 3 records × 3 + 1 = 10, so 7 are duplicates.
        assert own.duplicates() == 7

    @pytest.mark.parametrize("values", [[5.0, 7.0, 6.0], [7.0, 5.0, 6.0], [6.0, 5.0, 7.0]])
    def test_of_conflicting_values_the_greatest_is_the_reading_and_the_others_are_evidence(
        self, values: list[float], own: Own, device: ThirdPartyDevice
    ) -> None:
        for value in values:
            device.send_all(own.tenant.devices[0], [body(reading(AT, value))])
        wait_until(lambda: len(own.conflicts()) == 2, 30, "two conflicts")

        assert [value for _, _, value in own.stored()] == [7.0]
        assert own.conflicts() == [5.0, 6.0]
        assert [quantity for _, _, quantity in own.usage()] == [1]
        assert own.newest() == [7.0]

    def test_late_readings_are_stored_and_shown_by_the_roll_ups(self, own: Own, device: ThirdPartyDevice) -> None:
        device.send_all(own.tenant.devices[0], [body(reading(AT, 3.0))])
        own.wait_for_readings(1)
        device.send_all(
            own.tenant.devices[0], [body(reading("2026-09-01T12:00:00Z", 5.0), reading("2011-01-01T00:00:00Z", 7.0))]
        )
        own.wait_for_readings(3)

        assert own.hours() == [
            (datetime(2011, 1, 1, tzinfo=UTC), 1, 7.0),
            (datetime(2026, 9, 1, 12, tzinfo=UTC), 1, 5.0),
            (datetime(2026, 10, 1, 12, tzinfo=UTC), 1, 3.0),
        ]
        assert own.newest() == [3.0]


def _deeply_nested() -> bytes:
    return b'{"readings": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"


def _many(count: int) -> bytes:
    return body(*(reading(1_790_856_000_000 + n, 1.0) for n in range(count)))


RECORD_REFUSALS = [
    ("not JSON", b"temperature=5", None, "undecodable"),
    ("JSON of another shape", b'{"temperature": 5}', None, "wrong_shape"),
    ("a JSON list", b"[1, 2]", None, "wrong_shape"),
    ("NaN", b'{"readings": [{"sensor": "air", "at": "2026-10-01T12:00:00Z", "value": NaN}]}', None, "undecodable"),
    (
        "Infinity",
        b'{"readings": [{"sensor": "air", "at": "2026-10-01T12:00:00Z", "value": -Infinity}]}',
        None,
        "undecodable",
    ),
    ("1e400", b'{"readings": [{"sensor": "air", "at": "2026-10-01T12:00:00Z", "value": 1e400}]}', None, "undecodable"),
    ("10 001 readings", _many(10_001), None, "too_many_readings"),
    ("an empty list", b'{"readings": []}', None, "empty"),
    ("nothing", b"", None, "undecodable"),
    ("5 MiB", b'{"readings": "' + b"x" * (5 << 20) + b'"}', None, "too_large"),
    ("deeply nested", _deeply_nested(), None, "undecodable"),
    (
        "truncated MessagePack",
        msgspec.msgpack.encode({"readings": [reading(0, 1.0)]})[:-4],
        "application/msgpack",
        "undecodable",
    ),
    ("another format", b"<r/>", "application/xml", "unsupported_format"),
]

READING_REFUSALS = [
    ("a name of 10 000 characters", reading(AT, 1.0, sensor="x" * 10_000), "invalid_sensor"),
    ("a control character", reading(AT, 1.0, sensor="a\x07b"), "invalid_sensor"),
    ("1970", reading(0, 1.0), "impossible_time"),
    ("2000-01-01", reading("2000-01-01T00:00:00Z", 1.0), "impossible_time"),
    ("9999", reading("9999-12-31T23:59:59Z", 1.0), "impossible_time"),
    ("local time", reading("2026-10-01T12:00:00", 1.0), "invalid_time"),
    ("text for a value", reading(AT, 1.0) | {"value": "warm"}, "invalid_value"),
]


class TestRefusing:
    @pytest.mark.parametrize(
        ("value", "content_type", "reason"),
        [case[1:] for case in RECORD_REFUSALS],
        ids=[case[0] for case in RECORD_REFUSALS],
    )
    def test_a_bad_record_is_refused_whole_and_nothing_else_is_disturbed(
        self,
        value: bytes,
        content_type: str | None,
        reason: str,
        own: Own,
        device: ThirdPartyDevice,
    ) -> None:
        bad, good = own.tenant.devices
        device.send(good, body(reading(AT, 1.0)))
        device.send(bad, value, content_type=content_type)
        device.send(good, body(reading("2026-10-01T12:01:00Z", 2.0)))
        device.flush()

        own.wait_for_refusals(1)
        own.wait_for_readings(2)

        assert own.refusals() == [(reason, bad.device_id, None, None)]
        assert own.kept_values() == [value]
        assert [value for _, _, value in own.stored()] == [1.0, 2.0]

    def test_a_bad_reading_is_refused_alone_with_its_index(self, own: Own, device: ThirdPartyDevice) -> None:
        ahead = (datetime.now(UTC) + timedelta(minutes=6)).isoformat()
        bad = [case[1] for case in READING_REFUSALS] + [reading(ahead, 1.0)]
        good = [reading(1_790_856_000_000 + n, float(n)) for n in range(len(bad))]
        mixed = [one for pair in zip(good, bad, strict=True) for one in pair]
        device.send_all(own.tenant.devices[0], [body(*mixed)])

        own.wait_for_readings(len(good))
        own.wait_for_refusals(len(bad))

        found = sorted((index, reason) for reason, _, _, index in own.refusals())
        expected = [case[2] for case in READING_REFUSALS] + ["impossible_time"]
        # Good and bad alternate, so the bad ones have the odd indices.
        assert found == [(2 * n + 1, reason) for n, reason in enumerate(expected)]

    def test_messagepack_not_a_number_is_refused_alone(self, own: Own, device: ThirdPartyDevice) -> None:
        values = [float("nan"), float("inf"), float("-inf"), 1.0]
        readings = [reading(1_790_856_000_000 + n, value) for n, value in enumerate(values)]
        device.send(
            own.tenant.devices[0], msgspec.msgpack.encode({"readings": readings}), content_type="application/msgpack"
        )
        device.flush()

        own.wait_for_refusals(3)

        assert [(index, reason) for reason, _, _, index in own.refusals()] == [(n, "invalid_value") for n in range(3)]
        assert [value for _, _, value in own.stored()] == [1.0]

    def test_records_that_no_device_signed_are_refused_without_a_tenant(
        self, own: Own, device: ThirdPartyDevice
    ) -> None:
        stranger = asyncio.run(create_tenant(own.database, name="stranger")).devices[0]
        victim = own.tenant.devices[0]
        value = body(reading(AT, 99.0))
        headers = signed_headers(victim, value)
        device.send(victim, value, headers=[])
        device.send(victim, value, headers=[("weir-device", b"dev_unknown"), headers[1]])
        device.send(victim, value, headers=[headers[0], ("weir-signature", b"00" * 32)])
        device.send(victim, value, headers=[headers[0], ("weir-signature", b"\xff\xfe not hex")])
        # Another tenant's device signs, with its own secret, a record under the victim's key …
        device.send(victim, value, headers=signed_headers(stranger, value, key=victim.device_id.encode()))
        # … or claims to be the victim.
        device.send(
            victim, value, headers=[headers[0], signed_headers(stranger, value, key=victim.device_id.encode())[1]]
        )
        device.flush()

        own.wait_for_refusals(6)

        assert [reason for reason, *_ in own.refusals()] == [
            "unsigned",
            "unknown_device",
            "wrong_signature",
            "wrong_signature",
            "key_mismatch",
            "wrong_signature",
        ]
        assert own.kept_values() == []
        assert own.stored() == []

    @pytest.mark.parametrize("claimed", [b"\x00", b"\xff\x00", b"a\x00b", b"\xff\xfe", b"", b"\x1b[31m"])
    def test_a_header_of_any_bytes_stops_nothing(self, claimed: bytes, own: Own, device: ThirdPartyDevice) -> None:
        value = body(reading(AT, 1.0))
        device.send(own.tenant.devices[0], value, headers=[("weir-device", claimed), ("weir-signature", b"\x00")])
        device.send_all(own.tenant.devices[0], [value])

        own.wait_for_refusals(1)
        own.wait_for_readings(1)

        assert [reason for reason, *_ in own.refusals()] == ["unknown_device"]

    def test_a_revoked_device_is_refused_within_seconds(self, own: Own, device: ThirdPartyDevice) -> None:
        device.send_all(own.tenant.devices[0], [body(reading(AT, 1.0))])
        own.wait_for_readings(1)

        own.database.query(
            "UPDATE weir.device SET revoked_at = now() WHERE device_id = %s", own.tenant.devices[0].device_id
        )
        device.send_all(own.tenant.devices[0], [body(reading("2026-10-01T12:01:00Z", 2.0))])
        own.wait_for_refusals(1)

        assert own.refusals() == [("revoked_device", own.tenant.devices[0].device_id, None, None)]
        assert [value for _, _, value in own.stored()] == [1.0]

    def test_a_refused_record_reaches_the_dead_letters_topic_with_its_bytes_and_connect_headers(
        self,
        own: Own,
        device: ThirdPartyDevice,
        broker: Broker,
        topic_prefix: str,
    ) -> None:
        device.send_all(own.tenant.devices[0], [b"\x00\xff not json"])
        consumer = KafkaConsumer(
            f"{topic_prefix}dead-letters",
            bootstrap_servers=broker.bootstrap,
            auto_offset_reset="earliest",
            consumer_timeout_ms=60_000,
        )
        record = next(one for one in consumer if one.key == own.tenant.devices[0].device_id.encode())
        consumer.close()

        headers = dict(record.headers)
        assert record.value == b"\x00\xff not json"
        assert record.key == own.tenant.devices[0].device_id.encode()
        assert headers["weir-device"] == own.tenant.devices[0].device_id.encode()
        assert headers["__connect.errors.topic"] == f"{topic_prefix}readings".encode()
        assert headers["__connect.errors.exception.class.name"] == b"undecodable"
