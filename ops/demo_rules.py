"""Rules of a demo kitchen, so that a newcomer sees alerts: two for each device that stands in it.

Each is about one sensor, so they judge nothing else that people publish in the demo tenants. Recorded once, under ids that
follow from the device's; a rule that somebody changes or deletes stays so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from psycopg.types.json import Jsonb

from core.postgres import Connection

# Older than the day that the simulator publishes again at each start.
_SINCE: Final = timedelta(days=2)
_RULES: Final[Mapping[str, tuple[str, str, Mapping[str, Any]]]] = {
    "air": (
        "too warm",
        "major",
        {"type": "threshold", "above": {"attribute": "max_celsius", "of": "unit"}, "for": "5m", "clear": {"for": "5m"}},
    ),
    "battery": ("battery low", "warning", {"type": "threshold", "below": 20, "clear": {"at_or_above": 25}}),
}
_RECORD: Final = """
SELECT weir.record_rule(%(rule_id)s, 1, now() - %(since)s, %(document)s, 'system')
WHERE NOT EXISTS (
    SELECT FROM weir.rule_version v WHERE v.version = 1 AND v.recorded_by = 'system'
    AND v.document -> 'applies_to' ->> 'sensor_id' = %(sensor_id)s)
"""


@dataclass(frozen=True, slots=True)
class Stand:
    """A device and the unit that it stands in."""

    unit_name: str
    device_id: str


async def record_rules(connection: Connection, stand: Stand) -> None:
    """Record the rules of a stand that there never were.

    Args:
        connection: of the owner, in a transaction that names the tenant.
        stand: its sensors are registered.
    """
    cursor = await connection.execute(
        "SELECT name, sensor_id FROM weir.sensor WHERE device_id = %s AND name = ANY (%s)",
        (stand.device_id, list(_RULES)),
    )
    for name, sensor_id in await cursor.fetchall():
        what, severity, condition = _RULES[name]
        document = {
            "name": f"{stand.unit_name}: {what}",
            "applies_to": {"sensor_id": sensor_id},
            "severity": severity,
            "condition": condition,
        }
        rule_id = f"rul_{stand.device_id.removeprefix('dev_')}_{name}"
        values = {"rule_id": rule_id, "since": _SINCE, "document": Jsonb(document), "sensor_id": sensor_id}
        await connection.execute(_RECORD, values)
