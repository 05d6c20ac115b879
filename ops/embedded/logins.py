"""The embedded database's own database `weir` and a login for each role, made by the superuser.

A process gets the login of its role only, so that it can do no more than its role may, whatever it asks for.
"""

from __future__ import annotations

from collections.abc import Mapping

import psycopg
from psycopg import sql

from core.postgres import DatabaseRole

DATABASE = "weir"
# For people's own commands on this machine: a member of every group role.
TOOLS = "weir_tools"


def login_names() -> dict[str, tuple[DatabaseRole, ...]]:
    """The logins and the group roles that each is a member of."""
    return {f"{role.value}_login": (role,) for role in DatabaseRole} | {TOOLS: tuple(DatabaseRole)}


def login_of(role: DatabaseRole) -> str:
    """The login of processes that work under a group role."""
    return f"{role.value}_login"


def create_database(superuser_url: str) -> None:
    """Make the database `weir` unless it is there."""
    with psycopg.connect(superuser_url, autocommit=True) as connection:
        found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone()
        if found is None:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))


def create_logins(superuser_url: str, passwords: Mapping[str, str]) -> None:
    """Make the logins, or give them these passwords; the migrations have made the group roles.

    Args:
        superuser_url: of any database of the server.
        passwords: by login.
    """
    with psycopg.connect(superuser_url, autocommit=True) as connection, connection.transaction():
        for name, roles in login_names().items():
            login = sql.Identifier(name)
            if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (name,)).fetchone() is None:
                connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(login))
            members = sql.SQL(", ").join(sql.Identifier(role.value) for role in roles)
            connection.execute(sql.SQL("GRANT {} TO {}").format(members, login))
            connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(login, sql.Literal(passwords[name])))
