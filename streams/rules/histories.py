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

# A sensor's readings come as one value: a row each costs the client twenty times as much. OFFSET 0 keeps each step a nested
# loop over the key, whatever the planner believes of the tables.
_READ = """
SELECT q.sensor_no, string_agg(timestamptz_send(r.at) || int4send(r.seq) || float8send(r.value), '')
FROM unnest(%s::int[], %s::timestamptz[], %s::timestamptz[]) AS q (sensor_no, since, until)
CROSS JOIN LATERAL (SELECT coalesce((SELECT p.at FROM weir.reading p
    WHERE p.sensor_no = q.sensor_no AND p.at <= q.since ORDER BY p.at DESC LIMIT 1), q.since) AS since OFFSET 0) AS s
CROSS JOIN LATERAL (SELECT at, seq, value FROM weir.reading
    WHERE sensor_no = q.sensor_no AND at >= s.since AND at < q.until OFFSET 0) AS r
GROUP BY q.sensor_no
"""
_READING = np.dtype([("at", binary.INT8), ("seq", binary.INT4), ("value", binary.FLOAT8)])


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

    def first(self, from_ms: int) -> int:
        """The index of the last reading at or before a moment, and of those that share its time the first."""
        before = int(np.searchsorted(self.at_ms, from_ms, side="right")) - 1
        return int(np.searchsorted(self.at_ms, self.at_ms[before])) if before >= 0 else 0

    def stretch(self, from_ms: int, to_ms: int | None) -> SensorHistory:
        """From the last reading at or before one moment (and what shares its time) up to another; None: to the end."""
        until = len(self.at_ms) if to_ms is None else int(np.searchsorted(self.at_ms, to_ms))
        return self.part(self.first(from_ms), until)


_NOTHING = SensorHistory(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float64))


async def read_histories(connection: Connection, spans: Mapping[int, tuple[int, int]]) -> dict[int, SensorHistory]:
    """Readings of each sensor's span [from, to), from the last one at or before its start on."""
    if not spans:
        return {}
    since, until = ([_time(span[which]) for span in spans.values()] for which in (0, 1))
    async with connection.cursor(binary=True) as cursor:
        await cursor.execute(_READ, (list(spans), since, until))
        found = {number: _history(readings) for number, readings in await cursor.fetchall()}
    return {number: found.get(number, _NOTHING) for number in spans}


def _history(readings: bytes) -> SensorHistory:
    rows = np.frombuffer(readings, _READING)
    at_ms, seq = binary.epoch_ms(rows["at"].astype(np.int64)), rows["seq"].astype(np.int64)
    order = np.lexsort((seq, at_ms))
    return SensorHistory(at_ms[order], seq[order], rows["value"].astype(np.float64)[order])


def _time(epoch_ms: int) -> datetime:
    return datetime.fromtimestamp(epoch_ms / 1000, UTC)
