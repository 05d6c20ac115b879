"""Who may say what: only a known, unrevoked device under its own key with its own secret."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from schemas.signing import SecretKey
from sinks.timescale.catalog import Catalog, Device
from streams.authentication import Trusted, authenticate


@dataclass
class FakeRecord:
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    offset: int = 0
    timestamp: int = 0


@dataclass
class FixedCatalog:
    """The devices that exist; the real catalogue's part that authentication needs."""

    known: dict[str, Device]
    generation: int = 7
    asked: list[set[str]] = field(default_factory=list)

    async def devices(self, device_ids: Iterable[str]) -> dict[str, Device]:
        wanted = set(device_ids)
        self.asked.append(wanted)
        return {name: device for name, device in self.known.items() if name in wanted}


def device(name: str, *secrets: str, revoked: bool = False) -> Device:
    return Device(name, "ten_a", revoked, tuple(SecretKey(secret) for secret in secrets), None)


CATALOG = {
    "dev_a": device("dev_a", "old", "new"),
    "dev_b": device("dev_b", "other"),
    "dev_gone": device("dev_gone", revoked=True),
}


def signed(secret: str, name: str, key: bytes, value: bytes = b"{}") -> FakeRecord:
    signature = hmac.new(secret.encode(), key + b"\x00" + value, hashlib.sha256).hexdigest().encode()
    return FakeRecord(key, value, [("weir-device", name.encode()), ("weir-signature", signature)])


def judge(*records: FakeRecord) -> Trusted:
    return asyncio.run(authenticate(records, cast("Catalog", FixedCatalog(CATALOG))))


def reasons(trusted: Trusted) -> list[tuple[str, Any]]:
    return [(refusal.reason.value, refusal.tenant_id) for refusal in trusted.refusals]


@pytest.mark.parametrize("secret", ["old", "new"])
def test_any_current_secret_of_the_device_is_accepted(secret: str) -> None:
    trusted = judge(signed(secret, "dev_a", b"dev_a"))

    assert [one.device_id for one in trusted.devices] == ["dev_a"]
    assert trusted.refusals == []


def test_the_generation_is_the_one_before_the_devices_were_read() -> None:
    assert judge().generation == 7


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (FakeRecord(b"dev_a", b"{}", []), "unsigned"),
        (FakeRecord(b"dev_a", b"{}", [("weir-device", b"dev_a")]), "unsigned"),
        (FakeRecord(b"dev_a", b"{}", [("weir-device", b"dev_a"), ("weir-signature", b"")]), "unsigned"),
        (FakeRecord(b"dev_a", b"{}", [("weir-device", b"dev_a"), ("weir-signature", b"zz")]), "wrong_signature"),
        (FakeRecord(None, b"{}", [("weir-device", b"dev_a"), ("weir-signature", b"00")]), "key_mismatch"),
        (signed("old", "nobody", b"nobody"), "unknown_device"),
        (signed("old", "dev_gone", b"dev_gone"), "revoked_device"),
        (signed("other", "dev_b", b"dev_a"), "key_mismatch"),
        (signed("other", "dev_a", b"dev_a"), "wrong_signature"),
        (signed("old", "dev_\xff", b"dev_\xff"), "unknown_device"),
    ],
)
def test_everything_else_is_refused_with_its_reason_and_without_a_tenant(record: FakeRecord, reason: str) -> None:
    assert reasons(judge(record)) == [(reason, None)]


def test_a_changed_value_breaks_the_signature() -> None:
    record = signed("old", "dev_a", b"dev_a", b'{"value": 3}')
    record.value = b'{"value": 4}'

    assert reasons(judge(record)) == [("wrong_signature", None)]


def test_one_bad_record_leaves_its_neighbours_alone() -> None:
    trusted = judge(signed("old", "dev_a", b"dev_a"), FakeRecord(None, None, []), signed("other", "dev_b", b"dev_b"))

    assert [one.device_id for one in trusted.devices] == ["dev_a", "dev_b"]
    assert len(trusted.refusals) == 1
