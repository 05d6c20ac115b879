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
from processors import admission
from schemas.errors import Reason
from schemas.readings import DecodedBatch, decode_batch
from sinks import dead_letters
from sinks.dead_letters import Record, Refusal, Selection, Source, Throttle
from sinks.timescale.batch_columns import InsertOutcome, ReadingColumns
from sinks.timescale.catalog import Catalog
from sinks.timescale.partitions import PartitionKeeper
from sinks.timescale.writer import (
    FEW_ROWS,
    BatchTransaction,
    NotNew,
    Position,
    SensorMoved,
    batch_transaction,
)
from streams.authentication import Trusted, authenticate


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """Consecutive records of one partition, as fetched."""

    topic: str
    partition: int
    identity: str
    # The stored position that these records continue; the first record's offset is this or later.
    expected: int
    records: Sequence[Record]

    @property
    def position(self) -> Position:
        """The fence of this batch's transaction."""
        return Position(self.topic, self.partition, self.identity, self.expected, self.records[-1].offset + 1)

    @property
    def source(self) -> Source:
        """Where refusals say they came from."""
        return Source(self.topic, self.partition, self.identity)


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


class CatalogChanged(Exception):
    """Credentials or horizons changed since the batch was judged: judge it again."""


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


async def stored_offset(pool: Pool, batch: RecordBatch) -> int | None:
    """The stored position of the batch's partition; None when the topic has another identity by now."""
    async with pool.connection() as connection:
        cursor = await connection.execute(
            "SELECT next_offset FROM weir.stream_position WHERE topic = %s AND partition = %s AND topic_identity = %s",
            (batch.topic, batch.partition, batch.identity),
        )
        row = await cursor.fetchone()
    return None if row is None else int(row[0])


@dataclass(slots=True)
class Candidates:
    """Admitted readings ready to be stored: rows sorted by key with unique identities, losers among copies set apart."""

    rows: ReadingColumns
    losers: ReadingColumns
    # Further copies of each row within the batch, shape (n,).
    copies: NDArray[np.int64]
    tenant_ids: list[str]
    tenant_code: NDArray[np.int64]
    # The rows' sensors, and how many rows each has.
    sensors: NDArray[np.int32]
    per_sensor: NDArray[np.int64]


class Judgement:
    """Which decoded readings are admitted at time T, and the refusals of all others."""

    def __init__(
        self, trusted: Trusted, decoded: DecodedBatch, catalog: Catalog, received_ms: int, max_sensors: int
    ) -> None:
        self._trusted = trusted
        self._decoded = decoded
        self.refusals = [*trusted.refusals, *self._decoding_refusals()]
        self._devices = trusted.devices
        self.admitted = admission.admit(decoded.at_ms, received_ms)
        self._refuse_rows(
            ~self.admitted,
            Reason.IMPOSSIBLE_TIME,
            "the time lies before 2010 or more than 5 min ahead; check the clock",
        )
        self._refuse_expired(catalog)
        names = decoded.sensor
        sensors = [device.sensors for device in self._devices]
        self._sensor_no = np.array(
            [sensors[record].get(name, -1) for record, name in zip(decoded.record.tolist(), names, strict=True)],
            dtype=np.int32,
        )
        self._refuse_excess_sensors(max_sensors)
        new = np.flatnonzero(self.admitted & (self._sensor_no < 0)).tolist()
        self.unregistered = [(self._devices[decoded.record[row]], names[row]) for row in new]

    def _decoding_refusals(self) -> list[Refusal]:
        found = [
            self._refusal(refusal.record, None, None, refusal.reason, refusal.detail)
            for refusal in self._decoded.record_refusals
        ]
        found += [
            self._refusal(refusal.record, refusal.index, refusal.sensor, refusal.reason, refusal.detail)
            for refusal in self._decoded.reading_refusals
        ]
        return found

    def _refusal(self, record: int, index: int | None, sensor: str | None, reason: Reason, detail: str) -> Refusal:
        device = self._trusted.devices[record]
        return Refusal(self._trusted.records[record], index, sensor, reason, detail, device.device_id, device.tenant_id)

    def _refuse_rows(self, mask: NDArray[np.bool_], reason: Reason, detail: str) -> None:
        decoded = self._decoded
        for row in np.flatnonzero(mask).tolist():
            self.refusals.append(
                self._refusal(int(decoded.record[row]), int(decoded.index[row]), decoded.sensor[row], reason, detail)
            )

    def _refuse_expired(self, catalog: Catalog) -> None:
        if not catalog.has_horizons:
            return
        horizons = np.array([catalog.horizon_ms(device.tenant_id) for device in self._devices], dtype=np.int64)
        if not len(horizons):
            return
        expired = self.admitted & (self._decoded.at_ms < horizons[self._decoded.record])
        self._refuse_rows(
            expired, Reason.BEYOND_RETENTION, "the tenant's data of that time has expired; it is not stored again"
        )
        self.admitted &= ~expired

    def _refuse_excess_sensors(self, max_sensors: int) -> None:
        """A device that invents names must not fill the sensor table."""
        excess = np.zeros(len(self.admitted), dtype=bool)
        names: dict[str, set[str]] = {}
        for row in np.flatnonzero(self.admitted & (self._sensor_no < 0)).tolist():
            device, name = self._devices[self._decoded.record[row]], self._decoded.sensor[row]
            fresh = names.setdefault(device.device_id, set())
            if name not in fresh and len(device.sensors) + len(fresh) >= max_sensors:
                excess[row] = True
            else:
                fresh.add(name)
        if excess.any():
            self._refuse_rows(
                excess,
                Reason.TOO_MANY_SENSORS,
                f"the device has {max_sensors} sensors, the most allowed; reuse their names",
            )
            self.admitted &= ~excess

    def columns(self, registered: dict[tuple[str, str], int]) -> Candidates:
        """The admitted rows with their sensor numbers, the newly registered ones included."""
        decoded = self._decoded
        for row in np.flatnonzero(self.admitted & (self._sensor_no < 0)).tolist():
            device = self._devices[decoded.record[row]]
            self._sensor_no[row] = registered[device.device_id, decoded.sensor[row]]
        keep = np.flatnonzero(self.admitted)
        sensor_no, at_ms = self._sensor_no[keep], decoded.at_ms[keep]
        seq, value = decoded.seq[keep], decoded.value[keep]
        greatest = admission.keep_greatest(sensor_no, at_ms, seq, value)
        every = ReadingColumns(sensor_no, seq, at_ms, value)
        tenant_ids = sorted({device.tenant_id for device in self._devices})
        code = {tenant_id: number for number, tenant_id in enumerate(tenant_ids)}
        tenant_of_record = np.array([code[device.tenant_id] for device in self._devices], dtype=np.int64)
        kept = greatest.kept
        tenant_code = tenant_of_record[decoded.record[keep[kept]]] if len(kept) else np.zeros(0, dtype=np.int64)
        rows = every.take(kept)
        sensors, per_sensor = np.unique(rows.sensor_no, return_counts=True)
        return Candidates(
            rows, every.take(greatest.losers), greatest.copies, tenant_ids, tenant_code, sensors, per_sensor
        )


def last_of_each_sensor(rows: ReadingColumns) -> ReadingColumns:
    """The newest row of each sensor; `rows` sorted by key."""
    last = np.append(rows.sensor_no[1:] != rows.sensor_no[:-1], True) if len(rows) else np.zeros(0, dtype=bool)
    return rows.take(last)
