"""Who sent a record: only what a known, unrevoked device has signed goes on, everything else is refused with its reason.

Border: signatures and headers; what a record holds is not looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from schemas.errors import Reason
from schemas.signing import HEADER_DEVICE, HEADER_SIGNATURE
from sinks.dead_letters import Record, Refusal
from sinks.timescale.catalog import Catalog, Device

_CONTENT_TYPE = "content-type"


@dataclass(slots=True)
class Trusted:
    """Records whose signature holds, as parallel lists, and the refusals of the others."""

    records: list[Record] = field(default_factory=list)
    devices: list[Device] = field(default_factory=list)
    content_types: list[str | None] = field(default_factory=list)
    # The catalogue that they were judged by.
    generation: int = 0
    refusals: list[Refusal] = field(default_factory=list)


async def authenticate(records: Sequence[Record], catalog: Catalog, *, key_is_device: bool = True) -> Trusted:
    """Keep the records that a known device signed; refuse each other one with its reason.

    Args:
        records: as fetched.
        catalog: devices and their secrets.
        key_is_device: on this topic a record's key is its device's id; on others it is signed all the same.
    """
    generation = catalog.generation
    claims = [_claim(record.headers) for record in records]
    claimed = {claim[0] for claim in claims if claim[0] is not None}
    # Anyone may write anything into a header: PostgreSQL takes no NUL, and no device id has one.
    names = {raw: raw.decode("utf-8", "replace").replace("\0", "\ufffd") for raw in claimed}
    known = await catalog.devices(names.values())
    devices = {raw: known[name] for raw, name in names.items() if name in known}
    trusted = Trusted(generation=generation)
    for record, (raw, signature, content_type) in zip(records, claims, strict=True):
        device = devices.get(raw) if raw is not None else None
        named = not key_is_device or record.key == raw
        if device is not None and named and _is_signed(record, signature, device):
            trusted.records.append(record)
            trusted.devices.append(device)
            trusted.content_types.append(content_type)
        else:
            reason, detail = _why_untrusted(raw, signature, device, is_named=named)
            name = None if raw is None else names[raw]
            trusted.refusals.append(Refusal(record, None, None, reason, detail, name, None))
    return trusted


def _claim(headers: Sequence[tuple[str, bytes]]) -> tuple[bytes | None, bytes | None, str | None]:
    """Device, signature and content type as the headers state them; of a repeated header the last counts."""
    device_id: bytes | None = None
    signature: bytes | None = None
    content_type: str | None = None
    for name, value in headers:
        if name == HEADER_DEVICE:
            device_id = value
        elif name == HEADER_SIGNATURE:
            signature = value
        elif name == _CONTENT_TYPE:
            content_type = (value or b"").decode("ascii", "replace")
    return device_id, signature, content_type


def _is_signed(record: Record, signature: bytes | None, device: Device) -> bool:
    """Whether the device it names signed the record. A revoked device has no keys."""
    if signature is None or record.key is None:
        return False
    value = record.value or b""
    return any(key.verify(record.key, value, signature) for key in device.keys)


def _why_untrusted(
    device_id: bytes | None, signature: bytes | None, device: Device | None, *, is_named: bool
) -> tuple[Reason, str]:
    if device_id is None or not signature:
        missing = HEADER_DEVICE if device_id is None else HEADER_SIGNATURE
        return Reason.UNSIGNED, f"header {missing} is missing; sign the record as a registered device"
    if device is None:
        return Reason.UNKNOWN_DEVICE, "no device has this id; register it and use the id given"
    if device.revoked:
        return Reason.REVOKED_DEVICE, "this device was revoked; register a new one"
    if not is_named:
        return (
            Reason.KEY_MISMATCH,
            f"the record's key is not the id in header {HEADER_DEVICE}; use the device id as key",
        )
    return (
        Reason.WRONG_SIGNATURE,
        "the signature is not HMAC-SHA256(secret, key ‖ 0x00 ‖ value) with a secret of this device",
    )
