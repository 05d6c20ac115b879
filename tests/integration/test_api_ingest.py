"""`POST /v1/readings`: a device without Kafka is stored like one with it, and learns at once what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import msgspec
import pytest
from kafka import KafkaConsumer

from core.kafka import describe
from tests.integration.api_scene import Client, api_settings, client, new_tenant, serving
from tests.integration.conftest import Broker
from tests.integration.publishing import body, reading, signed_headers
from tests.integration.servers import Database, Tenant, WorkerProcess, wait_until

pytestmark = pytest.mark.integration

AT = "2026-11-20T12:00:00.000Z"
MIB = 1_048_576


@pytest.fixture
def tenant(database: Database) -> Tenant:
    return new_tenant(database, devices=2)


@pytest.fixture
def url(database: Database, broker: Broker, topic_prefix: str) -> Iterator[str]:
    settings = api_settings(database.reader_url, kafka_bootstrap=broker.bootstrap, topic_prefix=topic_prefix)
    with serving(settings) as url:
        yield url


@pytest.fixture
def device(url: str, tenant: Tenant) -> Iterator[Client]:
    with client(url, credential_of(tenant)) as device:
        yield device


def credential_of(tenant: Tenant, number: int = 0) -> str:
    device = tenant.devices[number]
    return f"{device.device_id}.{device.secret}"


def post(device: Client, value: bytes, **headers: str) -> httpx2.Response:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return device.http.post("/v1/readings", content=value, headers=named)


def first_record(bootstrap: str, topic: str) -> Any:
    """The first record that comes on a topic."""
    consumer = KafkaConsumer(
        topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest", consumer_timeout_ms=60_000
    )
    try:
        return next(iter(consumer))
    finally:
        consumer.close()


class TestAccepted:
    def test_the_record_reaches_kafka_byte_for_byte_and_signed_in_the_devices_name(
        self, device: Client, tenant: Tenant, broker: Broker, topic_prefix: str
    ) -> None:
        value = b'{ "readings": [ {"sensor": "air", "at": "2026-11-20T12:00:00Z", "value": 3.80} ] }'
        parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

        response = post(device, value, content_type="application/json; charset=utf-8", traceparent=parent)

        assert (response.status_code, response.json()) == (202, {"accepted": 1})
        record = first_record(broker.bootstrap, f"{topic_prefix}readings")
        assert record.key == tenant.devices[0].device_id.encode()
        assert record.value == value
        assert list(record.headers) == [
            *signed_headers(tenant.devices[0], value),
            ("content-type", b"application/json; charset=utf-8"),
            ("traceparent", parent.encode()),
        ]

    def test_readings_in_every_format_can_be_read_again_with_the_api_key(
        self, url: str, device: Client, tenant: Tenant, new_worker: Callable[..., WorkerProcess]
    ) -> None:
        new_worker()
        packed = msgspec.msgpack.encode({"readings": [reading("2026-11-20T12:01:00Z", 2.5)]})
        senml = json.dumps([{"n": "air", "u": "Cel", "t": 1_795_176_120, "v": 3.5}]).encode()  # 12:02
        assert post(device, body(reading(AT, 1.5, seq=7))).status_code == 202
        assert post(device, packed, content_type="application/msgpack").status_code == 202
        assert post(device, senml, content_type="application/senml+json").status_code == 202

        with client(url, tenant.api_key) as api:
            wait_until(lambda: stored(api) >= 3, 40, "three stored readings")
            (sensor,) = api.get("/v1/sensors")["items"]
            path = f"/v1/sensors/{sensor['sensor_id']}/readings"
            items = api.get(path, start=AT, end="2026-11-20T13:00:00Z")["items"]

        assert (sensor["name"], sensor["device_id"]) == ("air", tenant.devices[0].device_id)
        assert [(item["at"], item["value"], item["seq"]) for item in items] == [
            ("2026-11-20T12:00:00.000Z", 1.5, 7),
            ("2026-11-20T12:01:00.000Z", 2.5, 0),
            ("2026-11-20T12:02:00.000Z", 3.5, 0),
        ]

    def test_a_bad_reading_is_named_and_becomes_a_dead_letter_while_the_others_are_stored(
        self, device: Client, database: Database, new_worker: Callable[..., WorkerProcess]
    ) -> None:
        new_worker()

        response = post(device, body(reading(AT, 1.5), reading("noon", 2.5), reading(AT, 3.5, seq=-1)))

        assert response.status_code == 202
        answer = response.json()
        assert answer["accepted"] == 1
        assert [(each["index"], each["reason"]) for each in answer["refused"]] == [
            (1, "invalid_time"),
            (2, "invalid_seq"),
        ]
        wait_until(lambda: database.query("SELECT count(*) FROM dead_letters") == [(2,)], 40, "two dead letters")
        assert database.query("SELECT index, reason FROM dead_letters ORDER BY 1") == [
            (1, "invalid_time"),
            (2, "invalid_seq"),
        ]
        assert database.query("SELECT value FROM readings") == [(1.5,)]

    def test_a_record_of_exactly_one_mebibyte_and_ten_thousand_readings_passes(self, device: Client) -> None:
        value = body(*(reading(1_795_176_000_000 + n, 1.5) for n in range(10_000)))
        assert len(value) < MIB

        response = post(device, value + b" " * (MIB - len(value)))

        assert (response.status_code, response.json()["accepted"]) == (202, 10_000)


def stored(api: Client) -> int:
    start_end: dict[str, Any] = {"start": AT, "end": "2026-11-20T13:00:00Z"}
    return sum(item["accepted"] for item in api.get("/v1/data-quality", **start_end)["items"])


class TestRefused:
    @pytest.mark.parametrize(
        ("value", "content_type", "reason"),
        [
            (b"", "application/json", "undecodable"),
            (b"not json", "application/json", "undecodable"),
            (b"[" * 100_000, "application/json", "undecodable"),
            (b"{}", "application/json", "wrong_shape"),
            (b'{"readings": []}', "application/json", "empty"),
            (b'{"readings": [{"sensor": "a", "at": 1, "value": 1e400}]}', "application/json", "undecodable"),
            (body(*([reading(AT, 1.0)] * 10_001)), "application/json", "too_many_readings"),
            (b"\x81", "application/msgpack", "undecodable"),
            (body(reading(AT, 1.5)), "text/plain", "unsupported_format"),
        ],
    )
    def test_a_record_that_is_refused_whole_is_422_with_the_reason(
        self, device: Client, value: bytes, content_type: str, reason: str
    ) -> None:
        response = post(device, value, content_type=content_type)

        assert (response.status_code, response.json()["code"]) == (422, reason)

    def test_above_one_mebibyte_it_is_413_whether_the_length_is_told_or_not(self, device: Client) -> None:
        def chunks() -> Iterator[bytes]:
            for _ in range(17):
                yield b" " * 65_536

        told = device.http.post("/v1/readings", content=b" " * (MIB + 1))
        streamed = device.http.post("/v1/readings", content=chunks())

        for response in (told, streamed):
            assert (response.status_code, response.json()["code"]) == (413, "too_large")

    def test_a_wrong_secret_another_devices_secret_and_an_unknown_device_are_401(
        self, url: str, tenant: Tenant
    ) -> None:
        first, second = tenant.devices
        for credential in (
            f"{first.device_id}.wrong",
            f"{first.device_id}.{second.secret}",
            f"{first.device_id}.{first.secret}x",
            f"dev_unknown.{first.secret}",
            first.secret,
        ):
            with client(url, credential) as stranger:
                response = post(stranger, body(reading(AT, 1.5)))
            assert response.status_code == 401
            assert response.headers["www-authenticate"].startswith("Bearer")

    def test_a_revoked_device_stops_within_seconds(self, device: Client, database: Database, tenant: Tenant) -> None:
        assert post(device, body(reading(AT, 1.5))).status_code == 202

        database.query("UPDATE weir.device SET revoked_at = now() WHERE device_id = %s", tenant.devices[0].device_id)

        wait_until(lambda: post(device, body(reading(AT, 1.5))).status_code == 401, 5, "the revocation")

    def test_a_second_secret_holds_beside_the_first_until_it_expires(
        self, url: str, database: Database, tenant: Tenant
    ) -> None:
        # The second device's secret is sealed for its own id: it cannot be lent to the first one.
        first, second = tenant.devices
        database.query(
            "INSERT INTO weir.device_secret (device_id, sealed, expires_at)"
            " SELECT device_id, sealed, now() + interval '1 hour' FROM weir.device_secret WHERE device_id = %s",
            first.device_id,
        )
        database.query(
            "UPDATE weir.device_secret SET expires_at = now() WHERE device_id = %s AND expires_at IS NULL",
            first.device_id,
        )
        database.query("UPDATE weir.device_secret SET expires_at = now() WHERE device_id = %s", second.device_id)
        for number, status in ((0, 202), (1, 401)):
            with client(url, credential_of(tenant, number)) as device:
                assert post(device, body(reading(AT, 1.5))).status_code == status


def test_while_the_broker_is_away_it_is_503_with_retry_after_and_afterwards_202_again(
    database: Database, tenant: Tenant, own_broker: Broker
) -> None:
    broker = own_broker
    settings = api_settings(
        database.reader_url, kafka_bootstrap=broker.bootstrap, api_ingest_timeout_s=2.0, topic_partitions=3
    )
    with serving(settings) as url, client(url, credential_of(tenant)) as device:
        assert post(device, body(reading(AT, 1.5))).status_code == 202
        assert describe(broker.bootstrap, ["readings"])["readings"].partitions == 3
        broker.stop()

        refused = post(device, body(reading(AT, 2.5)))
        assert (refused.status_code, refused.json()["code"]) == (503, "broker_unavailable")
        assert int(refused.headers["retry-after"]) >= 1
        assert device.http.get("/livez").status_code == 200

        broker.start()
        wait_until(lambda: post(device, body(reading(AT, 3.5))).status_code == 202, 30, "the broker's return")


def test_a_broker_that_never_was_there_does_not_keep_the_api_from_starting(database: Database, tenant: Tenant) -> None:
    with serving(api_settings(database.reader_url)) as url, client(url, credential_of(tenant)) as device:
        assert post(device, body(reading(AT, 1.5))).status_code == 503
        assert post(device, b"nonsense").status_code == 422
