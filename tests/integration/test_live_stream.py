"""From published records to frames: readings, alerts and usage over WebSocket, through broker, worker and API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.api_scene import api_settings, client, new_tenant, serving
from tests.integration.conftest import Broker
from tests.integration.live_scene import items, live_client
from tests.integration.publishing import ThirdPartyDevice, body, reading
from tests.integration.rule_scene import send
from tests.integration.servers import Database, WorkerProcess, wait_until

pytestmark = pytest.mark.integration

START_MS = 1_790_856_000_000
RULE: dict[str, Any] = {
    "name": "too warm",
    "applies_to": {"all": True},
    "severity": "critical",
    "condition": {"type": "threshold", "above": 8.0, "for": "30m"},
    "effective_from": "2026-01-01T00:00:00Z",
}


def warm(first_minute: int, *values: float) -> bytes:
    return body(*(reading(START_MS + (first_minute + 5 * n) * 60_000, value) for n, value in enumerate(values)))


def test_published_readings_alerts_and_usage_arrive_as_they_are_committed_and_only_at_their_tenant(
    database: Database, broker: Broker, topic_prefix: str, new_worker: Callable[..., WorkerProcess]
) -> None:
    tenant, stranger = new_tenant(database), new_tenant(database, "stranger")
    device = ThirdPartyDevice(broker.bootstrap, f"{topic_prefix}readings")
    new_worker()
    settings = api_settings(database.reader_url, kafka_bootstrap=broker.bootstrap, topic_prefix=topic_prefix)
    with (
        serving(settings) as url,
        client(url, tenant.api_key) as api,
        live_client(url, tenant.api_key) as viewer,
        live_client(url, stranger.api_key) as other,
    ):
        send(api, "POST", "/v1/rules", RULE, status=201)
        for number, channel in enumerate(("readings", "alerts", "usage"), 1):
            frames = viewer.subscribe(channel, number)
            assert [(frame["op"], frame.get("items")) for frame in frames] == [("snapshot", []), ("sync", None)]
            other.subscribe(channel, number)

        device.send_all(tenant.devices[0], [warm(0, 4.0, 9.0, 9.0)])
        seen: dict[int, list[Any]] = {1: [], 2: [], 3: []}

        def heard(ref: int, wanted: Callable[[Any], bool]) -> Any:
            while not any(map(wanted, seen[ref])):
                frame = viewer.hear("event")
                seen[frame["id"]] += frame["items"]
            return next(item for item in seen[ref] if wanted(item))

        newest = heard(1, lambda item: item["value"] == 9.0)
        sensor = api.get("/v1/sensors")["items"][0]
        # The third reading, ten minutes after the first: the newest of the batch.
        assert newest == {"sensor_id": sensor["sensor_id"], "at": "2026-10-01T12:10:00.000Z", "value": 9.0, "seq": 0}
        pending = heard(2, lambda item: item["status"] == "pending")
        assert heard(3, lambda item: item["meter"] == "readings")["quantity"] == 3

        device.send_all(tenant.devices[0], [warm(15, 9.5, 9.0, 9.0, 9.0, 9.0)])
        firing = heard(2, lambda item: item["status"] == "firing")
        assert firing["alert_id"] == pending["alert_id"]
        assert firing["fired_at"] == "2026-10-01T12:35:00.000Z"
        send(api, "POST", f"/v1/alerts/{firing['alert_id']}/acknowledge", {"note": "seen"})
        acknowledged = heard(2, lambda item: item["acknowledged_by"] is not None)
        assert acknowledged == api.get("/v1/alerts")["items"][0]

        assert items(other.subscribe("readings", 9)) == []
        stored = database.query("SELECT tenant_id, seq FROM weir.live_event ORDER BY seq")
        assert stored == [(tenant.tenant_id, n) for n in range(1, len(stored) + 1)]


def test_a_reading_committed_while_nobody_told_the_workers_yet_is_still_shown(
    database: Database, broker: Broker, topic_prefix: str, new_worker: Callable[..., WorkerProcess]
) -> None:
    tenant = new_tenant(database)
    device = ThirdPartyDevice(broker.bootstrap, f"{topic_prefix}readings")
    new_worker()
    settings = api_settings(database.reader_url, kafka_bootstrap=broker.bootstrap, topic_prefix=topic_prefix)
    device.send_all(tenant.devices[0], [warm(0, 4.0)])
    wait_until(lambda: database.query("SELECT 1 FROM weir.sensor_state"), 60, "the first reading")
    with serving(settings) as url, live_client(url, tenant.api_key) as viewer:
        frames = viewer.subscribe("readings")
        device.send_all(tenant.devices[0], [warm(5, 4.5)])
        frames.append(viewer.hear("event"))
        assert [item["value"] for item in items(frames)] == [4.0, 4.5]
