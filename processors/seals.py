"""Sealed hours of usage: what a seal is made over, and whether a receipt holds without any database.

Border: documents in, faults out.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from schemas.receipts import FORMAT, Receipt, Seal


class Fault(msgspec.Struct, frozen=True):
    """Where a receipt does not hold; `hour` is None where all of it is meant."""

    hour: str | None
    why: str


def seal_of(tenant_id: str, one: Seal) -> str:
    """What the seal of these fields is."""
    fields = (
        "weir-seal-1", tenant_id, one.seal_no, one.hour, one.version, one.readings, one.sensors, one.rows_sha256, one.previous,
    )  # fmt: skip
    return hashlib.sha256("\n".join(map(str, fields)).encode()).hexdigest()


def check_receipt(receipt: Receipt) -> list[Fault]:
    """Every hour in which the receipt contradicts itself; empty: it holds."""
    if receipt.format != FORMAT:
        return [Fault(None, f"the format is {receipt.format}, expected {FORMAT}")]
    return [*_broken_links(receipt), *_wrong_hours(receipt), *_wrong_total(receipt)]


def check_together(receipts: Sequence[Receipt]) -> list[Fault]:
    """Links that two receipts of a tenant tell differently: the chain was written anew between them."""
    known: dict[tuple[str, int], str] = {}
    faults = []
    for receipt in receipts:
        for one in receipt.seals:
            before = known.setdefault((receipt.tenant_id, one.seal_no), one.seal)
            if before != one.seal:
                faults.append(Fault(one.hour, f"seal {one.seal_no} differs between the receipts"))
    return faults


def _broken_links(receipt: Receipt) -> list[Fault]:
    faults = []
    before: Seal | None = None
    for one in receipt.seals:
        if seal_of(receipt.tenant_id, one) != one.seal:
            faults.append(Fault(one.hour, f"seal {one.seal_no} is not that of its count and rows"))
        if before is not None and (one.seal_no, one.previous) != (before.seal_no + 1, before.seal):
            faults.append(Fault(one.hour, f"seal {one.seal_no} does not follow seal {before.seal_no}"))
        before = one
    return faults


def _wrong_hours(receipt: Receipt) -> list[Fault]:
    newest = _newest(receipt)
    billed = {one.hour: one for one in receipt.hours}
    faults = [
        Fault(hour, f"{one.readings} rows were sealed, and none is billed")
        for hour, one in newest.items()
        if hour not in billed and one.readings
    ]
    for hour, one in billed.items():
        sealed = newest.get(hour)
        if not hour.startswith(f"{receipt.month}-"):
            faults.append(Fault(hour, f"the hour is not of {receipt.month}"))
        elif sealed is None:
            faults.append(Fault(hour, f"{one.readings} readings are billed, and the hour is not sealed"))
        elif sealed.readings != one.readings:
            faults.append(Fault(hour, f"{one.readings} readings are billed, {sealed.readings} rows were sealed"))
        if one.pushed is not None and one.pushed + (one.adjusted or 0) != one.readings:
            told = f"{one.pushed} pushed and {one.adjusted or 0} adjusted"
            faults.append(Fault(hour, f"{one.readings} readings are billed, {told}"))
    return faults


def _newest(receipt: Receipt) -> Mapping[str, Seal]:
    """The last version of each hour of the month."""
    newest: dict[str, Seal] = {}
    for one in receipt.seals:
        if one.hour.startswith(f"{receipt.month}-") and (
            one.hour not in newest or newest[one.hour].version < one.version
        ):
            newest[one.hour] = one
    return newest


def _wrong_total(receipt: Receipt) -> list[Fault]:
    times = Counter(one.hour for one in receipt.hours)
    faults = [Fault(hour, f"the hour is billed {count} times") for hour, count in times.items() if count > 1]
    total = sum(one.readings for one in receipt.hours)
    if total != receipt.readings:
        faults.append(Fault(None, f"the hours come to {total} readings, the receipt says {receipt.readings}"))
    return faults
