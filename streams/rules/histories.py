"""The stored readings that judging needs: many sensors' stretches with one statement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from core.postgres import Connection
from sinks.timescale import binary

FOREVER_MS = 253_370_764_800_000
"""After every reading."""


@dataclass(frozen=True, slots=True)
class SensorHistory:
    """A sensor's readings of an interval, sorted by (at, seq)."""

    at_ms: NDArray[np.int64]
    seq: NDArray[np.int64]
    value: NDArray[np.float64]

    def part(self, low: int, high: int) -> SensorHistory:
        """The readings from one index up to another."""
        return SensorHistory(self.at_ms[low:high], self.seq[low:high], self.value[low:high])

    def followed_by(self, later: SensorHistory) -> SensorHistory:
        """These and later ones."""
        return SensorHistory(
            np.concatenate((self.at_ms, later.at_ms)),
            np.concatenate((self.seq, later.seq)),
            np.concatenate((self.value, later.value)),
        )

    def stretch(self, from_ms: int, to_ms: int | None) -> SensorHistory:
        """From the last reading at or before one moment (and what shares its time) up to another; None: to the end."""
        before = int(np.searchsorted(self.at_ms, from_ms, side="right")) - 1
        low = int(np.searchsorted(self.at_ms, self.at_ms[before])) if before >= 0 else 0
        return self.part(low, len(self.at_ms) if to_ms is None else int(np.searchsorted(self.at_ms, to_ms)))


async def read_histories(connection: Connection, spans: Mapping[int, tuple[int, int]]) -> dict[int, SensorHistory]:
    """Readings of each sensor's span [from, to), from the last one at or before its start on."""
    if not spans:
        return {}
    # OFFSET 0 keeps each step a nested loop over the key, whatever the planner believes of the tables.
    statement = (
        "COPY (SELECT q.sensor_no, r.at, r.seq, r.value FROM unnest(%s::int[], %s::timestamptz[], %s::timestamptz[])"
        " AS q (sensor_no, since, until) CROSS JOIN LATERAL (SELECT coalesce((SELECT p.at FROM weir.reading p"
        " WHERE p.sensor_no = q.sensor_no AND p.at <= q.since ORDER BY p.at DESC LIMIT 1), q.since) AS since OFFSET 0) AS s"
        " CROSS JOIN LATERAL (SELECT at, seq, value FROM weir.reading WHERE sensor_no = q.sensor_no AND at >= s.since"
        " AND at < q.until OFFSET 0) AS r) TO STDOUT (FORMAT BINARY)"
    )
    since, until = ([_time(span[which]) for span in spans.values()] for which in (0, 1))
    async with connection.cursor() as cursor, cursor.copy(statement, (list(spans), since, until)) as copy:
        stream = b"".join([bytes(block) async for block in copy])
    table = binary.parse_copy(stream, [binary.INT4, binary.INT8, binary.INT4, binary.FLOAT8])
    sensor, at_ms = table[0].astype(np.int64), binary.epoch_ms(table[1].astype(np.int64))
    order = np.lexsort((table[2], at_ms, sensor))
    sensor = sensor[order]
    rows = SensorHistory(at_ms[order], table[2].astype(np.int64)[order], table[3].astype(np.float64)[order])
    numbers = np.array(list(spans), np.int64)
    first, last = (np.searchsorted(sensor, numbers, side=side).tolist() for side in ("left", "right"))
    return {number: rows.part(low, high) for number, low, high in zip(spans, first, last, strict=True)}


def _time(epoch_ms: int) -> datetime:
    return datetime.fromtimestamp(epoch_ms / 1000, UTC)
