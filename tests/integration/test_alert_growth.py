"""What an open episode adds up to: right in its row with every batch, told as a version before long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.alert_scene import add_rule, at, episodes, minutes, settled
from tests.integration.conftest import Broker
from tests.integration.publishing import ThirdPartyDevice, body
from tests.integration.servers import Database, Tenant, WorkerProcess, create_tenant, wait_until

pytestmark = pytest.mark.integration


@pytest.fixture
def tenant(database: Database) -> Tenant:
    return asyncio.run(create_tenant(database))


def newest_version(database: Database) -> dict[str, Any]:
    [[document]] = database.query("SELECT episode FROM weir.alert_history ORDER BY version DESC LIMIT 1")
    return dict(document)


def test_growth_is_in_the_row_at_once_and_told_as_a_version_later(
    database: Database,
    tenant: Tenant,
    broker: Broker,
    topic_prefix: str,
    new_worker: Callable[..., WorkerProcess],
) -> None:
    device = ThirdPartyDevice(broker.bootstrap, f"{topic_prefix}readings")
    add_rule(database, tenant, {"type": "threshold", "above": 8.0})
    new_worker()
    for number in range(6):
        device.send_all(tenant.devices[0], [body(*minutes([9.0 + number], first=5 * number))])
        settled(database, number + 1)
        # Five minutes more with each reading, the newest being the worst.
        assert episodes(database, tenant) == [
            ("firing", at(0), at(0), None, 9.0 + number, 300.0 * number, 300.0 * number)
        ]

    wait_until(lambda: newest_version(database)["proven_seconds"] == 1500, 60, "the growth told")
    shown = newest_version(database)
    assert shown["peak"] == {"at": "2026-10-01T12:25:00.000Z", "value": 14.0}
    row = database.query("SELECT version, show_at FROM weir.alert_episode")
    assert row == [(shown["version"], None)]


def test_what_ends_an_episode_tells_all_it_grew_to(
    database: Database,
    tenant: Tenant,
    broker: Broker,
    topic_prefix: str,
    new_worker: Callable[..., WorkerProcess],
) -> None:
    device = ThirdPartyDevice(broker.bootstrap, f"{topic_prefix}readings")
    add_rule(database, tenant, {"type": "threshold", "above": 8.0})
    new_worker()
    for number, value in enumerate((9.0, 9.5, 4.0)):
        device.send_all(tenant.devices[0], [body(*minutes([value], first=5 * number))])
        settled(database, number + 1)

    shown = newest_version(database)
    assert (shown["status"], shown["proven_seconds"], shown["possible_seconds"]) == ("resolved", 300, 600)
    assert database.query("SELECT show_at FROM weir.alert_episode") == [(None,)]
