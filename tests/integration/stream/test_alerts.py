"""Rules over the stream: from a rule and readings to episodes, whatever the order in which they come."""

from __future__ import annotations

import asyncio
import json
import random
from datetime import UTC, datetime

import psycopg
import pytest
from kafka import KafkaConsumer

from tests.integration import recording
from tests.integration.alert_scene import (
    MINUTE_MS,
    START_MS,
    TOO_WARM,
    add_rule,
    at,
    episodes,
    minutes,
    record_rule,
    settled,
)
from tests.integration.conftest import Broker
from tests.integration.publishing import ThirdPartyDevice, body, reading
from tests.integration.servers import Database, Tenant, create_tenant

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def worker_options() -> dict[str, str]:
    """Small batches, so that what belongs together is cut in many ways."""
    return {"WEIR_BATCH_MAX_RECORDS": "3"}


# 6 readings of 9 °C from minute 10 to 35 are 25 proven minutes; the 7th at 40 makes 30: fired there; 7 °C at 45 resolves.
WARM = [4.0, 4.0, 9.0, 9.0, 9.5, 9.0, 9.0, 9.0, 9.0, 7.0, 4.0]
WARM_EPISODE = ("resolved", at(10), at(40), at(45), 9.5, 1800.0, 2400.0)


def test_a_fridge_that_stays_too_warm_fires_and_resolves_by_its_readings_times(
    database: Database, tenant: Tenant, device: ThirdPartyDevice
) -> None:
    add_rule(database, tenant, TOO_WARM)
    for one in minutes(WARM):
        device.send_all(tenant.devices[0], [body(one)])
    settled(database, device.sent)

    assert episodes(database, tenant) == [WARM_EPISODE]
    told = "SELECT kind FROM weir.notification WHERE tenant_id = %s"
    assert database.query(told, tenant.tenant_id) == [("historical",)]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_shuffled_and_doubled_readings_give_the_same_episode(
    seed: int, database: Database, tenant: Tenant, device: ThirdPartyDevice
) -> None:
    add_rule(database, tenant, TOO_WARM)
    shuffled = minutes(WARM) * 2
    random.Random(seed).shuffle(shuffled)
    device.send_all(tenant.devices[0], [body(one) for one in shuffled])
    settled(database, device.sent)

    assert episodes(database, tenant) == [WARM_EPISODE]


def test_a_rule_posted_after_the_readings_judges_what_is_stored(
    database: Database, tenant: Tenant, device: ThirdPartyDevice
) -> None:
    device.send_all(tenant.devices[0], [body(*minutes(WARM))])
    settled(database, device.sent)
    add_rule(database, tenant, TOO_WARM)
    settled(database, device.sent)

    assert episodes(database, tenant) == [WARM_EPISODE]


def test_silence_does_not_resolve_and_a_back_fill_extends(
    database: Database, tenant: Tenant, device: ThirdPartyDevice
) -> None:
    add_rule(database, tenant, TOO_WARM)
    device.send_all(tenant.devices[0], [body(*minutes([9.0] * 8))])
    settled(database, device.sent)
    assert [episode[:4] for episode in episodes(database, tenant)] == [("firing", at(0), at(30), None)]

    # Six hours of nothing, then warm still: one episode, the gap is possible time only.
    device.send_all(tenant.devices[0], [body(*minutes([9.0, 4.0], first=395))])
    settled(database, device.sent)
    assert episodes(database, tenant) == [("resolved", at(0), at(30), at(400), 9.0, 2100.0, 24_000.0)]

    # The device uploads what it had kept: cold in between, so there were two.
    device.send_all(tenant.devices[0], [body(*minutes([4.0] * 71, first=40))])
    settled(database, device.sent)
    assert episodes(database, tenant) == [("resolved", at(0), at(30), at(40), 9.0, 2100.0, 2400.0)]
    assert len(history(database, tenant)) >= 3


def history(database: Database, tenant: Tenant) -> list[datetime]:
    """When each version was recorded, by its number."""
    recorded = database.query(
        "SELECT recorded_at FROM weir.alert_history JOIN weir.alert_episode e USING (alert_id) WHERE tenant_id = %s"
        " ORDER BY alert_history.version",
        tenant.tenant_id,
    )
    return [at for (at,) in recorded]


def test_every_change_reaches_the_alerts_topic(
    database: Database, tenant: Tenant, device: ThirdPartyDevice, broker: Broker, topic_prefix: str
) -> None:
    add_rule(database, tenant, {"type": "threshold", "at_or_above": 30.0})
    device.send_all(tenant.devices[0], [body(*minutes([29.9, 30.0]))])
    consumer = KafkaConsumer(
        f"{topic_prefix}alerts",
        bootstrap_servers=broker.bootstrap,
        auto_offset_reset="earliest",
        consumer_timeout_ms=60_000,
    )
    records = ((record.key, json.loads(record.value)) for record in consumer)
    key, episode = next((key, episode) for key, episode in records if episode["tenant_id"] == tenant.tenant_id)
    consumer.close()

    assert key == episode["sensor_id"].encode()
    assert (episode["status"], episode["started_at"]) == ("firing", "2026-10-01T12:05:00.000Z")
    assert episode["peak"] == {"at": "2026-10-01T12:05:00.000Z", "value": 30.0}


def test_deleting_a_rule_resolves_its_open_episode_at_that_moment(
    database: Database, tenant: Tenant, device: ThirdPartyDevice
) -> None:
    rule_id = add_rule(database, tenant, TOO_WARM)
    device.send_all(tenant.devices[0], [body(*minutes([9.0] * 8))])
    settled(database, device.sent)

    with psycopg.connect(database.admin_url, autocommit=True) as connection:
        connection.execute(
            "WITH deleted AS (INSERT INTO weir.rule_version (rule_no, version, effective_from, document, recorded_by)"
            " SELECT rule_no, 2, '2026-10-02T00:00:00Z', NULL, 'test' FROM weir.rule WHERE rule_id = %s RETURNING rule_no)"
            " INSERT INTO weir.rule_work (rule_no, tenant_id, from_at) SELECT rule_no, %s, '2026-10-02T00:00:00Z' FROM deleted",
            (rule_id, tenant.tenant_id),
        )
    settled(database, device.sent)

    assert [episode[:4] for episode in episodes(database, tenant)] == [
        ("resolved", at(0), at(30), datetime(2026, 10, 2, tzinfo=UTC))
    ]


def test_the_recording_gives_the_same_episodes_live_shuffled_and_judged_afterwards(
    database: Database, device: ThirdPartyDevice
) -> None:
    recording.require_recording()
    live, shuffled, afterwards = (asyncio.run(create_tenant(database, name=name)) for name in ("a", "b", "c"))
    below = {"type": "threshold", "below": 60.0, "for": "1h", "clear": {"above": 65.0, "for": "15m"}}
    add_rule(database, live, below)
    add_rule(database, shuffled, below)
    readings = [reading(recording.epoch_ms(when), value) for when, value in recording.rows().rows()]
    mixed = readings[:]
    random.Random(7).shuffle(mixed)
    for tenant, order in ((live, readings), (shuffled, mixed), (afterwards, readings)):
        device.send_all(tenant.devices[0], [body(*order[n : n + 1500]) for n in range(0, len(order), 1500)])
    settled(database, device.sent)
    add_rule(database, afterwards, below)
    settled(database, device.sent)

    found = {
        tenant.tenant_id: database.query(
            "SELECT started_at, fired_at, resolved_at, peak_value, proven_seconds, possible_seconds FROM alert_episodes"
            " WHERE tenant_id = %s AND status <> 'retracted' AND fired_at IS NOT NULL ORDER BY 1",
            tenant.tenant_id,
        )
        for tenant in (live, shuffled, afterwards)
    }
    first, second, third = found.values()
    assert len(first) > 3
    assert first == second == third


def test_merged_episodes_keep_what_people_said_about_them(
    database: Database, tenant: Tenant, device: ThirdPartyDevice
) -> None:
    add_rule(database, tenant, {"type": "threshold", "above": 8.0})
    # Warm, cold, warm: two episodes, of which somebody acknowledges the second.
    device.send_all(tenant.devices[0], [body(*minutes([9.0, 4.0, 9.0, 4.0]))])
    settled(database, device.sent)
    assert [one[:2] for one in episodes(database, tenant)] == [("resolved", at(0)), ("resolved", at(10))]
    database.query(
        "WITH second AS (UPDATE weir.alert_episode SET acknowledged_by = 'ann', acknowledged_at = now()"
        " WHERE started_at = %s AND tenant_id = %s RETURNING alert_id)"
        " INSERT INTO weir.alert_note (alert_id, kind, author, note) SELECT alert_id, 'acknowledge', 'ann', 'seen' FROM second",
        at(10),
        tenant.tenant_id,
    )

    # The reading between them was a conflict: the greater value is warm, so they were one.
    device.send_all(tenant.devices[0], [body(reading(START_MS + 5 * MINUTE_MS, 9.5))])
    settled(database, device.sent)

    assert [one[:4] for one in episodes(database, tenant)] == [("resolved", at(0), at(0), at(15))]
    found = database.query(
        "SELECT e.status, e.reason, e.acknowledged_by, e.merged_into IS NULL, n.note FROM alert_episodes e"
        " LEFT JOIN weir.alert_note n USING (alert_id) WHERE tenant_id = %s ORDER BY e.status",
        tenant.tenant_id,
    )
    assert found == [("resolved", None, "ann", True, "seen"), ("retracted", "merged", "ann", False, None)]


def test_history_is_in_order_though_clocks_are_not(
    database: Database, tenant: Tenant, device: ThirdPartyDevice
) -> None:
    add_rule(database, tenant, {"type": "threshold", "above": 8.0})
    device.send_all(tenant.devices[0], [body(*minutes([9.0]))])
    settled(database, device.sent)
    # Somebody acknowledged it by the clock of a database that is an hour ahead of the worker's.
    database.query(
        "WITH seen AS (UPDATE weir.alert_episode SET version = version + 1, acknowledged_by = 'ann',"
        " updated_at = updated_at + interval '1 hour' WHERE tenant_id = %s RETURNING *)"
        " INSERT INTO weir.alert_history SELECT alert_id, version, updated_at, '{}' FROM seen",
        tenant.tenant_id,
    )

    device.send_all(tenant.devices[0], [body(*minutes([9.0, 4.0], first=5))])
    settled(database, device.sent)

    recorded = history(database, tenant)
    assert len(recorded) == 3
    assert recorded == sorted(recorded)


def test_a_rule_that_cannot_be_used_stops_no_other(
    database: Database, tenant: Tenant, device: ThirdPartyDevice
) -> None:
    record_rule(database, tenant, {"name": "of another time", "severity": "major", "condition": {"type": "horoscope"}})
    add_rule(database, tenant, TOO_WARM)
    device.send_all(tenant.devices[0], [body(*minutes(WARM))])
    settled(database, device.sent)

    assert episodes(database, tenant) == [WARM_EPISODE]
