"""Rules and alerts as a tenant's people handle them: versions of rules, and what is said about an episode.

Runs as weir_reader inside a tenant's transaction; row-level security keeps it within the tenant. Judging is the workers'.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from accounts.provisioning import new_id
from core.postgres import Connection


@dataclass(frozen=True, slots=True)
class RuleRow:
    """A rule's newest version."""

    rule_no: int
    rule_id: str
    version: int
    effective_from: datetime
    document: Mapping[str, Any] | None
    created_at: datetime
    recorded_at: datetime
    # How far judging the stored readings again has come, 1.0 when nothing waits.
    progress: float


_NEWEST = """
SELECT r.rule_no, r.rule_id, v.version, v.effective_from, v.document, r.created_at, v.recorded_at,
       coalesce((SELECT min(w.sensors_done::float8 / greatest(w.sensors_total, 1)) FROM weir.rule_work w
                 WHERE w.rule_no = r.rule_no AND w.done_at IS NULL), 1.0)
FROM weir.rule r CROSS JOIN LATERAL (
    SELECT * FROM weir.rule_version q WHERE q.rule_no = r.rule_no ORDER BY q.version DESC LIMIT 1) v
WHERE v.document IS NOT NULL
"""


async def list_rules(connection: Connection, after: str, limit: int) -> list[RuleRow]:
    """Rules that are not deleted, in the order of their ids."""
    cursor = await connection.execute(f"{_NEWEST} AND r.rule_id > %s ORDER BY r.rule_id LIMIT %s", (after, limit))
    return [RuleRow(*row) for row in await cursor.fetchall()]


async def find_rule(connection: Connection, rule_id: str) -> RuleRow | None:
    """One rule of the tenant; None if there is none or it is deleted."""
    cursor = await connection.execute(f"{_NEWEST} AND r.rule_id = %s", (rule_id,))
    row = await cursor.fetchone()
    return None if row is None else RuleRow(*row)


async def count_rules(connection: Connection) -> int:
    """How many rules the tenant has, deleted ones included."""
    cursor = await connection.execute("SELECT count(*) FROM weir.rule")
    row = await cursor.fetchone()
    return 0 if row is None else int(row[0])


async def create_rule(
    connection: Connection, tenant_id: str, document: Mapping[str, Any], effective_from: datetime | None, author: str
) -> str:
    """Record a rule's first version; it takes effect at `effective_from`, or when the transaction commits."""
    rule_id = new_id("rul")
    cursor = await connection.execute(
        "INSERT INTO weir.rule (rule_id, tenant_id) VALUES (%s, %s) RETURNING rule_no", (rule_id, tenant_id)
    )
    row = await cursor.fetchone()
    assert row is not None  # noqa: S101 - RETURNING of one inserted row
    await _record(connection, tenant_id, int(row[0]), 1, document, effective_from, author)
    return rule_id


async def change_rule(
    connection: Connection,
    tenant_id: str,
    rule: RuleRow,
    document: Mapping[str, Any] | None,
    effective_from: datetime | None,
    author: str,
) -> None:
    """Record the next version; a document of None deletes the rule from then on."""
    await _record(connection, tenant_id, rule.rule_no, rule.version + 1, document, effective_from, author)


async def _record(
    connection: Connection,
    tenant_id: str,
    rule_no: int,
    version: int,
    document: Mapping[str, Any] | None,
    effective_from: datetime | None,
    author: str,
) -> None:
    """One version and the work that it makes for stored readings."""
    cursor = await connection.execute(
        "INSERT INTO weir.rule_version (rule_no, version, effective_from, document, recorded_by)"
        " VALUES (%s, %s, date_trunc('milliseconds', coalesce(%s, clock_timestamp())), %s, %s) RETURNING effective_from",
        (rule_no, version, effective_from, None if document is None else json.dumps(document), author),
    )
    row = await cursor.fetchone()
    assert row is not None  # noqa: S101 - RETURNING of one inserted row
    await connection.execute(
        "INSERT INTO weir.rule_work (rule_no, tenant_id, from_at) VALUES (%s, %s, %s)", (rule_no, tenant_id, row[0])
    )


async def acknowledge(connection: Connection, alert_id: str, author: str, note: str) -> dict[str, Any] | None:
    """Say that somebody has seen it; clearing is independent of that."""
    return await _annotate(
        connection,
        alert_id,
        "acknowledge",
        author,
        note,
        "UPDATE weir.alert_episode SET acknowledged_by = %(author)s, acknowledged_at = now(), version = version + 1,"
        " updated_at = now() WHERE alert_id = %(alert_id)s AND status <> 'retracted'",
    )


async def comment(connection: Connection, alert_id: str, author: str, note: str) -> dict[str, Any] | None:
    """Add a comment."""
    return await _annotate(
        connection,
        alert_id,
        "comment",
        author,
        note,
        "UPDATE weir.alert_episode SET version = version + 1, updated_at = now() WHERE alert_id = %(alert_id)s",
    )


async def assign(connection: Connection, alert_id: str, author: str, assignee: str) -> dict[str, Any] | None:
    """Give it to somebody."""
    return await _annotate(
        connection,
        alert_id,
        "assign",
        author,
        assignee,
        "UPDATE weir.alert_episode SET assigned_to = %(note)s, version = version + 1, updated_at = now()"
        " WHERE alert_id = %(alert_id)s",
    )


async def _annotate(
    connection: Connection, alert_id: str, kind: str, author: str, note: str, update: str
) -> dict[str, Any] | None:
    """Change an episode's handling, keep who, when and why, and its new version; None if it is not there."""
    parameters = {"alert_id": alert_id, "author": author, "note": note, "kind": kind}
    cursor = await connection.execute(update.encode(), parameters)
    if cursor.rowcount == 0:
        return None
    await connection.execute(
        "INSERT INTO weir.alert_note (alert_id, kind, author, note) VALUES (%(alert_id)s, %(kind)s, %(author)s, %(note)s)",
        parameters,
    )
    cursor = await connection.execute(
        "INSERT INTO weir.alert_history (alert_id, version, recorded_at, episode)"
        " SELECT alert_id, version, updated_at, weir.episode_document(e) FROM weir.alert_episode e"
        " WHERE alert_id = %(alert_id)s RETURNING episode",
        parameters,
    )
    row = await cursor.fetchone()
    return None if row is None else dict(row[0])


async def find_alert(connection: Connection, alert_id: str) -> dict[str, Any] | None:
    """One episode as the outside sees it."""
    cursor = await connection.execute(
        "SELECT weir.episode_document(e) FROM weir.alert_episode e WHERE alert_id = %s", (alert_id,)
    )
    row = await cursor.fetchone()
    return None if row is None else dict(row[0])


async def alert_history(connection: Connection, alert_id: str, as_of: datetime | None) -> list[dict[str, Any]]:
    """Every version that was shown up to a moment, oldest first."""
    cursor = await connection.execute(
        "SELECT recorded_at, episode FROM weir.alert_history WHERE alert_id = %s"
        " AND (%s::timestamptz IS NULL OR recorded_at <= %s) ORDER BY version",
        (alert_id, as_of, as_of),
    )
    return [dict(episode) for _, episode in await cursor.fetchall()]


async def alert_notes(connection: Connection, alert_id: str) -> list[dict[str, Any]]:
    """Acknowledgements, comments and assignments, oldest first."""
    cursor = await connection.execute(
        "SELECT kind, author, note, weir.shown_time(created_at) FROM weir.alert_note WHERE alert_id = %s ORDER BY note_id",
        (alert_id,),
    )
    return [
        {"kind": kind, "author": author, "note": note, "created_at": at}
        for kind, author, note, at in await cursor.fetchall()
    ]


@dataclass(frozen=True, slots=True)
class AlertFilter:
    """What a list of episodes is narrowed to; None: not at all."""

    status: str | None = None
    severity: str | None = None
    sensor_id: str | None = None
    start: datetime | None = None
    end: datetime | None = None


async def list_alerts(
    connection: Connection, wanted: AlertFilter, before: tuple[datetime, int] | None, limit: int
) -> list[tuple[datetime, int, dict[str, Any]]]:
    """Episodes, newest start first; start and end select those that overlap.

    Returns:
        (started_at, episode_no, document) each; the first two are the key of the next page.
    """
    cursor = await connection.execute(
        "SELECT e.started_at, e.episode_no, weir.episode_document(e)"
        " FROM weir.alert_episode e JOIN weir.sensor s USING (sensor_no)"
        " WHERE (%(status)s::text IS NULL OR e.status = %(status)s) AND (%(severity)s::text IS NULL OR e.severity = %(severity)s)"
        " AND (%(sensor_id)s::text IS NULL OR s.sensor_id = %(sensor_id)s)"
        " AND (%(end)s::timestamptz IS NULL OR e.started_at < %(end)s)"
        " AND (%(start)s::timestamptz IS NULL OR e.resolved_at IS NULL OR e.resolved_at >= %(start)s)"
        " AND (%(at)s::timestamptz IS NULL OR (e.started_at, e.episode_no) < (%(at)s, %(no)s))"
        " ORDER BY e.started_at DESC, e.episode_no DESC LIMIT %(limit)s",
        {
            "status": wanted.status,
            "severity": wanted.severity,
            "sensor_id": wanted.sensor_id,
            "start": wanted.start,
            "end": wanted.end,
            "at": None if before is None else before[0],
            "no": None if before is None else before[1],
            "limit": limit,
        },
    )
    return await cursor.fetchall()
