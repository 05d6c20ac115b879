"""Metering on the hot path: usage commits with the readings that it counts."""

from __future__ import annotations

import numpy as np

from processors import metering
from schemas.usage import SensorHours, UsageIncrements
from sinks.timescale import usage
from sinks.timescale.writer import BatchTransaction
from streams.readings import Stored


class MeterReadings:
    """Usage of the meters `readings` and `active_sensors`: rows really inserted, by the hour of their own time.

    Args:
        topic: where changed usage rows are published.
    """

    def __init__(self, topic: str) -> None:
        self._topic = topic

    async def apply(self, transaction: BatchTransaction, stored: Stored) -> None:
        """Add what the batch inserted."""
        inserted = stored.outcome.inserted
        rows = stored.rows
        increments = metering.count_readings(stored.tenant_ids, stored.tenant_code[inserted], rows.at_ms[inserted])
        pairs = metering.perhaps_first(rows.sensor_no[inserted], rows.at_ms[inserted], stored.newest_ms[inserted])
        if len(pairs):
            increments = increments.with_others(await _count_active(transaction, stored, pairs))
        await usage.add(transaction.connection, increments, self._topic)


async def _count_active(transaction: BatchTransaction, stored: Stored, pairs: SensorHours) -> UsageIncrements:
    known = await usage.known_hours(transaction.connection, pairs)
    new = metering.without(pairs, known)
    if len(new):
        await usage.add_hours(transaction.connection, new)
    sensors, first_rows = np.unique(stored.rows.sensor_no, return_index=True)
    return metering.count_active(
        stored.tenant_ids, stored.tenant_code[first_rows], known, new, sensors.astype(np.int64)
    )
