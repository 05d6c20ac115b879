"""What keeps scans going without a record to cause it: the end of those that fell silent, and of objects that nothing names.

Each is safe to run at any time, twice, or not for a while.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from core.settings import load_settings
from core.tasks import TaskName
from jobs.registry import Resources, Task, Tasks
from jobs.retry import Backoff
from sinks.objects import Found, ObjectStore, open_object_store, scan_prefix
from sinks.timescale import scans

_log = structlog.get_logger()
_SCANS_AT_ONCE: Final = 200
# A batch puts its objects before it commits, and a worker may be away for hours between the two.
_ORPHAN_AGE: Final = timedelta(hours=24)
_PAGE: Final = 1_000

_SILENT: Final = """
SELECT scan_no FROM weir.scan WHERE status = 'receiving' AND coalesce(last_frame_at, created_at) < %s
ORDER BY coalesce(last_frame_at, created_at) LIMIT %s FOR NO KEY UPDATE SKIP LOCKED
"""
_ERASED: Final = "SELECT 1 FROM weir.scan WHERE scan_id = %s AND tenant_id = %s AND erased_at IS NOT NULL"
_UNNAMED: Final = """
WITH asked AS MATERIALIZED (SELECT k AS key, split_part(k, '/', 3) AS folder FROM unnest(%s::text[]) AS k),
owners AS MATERIALIZED (
    SELECT DISTINCT s.scan_no FROM asked a JOIN weir.scan s ON left(encode(sha256(s.scan_id::bytea), 'hex'), 32) = a.folder),
named AS MATERIALIZED (
    SELECT f.object_key FROM owners JOIN weir.scan_frame f USING (scan_no)
    UNION ALL SELECT c.object_key FROM owners JOIN weir.scan_conflict c USING (scan_no)
    UNION ALL SELECT d.object_key FROM owners JOIN weir.scan_file d USING (scan_no)
    UNION ALL SELECT e.object_key FROM owners JOIN weir.scan_export e USING (scan_no)
    UNION ALL SELECT p.object_key FROM weir.scan_upload_piece p)
SELECT a.key FROM asked a WHERE NOT EXISTS (SELECT FROM named n WHERE n.object_key = a.key)
"""


async def finish_silent_scans(resources: Resources) -> None:
    """Process what is there of scans from which nothing was heard for the time-out."""
    patience = timedelta(seconds=load_settings().scan_timeout_s)
    before = datetime.fromtimestamp(resources.now_ms() / 1000, UTC) - patience
    found = _SCANS_AT_ONCE
    while found == _SCANS_AT_ONCE:
        async with resources.pool.connection() as connection, connection.transaction():
            rows = await (await connection.execute(_SILENT, (before, _SCANS_AT_ONCE))).fetchall()
            silent = sorted(number for (number,) in rows)
            for number in silent:
                await connection.execute("SELECT weir.settle_scan(%s, true)", (number,))
            await scans.tell(connection, silent)
        found = len(silent)


async def remove_orphaned_objects(resources: Resources) -> None:
    """Delete objects that no row names and that are older than a day: batches that never committed or broke off left them."""
    objects = open_object_store(load_settings())
    before = datetime.fromtimestamp(resources.now_ms() / 1000, UTC) - _ORPHAN_AGE
    removed = await objects.remove_unfinished(before)
    async for page in _old_objects(objects, before):
        async with resources.pool.connection() as connection:
            rows = await (await connection.execute(_UNNAMED, ([one.key for one in page],))).fetchall()
        for (key,) in rows:
            # A batch that is done again puts its objects anew, which makes them young.
            if (found := await objects.head(key)) is not None and found.changed_at < before:
                await objects.delete(key)
                removed += 1
    if removed:
        _log.info("orphaned_objects_removed", objects=removed)


async def erase_scan_objects(resources: Resources, *, tenant_id: str, scan_id: str) -> None:
    """Delete every object of an erased scan; whatever a process that was just ended still wrote goes within a day."""
    async with resources.pool.connection() as connection:
        found = await (await connection.execute(_ERASED, (scan_id, tenant_id))).fetchone()
    if found is None:
        return
    objects = open_object_store(load_settings())
    keys = [one.key async for one in objects.list(scan_prefix(tenant_id, scan_id))]
    for key in keys:
        await objects.delete(key)
    _log.info("scan_objects_erased", scan_id=scan_id, objects=len(keys))


async def _old_objects(objects: ObjectStore, before: datetime) -> AsyncIterator[Sequence[Found]]:
    """Pages of the objects of scans that are old enough to judge."""
    page: list[Found] = []
    async for found in objects.list("scans"):
        if found.changed_at < before:
            page.append(found)
        if len(page) == _PAGE:
            yield page
            page = []
    if page:
        yield page


UPKEEP_TASKS: Tasks = {
    # The next tick is its retry.
    TaskName.FINISH_SILENT_SCANS: Task(finish_silent_scans, timeout_s=60.0, backoff=Backoff(max_attempts=1)),
    TaskName.ERASE_SCAN_OBJECTS: Task(erase_scan_objects, timeout_s=3600.0),
    TaskName.REMOVE_ORPHANED_OBJECTS: Task(remove_orphaned_objects, timeout_s=6 * 3600.0),
}
