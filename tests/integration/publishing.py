"""A third-party device: confluent-kafka and hmac only, following INTERFACES §3-4, nothing of Weir's own code."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable, Sequence
from typing import Any

from confluent_kafka import Producer

from accounts.provisioning import DeviceCredentials

Header = tuple[str, bytes]


def signed_headers(device: DeviceCredentials, value: bytes, key: bytes | None = None) -> list[Header]:
    """The two headers that every record carries."""
    message = (device.device_id.encode() if key is None else key) + b"\x00" + value
    signature = hmac.new(device.secret.encode(), message, hashlib.sha256).hexdigest()
    return [("weir-device", device.device_id.encode()), ("weir-signature", signature.encode())]


def body(*readings: dict[str, Any]) -> bytes:
    """A JSON record of INTERFACES §4."""
    return json.dumps({"readings": list(readings)}).encode()


def reading(at: str | int, value: float, sensor: str = "air", **more: object) -> dict[str, Any]:
    """One reading."""
    return {"sensor": sensor, "at": at, "value": value, **more}


class ThirdPartyDevice:
    """Publishes records with confluent-kafka and its own partitioner (CRC32, not Java's murmur2).

    Attributes:
        sent: how many records so far.
    """

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.sent = 0
        self._topic = topic
        self._producer = Producer(
            {"bootstrap.servers": bootstrap, "linger.ms": 20, "message.max.bytes": 8_000_000, "acks": "all"}
        )
        self._failed: list[str] = []

    def _delivered(self, error: object, _message: object) -> None:
        if error is not None:
            self._failed.append(str(error))

    def send(
        self,
        device: DeviceCredentials,
        value: bytes,
        *,
        headers: Sequence[Header] | None = None,
        key: bytes | None = None,
        content_type: str | None = None,
    ) -> None:
        """Publish one record, signed unless headers are given."""
        chosen = list(signed_headers(device, value) if headers is None else headers)
        if content_type is not None:
            chosen.append(("content-type", content_type.encode()))
        self._producer.produce(
            self._topic,
            value,
            key=device.device_id.encode() if key is None else key,
            headers=chosen,
            on_delivery=self._delivered,
        )
        self._producer.poll(0)
        self.sent += 1

    def send_all(self, device: DeviceCredentials, values: Iterable[bytes]) -> None:
        """Publish many records of one device and wait for the broker."""
        for value in values:
            self.send(device, value)
        self.flush()

    def flush(self) -> None:
        """Wait until the broker has everything."""
        assert self._producer.flush(60) == 0
        assert self._failed == []
