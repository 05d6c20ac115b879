"""A receipt of usage as the file has it: a stretch of its tenant's chain of seals and the hours that were billed."""

from __future__ import annotations

from typing import Final

import msgspec

FORMAT: Final = "weir-usage-receipt-1"


class Seal(msgspec.Struct, frozen=True):
    """One link of a chain.

    Args:
        hour: `2026-11-22T20:00:00Z`.
        version: 1, and one more for each time that late rows came.
        readings: rows that were stored then.
        sensors: whose they were.
        rows_sha256: over their keys (migration 0025), hexadecimal like `previous` and `seal`.
    """

    seal_no: int
    hour: str
    version: int
    readings: int
    sensors: int
    rows_sha256: str
    previous: str
    seal: str


class BilledHour(msgspec.Struct, frozen=True):
    """What one hour was billed; `pushed` and `adjusted` are None without a subscription, and until a push is settled."""

    hour: str
    readings: int
    pushed: int | None = None
    adjusted: int | None = None


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant's month; `seals` holds every link from the month's first to its last, other months' between them too."""

    format: str
    tenant_id: str
    month: str
    made_at: str
    readings: int
    hours: list[BilledHour]
    seals: list[Seal]
