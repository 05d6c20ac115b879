"""Scans as people and their programs begin and end them; what streams and jobs do to them is `sinks.timescale.scans`'.

All run as weir_reader in a tenant's transaction; each tells the live channel by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from core.postgres import Connection

Document = Mapping[str, Any]


class QueuePlace(NamedTuple):
    """How many scans go before, the own one included (0: its turn has come), and how long until its result."""

    position: int
    estimated_s: float


async def create_scan(connection: Connection, name: str, device_id: str | None, priority: int) -> Document | None:
    """A new scan; None if the tenant has no such device."""
    return await _document(connection, "SELECT weir_tenant.create_scan(%s, %s, %s)", name, device_id, priority)


async def complete_scan(connection: Connection, scan_id: str, frames: int | None) -> Document | None:
    """End a scan that is being received, with so many records in all, or with what is there."""
    return await _document(connection, "SELECT weir_tenant.complete_scan(%s, %s)", scan_id, frames)


async def cancel_scan(connection: Connection, scan_id: str) -> Document | None:
    """Cancel a scan, unless it has its result."""
    return await _document(connection, "SELECT weir_tenant.cancel_scan(%s)", scan_id)


async def retry_scan(connection: Connection, scan_id: str) -> Document | None:
    """Process a scan that failed once more."""
    return await _document(connection, "SELECT weir_tenant.retry_scan(%s)", scan_id)


async def change_scan(connection: Connection, scan_id: str, name: str | None, priority: int | None) -> Document | None:
    """Give a scan another name or priority; None leaves one as it is."""
    return await _document(connection, "SELECT weir_tenant.change_scan(%s, %s, %s)", scan_id, name, priority)


async def erase_scan(connection: Connection, scan_id: str) -> bool:
    """Forget all that was sent and found of a scan; what was metered stays. False: there is no such scan."""
    row = await (await connection.execute("SELECT weir_tenant.erase_scan(%s)", (scan_id,))).fetchone()
    return row is not None and bool(row[0])


async def queue_position(connection: Connection, scan_id: str) -> QueuePlace | None:
    """Where a scan stands that waits for its result; None if it does not."""
    cursor = await connection.execute("SELECT * FROM weir_tenant.scan_queue_position(%s)", (scan_id,))
    row = await cursor.fetchone()
    return None if row is None else QueuePlace(*row)


async def _document(connection: Connection, statement: str, *values: object) -> Document | None:
    row = await (await connection.execute(statement.encode(), values)).fetchone()
    return None if row is None else row[0]
