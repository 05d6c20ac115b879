"""Usage as it travels from counting to the store: increments per tenant, meter and UTC hour, hours of sensors."""

from __future__ import annotations

from collections.abc import Sequence
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


# Codes of meters are places in here, in the order of their names.
METERS: Final = tuple(sorted(Meter))


class UsageIncrement(NamedTuple):
    """What one UTC hour of one tenant's meter gains."""

    tenant_id: str
    meter: Meter
    hour_ms: int
    quantity: int


@dataclass(frozen=True, slots=True)
class UsageIncrements:
    """Increments as columns of one length, sorted by (meter, hour, tenant), each once: a batch of many tenants makes many.

    Usage rows are locked in this order, and written: those that the next batches change lie together.
    """

    # Sorted and distinct: what `tenant_code` points into.
    tenant_ids: Sequence[str]
    tenant_code: Ints
    # Places in METERS.
    meter: Ints
    # Hours since 1970.
    hour: Ints
    quantity: Ints

    def __len__(self) -> int:
        return len(self.quantity)

    def part(self, first: int, end: int) -> UsageIncrements:
        """Those from one place to before another."""
        rows = slice(first, end)
        return UsageIncrements(
            self.tenant_ids, self.tenant_code[rows], self.meter[rows], self.hour[rows], self.quantity[rows]
        )

    def with_others(self, others: UsageIncrements) -> UsageIncrements:
        """These and others of the same tenants; no hour is in both."""
        tenant = np.concatenate([self.tenant_code, others.tenant_code])
        meter = np.concatenate([self.meter, others.meter])
        hour = np.concatenate([self.hour, others.hour])
        order = np.lexsort((tenant, hour, meter))
        quantity = np.concatenate([self.quantity, others.quantity])
        return UsageIncrements(self.tenant_ids, tenant[order], meter[order], hour[order], quantity[order])

    def rows(self) -> list[UsageIncrement]:
        """The same, one by one."""
        columns = (self.tenant_code.tolist(), self.meter.tolist(), self.hour.tolist(), self.quantity.tolist())
        return [
            UsageIncrement(self.tenant_ids[tenant], METERS[meter], hour * HOUR_MS, quantity)
            for tenant, meter, hour, quantity in zip(*columns, strict=True)
        ]


def usage_increments(rows: Sequence[UsageIncrement]) -> UsageIncrements:
    """Columns of increments that were made one by one; each hour is in them once."""
    tenant_ids = sorted({row.tenant_id for row in rows})
    code = {tenant_id: number for number, tenant_id in enumerate(tenant_ids)}
    found = sorted((METERS.index(row.meter), row.hour_ms // HOUR_MS, code[row.tenant_id], row.quantity) for row in rows)
    meter, hour, tenant, quantity = np.array(found, dtype=np.int64).reshape(-1, 4).T
    return UsageIncrements(tenant_ids, tenant, meter, hour, quantity)


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
