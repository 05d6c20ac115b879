"""Readings from a device through Kafka and the worker into the database: each claim of INTERFACES §4 on real servers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from kafka import KafkaConsumer

from tests.integration.conftest import Broker
from tests.integration.publishing import ThirdPartyDevice, body, reading, signed_headers
from tests.integration.servers import Database, Tenant, WorkerProcess, create_tenant, wait_until

pytestmark = pytest.mark.integration

NEW_WORKER = Callable[..., WorkerProcess]
AT = "2026-10-01T12:00:00.000Z"


def stored(database: Database) -> list[tuple[Any, ...]]:
    return database.query("SELECT at, seq, value FROM readings ORDER BY sensor_id, at, seq")


def refusals(database: Database) -> list[tuple[Any, ...]]:
    return database.query("SELECT reason, device_id, sensor, index FROM dead_letters ORDER BY dead_letter_id")


def wait_for_count(database: Database, table: str, count: int) -> None:
    statements = {
        "readings": "SELECT count(*) FROM readings",
        "dead_letters": "SELECT count(*) FROM dead_letters",
        "reading_conflicts": "SELECT count(*) FROM reading_conflicts",
    }
    wait_until(lambda: database.query(statements[table])[0][0] >= count, 30, f"{count} rows in {table}")


@pytest.fixture
def tenant(database: Database) -> Tenant:
    return asyncio.run(create_tenant(database, devices=2))


@pytest.fixture
def device(broker: Broker, topic_prefix: str) -> ThirdPartyDevice:
    return ThirdPartyDevice(broker.bootstrap, f"{topic_prefix}readings")


@pytest.fixture
def worker(new_worker: NEW_WORKER) -> WorkerProcess:
    return new_worker()


class TestStoring:
    def test_a_reading_of_a_third_party_client_becomes_a_row(
        self, database: Database, tenant: Tenant, device: ThirdPartyDevice, worker: WorkerProcess
    ) -> None:
        device.send_all(tenant.devices[0], [body(reading(AT, 3.8, seq=17))])

        wait_for_count(database, "readings", 1)

        assert stored(database) == [(datetime(2026, 10, 1, 12, tzinfo=UTC), 17, 3.8)]
        assert database.query("SELECT tenant_id, meter, bucket_start, quantity FROM usage_hourly") == [
            (tenant.tenant_id, "readings", datetime(2026, 10, 1, 12, tzinfo=UTC), 1)
        ]

    def test_json_messagepack_and_senml_are_stored_alike(
        self, database: Database, tenant: Tenant, device: ThirdPartyDevice, worker: WorkerProcess
    ) -> None:
        first, second = tenant.devices
        device.send(first, body(reading(AT, 1.5)))
        device.send(
            first,
            msgspec.msgpack.encode({"readings": [reading(1_790_856_060_000, 2.5)]}),
            content_type="application/msgpack",
        )
        senml = json.dumps([{"n": "air", "u": "Cel", "t": 1_790_856_120.0, "v": 3.5}]).encode()
        device.send(second, senml, content_type="application/senml+json")
        device.flush()

        wait_for_count(database, "readings", 3)

        assert sorted(value for _, _, value in stored(database)) == [1.5, 2.5, 3.5]

    def test_duplicates_are_stored_once_and_billed_once(
        self, database: Database, tenant: Tenant, device: ThirdPartyDevice, worker: WorkerProcess
    ) -> None:
        value = body(reading(AT, 3.8), reading(AT, 3.8), reading("2026-10-01T12:01:00Z", 4.0))
        device.send_all(tenant.devices[0], [value, value])
        device.send_all(tenant.devices[0], [value, body(reading("2026-10-01T12:02:00Z", 4.1))])

        wait_for_count(database, "readings", 3)

        assert [value for _, _, value in stored(database)] == [3.8, 4.0, 4.1]
        assert database.query("SELECT sum(quantity) FROM usage_hourly") == [(3,)]
        # Ten copies arrived of three readings: 4 + 4 + … = 3 records × 3 + 1 = 10, so 7 are duplicates.
        assert database.query("SELECT sum(duplicates) FROM weir.quality_hourly") == [(7,)]

    @pytest.mark.parametrize("values", [[5.0, 7.0, 6.0], [7.0, 5.0, 6.0], [6.0, 5.0, 7.0]])
    def test_of_conflicting_values_the_greatest_is_the_reading_and_the_others_are_evidence(
        self, values: list[float], database: Database, tenant: Tenant, device: ThirdPartyDevice, worker: WorkerProcess
    ) -> None:
        for value in values:
            device.send_all(tenant.devices[0], [body(reading(AT, value))])
        wait_for_count(database, "reading_conflicts", 2)

        assert [value for _, _, value in stored(database)] == [7.0]
        assert database.query("SELECT value FROM reading_conflicts ORDER BY 1") == [(5.0,), (6.0,)]
        assert database.query("SELECT sum(quantity) FROM usage_hourly") == [(1,)]
        assert database.query("SELECT last_value FROM weir.sensor_state") == [(7.0,)]

    def test_late_readings_are_stored_and_shown_by_the_roll_ups(
        self, database: Database, tenant: Tenant, device: ThirdPartyDevice, worker: WorkerProcess
    ) -> None:
        device.send_all(tenant.devices[0], [body(reading(AT, 3.0))])
        wait_for_count(database, "readings", 1)
        device.send_all(
            tenant.devices[0], [body(reading("2026-09-01T12:00:00Z", 5.0), reading("2011-01-01T00:00:00Z", 7.0))]
        )
        wait_for_count(database, "readings", 3)

        assert database.query("SELECT bucket_start, count, max FROM readings_1h ORDER BY 1") == [
            (datetime(2011, 1, 1, tzinfo=UTC), 1, 7.0),
            (datetime(2026, 9, 1, 12, tzinfo=UTC), 1, 5.0),
            (datetime(2026, 10, 1, 12, tzinfo=UTC), 1, 3.0),
        ]
        assert database.query("SELECT last_value FROM weir.sensor_state") == [(3.0,)]


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
        database: Database,
        tenant: Tenant,
        device: ThirdPartyDevice,
        worker: WorkerProcess,
    ) -> None:
        bad, good = tenant.devices
        device.send(good, body(reading(AT, 1.0)))
        device.send(bad, value, content_type=content_type)
        device.send(good, body(reading("2026-10-01T12:01:00Z", 2.0)))
        device.flush()

        wait_for_count(database, "dead_letters", 1)
        wait_for_count(database, "readings", 2)

        assert refusals(database) == [(reason, bad.device_id, None, None)]
        assert database.query("SELECT tenant_id, value = %s FROM dead_letters", value) == [(tenant.tenant_id, True)]
        assert [value for _, _, value in stored(database)] == [1.0, 2.0]

    def test_a_bad_reading_is_refused_alone_with_its_index(
        self, database: Database, tenant: Tenant, device: ThirdPartyDevice, worker: WorkerProcess
    ) -> None:
        ahead = (datetime.now(UTC) + timedelta(minutes=6)).isoformat()
        bad = [case[1] for case in READING_REFUSALS] + [reading(ahead, 1.0)]
        good = [reading(1_790_856_000_000 + n, float(n)) for n in range(len(bad))]
        mixed = [one for pair in zip(good, bad, strict=True) for one in pair]
        device.send_all(tenant.devices[0], [body(*mixed)])

        wait_for_count(database, "readings", len(good))
        wait_for_count(database, "dead_letters", len(bad))

        found = database.query("SELECT index, reason FROM dead_letters ORDER BY index")
        expected = [case[2] for case in READING_REFUSALS] + ["impossible_time"]
        # Good and bad alternate, so the bad ones have the odd indices.
        assert found == [(2 * n + 1, reason) for n, reason in enumerate(expected)]

    def test_messagepack_not_a_number_is_refused_alone(
        self, database: Database, tenant: Tenant, device: ThirdPartyDevice, worker: WorkerProcess
    ) -> None:
        values = [float("nan"), float("inf"), float("-inf"), 1.0]
        readings = [reading(1_790_856_000_000 + n, value) for n, value in enumerate(values)]
        device.send(
            tenant.devices[0], msgspec.msgpack.encode({"readings": readings}), content_type="application/msgpack"
        )
        device.flush()

        wait_for_count(database, "dead_letters", 3)

        assert [(index, reason) for reason, _, _, index in refusals(database)] == [
            (n, "invalid_value") for n in range(3)
        ]
        assert [value for _, _, value in stored(database)] == [1.0]

    def test_records_that_no_device_signed_are_refused_without_a_tenant(
        self, database: Database, tenant: Tenant, device: ThirdPartyDevice, worker: WorkerProcess
    ) -> None:
        stranger = asyncio.run(create_tenant(database, name="stranger")).devices[0]
        victim = tenant.devices[0]
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

        wait_for_count(database, "dead_letters", 6)

        assert [reason for reason, *_ in refusals(database)] == [
            "unsigned",
            "unknown_device",
            "wrong_signature",
            "wrong_signature",
            "key_mismatch",
            "wrong_signature",
        ]
        assert database.query("SELECT count(*) FROM dead_letters WHERE tenant_id IS NOT NULL") == [(0,)]
        assert stored(database) == []

    def test_a_revoked_device_is_refused_within_seconds(
        self, database: Database, tenant: Tenant, device: ThirdPartyDevice, worker: WorkerProcess
    ) -> None:
        device.send_all(tenant.devices[0], [body(reading(AT, 1.0))])
        wait_for_count(database, "readings", 1)

        database.query("UPDATE weir.device SET revoked_at = now() WHERE device_id = %s", tenant.devices[0].device_id)
        device.send_all(tenant.devices[0], [body(reading("2026-10-01T12:01:00Z", 2.0))])
        wait_for_count(database, "dead_letters", 1)

        assert refusals(database) == [("revoked_device", tenant.devices[0].device_id, None, None)]
        assert [value for _, _, value in stored(database)] == [1.0]

    def test_a_refused_record_reaches_the_dead_letters_topic_with_its_bytes_and_connect_headers(
        self,
        database: Database,
        tenant: Tenant,
        device: ThirdPartyDevice,
        worker: WorkerProcess,
        broker: Broker,
        topic_prefix: str,
    ) -> None:
        device.send_all(tenant.devices[0], [b"\x00\xff not json"])
        consumer = KafkaConsumer(
            f"{topic_prefix}dead-letters",
            bootstrap_servers=broker.bootstrap,
            auto_offset_reset="earliest",
            consumer_timeout_ms=30_000,
        )
        record = next(iter(consumer))
        consumer.close()

        headers = dict(record.headers)
        assert record.value == b"\x00\xff not json"
        assert record.key == tenant.devices[0].device_id.encode()
        assert headers["weir-device"] == tenant.devices[0].device_id.encode()
        assert headers["__connect.errors.topic"] == f"{topic_prefix}readings".encode()
        assert headers["__connect.errors.exception.class.name"] == b"undecodable"

    def test_a_flood_is_counted_and_sampled_raises_an_alarm_and_stops_nobody(
        self, database: Database, tenant: Tenant, device: ThirdPartyDevice, new_worker: NEW_WORKER
    ) -> None:
        bad, good = tenant.devices
        new_worker(
            WEIR_REFUSALS_KEPT_PER_MINUTE="50", WEIR_REFUSALS_SAMPLED_EVERY="100", WEIR_REFUSALS_ALARM_PER_MINUTE="500"
        )
        device.send_all(bad, [b"junk %d" % n for n in range(3000)])
        device.send_all(good, [body(reading(AT, 1.0))])

        wait_for_count(database, "readings", 1)
        wait_until(lambda: database.query("SELECT sum(refused) FROM refusal_counts") == [(3000,)], 30, "3000 refusals")

        kept = database.query("SELECT count(*) FROM dead_letters")[0][0]
        # 50 kept and every 100th of 3000 per worker and minute; a minute may turn once meanwhile.
        assert 50 <= kept <= 2 * (50 + 30)
        assert database.query("SELECT kind, subject FROM operator_alarms") == [("refusal_flood", bad.device_id)]


def test_the_stored_positions_add_up_to_the_records_published(
    database: Database, tenant: Tenant, device: ThirdPartyDevice, worker: WorkerProcess
) -> None:
    device.send_all(tenant.devices[0], [body(reading(1_790_856_000_000 + n, 1.0)) for n in range(25)])
    wait_for_count(database, "readings", 25)

    assert database.query("SELECT sum(next_offset) FROM stream_positions") == [(25,)]
