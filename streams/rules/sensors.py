"""What rules ask of a sensor: who it is, and where it was when."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from core.postgres import Connection
from processors.rules.model import SensorContext
from processors.rules.places import Place, Whereabouts, places_of
from sinks.timescale import binary
from sinks.timescale.places import read_places


@dataclass(frozen=True, slots=True)
class KnownSensor:
    """A sensor as rules know it."""

    sensor_id: str
    tenant_id: str
    declared_interval_ms: int | None
    places: tuple[Place, ...]

    @property
    def whereabouts(self) -> Whereabouts:
        """Its places over time."""
        return Whereabouts(self.sensor_id, self.places)

    @property
    def context(self) -> SensorContext:
        """The sensor as the judge asks for it."""
        return self.whereabouts.context(self.declared_interval_ms)

    def moves_between(self, after_ms: int, to_ms: int) -> bool:
        """Whether it is elsewhere, or among other numbers, from some moment in (after, to] on."""
        return any(after_ms < place.from_ms <= to_ms for place in self.places)

    @property
    def watched_as(self) -> set[tuple[str, str]]:
        """The kinds and ids of all targets that cover it at any time."""
        held = {
            (kind, value)
            for place in self.places
            for kind, value in (
                ("unit_id", place.unit_id),
                ("unit_kind", place.unit_kind),
                ("site_id", place.site_id),
            )
            if value is not None
        }
        return {("all", ""), ("sensor_id", self.sensor_id)} | held


async def load_sensors(connection: Connection, sensor_nos: Collection[int]) -> dict[int, KnownSensor]:
    """What rules ask of these sensors."""
    binary.register(connection)
    cursor = await connection.execute(
        "SELECT sensor_no, sensor_id, tenant_id, expected_interval_ms FROM weir.sensor WHERE sensor_no = ANY (%s)",
        (binary.Int4Array(np.array(sorted(sensor_nos), dtype=np.int32)),),
    )
    sensors = await cursor.fetchall()
    held = await read_places(connection, sensor_nos)
    return {
        number: KnownSensor(
            sensor_id,
            tenant_id,
            declared_ms,
            places_of(held.assignments.get(number, ()), held.units, held.sites),
        )
        for number, sensor_id, tenant_id, declared_ms in sensors
    }
