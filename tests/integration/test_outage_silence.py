"""An outage of our own is no sensor's silence."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from tests.integration.alert_scene import (
    MINUTE_MS,
    NEW_WORKER,
    add_rule,
    settled,
)
from tests.integration.conftest import Broker
from tests.integration.publishing import ThirdPartyDevice, body, reading
from tests.integration.servers import Database, Tenant, create_tenant

pytestmark = pytest.mark.integration


@pytest.fixture
def tenant(database: Database) -> Tenant:
    return asyncio.run(create_tenant(database))


@pytest.fixture
def device(broker: Broker, topic_prefix: str) -> ThirdPartyDevice:
    return ThirdPartyDevice(broker.bootstrap, f"{topic_prefix}readings")


SILENCE = {"type": "silence", "after": "10m"}


def minutes_ago(minute: float) -> int:
    return round(datetime.now(UTC).timestamp() * 1000) - round(minute * MINUTE_MS)


def test_our_own_outage_raises_no_silence(
    database: Database, tenant: Tenant, device: ThirdPartyDevice, new_worker: NEW_WORKER
) -> None:
    add_rule(database, tenant, SILENCE)
    old, fresh = minutes_ago(60), minutes_ago(1)
    # What a worker finds after an hour's outage: an old backlog first, the newest reading last.
    device.send_all(tenant.devices[0], [body(reading(old + n * MINUTE_MS, 4.0)) for n in range(60)])
    device.send_all(tenant.devices[0], [body(reading(fresh, 4.0))])
    new_worker(WEIR_BATCH_MAX_RECORDS="10")
    settled(database, 61)
    assert database.query("SELECT status, reason, started_at, fired_at, updated_at FROM alert_episodes") == []
