"""The jobs of scans: `scans.preview` while records come in, `scans.process` once a scan has ended.

A job reads the scan's index, has a child process compute (`jobs.scans.computation`), and writes what came of it in one
transaction. While the child works, the scan is looked at twice a second: one that was cancelled or got more records needs no
result, and its child is ended. Both jobs may run twice or be repeated: what they write is a function of the scan's records.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Final

import structlog

from accounts.billing.quotas import give_back_scan
from core.clock import monotonic_s
from core.kafka import Topic, topic_name
from core.postgres import Connection
from core.settings import Settings, load_settings
from core.tasks import TaskName
from jobs.children import ComputationFailed, Limits
from jobs.registry import Resources, Task, Tasks
from jobs.retry import Backoff
from jobs.scans import steps
from jobs.scans.payloads import store_settings
from schemas.errors import WeirError
from sinks.objects import ObjectStore, open_object_store, scan_prefix
from sinks.scan_parts import join_parts
from sinks.timescale import scans as store
from sinks.timescale.scans import Export, FrameVerdict, Scan

Document = dict[str, Any]
_log = structlog.get_logger()
_LOOK_S: Final = 0.5
_COMPUTATION = "jobs.scans.computation"
_OPEN: Final = frozenset({"receiving"})
_ENDED: Final = frozenset({"queued", "processing"})


class NotWanted(Exception):
    """The scan needs no result any more, or not this one."""


async def preview_scan(resources: Resources, *, tenant_id: str, scan_id: str) -> None:
    """Measure what has come of a scan, unless it has ended."""
    found = await _find(resources, tenant_id, scan_id, _OPEN)
    if found is None:
        return
    scan, request = found
    settings = load_settings()
    request["state"] = resources.kept.get(_kept_key(scan)) or b""
    limits = Limits(settings.scan_preview_seconds, settings.scan_memory_mib, reuse=settings.scan_previews_per_process)
    try:
        done = await _watched(resources, scan, _OPEN, "preview", request, limits, _Progress())
    except NotWanted:
        return
    resources.kept.put(_kept_key(scan), done.pop("state"))
    await _store(resources, settings, scan, done, is_provisional=True)


async def process_scan(resources: Resources, *, tenant_id: str, scan_id: str) -> None:
    """Make the final result of a scan that has ended, and its files."""
    found = await _find(resources, tenant_id, scan_id, _ENDED)
    if found is None:
        return
    scan, request = found
    resources.kept.drop(_kept_key(scan))
    settings = load_settings()
    limits = Limits(settings.scan_process_seconds, settings.scan_memory_mib, niceness=settings.scan_niceness)
    started_s = monotonic_s()
    try:
        done = await _processed(resources, scan, request, limits)
    except NotWanted:
        return
    done["document"]["processing"]["seconds"] = round(monotonic_s() - started_s, 1)
    await _store(resources, settings, scan, done, is_provisional=False)


async def processing_failed(resources: Resources, error: BaseException, *, tenant_id: str, scan_id: str) -> None:
    """No further attempt follows: say so. What was received stays, so that it can be tried again."""
    async with resources.pool.connection() as connection, connection.transaction():
        scan = await store.find_scan(connection, scan_id)
        if scan is None or scan.tenant_id != tenant_id:
            return
        if await store.set_status(connection, scan.scan_no, "failed", error=f"processing failed: {_told(error)}"):
            await give_back_scan(connection, scan.scan_no)


def _told(error: BaseException) -> str:
    """What a tenant may read of an error."""
    return str(error) if isinstance(error, WeirError) else f"an internal error ({type(error).__name__})"


async def _find(
    resources: Resources, tenant_id: str, scan_id: str, wanted: frozenset[str]
) -> tuple[Scan, Document] | None:
    """The scan as it is now, with what a computation needs to know of it; None if it is not in one of these states."""
    await join_parts(resources.pool, open_object_store(load_settings()), scan_id)
    async with resources.pool.connection() as connection, connection.transaction():
        scan = await store.find_scan(connection, scan_id)
        if scan is None or scan.tenant_id != tenant_id or scan.status not in wanted:
            return None
        records = await store.frames_of(connection, scan.scan_no)
        files = await store.files_of(connection, scan.scan_no)
    return scan, {
        "store": store_settings(load_settings()),
        "prefix": f"{scan_prefix(scan.tenant_id, scan.scan_id)}/results",
        "records": [(row.seq, row.type, row.object_key, row.sha256) for row in records],
        "files": [(row.file_id, row.kind, row.object_key, row.size or 0) for row in files if row.complete],
        "version": metadata.version("weir-telemetry"),
        "title": scan.name or f"Scan {scan.scan_id}",
        "recognizer": load_settings().scan_recognizer,
        "without": {},
    }


async def _processed(resources: Resources, scan: Scan, request: Document, limits: Limits) -> Document:
    """The final result; a step that takes the computation down and can be done without is left out of another one.

    Raises:
        ComputationFailed: what cannot be done without took it down.
        NotWanted: as `_watched`.
    """
    while True:
        progress = _Progress()
        try:
            return await _watched(resources, scan, _ENDED, "process", request, limits, progress)
        except ComputationFailed as error:
            step = steps.at(progress.share)
            if step is None or step in request["without"]:
                raise
            request["without"][step] = str(error)
            _log.warning("scan_step_left_out", scan_id=scan.scan_id, step=step, error=str(error))


@dataclass(slots=True)
class _Progress:
    """How far a computation is, 0 to 1."""

    share: float = 0.0

    def tell(self, share: float) -> None:
        self.share = share


async def _watched(
    resources: Resources,
    scan: Scan,
    wanted: frozenset[str],
    work: str,
    request: Document,
    limits: Limits,
    progress: _Progress,
) -> Document:
    """Compute while somebody wants it.

    Raises:
        NotWanted: the scan is in another state by now, or what it was to be made of has changed.
    """
    computing = asyncio.create_task(resources.children.run(f"{_COMPUTATION}:{work}", request, limits, progress.tell))
    looking = asyncio.create_task(_until_not_wanted(resources, scan, wanted, progress))
    try:
        await asyncio.wait({computing, looking}, return_when=asyncio.FIRST_COMPLETED)
        if not computing.done():
            looking.result()
            raise NotWanted
        return computing.result()
    finally:
        for task in (computing, looking):
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task


async def _until_not_wanted(resources: Resources, scan: Scan, wanted: frozenset[str], progress: _Progress) -> None:
    told = -1
    while True:
        async with resources.pool.connection() as connection, connection.transaction():
            now = await store.find_scan(connection, scan.scan_id)
            if now is None or now.status not in wanted or (wanted is _ENDED and now.version != scan.version):
                return
            percent = min(99, int(100 * progress.share))
            if wanted is _ENDED and percent != told:
                await store.set_status(connection, scan.scan_no, "processing", progress=percent)
                told = percent
        await asyncio.sleep(_LOOK_S)


async def _store(resources: Resources, settings: Settings, scan: Scan, done: Document, *, is_provisional: bool) -> None:
    """Write a result; files that it replaces go once its rows name the new ones."""
    exports = [Export(**export) for export in done["exports"]]
    async with resources.pool.connection() as connection, connection.transaction():
        before = await _object_keys(connection, scan.scan_no)
        query = "SELECT status FROM weir.scan WHERE scan_no = %s FOR NO KEY UPDATE"
        row = await (await connection.execute(query, (scan.scan_no,))).fetchone()
        await _tell_of_files(connection, scan.scan_no, done.get("file_errors", {}))
        # Files of the result before, or of a preview, say nothing of this one; of a cancelled scan they are the last.
        if not is_provisional and row is not None and row[0] in _ENDED | _OPEN:
            await connection.execute("DELETE FROM weir.scan_export WHERE scan_no = %s", (scan.scan_no,))
        is_kept = await store.store_result(
            connection,
            scan,
            done["document"],
            provisional=is_provisional,
            usage_topic=topic_name(settings.topic_prefix, Topic.USAGE),
            exports=exports,
            verdicts=[FrameVerdict(*verdict) for verdict in done.get("verdicts", ())],
            file_points=done.get("file_points"),
        )
        after = await _object_keys(connection, scan.scan_no)
    made = {export.object_key for export in exports}
    await _delete(open_object_store(settings), (before - after) | (set() if is_kept else made - after))


async def _tell_of_files(connection: Connection, scan_no: int, errors: dict[str, str]) -> None:
    for file_id, error in sorted(errors.items()):
        await connection.execute(
            "UPDATE weir.scan_file SET error = %s WHERE scan_no = %s AND file_id = %s", (error, scan_no, file_id)
        )


async def _object_keys(connection: Connection, scan_no: int) -> set[str]:
    cursor = await connection.execute("SELECT object_key FROM weir.scan_export WHERE scan_no = %s", (scan_no,))
    return {str(key) for (key,) in await cursor.fetchall()}


async def _delete(objects: ObjectStore, keys: set[str]) -> None:
    """An object that stays costs a little room; the result stands without."""
    for key in sorted(keys):
        with suppress(WeirError):
            await objects.delete(key)


async def look_after_scans(resources: Resources) -> None:
    """Make the lost jobs of scans again, and give up the scans whose jobs took their workers down too often."""
    async with resources.pool.connection() as connection:
        await connection.execute("SELECT weir.look_after_scans()")


def _kept_key(scan: Scan) -> str:
    return f"scan-map:{scan.scan_no}"


# The next record's preview is a preview's retry; a computation that crashes thrice will crash again.
SCAN_TASKS: Tasks = {
    TaskName.PREVIEW_SCAN: Task(preview_scan, timeout_s=600.0, backoff=Backoff(max_attempts=1)),
    TaskName.PROCESS_SCAN: Task(
        process_scan,
        timeout_s=24 * 3600.0,
        backoff=Backoff(base_s=2.0, cap_s=60.0, max_attempts=3),
        given_up=processing_failed,
    ),
    TaskName.LOOK_AFTER_SCANS: Task(look_after_scans, timeout_s=60.0, backoff=Backoff(max_attempts=1)),
}
