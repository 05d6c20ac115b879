"""Silence over the stream: found once, taken back by data, changed with its rule."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.integration.alert_scene import (
    MINUTE_MS,
    add_rule,
    change_rule,
    episodes,
    record_rule,
    settled,
)
from tests.integration.publishing import ThirdPartyDevice, body, reading
from tests.integration.servers import Database, Tenant, wait_until

pytestmark = pytest.mark.integration


SILENCE = {"type": "silence", "after": "10m"}


def minutes_ago(minute: float) -> int:
    return round(datetime.now(UTC).timestamp() * 1000) - round(minute * MINUTE_MS)


def test_a_silent_sensor_is_found_once_and_its_next_reading_resolves_it(
    database: Database, tenant: Tenant, device: ThirdPartyDevice
) -> None:
    add_rule(database, tenant, SILENCE)
    last = minutes_ago(30)
    device.send_all(tenant.devices[0], [body(reading(last, 4.0))])
    settled(database, device.sent)

    wait_until(lambda: len(episodes(database, tenant)) == 1, 60, "the silence")
    started = datetime.fromtimestamp(last / 1000, UTC)
    fired = datetime.fromtimestamp((last + 10 * MINUTE_MS) / 1000, UTC)
    assert episodes(database, tenant)[0][:4] == ("firing", started, fired, None)
    told = "SELECT kind FROM weir.notification WHERE tenant_id = %s"
    assert database.query(told, tenant.tenant_id) == [("fired",)]

    back = minutes_ago(1)
    device.send_all(tenant.devices[0], [body(reading(back, 4.0))])
    settled(database, device.sent)
    assert [one[:4] for one in episodes(database, tenant)] == [
        ("resolved", started, fired, datetime.fromtimestamp(back / 1000, UTC))
    ]


def test_data_that_fills_a_silence_takes_it_back(database: Database, tenant: Tenant, device: ThirdPartyDevice) -> None:
    add_rule(database, tenant, SILENCE)
    last = minutes_ago(14)
    device.send_all(tenant.devices[0], [body(reading(last, 4.0))])
    wait_until(lambda: len(episodes(database, tenant)) == 1, 60, "the silence")

    filled = [reading(last + n * MINUTE_MS, 4.0) for n in range(1, 14)]
    device.send_all(tenant.devices[0], [body(*filled)])
    settled(database, device.sent)

    assert episodes(database, tenant) == []
    kept = "SELECT status, reason FROM alert_episodes WHERE tenant_id = %s"
    assert database.query(kept, tenant.tenant_id) == [("retracted", "data_recovered")]


def test_a_rule_finds_a_silence_that_began_before_it_did(
    database: Database, tenant: Tenant, device: ThirdPartyDevice
) -> None:
    last, begins = minutes_ago(300), datetime.fromtimestamp(minutes_ago(60) / 1000, UTC)
    device.send_all(tenant.devices[0], [body(reading(last, 4.0))])
    settled(database, device.sent)
    # Ten minutes from each rule's beginning: over for the first, nearly a day away for the second.
    add_rule(database, tenant, SILENCE, begins)
    add_rule(database, tenant, {"type": "silence", "after": "1d"}, begins)

    wait_until(lambda: len(episodes(database, tenant)) == 1, 60, "the silence")
    started, fired = datetime.fromtimestamp(last / 1000, UTC), begins + timedelta(minutes=10)
    assert episodes(database, tenant)[0][:4] == ("firing", started, fired, None)

    # Its next reading closes the gap, which is judged anew: the same.
    back = minutes_ago(1)
    device.send_all(tenant.devices[0], [body(reading(back, 4.0))])
    settled(database, device.sent)
    assert [one[:4] for one in episodes(database, tenant)] == [
        ("resolved", started, fired, datetime.fromtimestamp(back / 1000, UTC))
    ]
    assert database.query("SELECT count(*) FROM alert_episodes WHERE tenant_id = %s", tenant.tenant_id) == [(1,)]


def test_changing_and_deleting_a_rule_about_silence_changes_the_open_one(
    database: Database, tenant: Tenant, device: ThirdPartyDevice
) -> None:
    ladder = [{"severity": "critical", "condition": {"type": "silence", "after": "30m"}}]
    document = {"name": "rule", "applies_to": {"all": True}, "severity": "minor", "condition": SILENCE}
    rule_id = record_rule(database, tenant, document | {"ladder": ladder})
    last = minutes_ago(60)
    device.send_all(tenant.devices[0], [body(reading(last, 4.0))])
    wait_until(lambda: len(episodes(database, tenant)) == 2, 60, "both silences")

    # Told backwards, the rung of 30 min ended after 45, the rule after 50.
    without, deleted = (datetime.fromtimestamp((last + n * MINUTE_MS) / 1000, UTC) for n in (45, 50))
    change_rule(database, tenant, rule_id, document, without)
    change_rule(database, tenant, rule_id, None, deleted)
    settled(database, device.sent)
    ends = "SELECT severity, status, reason, resolved_at FROM alert_episodes WHERE tenant_id = %s ORDER BY severity"
    assert database.query(ends, tenant.tenant_id) == [
        ("critical", "resolved", "rule_changed", without),
        ("minor", "resolved", "rule_deleted", deleted),
    ]
