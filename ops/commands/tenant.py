"""`weir tenant create`: the first thing of a new installation; the rest is done through the API."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated

import typer

from schemas.errors import Misconfigured

_MAX_NAME = 200


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="Make tenants.")
    group.callback()(_tenant)
    group.command("create")(create)
    app.add_typer(group, name="tenant")


def _tenant() -> None:
    """Make tenants: customers, each of which sees its own only."""


def create(
    name: Annotated[str, typer.Argument(help="What people call it.")],
    plan: Annotated[str, typer.Option(help="Its plan.")] = "enterprise",
) -> None:
    """Make a tenant and print its id, as JSON; `weir user create` makes its first owner.

    WEIR_DATABASE_URL names a login that may work as weir_owner.
    """
    from core.settings import load_settings

    if not name.strip() or len(name) > _MAX_NAME:
        msg = f"a tenant's name has 1 to {_MAX_NAME} characters, not all blank"
        raise Misconfigured(msg)
    tenant_id = asyncio.run(_create(load_settings().database_url.get_secret_value(), name, plan))
    print(json.dumps({"tenant_id": tenant_id, "name": name, "plan": plan}, ensure_ascii=False))


async def _create(url: str, name: str, plan: str) -> str:
    from accounts.provisioning import create_tenant
    from ops.owner import owner_connection

    async with owner_connection(url) as connection:
        return await create_tenant(connection, name, plan=plan)
