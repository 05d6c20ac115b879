"""The columns of a batch: its readings, what was stored of their sensors before, and what the database did with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sinks.timescale import binary

_NEVER_MS = np.iinfo(np.int64).min


@dataclass(slots=True)
class SensorStates:
    """Each sensor's newest stored reading before the batch; columns of one length, sorted by sensor_no."""

    sensor_no: NDArray[np.int32]
    # Epoch milliseconds; the least int64 where the sensor has no reading.
    newest_ms: NDArray[np.int64]
    # 0 where there is none.
    version: NDArray[np.int64]


@dataclass(slots=True)
class ReadingColumns:
    """Readings as columns of length n, sorted by (sensor_no, at_ms, seq), identities unique."""

    sensor_no: NDArray[np.int32]
    seq: NDArray[np.int32]
    at_ms: NDArray[np.int64]
    value: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.sensor_no)

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> ReadingColumns:
        """The rows asked for, in their order."""
        return ReadingColumns(self.sensor_no[rows], self.seq[rows], self.at_ms[rows], self.value[rows])


@dataclass(slots=True)
class InsertOutcome:
    """What the database did with the readings it was given; masks of length n."""

    inserted: NDArray[np.bool_]
    replaced: NDArray[np.bool_]
    duplicate: NDArray[np.bool_]
    # Values that lost to a greater one, whether stored or incoming.
    losers: list[ReadingColumns] = field(default_factory=list)

    @staticmethod
    def of(rows: int) -> InsertOutcome:
        """Nothing done yet."""
        inserted, replaced, duplicate = (np.zeros(rows, dtype=bool) for _ in range(3))
        return InsertOutcome(inserted, replaced, duplicate)


def key_arrays(rows: ReadingColumns) -> tuple[object, ...]:
    """The columns as parameters: sensor_no, seq, at, value."""
    return (
        binary.Int4Array(rows.sensor_no),
        binary.Int4Array(rows.seq),
        binary.TimestampArray(binary.timestamps(rows.at_ms)),
        binary.Float8Array(rows.value),
    )


def states_of(sensor_no: NDArray[np.int32], found: Sequence[tuple[int, int, int]]) -> SensorStates:
    """States as they were found, of all these sensors."""
    newest_ms = np.full(len(sensor_no), _NEVER_MS, dtype=np.int64)
    version = np.zeros(len(sensor_no), dtype=np.int64)
    if found:
        numbers, times, versions = (np.array(column, dtype=np.int64) for column in zip(*found, strict=True))
        places = np.searchsorted(sensor_no, numbers)
        newest_ms[places], version[places] = times, versions
    return SensorStates(sensor_no, newest_ms, version)
