"""Notifications in lists: alerts and quotas in one order, page by page; each tenant its own."""

from __future__ import annotations

import pytest

from api.notifications import NotificationPage
from tests.integration.api_scene import Client, client, new_tenant
from tests.integration.canary_scene import furnish
from tests.integration.servers import Database

pytestmark = pytest.mark.integration


def told(api: Client, **parameters: object) -> list[tuple[str, str]]:
    """Kind and time of everything that a list has, two at a time."""
    items = api.walk("/v1/notifications", limit=2, **parameters)
    NotificationPage.model_validate({"items": items, "next": None})
    return [(item["kind"], item["noticed_at"][11:16]) for item in items]


def test_alerts_and_quotas_are_listed_newest_first_and_by_kind(database: Database, url: str) -> None:
    tenant, stranger = new_tenant(database), new_tenant(database, "stranger")
    alert_id = furnish(database, url, tenant).ids["alert_id"]
    for kind, minute in (("fired", "10"), ("resolved", "30"), ("historical", "30")):
        database.query(
            "INSERT INTO weir.notification (tenant_id, alert_id, alert_version, kind, episode, created_at)"
            " SELECT tenant_id, alert_id, 1, %s, weir.episode_document(e), %s FROM weir.alert_episode e WHERE alert_id = %s",
            kind,
            f"2026-11-20T12:{minute}:00Z",
            alert_id,
        )
    for percent, minute in ((80, "20"), (100, "40")):
        database.query(
            "INSERT INTO weir.quota_notice VALUES (%s, 'readings', '2026-11-01', %s, 800, 1000, %s)",
            tenant.tenant_id,
            percent,
            f"2026-11-20T12:{minute}:00Z",
        )
    with client(url, tenant.api_key) as api, client(url, stranger.api_key) as other:
        # What happened at one moment stands in the order in which it was kept.
        newest_first = ["quota 40", "historical 30", "resolved 30", "quota 20", "fired 10"]
        assert [f"{kind} {at[3:]}" for kind, at in told(api)] == newest_first
        assert told(api, kind="quota") == [("quota", "12:40"), ("quota", "12:20")]
        assert told(api, kind="fired") == [("fired", "12:10")]
        assert told(other) == []
        [alert] = api.get("/v1/notifications", kind="fired")["items"]
        assert alert["alert"]["alert_id"] == alert["alert_id"] == alert_id
        cursor = api.get("/v1/notifications", limit=1)["next"]
        for parameters in ({"kind": "loud"}, {"kind": "fired", "cursor": cursor}, {"cursor": f"{cursor}x"}):
            api.get("/v1/notifications", status=422, **parameters)
        other.get("/v1/notifications", status=422, cursor=cursor)
