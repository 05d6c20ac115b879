"""What an open episode adds up to: right in its row with every batch, told as a version before long."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.alert_scene import add_rule, at, episodes, minutes, settled
from tests.integration.publishing import ThirdPartyDevice, body
from tests.integration.servers import Database, Tenant, wait_until

pytestmark = pytest.mark.integration


def newest_version(database: Database, tenant: Tenant) -> dict[str, Any]:
    [[document]] = database.query(
        "SELECT h.episode FROM weir.alert_history h JOIN weir.alert_episode e USING (alert_id) WHERE e.tenant_id = %s"
        " ORDER BY h.version DESC LIMIT 1",
        tenant.tenant_id,
    )
    return dict(document)


def test_growth_is_in_the_row_at_once_and_told_as_a_version_later(
    database: Database, tenant: Tenant, device: ThirdPartyDevice
) -> None:
    add_rule(database, tenant, {"type": "threshold", "above": 8.0})
    for number in range(6):
        device.send_all(tenant.devices[0], [body(*minutes([9.0 + number], first=5 * number))])
        settled(database, device.sent)
        # Five minutes more with each reading, the newest being the worst.
        assert episodes(database, tenant) == [
            ("firing", at(0), at(0), None, 9.0 + number, 300.0 * number, 300.0 * number)
        ]

    wait_until(lambda: newest_version(database, tenant)["proven_seconds"] == 1500, 60, "the growth told")
    shown = newest_version(database, tenant)
    assert shown["peak"] == {"at": "2026-10-01T12:25:00.000Z", "value": 14.0}
    row = database.query("SELECT version, show_at FROM weir.alert_episode WHERE tenant_id = %s", tenant.tenant_id)
    assert row == [(shown["version"], None)]


def test_what_ends_an_episode_tells_all_it_grew_to(
    database: Database, tenant: Tenant, device: ThirdPartyDevice
) -> None:
    add_rule(database, tenant, {"type": "threshold", "above": 8.0})
    for number, value in enumerate((9.0, 9.5, 4.0)):
        device.send_all(tenant.devices[0], [body(*minutes([value], first=5 * number))])
        settled(database, device.sent)

    shown = newest_version(database, tenant)
    assert (shown["status"], shown["proven_seconds"], shown["possible_seconds"]) == ("resolved", 300, 600)
    shown_at = "SELECT show_at FROM weir.alert_episode WHERE tenant_id = %s"
    assert database.query(shown_at, tenant.tenant_id) == [(None,)]
