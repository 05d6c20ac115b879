"""Usage as it travels from counting to the store: increments per tenant, meter and UTC hour."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

HOUR_MS: Final = 3_600_000
HOURS_A_DAY: Final = 24
DAY_MS: Final = HOURS_A_DAY * HOUR_MS


class Meter(StrEnum):
    """What is metered (INTERFACES §7)."""

    READINGS = "readings"
    ACTIVE_SENSORS = "active_sensors"
    SCANS = "scans"
    SCAN_POINTS = "scan_points"


@dataclass(frozen=True, slots=True, order=True)
class UsageIncrement:
    """What one UTC hour of one tenant's meter gains. Their order is the one in which usage rows are locked."""

    tenant_id: str
    meter: Meter
    hour_ms: int
    quantity: int
