"""The scan-frames pipeline: one batch of one partition becomes one transaction.

    authenticate → decode → place → payloads into the object store → transaction: frame index, conflicts, counters,
    dead letters, jobs, live rows

Payloads go first, under keys made of their content: a batch that is done again writes the same objects, and an object that no
row names is removed later. The transaction decides whose scan it is; records of a scan that is not theirs are refused without
a word about it. A failing object store holds up frames, never readings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from accounts.billing.plans import Refusal as NotEntitled
from accounts.billing.quotas import admit_scan
from core.clock import Clock
from core.metrics import WorkerCounters
from core.postgres import Connection, Pool
from schemas.errors import Misconfigured, Reason, Transient
from sinks import dead_letters
from sinks.dead_letters import Refusal, Throttle
from sinks.objects import ObjectStore
from sinks.timescale import scan_intake, scans
from sinks.timescale.catalog import Catalog
from sinks.timescale.scan_intake import IndexChange, KnownScan, ScanClaim
from sinks.timescale.writer import BatchTransaction, batch_transaction
from streams.authentication import Trusted, authenticate
from streams.batches import CatalogChanged, RecordBatch, stored_offset
from streams.scan_arrivals import Arrival, Judged, first_claims, judge

# Frames alone are told of this often at most; whatever changes a scan's status is told at once.
_TELL_EVERY: Final = timedelta(milliseconds=500)
_NOT_ENTITLED: Final = {
    NotEntitled.NOT_INCLUDED: (Reason.NOT_INCLUDED, "the tenant's plan does not include scans"),
    NotEntitled.UNPAID: (
        Reason.UNPAID,
        "the tenant's subscription is not paid, so new scans must wait; readings go on",
    ),
    NotEntitled.QUOTA: (Reason.QUOTA_EXCEEDED, "the month's quota of scans is used up, so new scans must wait"),
}


class _PayloadMissing(Exception):
    """What was another's scan a moment ago is the device's own now: take the batch again, with its payloads."""


@dataclass(frozen=True, slots=True)
class ScanBatchReport:
    """What one batch came to."""

    records: int
    inserted: int
    duplicates: int
    conflicts: int
    refused: int
    flooding: tuple[str, ...]

    def count(self, counters: WorkerCounters) -> None:
        """Add what the batch came to."""
        counters.scan_frames_inserted_total += self.inserted
        counters.scan_frames_duplicate_total += self.duplicates
        counters.scan_frames_conflict_total += self.conflicts

    def shown(self) -> dict[str, int]:
        """What the batch's log line tells beside records and refusals."""
        return {"inserted": self.inserted, "duplicates": self.duplicates, "conflicts": self.conflicts}


class ScanFramesPipeline:
    """Turns record batches into stored frames.

    Args:
        pool: under the writer role.
        catalog: devices and their secrets.
        open_objects: opens the object store, at the first frame: a worker for readings needs none.
        throttle: of dead letters.
        clock: gives T, the time that records are taken in at.
        dead_letter_topic: where refused records are published.
    """

    def __init__(
        self,
        *,
        pool: Pool,
        catalog: Catalog,
        open_objects: Callable[[], ObjectStore],
        throttle: Throttle,
        clock: Clock,
        dead_letter_topic: str,
    ) -> None:
        self._pool = pool
        self._catalog = catalog
        self._open_objects = open_objects
        self._objects: ObjectStore | None = None
        self._throttle = throttle
        self._clock = clock
        self._dead_letter_topic = dead_letter_topic

    async def process(self, batch: RecordBatch) -> ScanBatchReport:
        """Commit one batch.

        Raises:
            Fenced: another worker owns the partition.
            Transient: the object store does not answer or is wrongly set up; nothing was committed.
            psycopg.Error: the caller sorts transient failures from bugs; nothing was written.
        """
        while True:
            trusted = await authenticate(batch.records, self._catalog, key_is_device=False)
            received_ms = self._clock.now_ms()
            judged = judge(trusted, received_ms)
            stored = await self._put_payloads(judged.arrivals)
            try:
                async with batch_transaction(self._pool, batch.position) as transaction:
                    _require_generation(transaction, trusted)
                    return await self._write(transaction.connection, batch, judged, stored)
            except _PayloadMissing:
                continue
            except CatalogChanged:
                async with self._pool.connection() as connection:
                    await self._catalog.refresh(connection)

    async def stored_offset(self, batch: RecordBatch) -> int | None:
        """The stored position of the batch's partition; None when the topic has another identity by now."""
        return await stored_offset(self._pool, batch)

    async def _put_payloads(self, arrivals: Sequence[Arrival]) -> frozenset[str]:
        """Put what the index may come to name into the object store; returns the keys that are there."""
        wanted = await self._wanted(arrivals)
        try:
            if wanted:
                await self._store().put_all(wanted)
        except Misconfigured as exc:
            raise Transient(str(exc)) from exc
        return frozenset(wanted)

    async def _wanted(self, arrivals: Sequence[Arrival]) -> dict[str, bytes]:
        """Payloads by key: of frames whose scan may have them, as far as can be told, and which are not stored yet."""
        good = [arrival for arrival in arrivals if arrival.refusal is None]
        async with self._pool.connection() as connection:
            known = await scan_intake.find_scans(connection, {arrival.claim.scan_id for arrival in good})
            # What the quota has left is only looked at here; it is taken where the scan is made.
            async with connection.transaction(force_rollback=True):
                not_entitled = await _not_entitled(connection, first_claims(good), known, self._now())
            may_store = [arrival for arrival in good if _may_store(arrival, known, not_entitled)]
            frames = [_placed(arrival, known) for arrival in may_store if arrival.claim.scan_id in known]
            there = await scan_intake.stored_frames(connection, [frame.key for frame in frames])
        stored = {frame.object_key for frame in there.values()}
        return {
            arrival.frame.object_key: arrival.record.value or b""
            for arrival in may_store
            if arrival.frame.object_key not in stored
        }

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC)

    def _store(self) -> ObjectStore:
        if self._objects is None:
            self._objects = self._open_objects()
        return self._objects

    async def _write(
        self,
        connection: Connection,
        batch: RecordBatch,
        judged: Judged,
        payloads: frozenset[str],
    ) -> ScanBatchReport:
        received_at = self._now()
        known, not_entitled = await self._claim(connection, judged.arrivals, received_at)
        placed, refused = sort_out(judged.arrivals, known, not_entitled)
        frames = [_placed(arrival, known) for arrival in placed]
        stored = await scan_intake.stored_frames(connection, [frame.key for frame in frames])
        change = scan_intake.plan_change(frames, stored)
        _require_payloads(change, payloads)
        changed = await scan_intake.write_change(connection, change, received_at)
        status = await scan_intake.settle(connection, change.scans)
        # A record that is refused for its scan was perhaps refused for itself already: one reason is enough.
        first = {refusal.record.offset: refusal for refusal in (*refused, *judged.refusals)}
        selection = self._throttle.select([first[offset] for offset in sorted(first)], self._clock.now_ms())
        if selection.total:
            await dead_letters.write_refusals(connection, batch.source, selection, received_at, self._dead_letter_topic)
        # Last, since live rows lock their tenants' heads until the commit.
        await scans.tell(connection, _to_tell(known, changed, status, received_at))
        return ScanBatchReport(
            records=len(batch.records),
            inserted=len(change.added),
            duplicates=change.duplicates,
            conflicts=len(change.lost),
            refused=selection.total,
            flooding=tuple(selection.flooding),
        )

    async def _claim(
        self, connection: Connection, arrivals: Sequence[Arrival], now: datetime
    ) -> tuple[dict[str, KnownScan], Mapping[str, NotEntitled]]:
        """Lock the batch's scans, making those that may be made; and why the others may not."""
        claims = first_claims(arrivals)
        there = await scan_intake.find_scans(connection, claims)
        not_entitled = await _not_entitled(connection, claims, there, now)
        for scan_id in not_entitled:
            del claims[scan_id]
        return (await scan_intake.claim_scans(connection, claims) if claims else {}), not_entitled


async def _not_entitled(
    connection: Connection, claims: Mapping[str, ScanClaim], known: Mapping[str, KnownScan], now: datetime
) -> dict[str, NotEntitled]:
    """Of the scans that do not exist yet those that may not begin, and why; the others have taken of their quota."""
    refused: dict[str, NotEntitled] = {}
    for scan_id, claim in sorted(claims.items(), key=lambda item: item[1].tenant_id):
        refusal = None if scan_id in known else await admit_scan(connection, claim.tenant_id, now)
        if refusal is not None:
            refused[scan_id] = refusal
    return refused


def _require_generation(transaction: BatchTransaction, trusted: Trusted) -> None:
    if transaction.generation != trusted.generation:
        raise CatalogChanged


def sort_out(
    arrivals: Sequence[Arrival], known: Mapping[str, KnownScan], not_entitled: Mapping[str, NotEntitled]
) -> tuple[list[Arrival], list[Refusal]]:
    """Which records have their place in a scan of their own; the refusals of the others."""
    placed: list[Arrival] = []
    refused: list[Refusal] = []
    for arrival in arrivals:
        scan = known.get(arrival.claim.scan_id)
        if scan is None:
            reason, detail = _NOT_ENTITLED[not_entitled[arrival.claim.scan_id]]
            refused.append(arrival.refused(reason, detail))
        elif not scan.belongs_to(arrival.claim):
            detail = "this id belongs to a scan of another device; begin one with an id of your own"
            refused.append(arrival.refused(Reason.SCAN_OF_ANOTHER_DEVICE, detail))
        elif scan.status == "cancelled":
            refused.append(arrival.refused(Reason.SCAN_CANCELLED, "the scan was cancelled; begin another one"))
        else:
            placed.append(arrival)
    return placed, refused


def _may_store(arrival: Arrival, known: Mapping[str, KnownScan], not_entitled: Mapping[str, NotEntitled]) -> bool:
    scan = known.get(arrival.claim.scan_id)
    if scan is None:
        return arrival.claim.scan_id not in not_entitled
    return scan.belongs_to(arrival.claim) and scan.status != "cancelled"


def _placed(arrival: Arrival, known: Mapping[str, KnownScan]) -> scan_intake.StoredFrame:
    return replace(arrival.frame, scan_no=known[arrival.claim.scan_id].scan_no)


def _require_payloads(change: IndexChange, payloads: frozenset[str]) -> None:
    """Every row that comes to name an object names one that was put; those that lost may have been stored before."""
    named = {frame.object_key for frame in (*change.added, *change.replacing) if frame.refusal is None}
    if not named <= payloads:
        raise _PayloadMissing


def _to_tell(
    known: Mapping[str, KnownScan], changed: Sequence[int], status: Mapping[int, str], now: datetime
) -> list[int]:
    """The changed scans that are other in status than before, or of which nobody heard for a while."""
    before = {scan.scan_no: scan for scan in known.values()}
    return [
        number
        for number in changed
        if status.get(number, before[number].status) != before[number].status or _is_due(before[number].told_at, now)
    ]


def _is_due(told_at: datetime | None, now: datetime) -> bool:
    return told_at is None or now - told_at >= _TELL_EVERY
