"""Who sees what: credentials, tenants, rates. Whatever an answer says, it never says a byte of another tenant."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from core.secrets import mint_api_key
from tests.integration.api_scene import add_readings, add_sensor, api_settings, client, instant, new_tenant, serving
from tests.integration.servers import Database, Tenant, wait_until

pytestmark = pytest.mark.integration

START = instant("2026-11-20T00:00:00Z")
RANGE: dict[str, Any] = {"start": "2026-11-20T00:00:00Z", "end": "2026-11-21T00:00:00Z"}


@pytest.fixture(scope="module")
def mine(database: Database) -> tuple[Tenant, str]:
    return furnish(database, "mine", 1.5)


@pytest.fixture(scope="module")
def theirs(database: Database) -> tuple[Tenant, str]:
    return furnish(database, "theirs", 77.25)


def furnish(database: Database, name: str, value: float) -> tuple[Tenant, str]:
    """A tenant with a sensor, readings, a conflict, quality counts, dead letters and refusals."""
    tenant = new_tenant(database, name)
    sensor_no, sensor_id = add_sensor(database, tenant, f"{name} sensor")
    add_readings(database, sensor_no, [(START + timedelta(minutes=n), 0, value) for n in range(60)])
    device_id = tenant.devices[0].device_id
    database.query("INSERT INTO weir.reading_conflict VALUES (%s, %s, 0, %s, now())", sensor_no, START, value - 1)
    database.query("INSERT INTO weir.quality_hourly VALUES (%s, %s, 3, 2)", sensor_no, START)
    database.query("INSERT INTO weir.dead_letter_record VALUES (%s, 'id', 0, 1, NULL, NULL, '[]', 0)", name)
    database.query(
        "INSERT INTO weir.dead_letter (tenant_id, device_id, sensor, reason, detail, topic, topic_identity, partition,"
        " \"offset\", index, refused_at) VALUES (%s, %s, %s, 'impossible_time', 'd', %s, 'id', 0, 1, 0, %s)",
        tenant.tenant_id,
        device_id,
        f"{name} sensor",
        name,
        START,
    )
    database.query(
        "INSERT INTO weir.refusal_count VALUES (%s, %s, 'impossible_time', %s, 1, 1, 1, 1, %s, 0)",
        START,
        device_id,
        tenant.tenant_id,
        name,
    )
    return tenant, sensor_id


class TestCredentials:
    @pytest.mark.parametrize(
        "path", ["/v1/sensors", "/v1/sensors/sen_1", "/v1/sensors/sen_1/readings", "/v1/data-quality"]
    )
    def test_without_a_credential_every_path_is_401_and_says_how_to_bring_one(self, url: str, path: str) -> None:
        with client(url, None) as api:
            response = api.http.get(path)

        assert response.status_code == 401
        assert response.headers["www-authenticate"] == 'Bearer realm="weir"'
        assert response.headers["content-type"] == "application/problem+json"

    @pytest.mark.parametrize(
        "header",
        [
            "Bearer",
            "Basic abc",
            "Bearer nonsense",
            f"Bearer {mint_api_key()}",
            "Bearer " + "x" * 5_000,
            "Bearer \xff",
        ],
        ids=["empty", "basic", "nonsense", "unknown key", "long", "not ascii"],
    )
    def test_a_wrong_credential_is_401(self, url: str, header: str) -> None:
        with client(url, None) as api:
            response = api.http.get("/v1/sensors", headers={b"Authorization": header.encode("latin-1")})

        assert response.status_code == 401

    def test_a_key_in_the_query_is_no_credential(self, url: str, mine: tuple[Tenant, str]) -> None:
        with client(url, None) as api:
            assert api.http.get("/v1/sensors", params={"api_key": mine[0].api_key}).status_code == 401

    def test_a_device_secret_is_no_api_key_and_an_api_key_no_device_secret(
        self, url: str, mine: tuple[Tenant, str]
    ) -> None:
        device = mine[0].devices[0]
        with client(url, f"{device.device_id}.{device.secret}") as api:
            assert api.http.get("/v1/sensors").status_code == 401
        with client(url, mine[0].api_key) as api:
            assert api.http.post("/v1/readings", content=b"{}").status_code == 401

    def test_a_revoked_key_stops_within_seconds(self, url: str, database: Database) -> None:
        tenant = new_tenant(database)
        with client(url, tenant.api_key) as api:
            api.get("/v1/sensors")
            database.query("UPDATE weir.api_key SET revoked_at = now() WHERE tenant_id = %s", tenant.tenant_id)
            wait_until(lambda: api.http.get("/v1/sensors").status_code == 401, 5, "the revocation")

    def test_an_expired_key_does_not_hold(self, url: str, database: Database) -> None:
        tenant = new_tenant(database)
        database.query("UPDATE weir.api_key SET expires_at = now() WHERE tenant_id = %s", tenant.tenant_id)
        with client(url, tenant.api_key) as api:
            assert api.get("/v1/sensors", status=401)["code"] == "unauthorized"

    def test_a_key_without_the_scope_is_403(self, url: str, database: Database) -> None:
        tenant = new_tenant(database)
        database.query("UPDATE weir.api_key SET scopes = '{write}' WHERE tenant_id = %s", tenant.tenant_id)
        with client(url, tenant.api_key) as api:
            assert api.get("/v1/sensors", status=403)["code"] == "missing_permission"


class TestTenants:
    def test_each_tenant_lists_its_own_sensors_only(
        self, url: str, mine: tuple[Tenant, str], theirs: tuple[Tenant, str]
    ) -> None:
        for tenant, sensor_id in (mine, theirs):
            with client(url, tenant.api_key) as api:
                assert [item["sensor_id"] for item in api.walk("/v1/sensors")] == [sensor_id]

    @pytest.mark.parametrize(
        "path", ["/v1/sensors/{}", "/v1/sensors/{}/readings", "/v1/sensors/{}/readings?resolution=1h"]
    )
    def test_anothers_sensor_is_404_and_just_like_one_that_is_not_there(
        self, url: str, mine: tuple[Tenant, str], theirs: tuple[Tenant, str], path: str
    ) -> None:
        with client(url, mine[0].api_key) as api:
            foreign, missing = api.http.get(path.format(theirs[1])), api.http.get(path.format("sen_" + "0" * 32))

        assert foreign.status_code == 404
        assert re.sub(r'"request_id":"\w+"', "", foreign.text) == re.sub(r'"request_id":"\w+"', "", missing.text)

    def test_anothers_cursor_is_422(self, url: str, mine: tuple[Tenant, str], theirs: tuple[Tenant, str]) -> None:
        with client(url, theirs[0].api_key) as api:
            cursor = api.get(f"/v1/sensors/{theirs[1]}/readings", limit=1, **RANGE)["next"]
        with client(url, mine[0].api_key) as api:
            api.get(f"/v1/sensors/{mine[1]}/readings", status=422, cursor=cursor)

    def test_data_quality_counts_its_own_only(
        self, url: str, mine: tuple[Tenant, str], theirs: tuple[Tenant, str]
    ) -> None:
        with client(url, mine[0].api_key) as api:
            quality = api.get("/v1/data-quality", **RANGE)

        (item,) = quality["items"]
        assert (item["sensor_id"], item["accepted"], item["duplicates"], item["late"]) == (mine[1], 60, 3, 2)
        assert [conflict["value"] for conflict in item["conflicts"]] == [1.5]
        assert item["quarantined"] == 1
        assert [refusal["device_id"] for refusal in quality["refusals"]] == [mine[0].devices[0].device_id]
        assert "77.25" not in str(quality)
        assert theirs[0].tenant_id not in str(quality)

    @pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/docs", "/openapi.json"])
    def test_what_needs_no_credential_knows_no_tenant(
        self, url: str, mine: tuple[Tenant, str], theirs: tuple[Tenant, str], path: str
    ) -> None:
        with client(url, None) as api:
            text = api.http.get(path).text

        for tenant, sensor_id in (mine, theirs):
            for word in (tenant.tenant_id, tenant.devices[0].device_id, sensor_id, tenant.api_key):
                assert word not in text


VIEWS = ("readings", "readings_1m", "readings_1h", "readings_1d", "reading_conflicts", "sensor_states", "quality_hourly",
         "dead_letters", "refused_readings", "refusal_counts", "usage_hourly")  # fmt: skip


class TestForgetfulQueries:
    """A query that forgets the tenant, as the API's database role."""

    @pytest.mark.parametrize(
        "relation", [*(f"weir_tenant.{name}" for name in VIEWS), "weir.sensor", "weir.device", "weir.tenant"]
    )
    def test_it_shows_the_transactions_tenant_only_and_nothing_without_one(
        self, database: Database, mine: tuple[Tenant, str], theirs: tuple[Tenant, str], relation: str
    ) -> None:
        with psycopg.connect(database.reader_url) as connection:
            connection.execute("SET ROLE weir_reader")
            query = f"SELECT DISTINCT tenant_id FROM {relation}"  # noqa: S608 - names of this file
            assert connection.execute(query.encode()).fetchall() == []
            connection.execute("SELECT set_config('weir.tenant', %s, true)", (mine[0].tenant_id,))
            assert {row[0] for row in connection.execute(query.encode())} <= {mine[0].tenant_id}

    def test_functions_asked_for_anothers_sensor_return_nothing(
        self, database: Database, mine: tuple[Tenant, str], theirs: tuple[Tenant, str]
    ) -> None:
        ((foreign_no,),) = database.query("SELECT sensor_no FROM weir.sensor WHERE sensor_id = %s", theirs[1])
        with psycopg.connect(database.reader_url) as connection:
            connection.execute("SET ROLE weir_reader")
            connection.execute("SELECT set_config('weir.tenant', %s, true)", (mine[0].tenant_id,))
            for query in (
                "SELECT * FROM weir_tenant.sensor_raw(%s, '-infinity', 'infinity', NULL, NULL, 10)",
                "SELECT * FROM weir_tenant.sensor_rollup(%s, '1h', '2026-11-20Z', '2026-11-21Z', 10)",
                "SELECT * FROM weir_tenant.sensor_conflicts(%s, '-infinity', 'infinity', 10)",
                "SELECT * FROM weir_tenant.reading_times(ARRAY[%s], '-infinity', 'infinity', 10)",
                "SELECT * FROM weir_tenant.reading_neighbours(ARRAY[%s], 'infinity', '-infinity')",
            ):
                assert connection.execute(query.encode(), (foreign_no,)).fetchall() == []

    @pytest.mark.parametrize(
        "relation", ["weir.reading", "weir.dead_letter", "weir.refusal_count", "weir.device_secret", "weir.usage"]
    )
    def test_the_tables_themselves_are_closed_to_it(self, database: Database, relation: str) -> None:
        with psycopg.connect(database.reader_url) as connection:
            connection.execute("SET ROLE weir_reader")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(f"SELECT * FROM {relation}".encode())  # noqa: S608 - names of this file


class TestRates:
    def test_above_its_rate_a_key_is_429_with_the_time_to_wait_and_others_are_not(self, database: Database) -> None:
        first, second = new_tenant(database), new_tenant(database)
        settings = api_settings(database.reader_url, api_requests_per_s=0.5, api_request_burst=5)
        with serving(settings) as url, client(url, first.api_key) as api, client(url, second.api_key) as other:
            for _ in range(5):
                api.get("/v1/sensors")
            refused = api.http.get("/v1/sensors")
            assert refused.status_code == 429
            assert refused.json()["code"] == "rate_limited"
            assert refused.headers["retry-after"] == "2"  # 1 / 0.5 per second
            other.get("/v1/sensors")

    def test_by_default_a_hundred_requests_in_a_second_pass(self, database: Database) -> None:
        tenant = new_tenant(database)
        settings = api_settings(database.reader_url).model_copy(
            update={"api_requests_per_s": 200.0, "api_request_burst": 400}
        )
        with serving(settings) as url, client(url, tenant.api_key) as api:
            assert {api.http.get("/v1/sensors").status_code for _ in range(150)} == {200}


class TestSurface:
    def test_every_answer_has_an_id_and_headers_that_keep_browsers_careful(self, url: str) -> None:
        with client(url, None) as api:
            for path in ("/livez", "/nowhere", "/v1/sensors", "/docs"):
                headers = api.http.get(path).headers
                assert re.fullmatch(r"[0-9a-f]{16}", headers["x-request-id"])
                assert headers["x-content-type-options"] == "nosniff"
                assert headers["x-frame-options"] == "DENY"
                assert headers["cache-control"] == "no-store"
                assert "default-src 'none'" in headers["content-security-policy"]
                assert "server" not in headers

    def test_a_given_request_id_is_kept_if_it_is_harmless(self, url: str) -> None:
        with client(url, None) as api:
            kept = api.http.get("/livez", headers={"X-Request-Id": "trace-0123456789"}).headers["x-request-id"]
            replaced = api.http.get("/livez", headers={"X-Request-Id": "<script>"}).headers["x-request-id"]

        assert kept == "trace-0123456789"
        assert re.fullmatch(r"[0-9a-f]{16}", replaced)

    def test_an_unknown_path_and_a_wrong_method_are_problems_too(self, url: str) -> None:
        with client(url, None) as api:
            missing, wrong = api.http.get("/v1/sensors/"), api.http.delete("/v1/sensors")

        assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
        assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET")
        assert wrong.headers["content-type"] == "application/problem+json"

    @pytest.mark.parametrize(
        ("origin", "allowed"),
        [
            ("http://localhost:3000", True),
            ("http://127.0.0.1:8000", True),
            ("http://[::1]:5173", True),
            ("https://example.com", False),
            ("http://localhost.example.com", False),
            ("http://127.0.0.1.example.com", False),
            ("null", False),
        ],
    )
    def test_only_pages_of_this_machine_may_read_answers(self, url: str, origin: str, allowed: bool) -> None:
        with client(url, None) as api:
            for path in ("/livez", "/v1/sensors"):
                header = api.http.get(path, headers={"Origin": origin}).headers.get("access-control-allow-origin")
                assert header == (origin if allowed else None)
