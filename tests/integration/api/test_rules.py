"""`/v1/rules` over a real server: documents in versions, refusals that say how to mend them, access."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from api import rule_models
from tests.integration.api_scene import Client, add_sensor, client, instant, new_tenant
from tests.integration.rule_scene import RULE, condition, refused, send, warm_sensor
from tests.integration.servers import Database, Tenant, wait_until

pytestmark = pytest.mark.integration


class TestVersions:
    def test_a_created_rule_is_read_and_listed_as_it_was_answered(self, api: Client) -> None:
        created = send(api, "POST", "/v1/rules", RULE, status=201)
        rule_models.RecordedRule.model_validate(created)
        assert created.pop("warnings") == []

        read = api.get(f"/v1/rules/{created['rule_id']}")

        rule_models.Rule.model_validate(read)
        rule_models.RulePage.model_validate(api.get("/v1/rules"))
        assert read == created
        assert api.get("/v1/rules")["items"] == [created]
        assert {name: read[name] for name in RULE} == RULE
        assert (read["version"], read["schedule"], read["progress"]) == (1, None, 0.0)  # no worker runs

    @pytest.mark.parametrize("moment", ["2010-01-01T00:00:00.000Z", "2999-12-31T23:59:59.999Z"])
    def test_a_rule_may_be_effective_from_the_past_or_the_future(self, api: Client, moment: str) -> None:
        created = send(api, "POST", "/v1/rules", {**RULE, "effective_from": moment}, status=201)

        assert created["effective_from"] == moment

    def test_a_rule_is_effective_from_the_moment_of_its_post_by_default(self, api: Client) -> None:
        before = datetime.now(UTC) - timedelta(milliseconds=1)
        created = send(api, "POST", "/v1/rules", RULE, status=201)

        assert before <= instant(created["effective_from"]) <= datetime.now(UTC)

    def test_a_patch_replaces_fields_whole_and_null_takes_one_away(self, api: Client) -> None:
        schedule = {"timezone": "Europe/Berlin", "weekly": [{"days": ["mon"], "from": "06:00", "to": "22:00"}]}
        rule_id = send(api, "POST", "/v1/rules", {**RULE, "schedule": schedule}, status=201)["rule_id"]

        changed = send(
            api,
            "PATCH",
            f"/v1/rules/{rule_id}",
            {
                "condition": {"type": "threshold", "below": 2.0},
                "schedule": None,
                "effective_from": "2026-11-01T00:00:00Z",
            },
        )

        rule_models.RecordedRule.model_validate(changed)
        assert changed["condition"] == {"type": "threshold", "below": 2.0}
        assert (changed["schedule"], changed["version"], changed["name"]) == (None, 2, "too warm")
        assert changed["effective_from"] == "2026-11-01T00:00:00.000Z"

    def test_a_patch_that_changes_nothing_records_nothing(self, api: Client) -> None:
        rule_id = send(api, "POST", "/v1/rules", RULE, status=201)["rule_id"]

        assert send(api, "PATCH", f"/v1/rules/{rule_id}", {"severity": "critical"})["version"] == 1
        assert send(api, "PATCH", f"/v1/rules/{rule_id}", {})["version"] == 1
        assert send(api, "PATCH", f"/v1/rules/{rule_id}", {"severity": "info"})["version"] == 2

    def test_a_wrong_patch_leaves_the_rule_as_it_was(self, api: Client) -> None:
        created = send(api, "POST", "/v1/rules", RULE, status=201)
        path = f"/v1/rules/{created['rule_id']}"

        problem = send(api, "PATCH", path, {"severity": None}, status=422)

        assert problem["errors"][0]["parameter"] == "severity"
        assert api.get(path)["version"] == 1

    def test_a_deleted_rule_is_gone_and_its_versions_stay(self, api: Client, database: Database) -> None:
        rule_id = send(api, "POST", "/v1/rules", RULE, status=201)["rule_id"]

        assert send(api, "DELETE", f"/v1/rules/{rule_id}", status=204) is None

        for method, body in (("GET", None), ("PATCH", {"severity": "info"}), ("DELETE", None)):
            assert send(api, method, f"/v1/rules/{rule_id}", body, status=404)["code"] == "not_found"
        assert api.get("/v1/rules")["items"] == []
        assert database.query(
            "SELECT version, document IS NULL FROM weir.rule JOIN weir.rule_version USING (rule_no) WHERE rule_id = %s"
            " ORDER BY 1",
            rule_id,
        ) == [(1, False), (2, True)]

    def test_of_two_changes_at_once_one_is_409_and_can_be_tried_again(
        self, api: Client, url: str, database: Database, tenant: Tenant
    ) -> None:
        path = f"/v1/rules/{send(api, 'POST', '/v1/rules', RULE, status=201)['rule_id']}"
        with (
            psycopg.connect(database.admin_url) as blocking,
            ThreadPoolExecutor(2) as threads,
            client(url, tenant.api_key) as second,
        ):
            # Both have read version 1 before either may write.
            blocking.execute("SELECT 1 FROM weir.rule FOR UPDATE")
            changes = [
                threads.submit(one.http.patch, path, json={"name": name}) for one, name in ((api, "a"), (second, "b"))
            ]
            waiting = (
                "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%%record_rule%%' AND wait_event_type = 'Lock'"
            )
            wait_until(lambda: database.query(waiting) == [(2,)], 10, "both to wait")
            blocking.rollback()
            answers = {change.result().status_code: change.result().json() for change in changes}

        assert sorted(answers) == [200, 409]
        assert answers[409]["code"] == "changed_meanwhile"
        assert (api.get(path)["version"], api.get(path)["name"]) == (2, answers[200]["name"])
        assert send(api, "PATCH", path, {"name": "c"})["version"] == 3

    def test_a_rule_has_at_most_1_000_versions_and_can_still_be_deleted(self, api: Client, database: Database) -> None:
        rule_id = send(api, "POST", "/v1/rules", RULE, status=201)["rule_id"]
        database.query(
            "INSERT INTO weir.rule_version (rule_no, version, effective_from, document, recorded_by)"
            " SELECT rule_no, n, now(), document, 'test' FROM weir.rule JOIN weir.rule_version USING (rule_no),"
            " generate_series(2, 1000) n WHERE rule_id = %s",
            rule_id,
        )

        problem = send(api, "PATCH", f"/v1/rules/{rule_id}", {"severity": "info"}, status=422)

        assert problem["code"] == "too_many_versions"
        send(api, "DELETE", f"/v1/rules/{rule_id}", status=204)

    def test_pages_of_rules_are_walked_in_the_order_of_their_ids(self, api: Client) -> None:
        made = [send(api, "POST", "/v1/rules", RULE, status=201)["rule_id"] for _ in range(7)]

        assert [rule["rule_id"] for rule in api.walk("/v1/rules", limit=3)] == sorted(made)


class TestRefusals:
    @pytest.mark.parametrize(
        ("document", "parameter", "remedy"),
        [
            ({**RULE, "name": ""}, "name", "give the rule a name"),
            ({**RULE, "severity": "bad"}, "severity", "critical, major, minor, warning, info"),
            ({**RULE, "colour": "red"}, "rule", "correct or remove it"),
            ({**RULE, "effective_from": "yesterday"}, "effective_from", "RFC 3339"),
            ({**RULE, "effective_from": "0001-01-01T00:00:00+14:00"}, "effective_from", "leave it out"),
            ({**RULE, "applies_to": {"sensor_id": "sen_none"}}, "applies_to.sensor_id", "/v1/sensors lists them"),
            ({**RULE, "applies_to": {"unit_id": "u\0"}}, "applies_to.unit_id", "remove it"),
            (condition(type="moon"), "condition.type", "expected one of threshold"),
            (condition(type="threshold", above=8.0, **{"for": "-1h"}), "condition.for", "never negative"),
            (condition(type="threshold", above=8.0, below=1.0), "condition", "exactly one of"),
            (condition(type="threshold", above=8.0, clear={"below": 9.0}), "condition.clear", "wrong side"),
            (condition(type="exposure", above=8.0, budget="2h", within="1h"), "condition.budget", "does not fit"),
            (condition(type="preset", name="none"), "condition.name", "food-code-4h"),
            # What no schema foresees: digits without end, a folder for a time zone, a list for a word.
            (condition(type="threshold", above=10**400), None, ""),
            (condition(type="threshold", above=8.0, **{"for": "9" * 5_000 + "s"}), None, ""),
            (condition(type="threshold", above={"attribute": "a", "of": []}), None, ""),
            ({**RULE, "schedule": {"timezone": "Europe", "weekly": [{"from": "06:00", "to": "07:00"}]}}, None, ""),
            (
                condition(type="threshold", above={"attribute": "max_celsius", "of": "unit"}),
                "condition",
                "set it first, or write the number",
            ),
        ],
    )
    def test_a_bad_rule_is_422_and_told_how_to_mend_it(
        self, api: Client, document: dict[str, Any], parameter: str | None, remedy: str
    ) -> None:
        error = refused(api, document)

        assert parameter is None or error["parameter"] == parameter
        assert remedy in error["detail"]
        assert refused(api, {"rule": document}, "/v1/rules/preview") == error
        assert api.get("/v1/rules")["items"] == []

    def test_a_window_longer_than_readings_are_kept_is_refused(
        self, api: Client, database: Database, tenant: Tenant
    ) -> None:
        database.query("UPDATE weir.tenant SET raw_retention = '7 days' WHERE tenant_id = %s", tenant.tenant_id)
        longer = condition(type="aggregate", function="mean", window="8d", above=8.0)
        as_long = condition(type="aggregate", function="mean", window="7d", above=8.0)

        assert refused(api, longer)["detail"] == (
            "condition: looks back 8d, but raw readings are kept 7d; shorten the window, or have readings kept longer"
        )
        send(api, "POST", "/v1/rules", as_long, status=201)

    def test_an_attribute_that_some_sensors_lack_is_flagged(
        self, api: Client, database: Database, tenant: Tenant
    ) -> None:
        _, with_limit = add_sensor(database, tenant, "with")
        add_sensor(database, tenant, "without")
        database.query(
            "INSERT INTO weir.unit (unit_id, tenant_id, name, kind, attributes)"
            " VALUES ('uni_limit', %s, 'u', 'fridge', '{\"max_celsius\": 8}')",
            tenant.tenant_id,
        )
        database.query("UPDATE weir.sensor SET unit_id = 'uni_limit' WHERE sensor_id = %s", with_limit)
        limited = condition(type="threshold", above={"attribute": "max_celsius", "of": "unit"})

        assert send(api, "POST", "/v1/rules", limited, status=201)["warnings"] == [
            "condition: attribute max_celsius of the unit is not set for 1 of 2 sensors, which nothing violates"
        ]
        of_kind = {**limited, "applies_to": {"unit_kind": "fridge"}}
        assert send(api, "POST", "/v1/rules", of_kind, status=201)["warnings"] == []
        of_no_kind = {**limited, "applies_to": {"unit_kind": "oven"}}
        assert send(api, "POST", "/v1/rules", of_no_kind, status=201)["warnings"] == [
            "no sensor has unit_kind oven yet; the rule judges nothing until one has"
        ]

    def test_a_rule_in_degrees_celsius_is_refused_for_a_sensor_of_another_unit_and_flagged_for_several(
        self, api: Client, database: Database, tenant: Tenant
    ) -> None:
        _, sensor_id = add_sensor(database, tenant, "humidity")
        database.query("UPDATE weir.sensor SET unit = 'percent' WHERE sensor_id = %s", sensor_id)
        kinetic = condition(type="mean_kinetic_temperature", above=8.0, window="24h")

        for one in (kinetic, condition(type="preset", name="who-fridge")):
            error = refused(api, {**one, "applies_to": {"sensor_id": sensor_id}})
            [warning] = send(api, "POST", "/v1/rules", one, status=201)["warnings"]
            assert "measure percent" in error["detail"]
            assert "measure percent" in warning

    def test_a_target_without_sensors_is_taken_with_a_warning(self, api: Client) -> None:
        created = send(api, "POST", "/v1/rules", {**RULE, "applies_to": {"unit_id": "uni_none"}}, status=201)

        assert created["warnings"] == ["no sensor has unit_id uni_none yet; the rule judges nothing until one has"]

    @pytest.mark.parametrize(
        ("body", "remedy"),
        [
            (b"[" + b"{}," * 9_999 + b"{}]", "the body is a list of 10000; send one object a request"),
            (b"{", "the body is not valid JSON; send one object"),
            (b'{"a":' * 9_000 + b"1" + b"}" * 9_000, "the body is not valid JSON; send one object"),
            (b"7", "the body is not a JSON object; send one"),
        ],
    )
    def test_a_body_that_is_no_rule_is_422(self, api: Client, body: bytes, remedy: str) -> None:
        response = api.http.post("/v1/rules", content=body)

        assert (response.status_code, response.json()["detail"]) == (422, remedy)

    def test_a_body_beyond_64_kib_is_413(self, api: Client) -> None:
        problem = send(api, "POST", "/v1/rules", {**RULE, "name": "x" * 65_536}, status=413)

        assert problem["code"] == "too_large"

    def test_more_than_10_000_rules_are_refused_until_one_is_deleted(
        self, api: Client, database: Database, tenant: Tenant
    ) -> None:
        database.query(
            "WITH made AS (INSERT INTO weir.rule (rule_id, tenant_id) SELECT 'rul_' || %s || n, %s"
            " FROM generate_series(1, 9999) n RETURNING rule_no)"
            " INSERT INTO weir.rule_version (rule_no, version, effective_from, document, recorded_by)"
            " SELECT rule_no, 1, now(), '{}', 'test' FROM made",
            tenant.tenant_id,
            tenant.tenant_id,
        )
        last = send(api, "POST", "/v1/rules", RULE, status=201)

        problem = send(api, "POST", "/v1/rules", RULE, status=422)

        assert problem["code"] == "too_many_rules"
        assert problem["detail"] == (
            "the tenant has 10000 rules, the most allowed; let one apply to several sensors, or delete some"
        )
        send(api, "DELETE", f"/v1/rules/{last['rule_id']}", status=204)
        send(api, "POST", "/v1/rules", RULE, status=201)


class TestAccess:
    def test_another_tenants_rule_is_404_and_not_listed(self, api: Client, url: str, database: Database) -> None:
        rule_id = send(api, "POST", "/v1/rules", RULE, status=201)["rule_id"]

        with client(url, new_tenant(database, "other").api_key) as other:
            for method, body in (("GET", None), ("PATCH", {"severity": "info"}), ("DELETE", None)):
                assert send(other, method, f"/v1/rules/{rule_id}", body, status=404)["code"] == "not_found"
            assert other.get("/v1/rules")["items"] == []
            other.get("/v1/rules/a%00b", status=404)
        assert api.get(f"/v1/rules/{rule_id}")["version"] == 1

    def test_another_tenants_sensor_cannot_be_watched_or_previewed(self, api: Client, database: Database) -> None:
        sensor_id = warm_sensor(database, new_tenant(database, "other"))
        watching = {**RULE, "applies_to": {"sensor_id": sensor_id}}

        assert refused(api, watching)["parameter"] == "applies_to.sensor_id"
        assert refused(api, {"rule": watching}, "/v1/rules/preview")["parameter"] == "applies_to.sensor_id"

    def test_the_readers_login_can_record_a_version_by_its_function_and_for_its_tenant_only(
        self, api: Client, database: Database, tenant: Tenant
    ) -> None:
        rule_id = send(api, "POST", "/v1/rules", RULE, status=201)["rule_id"]
        record = "SELECT weir.record_rule(%s, %s, NULL, '{}', 'me')"
        with psycopg.connect(database.reader_url, autocommit=True) as connection:
            connection.execute("SET ROLE weir_reader")
            assert connection.execute(record, (rule_id, 2)).fetchone() == (False,)  # no tenant
            with pytest.raises(psycopg.errors.NotNullViolation):
                connection.execute(record, ("rul_new", 1))
            connection.execute("SELECT set_config('weir.tenant', %s, false)", (tenant.tenant_id,))
            assert connection.execute(record, (rule_id, 3)).fetchone() == (False,)  # not the next
            assert connection.execute(record, (rule_id, 2)).fetchone() == (True,)

    def test_a_key_that_may_only_read_can_preview_but_not_change(
        self, api: Client, database: Database, tenant: Tenant
    ) -> None:
        rule_id = send(api, "POST", "/v1/rules", RULE, status=201)["rule_id"]
        database.query("UPDATE weir.api_key SET scopes = '{read}' WHERE tenant_id = %s", tenant.tenant_id)
        wait_until(lambda: api.http.post("/v1/rules", json=RULE).status_code == 403, 10, "the lost scope")

        send(api, "PATCH", f"/v1/rules/{rule_id}", {"severity": "info"}, status=403)
        send(api, "DELETE", f"/v1/rules/{rule_id}", status=403)
        send(api, "POST", "/v1/rules/preview", {"rule": RULE})
        api.get(f"/v1/rules/{rule_id}")
