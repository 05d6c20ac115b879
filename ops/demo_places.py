"""Where simulated devices stand: a kitchen per tenant with its fridges, freezers and store room, a device in each and its rules.

Made once under ids that follow from the tenant's; what people rename, move or archive afterwards stays as they left it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from accounts.place_fields import Attributes, Site, Unit
from accounts.places import find_site, find_unit, record_site, record_unit
from core.postgres import Connection
from ops.demo_rules import Stand, record_rules
from ops.simulator.units import KITCHEN, SENSOR_UNITS, SENSORS, Kind

# As far ahead of UTC (in winter) as the simulator takes the tenants' clocks to be.
_TIME_ZONES: Final = ("Europe/London", "Europe/Berlin", "Europe/Helsinki")
_NAMES: Final = ("Walk-in fridge", "Freezer", "Dry store", "Prep fridge", "Chest freezer", "Bar fridge")
_LIMITS: Final[dict[Kind, Attributes]] = {
    Kind.FRIDGE: {"min_celsius": 0, "max_celsius": 8},
    Kind.FREEZER: {"max_celsius": -15},
    Kind.ROOM: {"min_celsius": 10, "max_celsius": 25},
}


@dataclass(frozen=True, slots=True)
class Kitchen:
    """A tenant, its place among the tenants, and the devices that stand in its units, in order."""

    tenant_id: str
    number: int
    device_ids: Sequence[str] = ()

    @property
    def site_id(self) -> str:
        """The id of its site."""
        return f"sit_{self.tenant_id.removeprefix('ten_')}"

    def unit_id(self, position: int) -> str:
        """The id of one of its units."""
        return f"uni_{self.tenant_id.removeprefix('ten_')}_{position + 1}"


async def furnish(connection: Connection, kitchen: Kitchen) -> None:
    """Make what is missing of a kitchen, and put the devices' sensors into it that were never put anywhere.

    Args:
        connection: of the owner.
        kitchen: what it should be.
    """
    async with connection.transaction():
        await connection.execute("SELECT set_config('weir.tenant', %s, true)", (kitchen.tenant_id,))
        if await find_site(connection, kitchen.site_id) is None:
            zone = _TIME_ZONES[kitchen.number % len(_TIME_ZONES)]
            await record_site(connection, kitchen.site_id, 1, Site("Kitchen", zone))
        for position in range(max(len(KITCHEN), len(kitchen.device_ids))):
            if await find_unit(connection, kitchen.unit_id(position)) is None:
                await record_unit(connection, kitchen.unit_id(position), 1, _unit(position, kitchen.site_id))
        for position, device_id in enumerate(kitchen.device_ids):
            await _settle(connection, kitchen, position, device_id)
            name = _unit(position, kitchen.site_id).name
            await record_rules(connection, Stand(name, device_id))


def _unit(position: int, site_id: str) -> Unit:
    round_, slot = divmod(position, len(KITCHEN))
    kind = KITCHEN[slot]
    name = _NAMES[slot] + (f" {round_ + 1}" if round_ else "")
    return Unit(name, kind.name.lower(), site_id, _LIMITS[kind])


_REGISTER: Final = """
INSERT INTO weir.sensor AS s (tenant_id, device_id, name, unit)
SELECT %s, %s, q.* FROM unnest(%s::text[], %s::text[]) q
ON CONFLICT (device_id, name) DO UPDATE SET unit = EXCLUDED.unit
WHERE NOT EXISTS (SELECT FROM weir.sensor_assignment a WHERE a.sensor_no = s.sensor_no)
RETURNING s.sensor_id
"""


async def _settle(connection: Connection, kitchen: Kitchen, position: int, device_id: str) -> None:
    """The worker registers sensors on first sight; these are known before, with the unit that they measure in."""
    names = SENSORS[KITCHEN[position % len(KITCHEN)]]
    measured_in = [SENSOR_UNITS[name] for name in names]
    cursor = await connection.execute(_REGISTER, (kitchen.tenant_id, device_id, list(names), measured_in))
    for (sensor_id,) in await cursor.fetchall():
        await connection.execute(
            "SELECT weir.assign_sensor(%s, %s, NULL, weir.first_moment())", (sensor_id, kitchen.unit_id(position))
        )
