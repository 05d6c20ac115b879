"""Who may do what: the roles of people and the scopes of API keys, as data.

A permission is `<thing>:read` or `<thing>:write`. People have one role, keys have scopes; both come down to a set of
permissions, which is all that an endpoint asks for. Border: data and look-ups; `api.auth` checks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final

Permissions = frozenset[str]


class Role(StrEnum):
    """What a person is in the tenant, the most powerful first."""

    OWNER = "owner"
    MANAGER = "manager"
    STAFF = "staff"
    VIEWER = "viewer"
    INSPECTOR = "inspector"


class Scope(StrEnum):
    """What an API key is for; `admin` is everything."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"


# r: may read, w: may write, -: neither. The last column is of keys: what the scopes `read` and `write` reach. Nobody writes
# the audit log, and what makes new credentials takes a key of scope `admin`.
MATRIX: Final = """
thing         owner  manager  staff  viewer  inspector  key
readings      rw     rw       r      r       r          rw
sensors       rw     rw       r      r       r          rw
places        rw     rw       r      r       r          rw
devices       rw     rw       r      r       r          rw
rules         rw     rw       r      r       r          rw
alerts        rw     rw       rw     r       r          rw
scans         rw     rw       rw     r       r          rw
jobs          rw     rw       r      r       -          rw
organization  rw     r        r      r       r          r
billing       rw     r        -      -       -          r
users         rw     rw       r      -       -          -
keys          rw     rw       -      -       -          -
audit         r      r        -      -       -          -
"""

_ACTIONS: Final = {"r": ("read",), "w": ("write",), "rw": ("read", "write"), "-": ()}
_ROWS: Final = [line.split() for line in MATRIX.strip().splitlines()]


def _column(name: str) -> Permissions:
    place = _ROWS[0].index(name)
    return frozenset(f"{row[0]}:{action}" for row in _ROWS[1:] for action in _ACTIONS[row[place]])


ROLES: Final[Mapping[Role, Permissions]] = {role: _column(role.value) for role in Role}

ALL: Final = ROLES[Role.OWNER]
"""Every permission there is."""

SCOPES: Final[Mapping[Scope, Permissions]] = {
    Scope.READ: frozenset(name for name in _column("key") if name.endswith(":read")),
    Scope.WRITE: frozenset(name for name in _column("key") if name.endswith(":write")),
    Scope.ADMIN: ALL,
}


def permissions_of_role(role: str) -> Permissions:
    """What a role may do; nothing if this program does not know it."""
    return ROLES[Role(role)] if role in set(Role) else frozenset()


def permissions_of_scopes(scopes: Iterable[str]) -> Permissions:
    """What a key may do; a scope that this program does not know adds nothing."""
    known = set(Scope)
    return frozenset().union(*(SCOPES[Scope(scope)] for scope in scopes if scope in known))


def may_grant(granter: Permissions, granted: Permissions) -> bool:
    """Whether somebody may hand these permissions to another: nobody gives away more than they have."""
    return granted <= granter
