"""The readings pipeline: one batch of one partition becomes one transaction.

    authenticate → decode → admit → transaction: readings, conflicts, states, usage, quality, markers, dead letters

Everything before the transaction is computation on the batch; the transaction moves the position first and commits with
it. Rules and further meters plug in as `Effect`s: they see what the database really did and write in the same transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from core.clock import Clock
from core.metrics import WorkerCounters
from core.postgres import Pool
from schemas.readings import DecodedBatch, decode_batch
from sinks import dead_letters
from sinks.dead_letters import Selection, Throttle
from sinks.timescale.batch_columns import InsertOutcome, ReadingColumns
from sinks.timescale.catalog import Catalog
from sinks.timescale.partitions import PartitionKeeper
from sinks.timescale.writer import (
    FEW_ROWS,
    BatchTransaction,
    NotNew,
    SensorMoved,
    batch_transaction,
)
from streams.authentication import Trusted, authenticate
from streams.batches import CatalogChanged, RecordBatch, stored_offset
from streams.judgement import Candidates, Judgement


@dataclass(slots=True)
class Stored:
    """What a batch's transaction did to the readings, for the effects that follow.

    `rows` are sorted by (sensor_no, at, seq); masks and codes have their length.
    """

    rows: ReadingColumns
    outcome: InsertOutcome
    tenant_ids: list[str]
    tenant_code: NDArray[np.int64]
    # Newest stored time of each row's sensor before the batch.
    newest_ms: NDArray[np.int64]
    # Version of each row's sensor before the batch; one that changes any of its rows makes it the next.
    version: NDArray[np.int64]
    received_ms: int

    @property
    def changed(self) -> NDArray[np.bool_]:
        """Rows that are new or got another value."""
        return self.outcome.inserted | self.outcome.replaced


class Effect(Protocol):
    """Something computed from stored readings and written in the same transaction."""

    async def apply(self, transaction: BatchTransaction, stored: Stored) -> None:
        """Write what follows from the batch; raising rolls the whole batch back."""
        ...


@dataclass(frozen=True, slots=True)
class BatchReport:
    """What one batch came to; one log line and the worker's counters."""

    records: int
    readings: int
    inserted: int
    duplicates: int
    replaced: int
    refused: int
    late: int
    flooding: tuple[str, ...]

    def count(self, counters: WorkerCounters) -> None:
        """Add what the batch came to."""
        counters.readings_inserted_total += self.inserted
        counters.readings_duplicate_total += self.duplicates
        counters.readings_replaced_total += self.replaced
        counters.readings_late_total += self.late

    def shown(self) -> dict[str, int]:
        """What the batch's log line tells beside records and refusals."""
        return {"inserted": self.inserted, "duplicates": self.duplicates, "late": self.late}


class ReadingsPipeline:
    """Turns record batches into committed rows."""

    def __init__(
        self,
        *,
        pool: Pool,
        catalog: Catalog,
        partitions: PartitionKeeper,
        throttle: Throttle,
        clock: Clock,
        dead_letter_topic: str,
        max_sensors_per_device: int,
        effects: Sequence[Effect],
        committed: Callable[[Stored], None] = lambda _: None,
    ) -> None:
        self.pool = pool
        self._catalog = catalog
        self._partitions = partitions
        self._throttle = throttle
        self._clock = clock
        self._dead_letter_topic = dead_letter_topic
        self._max_sensors = max_sensors_per_device
        self._effects = tuple(effects)
        self._committed = committed

    async def process(self, batch: RecordBatch) -> BatchReport:
        """Commit one batch.

        Raises:
            Fenced: another worker owns the partition.
            psycopg.Error: the caller sorts transient failures from bugs; nothing was written.
        """
        guess = True
        while True:
            trusted = await authenticate(batch.records, self._catalog)
            decoded = decode_batch([record.value or b"" for record in trusted.records], trusted.content_types)
            try:
                return await self._commit(batch, trusted, decoded, guess=guess)
            except SensorMoved:
                continue
            except NotNew:
                guess = False
            except CatalogChanged:
                async with self.pool.connection() as connection:
                    await self._catalog.refresh(connection)

    async def stored_offset(self, batch: RecordBatch) -> int | None:
        """The stored position of the batch's partition; None when the topic has another identity by now."""
        return await stored_offset(self.pool, batch)

    async def _commit(self, batch: RecordBatch, trusted: Trusted, decoded: DecodedBatch, *, guess: bool) -> BatchReport:
        received_ms = self._clock.now_ms()
        judged = Judgement(trusted, decoded, self._catalog, received_ms, self._max_sensors)
        await self._partitions.ensure(decoded.at_ms[judged.admitted])
        registered: dict[tuple[str, str], int] = {}
        candidates = None if judged.unregistered else judged.columns(registered)
        sensors = np.zeros(0, np.int32) if candidates is None else candidates.sensors
        async with batch_transaction(self.pool, batch.position, sensors) as transaction:
            if transaction.generation != trusted.generation:
                raise CatalogChanged
            if candidates is None:
                registered = await self._catalog.register_sensors(transaction.connection, judged.unregistered)
                candidates = judged.columns(registered)
                transaction.states = await transaction.read_states(candidates.sensors)
            report, stored = await self._write(transaction, batch, judged, candidates, received_ms, guess=guess)
        self._catalog.adopt_sensors(registered)
        self._committed(stored)
        return report

    async def _write(
        self,
        transaction: BatchTransaction,
        batch: RecordBatch,
        judged: Judgement,
        candidates: Candidates,
        received_ms: int,
        *,
        guess: bool,
    ) -> tuple[BatchReport, Stored]:
        received_at = datetime.fromtimestamp(received_ms / 1000, UTC)
        selection = await self._write_refusals(transaction, batch, judged, received_ms)
        rows, states, per_sensor = candidates.rows, transaction.states, candidates.per_sensor
        newest_ms, version = np.repeat(states.newest_ms, per_sensor), np.repeat(states.version, per_sensor)
        late = rows.at_ms <= newest_ms
        outcome = None
        if late.any() or len(rows) > FEW_ROWS or not guess:
            outcome = await transaction.insert_readings(rows, received_ms, ~late & guess)
        async with transaction.last_steps():
            if outcome is None:
                outcome = await transaction.insert_few(rows, received_at)
            stored = Stored(
                rows, outcome, candidates.tenant_ids, candidates.tenant_code, newest_ms, version, received_ms
            )
            await transaction.write_conflicts([*outcome.losers, candidates.losers], received_at)
            changed = rows.take(stored.changed)
            if len(changed):
                await transaction.write_states(last_of_each_sensor(changed), states, received_at)
            duplicates = candidates.copies + outcome.duplicate
            await self._write_quality(transaction, rows, duplicates, late & outcome.inserted)
            await transaction.mark_dirty(changed.sensor_no, changed.at_ms)
            for effect in self._effects:
                await effect.apply(transaction, stored)
        report = BatchReport(
            records=len(batch.records),
            readings=int(judged.admitted.sum()),
            inserted=int(outcome.inserted.sum()),
            duplicates=int(duplicates.sum()),
            replaced=int(outcome.replaced.sum()),
            refused=selection.total,
            late=int((late & outcome.inserted).sum()),
            flooding=tuple(selection.flooding),
        )
        return report, stored

    async def _write_refusals(
        self, transaction: BatchTransaction, batch: RecordBatch, judged: Judgement, received_ms: int
    ) -> Selection:
        selection = self._throttle.select(judged.refusals, received_ms)
        if selection.total:
            received_at = datetime.fromtimestamp(received_ms / 1000, UTC)
            await dead_letters.write_refusals(
                transaction.connection, batch.source, selection, received_at, self._dead_letter_topic
            )
        return selection

    async def _write_quality(
        self,
        transaction: BatchTransaction,
        rows: ReadingColumns,
        duplicates: NDArray[np.int64],
        late: NDArray[np.bool_],
    ) -> None:
        counted = (duplicates > 0) | late
        if counted.any():
            await transaction.write_quality(
                rows.sensor_no[counted], rows.at_ms[counted], duplicates[counted], late[counted].astype(np.int64)
            )


def last_of_each_sensor(rows: ReadingColumns) -> ReadingColumns:
    """The newest row of each sensor; `rows` sorted by key."""
    last = np.append(rows.sensor_no[1:] != rows.sensor_no[:-1], True) if len(rows) else np.zeros(0, dtype=bool)
    return rows.take(last)
