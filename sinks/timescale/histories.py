"""A tenant's stored readings of one sensor as columns, for judging them again outside the stream.

Border: reads through the tenant's functions as weir_reader. Pages for people are `sinks.timescale.reader`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from core.postgres import Connection
from sinks.timescale import binary


@dataclass(frozen=True, slots=True)
class History:
    """Readings sorted by (at, seq)."""

    at_ms: NDArray[np.int64]
    seq: NDArray[np.int64]
    value: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.at_ms)


async def sensor_history(connection: Connection, sensor_no: int, start_ms: int, end_ms: int, limit: int) -> History:
    """Readings from the last one before `start_ms` on and before `end_ms`; at most `limit`, 43 200 take 0.1 s."""
    start, end = (datetime.fromtimestamp(at / 1000, UTC) for at in (start_ms, end_ms))
    cursor = await connection.execute(
        "SELECT coalesce(last_before, %s) FROM weir_tenant.reading_neighbours(%s::integer[], %s, %s)",
        (start, [sensor_no], start, end),
    )
    row = await cursor.fetchone()
    parameters = (sensor_no, start if row is None else row[0], end, limit)
    statement = (
        "COPY (SELECT at, seq, value FROM weir_tenant.sensor_raw(%s, %s, %s, NULL, NULL, %s)) TO STDOUT (FORMAT BINARY)"
    )
    async with connection.cursor() as copying, copying.copy(statement, parameters) as copy:
        blocks = [bytes(block) async for block in copy]
    table = binary.parse_copy(b"".join(blocks), [binary.INT8, binary.INT4, binary.FLOAT8])
    at_us, seq, value = table
    return History(binary.epoch_ms(at_us.astype(np.int64)), seq.astype(np.int64), value.astype(np.float64))
