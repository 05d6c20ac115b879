"""The audit log over HTTP: who changed what, kept by the database whatever an endpoint does, and never changed itself."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from api import people_models
from tests.integration.api_scene import add_sensor, client
from tests.integration.people_scene import PASSWORD, Person, as_person, new_address, post, send
from tests.integration.servers import Database, Tenant

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def api_options() -> dict[str, Any]:
    return {"sign_in_failures_per_address": 10_000}


class TestAudit:
    def test_it_tells_who_changed_what_from_what_to_what_newest_first(
        self, url: str, tenant: Tenant, owner: Person
    ) -> None:
        with as_person(url, owner) as api:
            user = post(api, "/v1/users", {"email": new_address(), "role": "staff", "password": PASSWORD}, 201)
            send(api, "PATCH", f"/v1/users/{user['user_id']}", {"role": "viewer"}, 200)
            send(api, "DELETE", f"/v1/users/{user['user_id']}", None, 204)
            entries = api.walk("/v1/audit", subject_id=user["user_id"], limit=1)
            for entry in entries:
                assert people_models.AuditEntry.model_validate(entry)
            assert [(entry["action"], entry["actor"]) for entry in entries] == [
                ("removed", owner.user_id),
                ("changed", owner.user_id),
                ("created", owner.user_id),
            ]
            assert entries[1]["changes"] == {"role": {"from": "staff", "to": "viewer"}}
            assert entries[2]["changes"]["password_hash"] == "secret"
            assert [each["actor"] for each in api.walk("/v1/audit", kind="organization")] == ["system"]
            assert api.walk("/v1/audit", end=entries[2]["at"], actor=owner.user_id, kind="user") == []
            api.get("/v1/audit", cursor="x", status=422)
        with client(url, tenant.api_key) as api:
            by_key = {
                entry["subject_id"] for entry in api.walk("/v1/audit", kind="user") if entry["actor"].startswith("key_")
            }
        assert by_key == {owner.user_id}

    def test_rules_and_their_deletion_are_in_it(self, url: str, owner: Person) -> None:
        rule = {"name": "warm", "severity": "minor", "condition": {"type": "threshold", "above": 8.0}}
        with as_person(url, owner) as api:
            made = post(api, "/v1/rules", rule, 201)
            send(api, "PATCH", f"/v1/rules/{made['rule_id']}", {"severity": "major"}, 200)
            send(api, "DELETE", f"/v1/rules/{made['rule_id']}", None, 204)
            entries = api.walk("/v1/audit", subject_id=made["rule_id"])
        assert [entry["action"] for entry in entries] == ["removed", "changed", "created"]
        assert entries[1]["changes"]["document"]["from"]["severity"] == "minor"
        assert entries[1]["changes"]["document"]["to"]["severity"] == "major"

    def test_places_are_in_it_and_a_sensors_moves_under_its_id(
        self, url: str, tenant: Tenant, owner: Person, database: Database
    ) -> None:
        _, sensor_id = add_sensor(database, tenant, "air")
        with as_person(url, owner) as api:
            site = post(api, "/v1/sites", {"name": "Harbour", "timezone": "UTC"}, 201)
            unit = post(api, "/v1/units", {"name": "Fridge", "kind": "fridge", "site_id": site["site_id"]}, 201)
            send(api, "PATCH", f"/v1/sites/{site['site_id']}", {"name": "Harbour Street"}, 200)
            send(api, "PATCH", f"/v1/sensors/{sensor_id}", {"unit_id": unit["unit_id"]}, 200)
            [renamed] = [each for each in api.walk("/v1/audit", kind="site") if each["action"] == "changed"]
            moves = api.walk("/v1/audit", subject_id=sensor_id, kind="assignment")
            [made] = api.walk("/v1/audit", kind="unit")
        assert renamed["changes"]["name"] == {"from": "Harbour", "to": "Harbour Street"}
        assert (made["subject_id"], made["actor"]) == (unit["unit_id"], owner.user_id)
        assert moves[0]["changes"]["place"]["to"]["unit_id"] == unit["unit_id"]
        assert moves[0]["actor"] == owner.user_id

    @pytest.mark.parametrize(
        "statement",
        ["UPDATE weir.audit_entry SET actor = 'x'", "DELETE FROM weir.audit_entry", "TRUNCATE weir.audit_entry"],
    )
    def test_nobody_changes_it_the_owner_included(self, database: Database, tenant: Tenant, statement: str) -> None:
        for url, role in ((database.admin_url, "none"), (database.owner_url, "weir_owner")):
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(f"SET ROLE {role}".encode())
                with pytest.raises(psycopg.errors.InsufficientPrivilege, match=r"weir\.audit_entry only grows"):
                    connection.execute(statement.encode())
