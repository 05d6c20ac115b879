"""Sensors as a tenant's people handle them: what they measure in, how often, and where they are.

Runs as weir_reader inside a tenant's transaction; row-level security keeps it within the tenant. What is recorded here makes
workers judge stored readings again (`weir.place_work`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, LiteralString

from accounts.places import require_versions_left
from core.postgres import Connection

_CHANGES: Final[dict[str, LiteralString]] = {
    "unit": "UPDATE weir.sensor SET unit = %s WHERE sensor_id = %s",
    "expected_interval_ms": "UPDATE weir.sensor SET expected_interval_ms = %s WHERE sensor_id = %s",
    "archived": "UPDATE weir.sensor SET archived_at = CASE WHEN %s THEN coalesce(archived_at, now()) END WHERE sensor_id = %s",
}


@dataclass(frozen=True, slots=True)
class Assignment:
    """Where a sensor was in [effective_from, effective_to); None: until now."""

    effective_from: datetime
    effective_to: datetime | None
    unit_id: str | None
    site_id: str | None


async def list_assignments(
    connection: Connection, sensor_no: int, after: datetime | None, limit: int
) -> list[Assignment]:
    """Where a sensor was, oldest first, from the one after that moment on."""
    cursor = await connection.execute(
        "SELECT * FROM (SELECT effective_from, lead(effective_from) OVER (ORDER BY effective_from), unit_id, site_id"
        " FROM weir.sensor_assignment WHERE sensor_no = %s) a WHERE effective_from > %s ORDER BY effective_from LIMIT %s",
        (sensor_no, after or "-infinity", limit),
    )
    return [Assignment(*row) for row in await cursor.fetchall()]


async def change_sensor(connection: Connection, sensor_id: str, changes: Mapping[str, object]) -> None:
    """Set a sensor's `unit` or `expected_interval_ms`, or whether it is `archived`; what is absent stays."""
    for name, statement in _CHANGES.items():
        if name in changes:
            await connection.execute(statement, (changes[name], sensor_id))


async def place_sensor(
    connection: Connection,
    sensor_id: str,
    unit_id: str | None,
    site_id: str | None,
    effective_from: datetime | None,
) -> bool:
    """From a moment on (None: now) the sensor is in this unit, or without a unit at this site, or nowhere.

    Returns:
        False if there is no such sensor or unit.

    Raises:
        TooMany: it has been moved too often.
    """
    statement: LiteralString = (
        "SELECT count(*) FROM weir.sensor_assignment JOIN weir.sensor USING (sensor_no) WHERE sensor_id = %s"
    )
    await require_versions_left(connection, statement, sensor_id)
    cursor = await connection.execute(
        "SELECT weir.assign_sensor(%s, %s, %s, %s)", (sensor_id, unit_id, site_id, effective_from)
    )
    row = await cursor.fetchone()
    return row is not None and bool(row[0])
