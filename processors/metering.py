"""Metering: what is billed, counted only from rows that the database really inserted."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from schemas.usage import HOUR_MS, UsageIncrement

# More hours than lie between 1970 and the year 3000; admitted readings are from 2010 or later.
_HOURS = 1 << 24


def count_readings(
    tenant_ids: list[str], tenant_code: NDArray[np.int64], at_ms: NDArray[np.int64]
) -> list[UsageIncrement]:
    """Readings per tenant and hour.

    Args:
        tenant_ids: the tenants that `tenant_code` points into.
        tenant_code: shape (n,), index into `tenant_ids` for each inserted row.
        at_ms: shape (n,), epoch milliseconds of each inserted row.

    Returns:
        Increments sorted by tenant id and hour, so that transactions lock usage rows in one order.
    """
    if not len(at_ms):
        return []
    pairs, counts = np.unique(tenant_code * _HOURS + at_ms // HOUR_MS, return_counts=True)
    increments = [
        UsageIncrement(tenant_ids[pair // _HOURS], pair % _HOURS * HOUR_MS, count)
        for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True)
    ]
    return sorted(increments, key=lambda row: (row.tenant_id, row.hour_ms))
