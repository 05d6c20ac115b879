"""Rules as a tenant's people handle them: documents in versions, and what is known of the sensors that they are for.

Runs as weir_reader inside a tenant's transaction; row-level security keeps it within the tenant. Judging is the workers'.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from psycopg.types.json import Jsonb

from accounts.provisioning import new_id
from core.postgres import Connection


class ChangedMeanwhile(Exception):
    """Somebody else recorded the rule's next version first."""


@dataclass(frozen=True, slots=True)
class RuleRow:
    """A rule's newest version."""

    rule_no: int
    rule_id: str
    version: int
    effective_from: datetime
    document: Mapping[str, Any]
    created_at: datetime
    recorded_at: datetime
    # How far judging the stored readings again has come, 1.0 when nothing waits.
    progress: float


@dataclass(frozen=True, slots=True)
class WatchedSensor:
    """A sensor that a rule is for."""

    sensor_no: int
    sensor_id: str
    unit: str
    expected_interval_ms: int | None


@dataclass(frozen=True, slots=True)
class RuleCount:
    """How many rules a tenant has: live ones, and all that there ever were."""

    live: int
    ever: int


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


async def count_rules(connection: Connection) -> RuleCount:
    """How many rules the tenant has."""
    cursor = await connection.execute(
        "SELECT count(*) FILTER (WHERE NOT deleted), count(*) FROM (SELECT EXISTS (SELECT FROM weir.rule_version v"
        " WHERE v.rule_no = r.rule_no AND v.document IS NULL) AS deleted FROM weir.rule r) q"
    )
    row = await cursor.fetchone()
    assert row is not None  # noqa: S101 - an aggregate always has a row
    return RuleCount(*row)


async def create_rule(
    connection: Connection, document: Mapping[str, Any], effective_from: datetime | None, author: str
) -> str:
    """Record a rule's first version; it takes effect at `effective_from`, or when the transaction commits."""
    rule_id = new_id("rul")
    await _record(connection, rule_id, 1, document, effective_from, author)
    return rule_id


async def change_rule(
    connection: Connection,
    rule: RuleRow,
    document: Mapping[str, Any] | None,
    effective_from: datetime | None,
    author: str,
) -> None:
    """Record the next version; a document of None deletes the rule from then on.

    Raises:
        ChangedMeanwhile: `rule` is not the newest version any more.
    """
    if not await _record(connection, rule.rule_id, rule.version + 1, document, effective_from, author):
        raise ChangedMeanwhile(rule.rule_id)


async def _record(
    connection: Connection,
    rule_id: str,
    version: int,
    document: Mapping[str, Any] | None,
    effective_from: datetime | None,
    author: str,
) -> bool:
    cursor = await connection.execute(
        "SELECT weir.record_rule(%s, %s, %s, %s, %s)",
        (rule_id, version, effective_from, None if document is None else Jsonb(document), author),
    )
    row = await cursor.fetchone()
    return row is not None and bool(row[0])


_SENSORS: Final = "SELECT sensor_no, sensor_id, unit, expected_interval_ms FROM weir.sensor WHERE "
_COVERED: Final = {
    "all": "%s = '' ORDER BY sensor_id LIMIT %s",
    "sensor_id": "sensor_id = %s LIMIT %s",
    "unit_id": "unit_id = %s ORDER BY sensor_id LIMIT %s",
    "site_id": "site_id = %s ORDER BY sensor_id LIMIT %s",
    "unit_kind": "unit_id IN (SELECT u.unit_id FROM weir.unit u WHERE u.kind = %s) ORDER BY sensor_id LIMIT %s",
}
_EVER_COVERED: Final = _COVERED | {
    "unit_id": "sensor_no IN (SELECT a.sensor_no FROM weir.sensor_assignment a WHERE a.unit_id = %s)"
    " ORDER BY sensor_id LIMIT %s",
    "site_id": "sensor_no IN (SELECT a.sensor_no FROM weir.sensor_assignment a WHERE a.site_id = %s)"
    " ORDER BY sensor_id LIMIT %s",
    "unit_kind": "sensor_no IN (SELECT a.sensor_no FROM weir.sensor_assignment a JOIN weir.unit_version v USING (unit_id)"
    " WHERE v.kind = %s) ORDER BY sensor_id LIMIT %s",
}


async def watched_sensors(
    connection: Connection, kind: str, value: str, limit: int, *, ever: bool = False
) -> list[WatchedSensor]:
    """At most `limit` of the tenant's sensors that a target (`schemas.rules.Target`) covers now, or covered at any time."""
    covered = _EVER_COVERED if ever else _COVERED
    cursor = await connection.execute((_SENSORS + covered[kind]).encode(), (value, limit))
    return [WatchedSensor(*row) for row in await cursor.fetchall()]


@dataclass(frozen=True, slots=True)
class AttributeCount:
    """How many sensors a target covers now, and of how many the unit or site holds an attribute as a number."""

    sensors: int
    having: int


_HOLDERS: Final = {
    "unit": "weir.unit h ON h.unit_id = c.unit_id",
    "site": "weir.site h ON h.site_id = c.site_id",
}


async def count_attribute(connection: Connection, kind: str, value: str, name: str, of: str) -> AttributeCount:
    """Of the sensors that a target covers now."""
    statement = (
        "SELECT count(*), count(*) FILTER (WHERE jsonb_typeof(h.attributes -> %s) = 'number')"  # noqa: S608 - constants
        f" FROM ({_SENSORS}{_COVERED[kind]}) s JOIN weir.sensor c USING (sensor_no) LEFT JOIN {_HOLDERS[of]}"
    )
    cursor = await connection.execute(statement.encode(), (name, value, None))
    row = await cursor.fetchone()
    assert row is not None  # noqa: S101 - an aggregate always has a row
    return AttributeCount(*row)


async def other_units(connection: Connection, kind: str, value: str, unit: str) -> list[str]:
    """Units other than this one that sensors of a target measure in."""
    statement = f"SELECT DISTINCT s.unit FROM ({_SENSORS}{_COVERED[kind]}) s WHERE s.unit <> %s ORDER BY 1 LIMIT 5"  # noqa: S608 - constants
    cursor = await connection.execute(statement.encode(), (value, None, unit))
    return [name for (name,) in await cursor.fetchall()]


async def raw_retention_ms(connection: Connection) -> int | None:
    """How long the tenant's raw readings are kept; None for ever."""
    cursor = await connection.execute(
        "SELECT (extract(epoch FROM least(raw_retention, plan_retention)) * 1000)::bigint FROM weir.tenant"
    )
    row = await cursor.fetchone()
    return None if row is None or row[0] is None else int(row[0])
