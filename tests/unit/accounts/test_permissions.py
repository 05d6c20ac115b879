"""Who may do what, cell by cell: written out here once more, so that no cell changes unnoticed."""

from __future__ import annotations

import pytest

from accounts.permissions import ALL, ROLES, SCOPES, Role, Scope, may_grant, permissions_of_role, permissions_of_scopes
from api.auth import Require

EVERYBODY = {"owner", "manager", "staff", "viewer", "inspector"}
LEADERS = {"owner", "manager"}
CREW = {"owner", "manager", "staff"}

# permission → the roles and the scopes of keys that have it
CELLS: dict[str, set[str]] = {
    "readings:read": EVERYBODY | {"read"},
    "readings:write": LEADERS | {"write"},
    "sensors:read": EVERYBODY | {"read"},
    "sensors:write": LEADERS | {"write"},
    "places:read": EVERYBODY | {"read"},
    "places:write": LEADERS | {"write"},
    "devices:read": EVERYBODY | {"read"},
    "devices:write": LEADERS | {"write"},
    "rules:read": EVERYBODY | {"read"},
    "rules:write": LEADERS | {"write"},
    "alerts:read": EVERYBODY | {"read"},
    "alerts:write": CREW | {"write"},
    "scans:read": EVERYBODY | {"read"},
    "scans:write": CREW | {"write"},
    "jobs:read": CREW | {"viewer", "read"},
    "jobs:write": LEADERS | {"write"},
    "organization:read": EVERYBODY | {"read"},
    "organization:write": {"owner"},
    "billing:read": LEADERS | {"read"},
    "billing:write": {"owner"},
    "users:read": CREW,
    "users:write": LEADERS,
    "keys:read": LEADERS,
    "keys:write": LEADERS,
    "audit:read": LEADERS,
}


class TestMatrix:
    @pytest.mark.parametrize("permission", sorted(CELLS))
    @pytest.mark.parametrize("role", sorted(Role))
    def test_a_role_may_do_exactly_what_its_cell_says(self, role: Role, permission: str) -> None:
        assert (permission in ROLES[role]) == (role.value in CELLS[permission])

    @pytest.mark.parametrize("permission", sorted(CELLS))
    @pytest.mark.parametrize("scope", [Scope.READ, Scope.WRITE])
    def test_a_scope_reaches_exactly_what_its_cell_says(self, scope: Scope, permission: str) -> None:
        assert (permission in SCOPES[scope]) == (scope.value in CELLS[permission])

    def test_there_are_no_other_permissions(self) -> None:
        assert set(CELLS) == ALL
        assert SCOPES[Scope.ADMIN] == ALL

    def test_an_inspector_and_a_viewer_write_nothing(self) -> None:
        for role in (Role.INSPECTOR, Role.VIEWER):
            assert [name for name in ROLES[role] if name.endswith(":write")] == []

    def test_each_role_may_do_all_that_the_next_one_may(self) -> None:
        for higher, lower in zip(list(Role), list(Role)[1:], strict=False):
            assert ROLES[lower] <= ROLES[higher]


class TestScopes:
    def test_scopes_add_up(self) -> None:
        assert permissions_of_scopes(["read", "write"]) == SCOPES[Scope.READ] | SCOPES[Scope.WRITE]

    def test_what_this_program_does_not_know_allows_nothing(self) -> None:
        assert permissions_of_scopes(["everything", "", "READ"]) == frozenset()
        assert permissions_of_role("emperor") == frozenset()

    def test_nobody_grants_more_than_they_have(self) -> None:
        assert may_grant(ROLES[Role.MANAGER], ROLES[Role.STAFF])
        assert not may_grant(ROLES[Role.MANAGER], ROLES[Role.OWNER])
        assert not may_grant(ROLES[Role.MANAGER], SCOPES[Scope.ADMIN])
        assert may_grant(ROLES[Role.MANAGER], permissions_of_scopes(["read", "write"]))


class TestRequire:
    @pytest.mark.parametrize("wrong", ["rules", "rules:delete", "audit:write", "rule:read", ""])
    def test_a_route_cannot_ask_for_what_does_not_exist(self, wrong: str) -> None:
        with pytest.raises(ValueError, match="there is no permission"):
            Require(wrong)
