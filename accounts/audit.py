"""The audit log as a tenant reads it; row triggers write it, nobody changes it.

Runs as weir_reader inside a tenant's transaction; row-level security keeps it within the tenant.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from core.postgres import Connection


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """What the log is narrowed to; None: not at all."""

    actor: str | None = None
    kind: str | None = None
    subject_id: str | None = None
    start: datetime | None = None
    end: datetime | None = None


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One change."""

    entry_no: int
    at: datetime
    actor: str
    action: str
    kind: str
    subject_id: str
    changes: Mapping[str, Any]


_CONDITIONS: Final = {
    "actor": "actor = %(actor)s",
    "kind": "kind = %(kind)s",
    "subject_id": "subject_id = %(subject_id)s",
    "start": "at >= %(start)s",
    "end": "at < %(end)s",
}


async def list_entries(connection: Connection, wanted: AuditFilter, before: int | None, limit: int) -> list[AuditRow]:
    """Entries older than `before`, newest first."""
    parameters: dict[str, object] = {
        name: value for name in _CONDITIONS if (value := getattr(wanted, name)) is not None
    }
    conditions = ["tenant_id = weir.current_tenant()", *(_CONDITIONS[name] for name in parameters)]
    if before is not None:
        conditions.append("entry_no < %(before)s")
        parameters["before"] = before
    statement = (
        "SELECT entry_no, at, actor, action, kind, subject_id, changes FROM weir.audit_entry"  # noqa: S608 - constants
        f" WHERE {' AND '.join(conditions)} ORDER BY entry_no DESC LIMIT %(limit)s"
    )
    cursor = await connection.execute(statement.encode(), {**parameters, "limit": limit})
    return [AuditRow(*row) for row in await cursor.fetchall()]
