"""The embedded database's own database `weir` and a login for each role, made by the superuser.

A process gets the login of its role only, so that it can do no more than its role may, whatever it asks for.
"""

from __future__ import annotations

from collections.abc import Mapping

import psycopg
from psycopg import sql

from core.postgres import DatabaseRole
from ops.commands.migrate import login_name, make_logins

DATABASE = "weir"
# For people's own commands on this machine: a member of every group role.
TOOLS = "weir_tools"


def login_names() -> tuple[str, ...]:
    """Every login that has a password in the data dir."""
    return (*(login_name(role) for role in DatabaseRole), TOOLS)


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
    make_logins(superuser_url, {role: passwords[login_name(role)] for role in DatabaseRole})
    tools, roles = sql.Identifier(TOOLS), sql.SQL(", ").join(sql.Identifier(role.value) for role in DatabaseRole)
    with psycopg.connect(superuser_url, autocommit=True) as connection:
        if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (TOOLS,)).fetchone() is None:
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(tools))
        connection.execute(sql.SQL("GRANT {} TO {}").format(roles, tools))
        verifier = connection.pgconn.encrypt_password(passwords[TOOLS].encode(), TOOLS.encode(), b"scram-sha-256")
        connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(tools, sql.Literal(verifier.decode())))
