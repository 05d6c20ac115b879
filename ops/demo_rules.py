"""Rules of a demo kitchen, so that a newcomer sees alerts: two for each of the simulator's devices.

Each is about one sensor of the simulator, so they judge nothing that people publish in the demo tenants. Recorded once, under
ids that follow from the tenant's; a rule that somebody changes or deletes stays so.
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
WHERE NOT EXISTS (SELECT FROM weir.rule WHERE rule_id = %(rule_id)s)
"""


@dataclass(frozen=True, slots=True)
class Stand:
    """A device and the unit that it stands in."""

    unit_id: str
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
        rule_id = f"rul_{stand.unit_id.removeprefix('uni_')}_{name}"
        await connection.execute(_RECORD, {"rule_id": rule_id, "since": _SINCE, "document": Jsonb(document)})
