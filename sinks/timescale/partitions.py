"""Partitions for the days that a batch touches, made before its transaction so that no lock outlives the making."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from core.postgres import Pool
from sinks.timescale import binary

_DAY_MS = 86_400_000


class PartitionKeeper:
    """Remembers the days whose partition exists and makes the others."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._days: set[int] = set()

    async def ensure(self, at_ms: NDArray[np.int64]) -> None:
        """Make the partitions that readings at these times need."""
        if not len(at_ms):
            return
        missing = sorted(set(np.unique(at_ms // _DAY_MS).tolist()) - self._days)
        if not missing:
            return
        days = np.array(missing, dtype=np.int64) * _DAY_MS
        async with self._pool.connection() as connection:
            binary.register(connection)
            await connection.execute(
                "SELECT weir.ensure_partitions(%s)", (binary.TimestampArray(binary.timestamps(days)),)
            )
        self._days.update(missing)

    def forget(self) -> None:
        """Retention may have dropped partitions: ask again."""
        self._days.clear()
