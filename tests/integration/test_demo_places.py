"""The kitchens of the demo: whole from the first start, and left alone once people changed them."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from ops.demo_places import Kitchen, furnish
from tests.integration.api_scene import client, new_tenant
from tests.integration.people_scene import send
from tests.integration.servers import Database, Tenant

pytestmark = pytest.mark.integration

UNITS = "SELECT name, kind, attributes ->> 'max_celsius' FROM units WHERE tenant_id = %s ORDER BY unit_id"
SENSORS = """
SELECT u.name, s.name, s.unit, a.effective_from < '2011-01-01', a.effective_to IS NULL
FROM sensors s JOIN units u USING (unit_id) JOIN sensor_assignments a USING (sensor_id)
WHERE s.tenant_id = %s ORDER BY u.unit_id, s.name
"""


def start(database: Database, tenant: Tenant, devices: int) -> None:
    """What a start of `weir up` does."""
    kitchen = Kitchen(tenant.tenant_id, 1, [each.device_id for each in tenant.devices[:devices]])

    async def go() -> None:
        connection = await psycopg.AsyncConnection.connect(database.owner_url, autocommit=True)
        async with connection:
            await connection.execute("SET ROLE weir_owner")
            await furnish(connection, kitchen)

    asyncio.run(go())


def test_a_kitchen_has_a_time_zone_six_units_and_a_device_in_each_that_has_one(database: Database) -> None:
    tenant = new_tenant(database, devices=2)
    # Older than kitchens are: the worker has seen this sensor.
    database.query(
        "INSERT INTO weir.sensor (tenant_id, device_id, name) VALUES (%s, %s, 'battery')",
        tenant.tenant_id,
        tenant.devices[0].device_id,
    )

    for devices in (0, 2, 2):
        start(database, tenant, devices)

    assert database.query("SELECT name, timezone FROM sites WHERE tenant_id = %s", tenant.tenant_id) == [
        ("Kitchen", "Europe/Berlin")
    ]
    assert database.query(UNITS, tenant.tenant_id) == [
        ("Walk-in fridge", "fridge", "8"),
        ("Freezer", "freezer", "-15"),
        ("Dry store", "room", "25"),
        ("Prep fridge", "fridge", "8"),
        ("Chest freezer", "freezer", "-15"),
        ("Bar fridge", "fridge", "8"),
    ]
    assert database.query(SENSORS, tenant.tenant_id) == [
        (unit, name, measures, True, True)
        for unit in ("Walk-in fridge", "Freezer")
        for name, measures in (("air", "celsius"), ("battery", "percent"), ("product", "celsius"))
    ]


def test_what_people_changed_stays_as_they_left_it(database: Database) -> None:
    tenant = new_tenant(database, devices=1)
    start(database, tenant, 1)
    ((moved,),) = database.query(
        "SELECT sensor_id FROM sensors WHERE tenant_id = %s AND name = 'battery'", tenant.tenant_id
    )
    unit_id = Kitchen(tenant.tenant_id, 1).unit_id(0)
    database.query(
        "SELECT set_config('weir.tenant', %s, false), weir.assign_sensor(%s, NULL, NULL, now()),"
        " weir.record_unit(%s, 2, 'Renamed', 'fridge', NULL, '{}', true, NULL)",
        tenant.tenant_id,
        moved,
        unit_id,
    )

    start(database, tenant, 1)

    assert database.query("SELECT unit_id FROM sensors WHERE sensor_id = %s", moved) == [(None,)]
    assert database.query("SELECT name, site_id, archived_at IS NULL FROM units WHERE unit_id = %s", unit_id) == [
        ("Renamed", None, False)
    ]


RULES = """
SELECT v.document ->> 'name', s.name, v.effective_from < now() - interval '25 hours'
FROM weir.rule r JOIN weir.rule_version v USING (rule_no)
JOIN weir.sensor s ON s.sensor_id = v.document -> 'applies_to' ->> 'sensor_id' AND s.tenant_id = r.tenant_id
WHERE r.tenant_id = %s ORDER BY r.rule_id, v.version
"""


def test_each_device_has_rules_about_its_own_sensors_and_a_deleted_one_stays_deleted(
    database: Database, url: str
) -> None:
    tenant = new_tenant(database, devices=2)
    start(database, tenant, 1)
    first = [("Walk-in fridge: too warm", "air", True), ("Walk-in fridge: battery low", "battery", True)]
    assert database.query(RULES, tenant.tenant_id) == first
    with client(url, tenant.api_key) as api:
        rules = {rule["name"]: rule for rule in api.walk("/v1/rules")}
        for rule in rules.values():
            written = {name: rule[name] for name in ("name", "severity", "applies_to", "condition")}
            # What the API takes without a warning is a rule that people could have written themselves.
            assert send(api, "PATCH", f"/v1/rules/{rule['rule_id']}", written, 200)["warnings"] == []
        send(api, "DELETE", f"/v1/rules/{rules['Walk-in fridge: battery low']['rule_id']}", None, 204)

        start(database, tenant, 2)

        assert sorted(rule["name"] for rule in api.walk("/v1/rules")) == [
            "Freezer: battery low",
            "Freezer: too warm",
            "Walk-in fridge: too warm",
        ]


def test_two_devices_in_one_unit_have_rules_each(database: Database) -> None:
    tenant = new_tenant(database, devices=2)
    start(database, tenant, 1)
    # As the simulator does, with devices of its own.
    start(database, Tenant(tenant.tenant_id, tenant.api_key, tenant.devices[1:]), 1)

    assert sorted(database.query(RULES, tenant.tenant_id)) == [
        *[("Walk-in fridge: battery low", "battery", True)] * 2,
        *[("Walk-in fridge: too warm", "air", True)] * 2,
    ]
