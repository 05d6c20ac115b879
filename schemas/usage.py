"""Usage as it travels from counting to the store: increments per tenant, meter and UTC hour, hours of sensors."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

HOUR_MS: Final = 3_600_000
HOURS_A_DAY: Final = 24
DAY_MS: Final = HOURS_A_DAY * HOUR_MS
# More hours than lie between 1970 and the year 3000; admitted readings are from 2010 or later.
HOUR_CODES: Final = 1 << 24


class Meter(StrEnum):
    """What is metered (INTERFACES §7)."""

    READINGS = "readings"
    ACTIVE_SENSORS = "active_sensors"
    SCANS = "scans"
    SCAN_POINTS = "scan_points"


class UsageIncrement(NamedTuple):
    """What one UTC hour of one tenant's meter gains. Their order is the one in which usage rows are locked.

    A tuple, as many are made and sorted in each batch.
    """

    tenant_id: str
    meter: Meter
    hour_ms: int
    quantity: int


@dataclass(frozen=True, slots=True)
class SensorHours:
    """Hours in which sensors have readings: columns of one length, sorted by (sensor_no, hour), unique.

    `hour` counts hours since 1970.
    """

    sensor_no: Ints
    hour: Ints

    def __len__(self) -> int:
        return len(self.hour)

    @property
    def key(self) -> Ints:
        """One number per pair, in the same order."""
        return self.sensor_no * HOUR_CODES + self.hour


def sensor_hours(key: Ints) -> SensorHours:
    """The pairs of these keys, sorted and unique."""
    ordered = np.unique(key)
    return SensorHours(ordered // HOUR_CODES, ordered % HOUR_CODES)
