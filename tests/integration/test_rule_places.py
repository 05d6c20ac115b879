"""Rules for units and sites, their numbers and their hours, as of the readings' times: whatever changes, and whenever."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from core.postgres import DatabaseRole, open_pool, tenant_transaction
from tests.integration.alert_scene import NEW_WORKER, add_rule, at, minutes, record_rule
from tests.integration.conftest import Broker
from tests.integration.publishing import ThirdPartyDevice, body
from tests.integration.servers import Database, Tenant, create_tenant, wait_until

pytestmark = pytest.mark.integration

LIMIT = {"attribute": "max_celsius", "of": "unit"}


@pytest.fixture
def tenant(database: Database) -> Tenant:
    return asyncio.run(create_tenant(database))


@pytest.fixture
def device(broker: Broker, topic_prefix: str) -> ThirdPartyDevice:
    return ThirdPartyDevice(broker.bootstrap, f"{topic_prefix}readings")


def record(database: Database, tenant: Tenant, function: str, *values: object) -> None:
    """Call one of the functions by which people change places."""

    async def call() -> None:
        async with (
            open_pool(database.reader_url, DatabaseRole.READER, size=1) as pool,
            tenant_transaction(pool, tenant.tenant_id) as connection,
        ):
            marks = ", ".join(["%s"] * len(values))
            cursor = await connection.execute(f"SELECT {function}({marks})".encode(), values)
            row = await cursor.fetchone()
            assert row is not None
            assert row[0]

    asyncio.run(call())


def site(database: Database, tenant: Tenant, revision: int, zone: str, since: datetime | None = None) -> None:
    record(database, tenant, "weir.record_site", "sit_a", revision, "site", zone, "{}", False, since)


def unit(
    database: Database,
    tenant: Tenant,
    unit_id: str,
    revision: int,
    kind: str,
    attributes: dict[str, Any],
    since: datetime | None = None,
) -> None:
    values = (unit_id, revision, "unit", kind, "sit_a", json.dumps(attributes), False, since)
    record(database, tenant, "weir.record_unit", *values)


def assign(database: Database, tenant: Tenant, unit_id: str | None, since: datetime) -> None:
    [(sensor_id,)] = database.query("SELECT sensor_id FROM weir.sensor")
    record(database, tenant, "weir.assign_sensor", sensor_id, unit_id, None, since)


def settled(database: Database, records: int) -> None:
    open_work = (
        "SELECT coalesce((SELECT sum(next_offset) FROM stream_positions), 0),"
        " (SELECT count(*) FROM weir.rule_work WHERE done_at IS NULL),"
        " (SELECT count(*) FROM weir.place_work WHERE done_at IS NULL)"
    )
    wait_until(lambda: database.query(open_work) == [(records, 0, 0)], 60, "everything judged")


def found(database: Database) -> list[tuple[Any, ...]]:
    return database.query(
        "SELECT status, started_at, resolved_at, peak_value FROM alert_episodes WHERE status <> 'retracted' ORDER BY started_at"
    )


def test_a_units_numbers_hold_from_their_moments_on_and_changing_them_judges_what_is_stored(
    database: Database, tenant: Tenant, device: ThirdPartyDevice, new_worker: NEW_WORKER
) -> None:
    site(database, tenant, 1, "Europe/Berlin")
    unit(database, tenant, "uni_a", 1, "fridge", {"max_celsius": 8})
    record_rule(
        database,
        tenant,
        {
            "name": "too warm for its unit",
            "applies_to": {"unit_kind": "fridge"},
            "severity": "major",
            "condition": {"type": "threshold", "above": LIMIT},
        },
    )
    new_worker()
    # 9 °C at 0 and 5, 7 °C at 10 to 25, 9 °C at 30 and 35, 4 °C at 40.
    device.send_all(tenant.devices[0], [body(*minutes([9.0, 9.0, 7.0, 7.0, 7.0, 7.0, 9.0, 9.0, 4.0]))])
    settled(database, 1)
    assert found(database) == []

    # In the unit from minute 5 on: 9 °C counts from then.
    assign(database, tenant, "uni_a", at(5))
    settled(database, 1)
    assert found(database) == [("resolved", at(5), at(10), 9.0), ("resolved", at(30), at(40), 9.0)]

    # From minute 20 on 7 °C is too warm as well.
    unit(database, tenant, "uni_a", 2, "fridge", {"max_celsius": 6.5}, at(20))
    settled(database, 1)
    assert found(database) == [("resolved", at(5), at(10), 9.0), ("resolved", at(20), at(40), 9.0)]

    # From minute 30 on the unit is a freezer, for which there is no rule: what is warm there counts as clear.
    unit(database, tenant, "uni_a", 3, "freezer", {"max_celsius": 6.5}, at(30))
    settled(database, 1)
    assert found(database) == [("resolved", at(5), at(10), 9.0), ("resolved", at(20), at(30), 7.0)]

    # The sensor never was there: nothing is left.
    assign(database, tenant, None, datetime(2026, 1, 1, tzinfo=UTC))
    settled(database, 1)
    assert found(database) == []


def test_readings_that_come_later_are_judged_by_where_the_sensor_was(
    database: Database, tenant: Tenant, device: ThirdPartyDevice, new_worker: NEW_WORKER
) -> None:
    site(database, tenant, 1, "UTC")
    for unit_id, limit in (("uni_a", 8), ("uni_b", 20)):
        unit(database, tenant, unit_id, 1, "fridge", {"max_celsius": limit})
    add_rule(database, tenant, {"type": "threshold", "above": LIMIT})
    new_worker()
    device.send_all(tenant.devices[0], [body(*minutes([4.0]))])
    settled(database, 1)
    assign(database, tenant, "uni_a", at(0))
    assign(database, tenant, "uni_b", at(30))
    settled(database, 1)

    # 9 °C from minute 10 on; live first, then what the device had kept.
    device.send_all(tenant.devices[0], [body(*minutes([9.0] * 5, first=30))])
    settled(database, 2)
    assert found(database) == []
    device.send_all(tenant.devices[0], [body(*minutes([9.0] * 4, first=10))])
    settled(database, 3)
    assert found(database) == [("resolved", at(10), at(30), 9.0)]


def test_hours_without_a_time_zone_are_the_sites_and_move_with_it(
    database: Database, tenant: Tenant, device: ThirdPartyDevice, new_worker: NEW_WORKER
) -> None:
    site(database, tenant, 1, "UTC")
    unit(database, tenant, "uni_a", 1, "fridge", {})
    # Readings begin at 12:00 UTC, which is 14:00 in Berlin.
    document = {
        "name": "in the afternoon",
        "applies_to": {"site_id": "sit_a"},
        "severity": "minor",
        "condition": {"type": "threshold", "above": 8.0},
        "schedule": {"weekly": [{"from": "14:10", "to": "14:20"}]},
    }
    record_rule(database, tenant, document)
    new_worker()
    device.send_all(tenant.devices[0], [body(*minutes([9.0] * 6))])
    settled(database, 1)
    assign(database, tenant, "uni_a", datetime(2026, 1, 1, tzinfo=UTC))
    settled(database, 1)
    assert found(database) == []

    site(database, tenant, 2, "Europe/Berlin", datetime(2026, 6, 1, tzinfo=UTC))
    settled(database, 1)
    assert found(database) == [("resolved", at(10), at(20), 9.0)]
