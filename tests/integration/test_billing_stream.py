"""Billing beside the stream of real workers: replays bill nothing, and who does not pay still gets every alert."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from accounts import provisioning
from core.clock import now_ms
from schemas.usage import HOUR_MS
from tests.integration.alert_scene import TOO_WARM, add_rule, episodes, minutes, settled
from tests.integration.conftest import Broker
from tests.integration.publishing import ThirdPartyDevice, body, reading
from tests.integration.servers import VAULT, Database, Tenant, WorkerProcess, create_tenant, wait_until

pytestmark = pytest.mark.integration

TENANTS, RECORDS, PER_RECORD = 50, 20, 100


async def create_tenants(database: Database) -> list[Any]:
    """A device each."""
    connection = await psycopg.AsyncConnection.connect(database.owner_url, autocommit=True)
    made = []
    async with connection, connection.transaction():
        await connection.execute("SET LOCAL ROLE weir_owner")
        for number in range(TENANTS):
            tenant_id = await provisioning.create_tenant(connection, f"tenant {number}")
            made.append(await provisioning.create_device(connection, VAULT, tenant_id, "device"))
    return made


def test_100_000_readings_of_50_tenants_replayed_twice_from_the_beginning_change_no_row_and_no_revision(
    database: Database, broker: Broker, topic_prefix: str, new_worker: Callable[..., WorkerProcess]
) -> None:
    chance = random.Random(20_261_123)
    device = ThirdPartyDevice(broker.bootstrap, f"{topic_prefix}readings")
    start_ms = now_ms() // HOUR_MS * HOUR_MS - 12 * HOUR_MS
    moments = iter(chance.sample(range(12 * HOUR_MS), TENANTS * RECORDS * PER_RECORD))
    for owner in asyncio.run(create_tenants(database)):
        for _ in range(RECORDS):
            made = [reading(start_ms + next(moments), 4.0, f"s{n % 5}") for n in range(PER_RECORD)]
            device.send(owner, body(*made))
    device.flush()

    def work_off() -> tuple[list[tuple[Any, ...]], ...]:
        worker = new_worker()
        wait_until(lambda: worked_off() == TENANTS * RECORDS, 120, "all records committed")
        assert worker.stop() == 0
        count = database.query("SELECT count(*) FROM readings")
        usage = database.query(
            "SELECT tenant_id, meter, bucket_start, quantity, revision, changed_at FROM weir.usage ORDER BY 1, 2, 3"
        )
        return count, usage, database.query("SELECT count(*) FROM usage_drift")

    def worked_off() -> int:
        return int(database.query("SELECT coalesce(sum(next_offset), 0) FROM stream_positions")[0][0])

    before = work_off()
    assert before[0] == [(100_000,)]
    assert before[2] == [(0,)]
    for _ in range(2):
        database.query("UPDATE weir.stream_position SET next_offset = 0")
        assert work_off() == before


@pytest.mark.parametrize("why", ["unpaid", "over quota"])
def test_alerts_still_arrive_for_a_tenant_that_may_do_nothing_else(
    database: Database, broker: Broker, topic_prefix: str, new_worker: Callable[..., WorkerProcess], why: str
) -> None:
    tenant = asyncio.run(create_tenant(database))
    hold_back(database, tenant, why)
    add_rule(database, tenant, TOO_WARM)
    new_worker()
    device = ThirdPartyDevice(broker.bootstrap, f"{topic_prefix}readings")
    device.send_all(tenant.devices[0], [body(*minutes([4.0] + [9.0] * 8))])
    settled(database, 1)

    assert [episode[0] for episode in episodes(database, tenant)] == ["firing"]
    live = "SELECT item ->> 'status' FROM weir.live_event WHERE tenant_id = %s AND channel = 'alerts'"
    assert ("firing",) in database.query(live, tenant.tenant_id)
    assert database.query("SELECT count(*) FROM weir.notification") == [(1,)]
    assert database.query("SELECT count(*) FROM readings") == [(9,)]


def hold_back(database: Database, tenant: Tenant, why: str) -> None:
    if why == "unpaid":
        account = (
            "INSERT INTO weir.billing_account (tenant_id, customer_id, status, status_since) VALUES (%s, 'cus', %s, %s)"
        )
        database.query(account, tenant.tenant_id, "unpaid", datetime(2026, 1, 1, tzinfo=UTC))
        return
    database.query("UPDATE weir.tenant SET plan = 'free' WHERE tenant_id = %s", tenant.tenant_id)
    hour = datetime.fromtimestamp(now_ms() // HOUR_MS * HOUR_MS / 1000, UTC)
    used = "INSERT INTO weir.usage (tenant_id, meter, bucket_start, quantity) VALUES (%s, 'readings', %s, %s)"
    database.query(used, tenant.tenant_id, hour, 10**9)
