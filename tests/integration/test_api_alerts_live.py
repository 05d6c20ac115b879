"""From a rule and published readings to an alert, its handling and its end, over HTTP and the `alerts` topic."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from kafka import KafkaConsumer

from api import rule_models
from api.notifications import NotificationPage
from tests.integration.api_scene import Client, api_settings, client, instant, new_tenant, serving, shown
from tests.integration.conftest import Broker
from tests.integration.live_scene import LiveClient, live_client
from tests.integration.publishing import ThirdPartyDevice, body, reading
from tests.integration.rule_scene import send
from tests.integration.servers import Database, WorkerProcess, wait_until

pytestmark = pytest.mark.integration

START = instant("2026-10-01T12:00:00Z")
START_MS = 1_790_856_000_000
TOO_WARM = {"type": "threshold", "above": 8.0, "for": "30m"}
RULE: dict[str, Any] = {
    "name": "too warm",
    "severity": "critical",
    "condition": TOO_WARM,
    "effective_from": "2026-01-01T00:00:00Z",
}


def minutes(values: list[float], first: int = 0) -> bytes:
    """A record of readings five minutes apart."""
    return body(*(reading(START_MS + (first + 5 * n) * 60_000, value) for n, value in enumerate(values)))


def at(minute: int) -> str:
    return shown(START + timedelta(minutes=minute))


def test_a_rule_fires_on_what_is_published_is_acknowledged_and_resolves_when_it_is_deleted(
    database: Database,
    broker: Broker,
    topic_prefix: str,
    new_worker: Callable[..., WorkerProcess],
) -> None:
    tenant, stranger = new_tenant(database), new_tenant(database, "stranger")
    device = ThirdPartyDevice(broker.bootstrap, f"{topic_prefix}readings")
    new_worker()
    settings = api_settings(database.reader_url, kafka_bootstrap=broker.bootstrap, topic_prefix=topic_prefix)
    with (
        serving(settings) as url,
        client(url, tenant.api_key) as api,
        client(url, stranger.api_key) as other,
        live_client(url, tenant.api_key) as viewer,
    ):
        viewer.subscribe("notifications")
        rule = send(api, "POST", "/v1/rules", RULE, status=201)
        device.send_all(tenant.devices[0], [minutes([4.0, 9.0, 9.0])])
        pending = wait_until(lambda: api.get("/v1/alerts")["items"], 60, "the pending episode")
        device.send_all(tenant.devices[0], [minutes([9.5, 9.0, 9.0, 9.0, 9.0], first=15)])
        wait_until(lambda: firing(api), 60, "the firing")

        rule_models.AlertPage.model_validate(api.get("/v1/alerts"))
        [alert] = api.get("/v1/alerts")["items"]
        path = f"/v1/alerts/{alert['alert_id']}"
        rule_models.AlertWithNotes.model_validate(api.get(path))
        assert [one["alert_id"] for one in pending] == [alert["alert_id"]]
        assert (alert["rule_id"], alert["tenant_id"]) == (rule["rule_id"], tenant.tenant_id)
        # Warm from minute 5; 5 to 35 are the 30 proven minutes.
        assert (alert["started_at"], alert["fired_at"], alert["resolved_at"]) == (at(5), at(35), None)
        assert (alert["severity"], alert["proven_seconds"]) == ("critical", 1800.0)
        assert alert["peak"] == {"at": at(15), "value": 9.5}

        assert_told(api, viewer, alert)
        assert other.get("/v1/notifications")["items"] == []

        acknowledged = send(api, "POST", f"{path}/acknowledge", {"note": "door was open"})
        commented = send(api, "POST", f"{path}/comment", {"note": "closed it"})
        assigned = send(api, "POST", f"{path}/assign", {"assignee": "night shift"})
        rule_models.Alert.model_validate(assigned)
        assert acknowledged["status"] == "firing"
        assert acknowledged["acknowledged_by"].startswith("key_")
        assert [one["version"] - alert["version"] for one in (acknowledged, commented, assigned)] == [1, 2, 3]
        assert assigned["assigned_to"] == "night shift"

        send(api, "DELETE", f"/v1/rules/{rule['rule_id']}", status=204)
        wait_until(lambda: api.get(path)["status"] == "resolved", 60, "the resolution")
        resolved = api.get(path)
        assert (resolved["reason"], resolved["acknowledged_by"]) == ("rule_deleted", acknowledged["acknowledged_by"])
        assert [(note["kind"], note["note"]) for note in resolved["notes"]] == [
            ("acknowledge", "door was open"),
            ("comment", "closed it"),
            ("assign", "night shift"),
        ]

        versions = api.walk(f"{path}/history", limit=2)
        rule_models.AlertVersionPage.model_validate(api.get(f"{path}/history"))
        assert [one["version"] for one in versions] == list(range(1, resolved["version"] + 1))
        assert versions[0]["status"] == "pending"
        assert versions[-1] == {name: value for name, value in resolved.items() if name != "notes"}
        known = api.get(f"{path}/history", as_of=acknowledged["updated_at"])["items"]
        assert known[-1]["version"] == acknowledged["version"]
        assert api.get(f"{path}/history", as_of="2026-01-01T00:00:00Z")["items"] == []

        assert other.get("/v1/alerts")["items"] == []
        other.get(path, status=404)
        other.get(f"{path}/history", status=404)
        for handling in ("acknowledge", "comment", "assign"):
            field = "assignee" if handling == "assign" else "note"
            send(other, "POST", f"{path}/{handling}", {field: "mine"}, status=404)
        assert api.get(path) == resolved

    assert published(broker, f"{topic_prefix}alerts", len(versions)) == versions


def assert_told(api: Client, viewer: LiveClient, alert: dict[str, Any]) -> None:
    """The list and the live channel say the same, once."""
    told = api.get("/v1/notifications")
    NotificationPage.model_validate(told)
    assert [(one["kind"], one["alert_id"]) for one in told["items"]] == [("historical", alert["alert_id"])]
    assert viewer.hear("event")["items"] == told["items"]


def firing(api: Client) -> list[dict[str, Any]]:
    return list(api.http.get("/v1/alerts", params={"status": "firing"}).json()["items"])


def published(broker: Broker, topic: str, count: int) -> list[dict[str, Any]]:
    """The records of the topic, once there are this many."""
    consumer = KafkaConsumer(
        topic, bootstrap_servers=broker.bootstrap, auto_offset_reset="earliest", consumer_timeout_ms=60_000
    )
    records = []
    for record in consumer:
        records.append(json.loads(record.value))
        assert record.key == records[-1]["sensor_id"].encode()
        if len(records) == count:
            break
    consumer.close()
    return records
