"""What each sensor's recent readings come to, bucket by bucket of time: memory that any worker can lose.

It tells the screen that no window can violate. Buckets of an eighth of the widest window of their class hold least,
greatest, sum and count; those that a window surely contains say what it comes to, the one at its edge between what bounds.
What is not known counts as everything: after a start, a rebalance, late rows or a batch that was rolled back the buckets
are read from the store again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.postgres import Connection
from processors.rules.reach import Held
from sinks.timescale import binary
from sinks.timescale.batch_columns import ReadingColumns
from streams.rules.histories import SensorHistory

_NEVER_MS = np.iinfo(np.int64).min
_BUCKETS = 8
# A window touches one bucket more than fit into it, and a new reading may begin one more.
_SLOTS = _BUCKETS + 2
# Wider windows than this are not read back from the store: their rules are judged, which reads them once as well.
_WIDEST_LEARNED_MS = 604_800_000
# The database refuses sums beyond the range of floats; what comes near has a sum that says nothing.
_HUGE = 1e290

_LEARN = """
SELECT q.sensor_no, (extract(epoch FROM r.begins) * 1000)::bigint / %(bucket_ms)s, r.least, r.greatest, r.total, r.many
FROM unnest(%(sensor_no)s, %(since)s, %(until)s) AS q (sensor_no, since, until)
CROSS JOIN LATERAL (SELECT date_bin(make_interval(secs => %(bucket_ms)s / 1000.0), at, to_timestamp(0)) AS begins,
    min(value) AS least, max(value) AS greatest, sum(greatest(least(value, 1e290), -1e290)) AS total, count(*) AS many
    FROM weir.reading WHERE sensor_no = q.sensor_no AND at > q.since AND at <= q.until GROUP BY 1) AS r
"""


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

    @property
    def many(self) -> NDArray[np.int64]:
        """How many rows each sensor has."""
        return np.diff(self.starts, append=len(self.rows))


@dataclass(slots=True)
class _Ring:
    """The buckets of one class of windows: per sensor number whether they are known, per slot and number what they hold."""

    bucket_ms: int
    known: NDArray[np.bool_]
    bucket: NDArray[np.int64]
    least: NDArray[np.float64]
    greatest: NDArray[np.float64]
    total: NDArray[np.float64]
    count: NDArray[np.int64]

    @staticmethod
    def of(bucket_ms: int, size: int) -> _Ring:
        many, value = np.zeros((2, _SLOTS, size), np.int64), np.zeros((3, _SLOTS, size))
        return _Ring(bucket_ms, np.zeros(size, np.bool_), many[0], value[0], value[1], value[2], many[1])

    def grown(self, size: int) -> _Ring:
        larger, old = _Ring.of(self.bucket_ms, size), len(self.known)
        for name in ("known", "bucket", "least", "greatest", "total", "count"):
            getattr(larger, name)[..., :old] = getattr(self, name)
        return larger

    def put(self, sensor: NDArray[np.int64], buckets: _Buckets) -> None:
        """Add what buckets of sensors come to, each pair once."""
        at = buckets.bucket % _SLOTS, sensor
        same = (self.bucket[at] == buckets.bucket) & (self.count[at] > 0)
        self.least[at] = np.where(same, np.minimum(self.least[at], buckets.least), buckets.least)
        self.greatest[at] = np.where(same, np.maximum(self.greatest[at], buckets.greatest), buckets.greatest)
        with np.errstate(over="ignore", invalid="ignore"):
            self.total[at] = np.where(same, self.total[at], 0.0) + buckets.total
        self.count[at] = np.where(same, self.count[at], 0) + buckets.count
        self.bucket[at] = buckets.bucket

    def around(self, batch: SensorColumns, width_ms: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Bounds of every reading of windows of the width that end in the batch."""
        sensor, since = batch.sensor_no, (batch.first_ms - width_ms) // self.bucket_ms
        inside = (self.count[:, sensor] > 0) & (self.bucket[:, sensor] >= since)
        least, greatest = _extremes(inside, self.least[:, sensor], self.greatest[:, sensor])
        known = self.known[sensor]
        low, high = np.minimum(least, batch.least), np.maximum(greatest, batch.greatest)
        return np.where(known, low, -np.inf), np.where(known, high, np.inf)

    def held(self, sensor: NDArray[np.int32], since_ms: NDArray[np.int64], sure_ms: NDArray[np.int64]) -> Held:
        """What is held of windows that begin, exclusively, between two moments."""
        begins, count = self.bucket[:, sensor] * self.bucket_ms, self.count[:, sensor]
        sure = (count > 0) & (begins > sure_ms)
        edge = (count > 0) & ~sure & (begins + self.bucket_ms - 1 > since_ms)
        least, greatest = self.least[:, sensor], self.greatest[:, sensor]
        with np.errstate(over="ignore", invalid="ignore"):
            total = np.where(sure, self.total[:, sensor], 0.0).sum(axis=0)
        return Held(
            self.known[sensor],
            total,
            np.where(sure, count, 0).sum(axis=0),
            *_extremes(sure, least, greatest),
            np.where(sure, begins + self.bucket_ms, np.iinfo(np.int64).max).min(axis=0),
            np.where(edge, count, 0).sum(axis=0),
            *_extremes(edge, least, greatest),
        )


def _extremes(
    chosen: NDArray[np.bool_], least: NDArray[np.float64], greatest: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.where(chosen, least, np.inf).min(axis=0), np.where(chosen, greatest, -np.inf).max(axis=0)


@dataclass(frozen=True, slots=True)
class _Buckets:
    """What some buckets hold."""

    bucket: NDArray[np.int64]
    least: NDArray[np.float64]
    greatest: NDArray[np.float64]
    total: NDArray[np.float64]
    count: NDArray[np.int64]


ReadBuckets = Callable[[Connection, NDArray[np.int32], NDArray[np.int64], int, int], Awaitable[NDArray[np.float64]]]
"""As `read_buckets`."""


class RecentWindows:
    """Buckets per window class and sensor; `Memory.follow` tells which sensors to forget.

    Args:
        read: reads buckets from the store.
    """

    def __init__(self, read: ReadBuckets | None = None) -> None:
        self._rings: dict[int, _Ring] = {}
        self._read = read or read_buckets

    def forget(self, sensor_no: NDArray[np.int32]) -> None:
        """Something happened to these sensors that was not seen here."""
        for ring in self._rings.values():
            ring.known[sensor_no[sensor_no < len(ring.known)]] = False

    async def learn(self, connection: Connection, batch: SensorColumns, classes_ms: Sequence[int]) -> None:
        """Read back what is not known of the batch's sensors as they were before it; its rows may be stored already."""
        for class_ms in classes_ms:
            missing = np.flatnonzero(~self._ring(class_ms, batch).known[batch.sensor_no] & ~batch.has_late)
            never = batch.newest_ms[missing] == _NEVER_MS
            if class_ms > _WIDEST_LEARNED_MS:
                missing, never = missing[never], never[never]
            if len(missing):
                asked = missing[~never]
                span = (class_ms, _bucket_ms(class_ms))
                found = (
                    await self._read(connection, batch.sensor_no[asked], batch.newest_ms[asked], *span)
                    if len(asked)
                    else np.zeros((0, 6))
                )
                self._set(self._ring(class_ms, batch), batch.sensor_no[missing], found)

    def around(self, batch: SensorColumns, class_ms: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Least and greatest of all windows of the class that end in the batch, or beyond; the batch is not added yet."""
        return self._ring(class_ms, batch).around(batch, class_ms)

    def held(
        self, batch: SensorColumns, class_ms: int, place: NDArray[np.intp], width_ms: NDArray[np.int64] | int
    ) -> Held:
        """What windows of these widths, at most the class's, that end in the batch hold of what was before it.

        Args:
            batch: learned and not yet added.
            class_ms: the class of windows.
            place: rows of the batch.
            width_ms: the window's width, for each of them.
        """
        ring = self._ring(class_ms, batch)
        width_ms = np.minimum(width_ms, class_ms)
        return ring.held(batch.sensor_no[place], batch.first_ms[place] - width_ms, batch.last_ms[place] - width_ms)

    def add(self, batch: SensorColumns) -> None:
        """Take the batch in, once nothing more is asked of what was before it; what has late rows is read again."""
        self.forget(batch.sensor_no[batch.has_late])
        for class_ms in self._rings:
            ring = self._ring(class_ms, batch)
            rows, many = batch.rows, batch.many
            bucket = rows.at_ms // ring.bucket_ms
            newest = np.repeat(batch.last_ms // ring.bucket_ms, many)
            kept = np.flatnonzero(ring.known[rows.sensor_no] & (bucket > newest - _SLOTS))
            if len(kept):
                ring.put(*_folded(rows.sensor_no[kept].astype(np.int64), bucket[kept], rows.value[kept]))

    def _set(self, ring: _Ring, learned: NDArray[np.int32], found: NDArray[np.float64]) -> None:
        ring.known[learned] = True
        ring.count[:, learned] = 0
        sensor, bucket, count = (found[:, column].astype(np.int64) for column in (0, 1, 5))
        least, greatest, total = found[:, 2], found[:, 3], found[:, 4]
        total = np.where((least < -_HUGE) | (greatest > _HUGE), np.nan, total)
        ring.put(sensor, _Buckets(bucket, least, greatest, total, count))

    def _ring(self, class_ms: int, batch: SensorColumns) -> _Ring:
        """The class's ring, long enough for the batch's sensors."""
        ring = self._rings.get(class_ms)
        needed = int(batch.sensor_no[-1]) + 1 if len(batch.sensor_no) else 1
        if ring is None or len(ring.known) < needed:
            size = max(needed * 2, 1024)
            ring = self._rings[class_ms] = _Ring.of(_bucket_ms(class_ms), size) if ring is None else ring.grown(size)
        return ring


async def read_buckets(
    connection: Connection, sensor_no: NDArray[np.int32], newest_ms: NDArray[np.int64], class_ms: int, bucket_ms: int
) -> NDArray[np.float64]:
    """Rows of (sensor_no, bucket, least, greatest, total, count) of the readings in a window up to each sensor's newest."""
    since, until = (binary.TimestampArray(binary.timestamps(one)) for one in (newest_ms - class_ms, newest_ms))
    numbers = binary.Int4Array(sensor_no)
    asked = {"sensor_no": numbers, "since": since, "until": until, "bucket_ms": bucket_ms}
    cursor = await connection.execute(_LEARN, asked)
    return np.array(await cursor.fetchall(), np.float64).reshape(-1, 6)


def _bucket_ms(class_ms: int) -> int:
    return -(-class_ms // _BUCKETS)


def _folded(
    sensor: NDArray[np.int64], bucket: NDArray[np.int64], value: NDArray[np.float64]
) -> tuple[NDArray[np.int64], _Buckets]:
    """What the rows of each sensor and bucket come to; rows are sorted by both."""
    begins = np.append(True, (np.diff(sensor) != 0) | (np.diff(bucket) != 0))
    start = np.flatnonzero(begins)
    with np.errstate(over="ignore", invalid="ignore"):
        total = np.add.reduceat(value, start)
    count = np.diff(start, append=len(value))
    least, greatest = np.minimum.reduceat(value, start), np.maximum.reduceat(value, start)
    return sensor[start], _Buckets(bucket[start], least, greatest, total, count)
