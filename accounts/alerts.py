"""Episodes as a tenant's people see them, and what they say about them.

Runs as weir_reader inside a tenant's transaction; row-level security keeps it within the tenant. Judging is the workers'.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from core.postgres import Connection

SHOWN_NOTES: Final = 1_000
"""The newest notes that are shown with an episode."""


class Handling(StrEnum):
    """What somebody can say about an episode; clearing is independent of it."""

    ACKNOWLEDGE = "acknowledge"
    COMMENT = "comment"
    ASSIGN = "assign"


@dataclass(frozen=True, slots=True)
class AlertFilter:
    """What a list of episodes is narrowed to; None: not at all."""

    status: str | None = None
    severity: str | None = None
    sensor_id: str | None = None
    start: datetime | None = None
    end: datetime | None = None


async def handle(
    connection: Connection, alert_id: str, handling: Handling, author: str, note: str, topic: str
) -> dict[str, Any] | None:
    """Keep who said what and when, and publish the episode's new version.

    Args:
        connection: in a transaction of the tenant.
        alert_id: the episode.
        handling: acknowledgement, comment, or assignment.
        author: whose credential it was.
        note: the text; of an assignment, to whom.
        topic: the topic of alerts, with its prefix.

    Returns:
        The new version; None if there is no such episode.
    """
    cursor = await connection.execute(
        "SELECT weir.handle_alert(%s, %s, %s, %s, %s)", (alert_id, handling.value, author, note, topic)
    )
    row = await cursor.fetchone()
    return None if row is None or row[0] is None else dict(row[0])


async def find_alert(connection: Connection, alert_id: str) -> dict[str, Any] | None:
    """One episode as the outside sees it."""
    cursor = await connection.execute(
        "SELECT weir.episode_document(e) FROM weir.alert_episode e WHERE alert_id = %s", (alert_id,)
    )
    row = await cursor.fetchone()
    return None if row is None else dict(row[0])


async def alert_history(
    connection: Connection, alert_id: str, as_of: datetime | None, after: int, limit: int
) -> list[dict[str, Any]]:
    """Versions greater than `after` that were known at `as_of`, oldest first."""
    cursor = await connection.execute(
        "SELECT episode FROM weir.alert_history WHERE alert_id = %s AND version > %s AND recorded_at <= %s"
        " ORDER BY version LIMIT %s",
        (alert_id, after, as_of or "infinity", limit),
    )
    return [dict(episode) for (episode,) in await cursor.fetchall()]


async def alert_notes(connection: Connection, alert_id: str) -> list[dict[str, Any]]:
    """Acknowledgements, comments and assignments, oldest first; the newest `SHOWN_NOTES`."""
    cursor = await connection.execute(
        "SELECT kind, author, note, weir.shown_time(created_at) FROM weir.alert_note WHERE alert_id = %s"
        " ORDER BY note_id DESC LIMIT %s",
        (alert_id, SHOWN_NOTES),
    )
    return [
        {"kind": kind, "author": author, "note": note, "created_at": at}
        for kind, author, note, at in reversed(await cursor.fetchall())
    ]


# An episode is [started_at, resolved_at); a retracted one that never resolved reaches as far as it was possible.
_END = (
    "coalesce(e.resolved_at, CASE WHEN e.status = 'retracted'"
    " THEN e.started_at + e.possible_ms * interval '1 millisecond' ELSE 'infinity' END)"
)
_CONDITIONS: Final = {
    "status": "e.status = %(status)s",
    "severity": "e.severity = %(severity)s",
    "sensor_id": "e.sensor_no = (SELECT s.sensor_no FROM weir.sensor s WHERE s.sensor_id = %(sensor_id)s)",
    "start": f"(e.started_at >= %(start)s OR {_END} > %(start)s)",
    "end": "e.started_at < %(end)s",
}


async def list_alerts(
    connection: Connection, wanted: AlertFilter, before: tuple[datetime, int] | None, limit: int
) -> list[tuple[datetime, int, dict[str, Any]]]:
    """Episodes, newest start first; start and end select those that overlap.

    Returns:
        (started_at, episode_no, document) each; the first two are the key of the next page.
    """
    parameters: dict[str, object] = {
        name: value for name in _CONDITIONS if (value := getattr(wanted, name)) is not None
    }
    conditions = [_CONDITIONS[name] for name in parameters]
    if before is not None:
        conditions.append("(e.started_at, e.episode_no) < (%(at)s, %(no)s)")
        parameters |= {"at": before[0], "no": before[1]}
    # Written out although the policies say it too: the index by tenant is then what serves the order.
    where = " AND ".join(["e.tenant_id = weir.current_tenant()", *conditions])
    statement = (
        "SELECT e.started_at, e.episode_no, weir.episode_document(e) FROM weir.alert_episode e"  # noqa: S608 - constants
        f" WHERE {where} ORDER BY e.started_at DESC, e.episode_no DESC LIMIT %(limit)s"
    )
    cursor = await connection.execute(statement.encode(), {**parameters, "limit": limit})
    return await cursor.fetchall()
