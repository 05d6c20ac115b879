"""Scans that tests of the API share: planted as the stream and the jobs would leave them, without either."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from psycopg.types.json import Jsonb

from sinks.objects import open_directory, scan_prefix
from tests.integration.servers import Database

# A room of 5.2 x 4.1 m with a door, as processing tells of it.
RESULT: dict[str, Any] = {
    "room_dimensions": {"length": 5.203, "width": 4.101, "height": 2.498, "area": 21.338, "volume": 53.3, "perimeter": 18.608},
    "uncertainty": {"length": 0.011, "width": 0.009, "height": 0.006, "area": 0.06, "volume": 0.2, "perimeter": 0.028},
    "verdict": "good",
    "confidence": 0.93,
    "completeness": 0.97,
    "missing_parts": [],
    "warnings": [],
    "floor_polygon": [[0.0, 0.0], [5.203, 0.0], [5.203, 4.101], [0.0, 4.101]],
    "openings": [{"kind": "door", "wall": 2, "offset": 1.2, "width": 0.9, "height": 2.05, "sill": 0.0}],
    "objects": [{"center": [1.1, 0.4, 0.45], "size": [1.2, 0.6, 0.9], "yaw": 0.0}],
    "model": {"vertices": 8, "triangles": 12},
    "processing": {"seconds": 1.4, "version": "0.1.0"},
}  # fmt: skip


def set_scan(database: Database, scan_id: str, **columns: Any) -> None:
    """Give a scan's row other values."""
    for column, value in columns.items():
        statement: Any = f"UPDATE weir.scan SET {column} = %s WHERE scan_id = %s"  # noqa: S608 - a name from the test
        database.query(statement, value, scan_id)


def plant_result(
    database: Database, folder: Path, scan_id: str, exports: Mapping[str, bytes], document: Mapping[str, Any] = RESULT
) -> None:
    """Complete a scan with a result and files, in an object store of a folder."""
    database.query(
        "INSERT INTO weir.scan_result (scan_no, tenant_id, version, document, provisional)"
        " SELECT scan_no, tenant_id, 1, %s, false FROM weir.scan WHERE scan_id = %s RETURNING 1",
        Jsonb(dict(document)),
        scan_id,
    )
    for name, content in exports.items():
        plant_export(database, folder, scan_id, name, content)
    set_scan(database, scan_id, status="completed")


def plant_export(database: Database, folder: Path, scan_id: str, name: str, content: bytes) -> str:
    """One file that processing made; its object's key."""
    ((tenant_id,),) = database.query("SELECT tenant_id FROM weir.scan WHERE scan_id = %s", scan_id)
    key = f"{scan_prefix(tenant_id, scan_id)}/exports/{hashlib.sha256(content).hexdigest()}"
    asyncio.run(open_directory(folder).put(key, content))
    database.query(
        "INSERT INTO weir.scan_export (scan_no, tenant_id, format, bytes, sha256, object_key)"
        " SELECT scan_no, tenant_id, %s, %s, %s, %s FROM weir.scan WHERE scan_id = %s RETURNING 1",
        name,
        len(content),
        hashlib.sha256(content).digest(),
        key,
        scan_id,
    )
    return key
