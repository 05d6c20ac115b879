"""Usage as it travels from counting to the store: increments per tenant, meter and UTC hour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

HOUR_MS: Final = 3_600_000


@dataclass(frozen=True, slots=True)
class UsageIncrement:
    """Newly stored readings of one tenant in one UTC hour of the readings' own time."""

    tenant_id: str
    hour_ms: int
    quantity: int
