"""`/v1/alerts` over a real server: lists, filters and pages of stored episodes, and what people say of them."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest

from tests.integration.api_scene import Client, add_sensor, instant, shown
from tests.integration.rule_scene import send
from tests.integration.servers import Database, Tenant, wait_until

pytestmark = pytest.mark.integration

START = instant("2026-10-01T12:00:00Z")


def at(minute: int) -> str:
    return shown(START + timedelta(minutes=minute))


@pytest.fixture(scope="module")
def api_options() -> dict[str, Any]:
    return {"topic_prefix": "t-"}


@pytest.fixture
def sensors(database: Database, tenant: Tenant) -> list[tuple[int, str]]:
    return [add_sensor(database, tenant, name) for name in ("a", "b")]


def add_episode(
    database: Database,
    tenant: Tenant,
    sensor_no: int,
    started: int,
    resolved: int | None,
    status: str = "resolved",
    severity: str = "major",
) -> str:
    """An episode between two minutes, of a rule that the tenant gets with its first one."""
    ((alert_id,),) = database.query(
        "WITH made AS (INSERT INTO weir.rule (rule_id, tenant_id) VALUES ('rul_' || %s, %s)"
        " ON CONFLICT (rule_id) DO UPDATE SET rule_id = excluded.rule_id RETURNING rule_no)"
        " INSERT INTO weir.alert_episode (tenant_id, sensor_no, rule_no, severity, status, started_at, fired_at,"
        " resolved_at, peak_at, peak_value, proven_ms, possible_ms, historical)"
        " SELECT %s, %s, rule_no, %s, %s, %s, NULL, %s, %s, 9.5, 60000, 60000, false FROM made RETURNING alert_id",
        tenant.tenant_id,
        tenant.tenant_id,
        tenant.tenant_id,
        sensor_no,
        severity,
        status,
        START + timedelta(minutes=started),
        None if resolved is None else START + timedelta(minutes=resolved),
        START + timedelta(minutes=started),
    )
    return str(alert_id)


def test_filters_narrow_and_nothing_is_filtered_by_default(
    api: Client, database: Database, tenant: Tenant, sensors: list[tuple[int, str]]
) -> None:
    (first, first_id), (second, second_id) = sensors
    old = add_episode(database, tenant, first, 0, 10, severity="info")
    taken_back = add_episode(database, tenant, second, 5, None, status="retracted")
    open_one = add_episode(database, tenant, second, 20, None, status="firing")

    def found(**parameters: str) -> list[str]:
        response = api.http.get("/v1/alerts", params=parameters)
        assert response.status_code == 200, response.text
        return [item["alert_id"] for item in response.json()["items"]]

    assert found() == [open_one, taken_back, old]
    assert found(status="retracted") == [taken_back]
    assert found(severity="info") == [old]
    assert found(sensor_id=second_id) == [open_one, taken_back]
    assert found(sensor_id=first_id, status="firing") == []
    assert found(sensor_id="sen_none") == []
    # [start, end) overlaps [started_at, resolved_at); the retracted one reached to minute 6.
    assert found(start=at(9), end=at(20)) == [old]
    assert found(start=at(10), end=at(21)) == [open_one]
    assert found(start=at(5), end=at(6)) == [taken_back, old]
    assert found(start=at(500)) == [open_one]
    assert found(end=at(0)) == []


@pytest.mark.parametrize("limit", [1, 3, 1_000])
def test_pages_walk_through_episodes_that_start_at_once(
    api: Client, database: Database, tenant: Tenant, sensors: list[tuple[int, str]], limit: int
) -> None:
    made = [add_episode(database, tenant, sensors[0][0], n // 3, n + 5) for n in range(10)]

    items = api.walk("/v1/alerts", limit=limit, severity="major")

    assert [item["alert_id"] for item in items] == made[::-1]


def test_a_cursor_continues_its_own_query_also_when_that_is_left_out(
    api: Client, database: Database, tenant: Tenant, sensors: list[tuple[int, str]]
) -> None:
    for n in range(3):
        add_episode(database, tenant, sensors[0][0], n, None, severity="info" if n == 1 else "minor")
    cursor = api.get("/v1/alerts", severity="minor", limit=1)["next"]

    assert [one["started_at"] for one in api.get("/v1/alerts", cursor=cursor)["items"]] == [at(0)]
    assert api.get("/v1/alerts", status=422, cursor=cursor, severity="info")["errors"][0]["parameter"] == "cursor"


@pytest.mark.parametrize(
    ("parameters", "parameter"),
    [
        ({"status": "open"}, "status"),
        ({"severity": "bad"}, "severity"),
        ({"start": "yesterday"}, "start"),
        ({"start": at(1), "end": at(1)}, "start"),
        ({"limit": "0"}, "limit"),
        ({"cursor": "x"}, "cursor"),
        ({"sensor_id": "a\0"}, "sensor_id"),
    ],
)
def test_a_wrong_parameter_is_422_and_named(api: Client, parameters: dict[str, str], parameter: str) -> None:
    response = api.http.get("/v1/alerts", params=parameters)

    assert (response.status_code, response.json()["errors"][0]["parameter"]) == (422, parameter)


def test_who_acknowledged_first_stays_and_every_one_is_noted(
    api: Client, url: str, database: Database, tenant: Tenant, sensors: list[tuple[int, str]]
) -> None:
    path = f"/v1/alerts/{add_episode(database, tenant, sensors[0][0], 0, 10)}"

    first = send(api, "POST", f"{path}/acknowledge")
    database.query("UPDATE weir.api_key SET api_key_id = 'key_two' WHERE tenant_id = %s", tenant.tenant_id)
    wait_until(
        lambda: (
            send(api, "POST", f"{path}/acknowledge", {"note": "me too"})
            and api.get(path)["notes"][-1]["author"] == "key_two"
        ),
        10,
        "the key's other id",
    )

    assert api.get(path)["acknowledged_by"] == first["acknowledged_by"]
    assert api.get(path)["acknowledged_at"] == first["acknowledged_at"]


@pytest.mark.parametrize(
    ("handling", "document", "parameter"),
    [
        ("acknowledge", {"note": 7}, "note"),
        ("acknowledge", {"why": "x"}, "why"),
        ("comment", {}, "note"),
        ("comment", {"note": "  "}, "note"),
        ("comment", {"note": "x" * 2_001}, "note"),
        ("comment", {"note": "\0"}, "note"),
        ("assign", {"note": "x"}, "note"),
    ],
)
def test_a_wrong_note_is_422_and_nothing_is_kept_of_it(
    api: Client,
    database: Database,
    tenant: Tenant,
    sensors: list[tuple[int, str]],
    handling: str,
    document: dict[str, Any],
    parameter: str,
) -> None:
    path = f"/v1/alerts/{add_episode(database, tenant, sensors[0][0], 0, 10)}"

    problem = send(api, "POST", f"{path}/{handling}", document, status=422)

    assert problem["errors"][0]["parameter"] == parameter
    assert (api.get(path)["version"], api.get(path)["notes"]) == (1, [])


def test_a_key_that_may_only_read_cannot_acknowledge(
    api: Client, database: Database, tenant: Tenant, sensors: list[tuple[int, str]]
) -> None:
    database.query("UPDATE weir.api_key SET scopes = '{read}' WHERE tenant_id = %s", tenant.tenant_id)
    path = f"/v1/alerts/{add_episode(database, tenant, sensors[0][0], 0, 10)}"

    for handling in ("acknowledge", "comment", "assign"):
        assert send(api, "POST", f"{path}/{handling}", {}, status=403)["code"] == "missing_permission"
    api.get(path)


def test_an_alert_that_is_not_there_is_404(api: Client) -> None:
    for alert_id in ("alt_none", "%00", "'; DROP TABLE weir.rule; --"):
        api.get(f"/v1/alerts/{alert_id}", status=404)
        send(api, "POST", f"/v1/alerts/{alert_id}/acknowledge", {}, status=404)


def test_the_readers_login_can_change_an_episode_by_its_function_only(
    database: Database, tenant: Tenant, sensors: list[tuple[int, str]]
) -> None:
    alert_id = add_episode(database, tenant, sensors[0][0], 0, 10)
    handle = "SELECT weir.handle_alert(%s, 'comment', 'me', 'note', %s)"
    with psycopg.connect(database.reader_url, autocommit=True) as connection:
        connection.execute("SET ROLE weir_reader")
        assert connection.execute(handle, (alert_id, "t-alerts")).fetchone() == (None,)  # no tenant
        connection.execute("SELECT set_config('weir.tenant', %s, false)", (tenant.tenant_id,))
        with pytest.raises(psycopg.errors.InvalidParameterValue):
            connection.execute(handle, (alert_id, "t-readings"))
        for statement in (
            "UPDATE weir.alert_episode SET status = 'retracted'",
            "INSERT INTO weir.alert_note (alert_id, kind, author, note) VALUES ('a', 'comment', 'b', 'c')",
            "INSERT INTO weir.alert_history VALUES ('a', 1, now(), '{}')",
            "INSERT INTO weir.topic_outbox (topic) VALUES ('t-alerts')",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)
        assert connection.execute(handle, (alert_id, "t-alerts")).fetchone() != (None,)

    [(topic, key, value)] = database.query(
        "SELECT topic, key, value FROM weir.topic_outbox WHERE convert_from(value, 'UTF8')::jsonb ->> 'alert_id' = %s",
        alert_id,
    )
    assert (topic, key) == ("t-alerts", sensors[0][1].encode())
    assert datetime.fromisoformat(json.loads(value)["updated_at"]).tzinfo is not None
