"""`weir migrate`: brings the database to the newest schema and, when asked, makes the logins of the roles."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated

import psycopg
import typer
from psycopg import sql

from core.postgres import DatabaseRole
from core.settings import load_settings
from schemas.errors import Misconfigured
from sinks.timescale.migrate import Engine, MigrationReport, migrate


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(name="migrate")
    def migrate_command(
        engine: Annotated[
            Engine | None, typer.Option(help="The store of a new database; chosen by what the server can if left out.")
        ] = None,
        create_logins: Annotated[
            bool, typer.Option("--create-logins", help="Make one login per role from WEIR_<ROLE>_PASSWORD.")
        ] = False,
    ) -> None:
        """Bring the database to the newest schema; safe to run at any time and from several places.

        WEIR_DATABASE_URL names a login that may create roles and schemas.
        """
        url = load_settings().database_url.get_secret_value()
        if not url:
            msg = "WEIR_DATABASE_URL is not set; expected postgresql://admin:password@host:port/database"
            raise Misconfigured(msg)
        passwords = login_passwords(os.environ) if create_logins else {}
        for line in describe(migrate(url, engine=engine)):
            print(line)
        for login in make_logins(url, passwords) if passwords else ():
            print(f"login {login}")


def describe(report: MigrationReport) -> list[str]:
    """What a run did, a line each."""
    applied = [f"applied {name}" for name in (*report.job_queue, *report.applied)]
    return [*applied, f"schema version {report.version} on the {report.engine} engine"]


def login_name(role: DatabaseRole) -> str:
    """The login that works under a role."""
    return f"{role.value}_login"


def login_passwords(environment: Mapping[str, str]) -> dict[DatabaseRole, str]:
    """The passwords of the logins to make.

    Raises:
        Misconfigured: one of the four is missing.
    """
    names = {role: f"WEIR_{role.name}_PASSWORD" for role in DatabaseRole}
    missing = [name for name in names.values() if not environment.get(name)]
    if missing:
        msg = f"--create-logins needs {', '.join(missing)}; set a random password for each login"
        raise Misconfigured(msg)
    return {role: environment[name] for role, name in names.items()}


def make_logins(admin_url: str, passwords: Mapping[DatabaseRole, str]) -> list[str]:
    """Create the logins or give existing ones these passwords; returns their names.

    The owner's login is also a member of the writer: on TimescaleDB the job worker needs both, as only the owner may
    refresh continuous aggregates.
    """
    with psycopg.connect(admin_url, autocommit=True, connect_timeout=5) as connection:
        for role, password in passwords.items():
            _make_login(connection, role, password)
        writer, owner = sql.Identifier(DatabaseRole.WRITER.value), sql.Identifier(login_name(DatabaseRole.OWNER))
        connection.execute(sql.SQL("GRANT {} TO {}").format(writer, owner))
    return [login_name(role) for role in passwords]


def _make_login(connection: psycopg.Connection[tuple[object, ...]], role: DatabaseRole, password: str) -> None:
    name = login_name(role)
    login = sql.Identifier(name)
    try:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(login))
    except psycopg.errors.DuplicateObject:
        connection.execute(sql.SQL("ALTER ROLE {} LOGIN").format(login))
    # Only the verifier travels, so that no server log can show the password.
    verifier = connection.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256").decode()
    connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(login, sql.Literal(verifier)))
    connection.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(role.value), login))
