"""`weir user create`: a tenant's first users; they invite the others."""

from __future__ import annotations

import asyncio
import getpass
import json
import secrets
import sys
from typing import Annotated

import typer

from schemas.errors import Misconfigured

_GENERATED_BYTES = 18


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="Make users who may sign in.")
    group.callback()(_user)
    group.command("create")(create)
    app.add_typer(group, name="user")


def _user() -> None:
    """Make users who may sign in."""


def create(
    tenant: Annotated[str, typer.Option(help="Id of the tenant.")],
    email: Annotated[str, typer.Option(help="Address to sign in with.")],
    role: Annotated[str, typer.Option(help="owner, manager, staff, viewer or inspector.")] = "owner",
    name: Annotated[str, typer.Option(help="The person's name.")] = "",
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Take the password from the first line of standard input.")
    ] = False,
) -> None:
    """Make a user and print the id, as JSON.

    The password is asked for on a terminal. Without one, and without --password-stdin, one is made up and printed this once.
    WEIR_DATABASE_URL names a login that may work as weir_owner.
    """
    from accounts.emails import parse_email
    from accounts.passwords import hash_password
    from accounts.permissions import Role
    from core.settings import load_settings

    address = parse_email(email)
    if address is None:
        msg = f"{email!r} is no e-mail address, such as anna@example.com"
        raise Misconfigured(msg)
    if role not in set(Role):
        msg = f"there is no role {role}; expected one of {', '.join(Role)}"
        raise Misconfigured(msg)
    password, generated = _password(from_stdin=password_stdin)
    url = load_settings().database_url.get_secret_value()
    user_id = asyncio.run(_create(url, tenant, address, role, name, hash_password(password)))
    shown = {"user_id": user_id, "tenant_id": tenant, "email": address, "role": role}
    print(json.dumps(shown | ({"password": password} if generated else {}), ensure_ascii=False))


def _password(*, from_stdin: bool) -> tuple[str, bool]:
    """The password, and whether it was made up here."""
    from accounts.passwords import objection

    if not from_stdin and not sys.stdin.isatty():
        return secrets.token_urlsafe(_GENERATED_BYTES), True
    password = sys.stdin.readline().rstrip("\r\n") if from_stdin else getpass.getpass("Password: ")
    wrong = objection(password)
    if wrong is not None:
        raise Misconfigured(wrong)
    if not from_stdin and getpass.getpass("Once more: ") != password:
        msg = "the two passwords differ; try again"
        raise Misconfigured(msg)
    return password, False


async def _create(url: str, tenant_id: str, email: str, role: str, name: str, password_hash: str) -> str:
    from accounts.provisioning import create_user
    from ops.owner import owner_connection

    async with owner_connection(url) as connection:
        return await create_user(connection, tenant_id, email=email, role=role, password_hash=password_hash, name=name)
