"""The permission matrix over HTTP: every operation of the OpenAPI document with every role and kind of key.

What each takes is written here by the first part of its path, so a route that asks for the wrong thing is found; one of a
new part makes the walk fail and say what to do.
"""

from __future__ import annotations

import pytest

from accounts.permissions import ROLES, SCOPES, Permissions, Role, Scope
from tests.integration.api_scene import Client, client, new_tenant
from tests.integration.canary_scene import Furnished, furnish
from tests.integration.people_scene import new_person, post
from tests.integration.route_walk import Operation, operations, send
from tests.integration.servers import Database

pytestmark = pytest.mark.integration

THINGS = {
    "alerts": "alerts",
    "api-keys": "keys",
    "audit": "audit",
    "billing": "billing",
    "data-quality": "readings",
    "devices": "devices",
    "jobs": "jobs",
    "notifications": "alerts",
    "organization": "organization",
    "rules": "rules",
    "scans": "scans",
    "sensors": "sensors",
    "sites": "places",
    "units": "places",
    "usage": "billing",
    "users": "users",
}
# What its path and method do not say.
OTHERWISE = {
    "GET /v1/sensors/{sensor_id}/readings": "readings:read",
    "POST /v1/rules/preview": "rules:read",
    # What cannot be taken back is an owner's to do.
    "DELETE /v1/scans/{scan_id}": "organization:write",
    "GET /v1/auth/invitations": "users:read",
    "POST /v1/auth/invitations": "users:write",
    "DELETE /v1/auth/invitations/{invitation_id}": "users:write",
    "GET /v1/auth/me": None,
    "POST /v1/auth/logout": None,
    "POST /v1/auth/password": None,
    # The walk takes the channel of alerts; the document lists what each channel takes.
    "GET /v1/live/{channel}": "alerts:read",
}


@pytest.fixture(scope="module")
def furnished(database: Database, url: str) -> Furnished:
    return furnish(database, url, new_tenant(database))


@pytest.fixture(scope="module")
def walked(url: str) -> list[Operation]:
    with client(url, None) as api:
        return [each for each in operations(api.get("/openapi.json")) if each.bearer]


def expected(operation: Operation) -> str | None:
    """The permission that an operation must ask for."""
    if operation.name in OTHERWISE:
        return OTHERWISE[operation.name]
    part = operation.path.split("/")[2]
    assert part in THINGS, f"{operation.name}: name in THINGS whose permission /v1/{part} takes, or in OTHERWISE"
    return f"{THINGS[part]}:{'read' if operation.method == 'GET' else 'write'}"


def test_every_operation_asks_for_what_its_path_says(walked: list[Operation]) -> None:
    assert len(walked) > 50
    told = [(each.name, (each.permission or "None").split(", "), str(expected(each))) for each in walked]
    assert [one for one in told if one[2] not in one[1]] == []
    assert {name for name, permissions, _ in told if len(permissions) > 1} == {"GET /v1/live/{channel}"}


def walk(api: Client, walked: list[Operation], furnished: Furnished, permissions: Permissions) -> None:
    """403 exactly where the permissions do not reach; of what they reach, ids of nothing change nothing."""
    for operation in walked:
        wanted = expected(operation)
        if wanted is None:
            continue
        answer = send(api, operation, furnished.nowhere, operation.bodies[0] if operation.bodies else None)
        # What answers a HEAD has no body to say why.
        refused = answer.status == 403 and ("missing_permission" in answer.text or operation.method == "HEAD")
        assert refused == (wanted not in permissions), f"{operation.name} takes {wanted}: {answer}"
        assert answer.status != 401, operation.name


@pytest.mark.parametrize("role", list(Role))
def test_a_role_is_refused_exactly_what_the_matrix_says(
    url: str, walked: list[Operation], furnished: Furnished, role: Role
) -> None:
    person = new_person(url, furnished.tenant.api_key, role)
    with client(url, person.access_token) as api:
        walk(api, walked, furnished, ROLES[role])


@pytest.mark.parametrize("scope", list(Scope))
def test_a_scope_is_refused_exactly_what_the_matrix_says(
    url: str, walked: list[Operation], furnished: Furnished, scope: Scope
) -> None:
    with client(url, furnished.tenant.api_key) as api:
        key = post(api, "/v1/api-keys", {"name": scope, "scopes": [scope]}, 201)["api_key"]
    with client(url, key) as api:
        walk(api, walked, furnished, SCOPES[scope])


def test_without_a_credential_or_with_a_wrong_one_everything_is_401(
    url: str, walked: list[Operation], furnished: Furnished
) -> None:
    for credential in (None, "wrong"):
        with client(url, credential) as api:
            for operation in walked:
                answer = send(api, operation, furnished.ids, operation.bodies[0] if operation.bodies else None)
                assert answer.status == 401, f"{operation.name}: {answer}"
