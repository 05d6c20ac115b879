"""API keys over HTTP: shown once, narrowed, rotated, revoked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from api import people_models
from core.secrets import is_well_formed_api_key
from tests.integration.api_scene import client, shown
from tests.integration.people_scene import Person, as_person, post, send
from tests.integration.servers import Database, wait_until

pytestmark = pytest.mark.integration


def key_holds(url: str, api_key: str) -> bool:
    with client(url, api_key) as api:
        return bool(api.http.get("/v1/auth/me").status_code == 200)


class TestApiKeys:
    def test_a_key_is_shown_once_and_works(self, url: str, owner: Person) -> None:
        with as_person(url, owner) as api:
            made = post(api, "/v1/api-keys", {"name": "reports", "scopes": ["read"]}, 201)
            assert people_models.CreatedApiKey.model_validate(made)
            listed = [each for each in api.walk("/v1/api-keys", limit=1) if each["api_key_id"] == made["api_key_id"]]
        assert is_well_formed_api_key(made["api_key"])
        assert made["last_four"] == made["api_key"][-4:]
        assert listed == [{name: value for name, value in made.items() if name != "api_key"}]
        with client(url, made["api_key"]) as key:
            key.get("/v1/sensors")
            send(key, "POST", "/v1/rules", {}, 403)
            key.get("/v1/users", status=403)

    @pytest.mark.parametrize(
        ("body", "parameter"),
        [
            ({"scopes": ["read"]}, "name"),
            ({"name": "x"}, "scopes"),
            ({"name": "x", "scopes": []}, "scopes"),
            ({"name": "x", "scopes": ["read", "everything"]}, "scopes"),
            ({"name": "x", "scopes": "read"}, "scopes"),
            ({"name": "x", "scopes": [1]}, "scopes"),
            ({"name": "x", "scopes": ["read"], "expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
            ({"name": "x", "scopes": ["read"], "expires_at": "tomorrow"}, "expires_at"),
        ],
        ids=["no name", "no scopes", "empty", "unknown", "text", "number", "past", "no time"],
    )
    def test_what_is_wrong_with_a_key_is_said(self, url: str, owner: Person, body: Any, parameter: str) -> None:
        with as_person(url, owner) as api:
            assert post(api, "/v1/api-keys", body, 422)["errors"][0]["parameter"] == parameter

    def test_a_rotated_key_holds_for_the_overlap_beside_its_successor(
        self, url: str, owner: Person, database: Database
    ) -> None:
        with as_person(url, owner) as api:
            old = post(api, "/v1/api-keys", {"name": "x", "scopes": ["read", "write"]}, 201)
            path = f"/v1/api-keys/{old['api_key_id']}"
            send(api, "POST", f"{path}/rotate", {"overlap": "31d"}, 422)
            new = send(api, "POST", f"{path}/rotate", {"overlap": "1h"}, 201)
            assert people_models.RotatedApiKey.model_validate(new)
            assert (new["replaces"], new["scopes"], new["expires_at"]) == (old["api_key_id"], ["read", "write"], None)
            assert api.get(path)["expires_at"] == new["replaced_until"]
            assert key_holds(url, old["api_key"])
            assert key_holds(url, new["api_key"])
            # Rotating once more never lengthens a key's life.
            again = send(api, "POST", f"{path}/rotate", {"overlap": "2h"}, 201)
            assert again["replaced_until"] == new["replaced_until"]
            send(api, "POST", f"{path}/rotate", {"overlap": "0s"}, 201)
        wait_until(lambda: not key_holds(url, old["api_key"]), 60, "the end of the old key")
        assert key_holds(url, new["api_key"])
        with as_person(url, owner) as api:
            api.get(path, status=404)

    def test_a_changed_key_does_what_it_may_within_seconds(self, url: str, owner: Person) -> None:
        with as_person(url, owner) as api:
            made = post(api, "/v1/api-keys", {"name": "x", "scopes": ["read", "write"]}, 201)
            path = f"/v1/api-keys/{made['api_key_id']}"
            soon = shown(datetime.now(UTC) + timedelta(days=1))
            changed = send(api, "PATCH", path, {"name": "y", "scopes": ["write"], "expires_at": soon}, 200)
            assert (changed["name"], changed["scopes"], changed["expires_at"]) == ("y", ["write"], soon)
            assert send(api, "PATCH", path, {"expires_at": None}, 200)["expires_at"] is None
        with client(url, made["api_key"]) as key:
            wait_until(lambda: key.http.get("/v1/sensors").status_code == 403, 60, "the narrower scope")

    def test_a_revoked_key_ends_within_seconds_and_is_gone(self, url: str, owner: Person) -> None:
        with as_person(url, owner) as api:
            made = post(api, "/v1/api-keys", {"name": "x", "scopes": ["read"]}, 201)
            assert key_holds(url, made["api_key"])
            path = f"/v1/api-keys/{made['api_key_id']}"
            send(api, "DELETE", path, None, 204)
            send(api, "DELETE", path, None, 404)
            api.get(path, status=404)
        wait_until(lambda: not key_holds(url, made["api_key"]), 60, "the revocation")
