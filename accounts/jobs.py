"""Jobs as a tenant's people see them: what is worked on for them in the background, and what came of it.

Runs as weir_reader inside a tenant's transaction. Jobs follow the work that they are about by the database's own triggers
(`weir.tenant_job`); what runs and how often it is tried is `jobs`' business.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from core.postgres import Connection

KINDS: Final = ("rule_evaluation", "place_evaluation", "scan_processing")
STATUSES: Final = ("queued", "running", "succeeded", "failed", "cancelled")

Document = Mapping[str, Any]
Place = tuple[datetime, int]
"""When a job was made, and its number."""


async def list_jobs(
    connection: Connection, status: str | None, kind: str | None, before: Place | None, limit: int
) -> list[tuple[Place, Document]]:
    """Jobs, newest first; of one status or kind, or of all."""
    cursor = await connection.execute(
        "SELECT created_at, job_no, document FROM weir_tenant.jobs"
        " WHERE (%(status)s::text IS NULL OR status = %(status)s) AND (%(kind)s::text IS NULL OR kind = %(kind)s)"
        " AND (%(at)s::timestamptz IS NULL OR (created_at, job_no) < (%(at)s, %(number)s))"
        " ORDER BY created_at DESC, job_no DESC LIMIT %(limit)s",
        {
            "status": status,
            "kind": kind,
            "at": before and before[0],
            "number": before and before[1],
            "limit": limit,
        },
    )
    return [((created_at, number), document) for created_at, number, document in await cursor.fetchall()]


async def find_job(connection: Connection, job_id: str) -> Document | None:
    """One job; None if the tenant has no such one, or it is forgotten."""
    cursor = await connection.execute("SELECT document FROM weir_tenant.jobs WHERE job_id = %s", (job_id,))
    row = await cursor.fetchone()
    return None if row is None else row[0]
