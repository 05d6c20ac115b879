"""How the sensors of sites and units are doing, for many at once.

Runs as weir_reader inside a tenant's transaction. One statement for a whole page: for each sensor its newest reading and its
open episodes are looked up by key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, LiteralString

from core.postgres import Connection
from schemas.rules import SEVERITIES


class Place(StrEnum):
    """What sensors are grouped by."""

    SITE = "site_id"
    UNIT = "unit_id"


@dataclass(frozen=True, slots=True)
class Doing:
    """How the sensors of a site or unit are doing; archived ones are left out.

    Attributes:
        sensors: how many there are.
        heard: of these, with a reading ever.
        silent: of these, without one for more than three expected intervals.
        last_at: the newest reading's time.
        alerts: open episodes that have fired.
        unacknowledged: of these.
        severity: the worst of these.
    """

    sensors: int = 0
    heard: int = 0
    silent: int = 0
    last_at: datetime | None = None
    alerts: int = 0
    unacknowledged: int = 0
    severity: str | None = None

    @property
    def state(self) -> str:
        """`alert`, `silent`, `ok`, or `unknown` where nothing was ever heard; the first that is true."""
        if self.alerts:
            return "alert"
        if self.silent:
            return "silent"
        return "ok" if self.heard else "unknown"


@dataclass(frozen=True, slots=True)
class Patience:
    """When a sensor counts as silent: nothing for so many expected intervals before `now`."""

    now: datetime
    intervals: int
    default_interval_ms: int


_BY_UNIT: Final = """
SELECT s.unit_id, count(*), count(t.last_at), count(*) FILTER (WHERE t.last_at < %(now)s
           - coalesce(s.expected_interval_ms, %(default_ms)s) * %(intervals)s * interval '1 millisecond'),
       max(t.last_at), sum(e.alerts)::bigint, sum(e.unseen)::bigint, min(e.rank)
FROM weir.sensor s
LEFT JOIN LATERAL (
    SELECT q.last_at FROM weir_tenant.sensor_states q WHERE q.sensor_no = s.sensor_no LIMIT 1) t ON true
CROSS JOIN LATERAL (
    SELECT count(*) AS alerts, count(*) FILTER (WHERE a.acknowledged_at IS NULL) AS unseen,
           min(array_position(%(severities)s::text[], a.severity)) AS rank
    FROM weir.alert_episode a WHERE a.sensor_no = s.sensor_no AND a.status = 'firing') e
WHERE s.tenant_id = weir.current_tenant() AND s.unit_id = ANY (%(ids)s) AND s.archived_at IS NULL GROUP BY s.unit_id
"""
_STATEMENTS: Final[dict[Place, LiteralString]] = {
    Place.UNIT: _BY_UNIT,
    Place.SITE: _BY_UNIT.replace("s.unit_id", "s.site_id"),
}


async def doing(connection: Connection, place: Place, ids: Sequence[str], patience: Patience) -> dict[str, Doing]:
    """How the sensors of these sites or units are doing; those without sensors are absent."""
    parameters = {
        "ids": list(ids),
        "now": patience.now,
        "intervals": patience.intervals,
        "default_ms": patience.default_interval_ms,
        "severities": list(SEVERITIES),
    }
    cursor = await connection.execute(_STATEMENTS[place], parameters)
    return {row[0]: _doing(*row[1:]) for row in await cursor.fetchall()}


def _doing(
    sensors: int, heard: int, silent: int, last_at: datetime | None, alerts: int, unseen: int, rank: int | None
) -> Doing:
    return Doing(sensors, heard, silent, last_at, alerts, unseen, None if rank is None else SEVERITIES[rank - 1])
