"""What a tenant's people are told: about alerts, once a kind, and about quotas that run out.

Runs as weir_reader inside a tenant's transaction. Delivering messages is not here.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from core.postgres import Connection

KINDS: Final = ("fired", "resolved", "historical", "quota")

Place = tuple[datetime, str]
"""When something was noticed, and its place among what was noticed then."""


async def list_notifications(
    connection: Connection, kind: str | None, before: Place | None, limit: int
) -> list[tuple[Place, dict[str, Any]]]:
    """Notifications, newest first; of one kind, or of all."""
    cursor = await connection.execute(
        "SELECT noticed_at, place, document FROM weir_tenant.notifications"
        " WHERE (%(kind)s::text IS NULL OR kind = %(kind)s)"
        " AND (%(at)s::timestamptz IS NULL OR (noticed_at, place) < (%(at)s, %(place)s))"
        " ORDER BY noticed_at DESC, place DESC LIMIT %(limit)s",
        {"kind": kind, "at": before and before[0], "place": before and before[1], "limit": limit},
    )
    return [((noticed_at, place), dict(document)) for noticed_at, place, document in await cursor.fetchall()]
