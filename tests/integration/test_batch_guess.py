"""What a batch takes for new and is stored already, few readings or many: the state of its sensor said so, wrongly."""

from __future__ import annotations

import pytest

from sinks.timescale.writer import FEW_ROWS
from tests.integration.metering_scene import MeteringScene, hours, run_scene
from tests.integration.servers import Database, create_tenant
from tests.integration.store_scene import MINUTE_MS, ms

pytestmark = pytest.mark.integration

NOON = ms("2026-03-10T12:00")


@pytest.mark.parametrize("readings", [3, FEW_ROWS + 1])
def test_readings_wrongly_taken_for_new_are_found_to_be_duplicates(database: Database, readings: int) -> None:
    async def act(scene: MeteringScene) -> None:
        [device] = (await create_tenant(database)).devices
        every = [("air", NOON + n * 1000, 4.0) for n in range(readings)]
        await scene.publish(device, every)
        # As if the state were an older one: all of them look later than it.
        database.query("UPDATE weir.sensor_state SET last_at = last_at - interval '2 days'")
        report = await scene.publish(device, [*every, ("air", NOON + 59 * MINUTE_MS, 5.0)])
        assert (report.inserted, report.duplicates) == (1, readings)
        assert scene.quantities("readings") == hours(NOON, readings + 1)
        assert database.query("SELECT count(*) FROM weir.reading") == [(readings + 1,)]

    run_scene(database, act)
