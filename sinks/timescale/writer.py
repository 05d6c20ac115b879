"""The one transaction of a batch: position first, then readings, states, usage, markers, dead letters.

Every effect of a batch goes through a `BatchTransaction`, so it commits with the position it came from or not at all.
Lock order (DESIGN §4): position, sensors, readings, conflicts, states, dirty markers, episodes, usage; each set in key order.

Every answer that is waited for costs a batch two changes of processes, which on a busy machine is most of its time. So
statements travel together (libpq's pipeline mode): the begin with the sensors' states, and all `last_steps` up to the commit,
as far as nobody asks for their results. COPY cannot travel so; it comes before them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg import AsyncCursor, errors

from core.postgres import Connection, Pool
from schemas.usage import HOUR_MS
from sinks.timescale import binary
from sinks.timescale.batch_columns import InsertOutcome, ReadingColumns, SensorStates, key_arrays, states_of

_COPY_READINGS = "COPY weir.reading (sensor_no, seq, at, value, received_at) FROM STDIN (FORMAT BINARY)"
# Where there are few, COPY's own waits cost more than it saves.
FEW_ROWS = 500
_INSERT_FEW = """
INSERT INTO weir.reading (received_at, sensor_no, seq, at, value) SELECT %s::timestamptz, q.* FROM unnest(%s, %s, %s, %s) AS q
"""
_STAGE = (
    "CREATE TEMP TABLE IF NOT EXISTS stage_reading (i integer, sensor_no integer, seq integer, at timestamptz,"
    " value double precision, received_at timestamptz) ON COMMIT DELETE ROWS"
)
_COPY_STAGE = "COPY pg_temp.stage_reading (i, sensor_no, seq, at, value, received_at) FROM STDIN (FORMAT BINARY)"
_INSERT_STAGED = """
WITH inserted AS (
    INSERT INTO weir.reading (sensor_no, seq, at, value, received_at)
    SELECT sensor_no, seq, at, value, received_at FROM pg_temp.stage_reading ORDER BY i
    ON CONFLICT DO NOTHING RETURNING sensor_no, at, seq)
SELECT s.i FROM pg_temp.stage_reading s LEFT JOIN inserted USING (sensor_no, at, seq) WHERE inserted.sensor_no IS NULL ORDER BY 1
"""
# Run with nested loops only: the temporary table has no statistics, and anything else would read whole partitions.
_STORED_VALUES = """
SELECT q.i, r.value FROM unnest(%s, %s, %s, %s) AS q (i, sensor_no, seq, at)
JOIN weir.reading r USING (sensor_no, at, seq) ORDER BY r.sensor_no, r.at, r.seq
"""
_REPLACE_VALUES = """
UPDATE weir.reading r SET value = q.value FROM unnest(%s, %s, %s, %s) AS q (sensor_no, seq, at, value)
WHERE r.sensor_no = q.sensor_no AND r.at = q.at AND r.seq = q.seq AND r.value < q.value
"""
_CONFLICTS = """
INSERT INTO weir.reading_conflict (sensor_no, seq, at, value, received_at)
SELECT q.*, %s FROM unnest(%s, %s, %s, %s) AS q ON CONFLICT DO NOTHING
"""
# Whatever changes a sensor's readings moves its version, late rows too: whoever remembers them knows by it that they stand.
_STATES = """
INSERT INTO weir.sensor_state AS t (sensor_no, last_seq, last_at, last_value, last_received_at)
SELECT q.*, %s FROM unnest(%s, %s, %s, %s) AS q
ON CONFLICT (sensor_no) DO UPDATE SET (last_at, last_seq, last_value, last_received_at, version) = (
    SELECT n.*, t.version + 1 FROM (VALUES
        (EXCLUDED.last_at, EXCLUDED.last_seq, EXCLUDED.last_value, EXCLUDED.last_received_at),
        (t.last_at, t.last_seq, t.last_value, t.last_received_at)) AS n (at, seq, value, received_at)
    ORDER BY n.at DESC, n.seq DESC, n.value DESC, n.received_at LIMIT 1)
RETURNING sensor_no, version
"""
_READ_STATES = """
SELECT sensor_no, (extract(epoch FROM last_at) * 1000)::bigint, version FROM weir.sensor_state WHERE sensor_no = ANY (%s)
"""
_QUALITY = """
INSERT INTO weir.quality_hourly AS h (sensor_no, hour, duplicates, late)
SELECT * FROM unnest(%s, %s, %s, %s)
ON CONFLICT (sensor_no, hour) DO UPDATE SET duplicates = h.duplicates + EXCLUDED.duplicates, late = h.late + EXCLUDED.late
"""
_MARK_DIRTY = """
INSERT INTO weir.rollup_dirty AS d (block, hour) SELECT * FROM unnest(%s, %s)
ON CONFLICT (block, hour) DO UPDATE SET version = d.version + 1, touched_at = now()
"""
Cursor = AsyncCursor[tuple[Any, ...]]
_NO_SENSORS = np.zeros(0, dtype=np.int32)
BLOCK_SHIFT = 6  # 64 sensors share a roll-up marker; weir.sensor.block is the same shift


class Fenced(Exception):
    """Another worker moved the position: this one must drop what it holds and leave the group."""


class SensorMoved(Exception):
    """Another worker stored readings of the same sensor meanwhile (its device changed the partition): judge again."""


class NotNew(Exception):
    """Readings that were taken for new are stored already: try again with `surely_new` nowhere."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where a partition stands: the fence of a batch."""

    topic: str
    partition: int
    identity: str
    expected: int
    next: int


class BatchTransaction:
    """An open transaction whose position has already moved; effects are methods."""

    def __init__(
        self, connection: Connection, position: Position, frontier_ms: int, generation: int, states: SensorStates
    ) -> None:
        self.connection = connection
        self.position = position
        self.frontier_ms = frontier_ms
        self.generation = generation
        # Of the sensors asked for, as the transaction found them.
        self.states = states
        self.took_for_new = False
        self._written_states: tuple[Cursor, ReadingColumns, SensorStates] | None = None
        # Called when the transaction does not commit, or nobody knows whether it did.
        self.on_rollback: list[Callable[[], None]] = []

    async def insert_readings(
        self, rows: ReadingColumns, received_ms: int, surely_new: NDArray[np.bool_]
    ) -> InsertOutcome:
        """Store readings once each; of two values for one identity the greater stays.

        Args:
            rows: sorted by key, identities unique.
            received_ms: the batch's T (INTERFACES §4).
            surely_new: rows later than anything stored of their sensor: these are copied straight into the table, the
                others through a staging table. A wrong guess costs time, never correctness.

        Raises:
            NotNew: the guess was wrong.
        """
        outcome = InsertOutcome.of(len(rows))
        direct, staged = np.flatnonzero(surely_new), np.flatnonzero(~surely_new)
        if len(direct):
            self.took_for_new = True
            await self._copy(_COPY_READINGS, rows.take(direct), received_ms)
            outcome.inserted[direct] = True
        if len(staged):
            await self._insert_staged(rows, staged, received_ms, outcome)
        return outcome

    async def insert_few(self, rows: ReadingColumns, received_at: datetime) -> InsertOutcome:
        """The same for few rows that are all surely new, among the last steps."""
        self.took_for_new = True
        if len(rows):
            await self.connection.execute(_INSERT_FEW, (received_at, *key_arrays(rows)))
        outcome = InsertOutcome.of(len(rows))
        outcome.inserted[:] = True
        return outcome

    @asynccontextmanager
    async def last_steps(self) -> AsyncIterator[None]:
        """What is executed within travels together, the commit with it: a result that is asked for waits for all before.

        Raises:
            SensorMoved: a state is not the one that was read, so what was late or new was judged by a wrong one.
            NotNew: see there.
        """
        try:
            async with self.connection.pipeline():
                yield
                await self._require_unmoved()
                await self.connection.execute("COMMIT")
        except errors.UniqueViolation as exc:
            if self.took_for_new:
                raise NotNew from exc
            raise

    async def _copy(
        self, statement: str, rows: ReadingColumns, received_ms: int, numbers: NDArray[np.intp] | None = None
    ) -> None:
        received = (received_ms - binary.POSTGRES_EPOCH_MS) * 1000
        columns: list[tuple[str, NDArray[np.generic] | int]] = [
            (binary.INT4, rows.sensor_no),
            (binary.INT4, rows.seq),
            (binary.INT8, binary.timestamps(rows.at_ms)),
            (binary.FLOAT8, rows.value),
            (binary.INT8, received),
        ]
        if numbers is not None:
            columns.insert(0, (binary.INT4, numbers))
        try:
            async with self.connection.cursor() as cursor, cursor.copy(statement.encode()) as copy:
                await copy.write(binary.copy_buffer(columns))
        except errors.UniqueViolation as exc:
            raise NotNew from exc

    async def _insert_staged(
        self, rows: ReadingColumns, staged: NDArray[np.intp], received_ms: int, outcome: InsertOutcome
    ) -> None:
        await self.connection.execute(_STAGE)
        await self._copy(_COPY_STAGE, rows.take(staged), received_ms, staged)
        cursor = await self.connection.execute(_INSERT_STAGED)
        known = np.array([number for (number,) in await cursor.fetchall()], dtype=np.intp)
        outcome.inserted[staged] = True
        if not len(known):
            return
        outcome.inserted[known] = False
        stored = await self._stored_values(rows, known)
        incoming = rows.value[known]
        outcome.duplicate[known] = incoming == stored
        outcome.replaced[known] = incoming > stored
        if outcome.replaced.any():
            await self._replace(rows.take(outcome.replaced))
        differs = incoming != stored
        losers = rows.take(known[differs])
        losers.value = np.minimum(incoming, stored)[differs]
        outcome.losers.append(losers)

    async def _stored_values(self, rows: ReadingColumns, known: NDArray[np.intp]) -> NDArray[np.float64]:
        await self.connection.execute("SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off")
        part = rows.take(known)
        cursor = await self.connection.execute(
            _STORED_VALUES,
            (
                binary.Int4Array(np.arange(len(known))),
                binary.Int4Array(part.sensor_no),
                binary.Int4Array(part.seq),
                binary.TimestampArray(binary.timestamps(part.at_ms)),
            ),
        )
        stored = np.full(len(known), np.nan)
        for number, value in await cursor.fetchall():
            stored[number] = value
        if np.isnan(stored).any():
            msg = "a reading that stopped an insert is not there any more; rows are never deleted above the horizon"
            raise AssertionError(msg)
        return stored

    async def _replace(self, rows: ReadingColumns) -> None:
        await self.connection.execute(
            _REPLACE_VALUES,
            (
                binary.Int4Array(rows.sensor_no),
                binary.Int4Array(rows.seq),
                binary.TimestampArray(binary.timestamps(rows.at_ms)),
                binary.Float8Array(rows.value),
            ),
        )

    async def write_conflicts(self, losers: Sequence[ReadingColumns], received_at: object) -> None:
        """Keep the values that lost to a greater one, as evidence; known ones have no effect."""
        for rows in losers:
            if len(rows):
                await self.connection.execute(_CONFLICTS, (received_at, *key_arrays(rows)))

    async def read_states(self, sensor_no: NDArray[np.int32]) -> SensorStates:
        """The newest stored reading of each of these sensors (sorted, distinct)."""
        cursor = await self.connection.execute(_READ_STATES, (binary.Int4Array(sensor_no),))
        return states_of(sensor_no, await cursor.fetchall())

    async def write_states(self, newest: ReadingColumns, before: SensorStates, received_at: datetime) -> None:
        """Move each sensor's newest reading forward, among the last steps; `newest` holds one row a sensor, in order."""
        cursor = await self.connection.execute(_STATES, (received_at, *key_arrays(newest)))
        self._written_states = cursor, newest, before

    async def _require_unmoved(self) -> None:
        if self._written_states is None:
            return
        cursor, newest, before = self._written_states
        written: dict[int, int] = dict(await cursor.fetchall())
        places = np.searchsorted(before.sensor_no, newest.sensor_no)
        expected = zip(newest.sensor_no.tolist(), before.version[places].tolist(), strict=True)
        if any(written.get(number) != version + 1 for number, version in expected):
            raise SensorMoved

    async def write_quality(
        self,
        sensor_no: NDArray[np.int32],
        at_ms: NDArray[np.int64],
        duplicates: NDArray[np.int64],
        late: NDArray[np.int64],
    ) -> None:
        """Count duplicates and late arrivals per sensor and hour of the readings' own time."""
        if not len(sensor_no):
            return
        keys, places = np.unique(np.stack([sensor_no.astype(np.int64), at_ms // HOUR_MS]), axis=1, return_inverse=True)
        places = places.reshape(-1)
        await self.connection.execute(
            _QUALITY,
            (
                binary.Int4Array(keys[0]),
                binary.TimestampArray(binary.timestamps(keys[1] * HOUR_MS)),
                binary.Int8Array(np.bincount(places, duplicates).astype(np.int64)),
                binary.Int8Array(np.bincount(places, late).astype(np.int64)),
            ),
        )

    async def mark_dirty(self, sensor_no: NDArray[np.int32], at_ms: NDArray[np.int64]) -> None:
        """Mark the stored roll-ups that these rows made stale; open hours need no mark."""
        stale = at_ms < self.frontier_ms
        if not stale.any():
            return
        blocks = sensor_no[stale].astype(np.int64) >> BLOCK_SHIFT
        keys = np.unique(np.stack([blocks, at_ms[stale] // HOUR_MS]), axis=1)
        await self.connection.execute(
            _MARK_DIRTY,
            (binary.Int4Array(keys[0]), binary.TimestampArray(binary.timestamps(keys[1] * HOUR_MS))),
        )


@asynccontextmanager
async def batch_transaction(
    pool: Pool, position: Position, sensor_no: NDArray[np.int32] = _NO_SENSORS
) -> AsyncIterator[BatchTransaction]:
    """Open the transaction of a batch, fence first, and read the states of its sensors (sorted, distinct).

    It commits at the end of its `last_steps`, or at its own end without any.

    Raises:
        Fenced: the stored position is not the expected one.
    """
    undo: list[Callable[[], None]] = []
    try:
        async with pool.connection() as connection:
            transaction = await _begin(connection, position, sensor_no)
            undo = transaction.on_rollback
            yield transaction
    except BaseException:
        for forget in undo:
            forget()
        raise


async def _begin(connection: Connection, position: Position, sensor_no: NDArray[np.int32]) -> BatchTransaction:
    binary.register(connection)
    async with connection.pipeline():
        await connection.execute("BEGIN")
        fence = await connection.execute(
            "SELECT (extract(epoch FROM frontier) * 1000)::bigint, generation FROM weir.begin_batch(%s, %s, %s, %s, %s)",
            (position.topic, position.partition, position.identity, position.expected, position.next),
        )
        states = await connection.execute(_READ_STATES, (binary.Int4Array(sensor_no),))
    row = await fence.fetchone()
    if row is None:
        msg = f"{position.topic}/{position.partition} is no longer at offset {position.expected}"
        raise Fenced(msg)
    frontier_ms, generation = row
    return BatchTransaction(
        connection, position, frontier_ms, generation, states_of(sensor_no, await states.fetchall())
    )
