"""The least and greatest reading of each sensor over recent windows: memory that any worker can lose.

It tells the screen that no reading of a window can violate. What it does not know counts as everything: after a start, a
rebalance or a batch that was rolled back the extremes are read from the store again. Two generations, each at least as
wide as the window, hold more than the window, never less.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.postgres import Connection
from sinks.timescale import binary
from sinks.timescale.batch_columns import ReadingColumns
from streams.rules.histories import SensorHistory

_UNKNOWN_MS = np.iinfo(np.int64).max
_NEVER_MS = np.iinfo(np.int64).min
# Wider windows than this are not read back from the store: their rules are judged, which reads them once as well.
_WIDEST_LEARNED_MS = 604_800_000


@dataclass(frozen=True, slots=True)
class SensorColumns:
    """What a batch changed, one row per sensor, sorted by sensor."""

    sensor_no: NDArray[np.int32]
    first_ms: NDArray[np.int64]
    last_ms: NDArray[np.int64]
    least: NDArray[np.float64]
    greatest: NDArray[np.float64]
    # The newest stored time before the batch; the least int64 where there was none.
    newest_ms: NDArray[np.int64]
    has_late: NDArray[np.bool_]
    # The greatest time between neighbours among the rows and the newest stored reading before them.
    spacing_ms: NDArray[np.int64]
    # Of each sensor's state before the batch; 0 where there was none.
    version: NDArray[np.int64]
    # All rows, by (sensor, at, seq), and where each sensor's begin.
    rows: ReadingColumns
    starts: NDArray[np.intp]

    def readings_of(self, number: int) -> SensorHistory:
        """The changed readings of one of the sensors."""
        place = int(np.searchsorted(self.sensor_no, number))
        low = int(self.starts[place])
        high = int(self.starts[place + 1]) if place + 1 < len(self.starts) else len(self.rows)
        rows = self.rows
        return SensorHistory(rows.at_ms[low:high], rows.seq[low:high].astype(np.int64), rows.value[low:high])


@dataclass(slots=True)
class _Window:
    """Per sensor number: extremes of the current generation and the one before, and when the current one began."""

    since_ms: NDArray[np.int64]
    least: NDArray[np.float64]
    greatest: NDArray[np.float64]

    @staticmethod
    def of(size: int) -> _Window:
        return _Window(np.full(size, _UNKNOWN_MS), np.full((2, size), np.inf), np.full((2, size), -np.inf))

    def grown(self, size: int) -> _Window:
        larger, old = _Window.of(size), len(self.since_ms)
        larger.since_ms[:old] = self.since_ms
        larger.least[:, :old], larger.greatest[:, :old] = self.least, self.greatest
        return larger


class RecentExtremes:
    """Extremes per window class and sensor; `Memory.follow` tells which sensors to forget."""

    def __init__(self) -> None:
        self._windows: dict[int, _Window] = {}

    def forget(self, sensor_no: NDArray[np.int32]) -> None:
        """Something happened to these sensors that was not seen here."""
        for window in self._windows.values():
            window.since_ms[sensor_no[sensor_no < len(window.since_ms)]] = _UNKNOWN_MS

    def around(self, batch: SensorColumns, window_ms: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Bounds of every window that ends in the batch; call `remember` first."""
        window, sensor = self._window(window_ms, batch), batch.sensor_no
        unknown = window.since_ms[sensor] == _UNKNOWN_MS
        least, greatest = window.least[:, sensor].min(axis=0), window.greatest[:, sensor].max(axis=0)
        return np.where(unknown, -np.inf, least), np.where(unknown, np.inf, greatest)

    async def remember(self, connection: Connection, batch: SensorColumns, windows_ms: Sequence[int]) -> None:
        """Add the batch, reading back what is not known of its sensors. The batch's rows are stored already."""
        for window_ms in windows_ms:
            window = self._window(window_ms, batch)
            missing = np.flatnonzero(window.since_ms[batch.sensor_no] == _UNKNOWN_MS)
            if len(missing):
                await self._learn(connection, batch, missing, window_ms)
            self._add(self._window(window_ms, batch), batch, window_ms)

    def _add(self, window: _Window, batch: SensorColumns, window_ms: int) -> None:
        sensor = batch.sensor_no
        since = window.since_ms[sensor]
        known = since != _UNKNOWN_MS
        full = sensor[known & (batch.first_ms - window_ms >= np.where(known, since, 0))]
        window.least[1, full], window.greatest[1, full] = window.least[0, full], window.greatest[0, full]
        window.least[0, full], window.greatest[0, full] = np.inf, -np.inf
        window.since_ms[full] = batch.first_ms[known & (batch.first_ms - window_ms >= np.where(known, since, 0))]
        window.least[0, sensor] = np.minimum(window.least[0, sensor], batch.least)
        window.greatest[0, sensor] = np.maximum(window.greatest[0, sensor], batch.greatest)

    async def _learn(
        self, connection: Connection, batch: SensorColumns, missing: NDArray[np.intp], window_ms: int
    ) -> None:
        never = missing[batch.newest_ms[missing] == _NEVER_MS]
        self._set(window_ms, batch, never, np.full(len(never), np.inf), np.full(len(never), -np.inf))
        asked = missing[batch.newest_ms[missing] != _NEVER_MS]
        if not len(asked) or window_ms > _WIDEST_LEARNED_MS:
            return
        cursor = await connection.execute(
            "SELECT q.i, coalesce(r.least, 'Infinity'), coalesce(r.greatest, '-Infinity')"
            " FROM unnest(%s, %s, %s) AS q (i, sensor_no, since) CROSS JOIN LATERAL (SELECT min(value) AS least,"
            " max(value) AS greatest FROM weir.reading r WHERE r.sensor_no = q.sensor_no AND r.at > q.since) AS r"
            " ORDER BY q.i",
            (
                binary.Int4Array(asked),
                binary.Int4Array(batch.sensor_no[asked]),
                binary.TimestampArray(binary.timestamps(batch.newest_ms[asked] - window_ms)),
            ),
        )
        found = np.array(await cursor.fetchall(), np.float64).reshape(-1, 3)
        self._set(window_ms, batch, asked, found[:, 1], found[:, 2])

    def _set(
        self,
        window_ms: int,
        batch: SensorColumns,
        rows: NDArray[np.intp],
        least: NDArray[np.float64],
        greatest: NDArray[np.float64],
    ) -> None:
        window, sensor = self._window(window_ms, batch), batch.sensor_no[rows]
        newest = batch.newest_ms[rows]
        window.since_ms[sensor] = np.where(newest == _NEVER_MS, batch.first_ms[rows], newest - window_ms)
        window.least[0, sensor], window.greatest[0, sensor] = least, greatest
        window.least[1, sensor], window.greatest[1, sensor] = np.inf, -np.inf

    def _window(self, window_ms: int, batch: SensorColumns) -> _Window:
        """The class's arrays, long enough for the batch's sensors."""
        window = self._windows.get(window_ms)
        needed = int(batch.sensor_no[-1]) + 1 if len(batch.sensor_no) else 1
        if window is None or len(window.since_ms) < needed:
            size = max(needed * 2, 1024)
            window = self._windows[window_ms] = _Window.of(size) if window is None else window.grown(size)
        return window
