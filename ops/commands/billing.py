"""`weir billing`: meters and prices at Stripe, and subscriptions of tenants that pay by invoice."""

from __future__ import annotations

import asyncio
from typing import Annotated

import psycopg
import typer

from core.postgres import require_connection
from core.settings import load_settings
from schemas.errors import Misconfigured


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="Set up Stripe, subscribe tenants.")
    group.command("setup")(setup_command)
    group.command("subscribe")(subscribe_command)
    app.add_typer(group, name="billing")


def setup_command() -> None:
    """Make the meters and prices that Stripe lacks, and check those it has; safe to repeat."""
    asyncio.run(_set_up())
    print("meters and prices are as they should be")


def subscribe_command(
    tenant: Annotated[str, typer.Argument(help="Whom to subscribe.")],
    plan: Annotated[str, typer.Option(help="free, basic, professional or enterprise.")] = "enterprise",
) -> None:
    """Subscribe a tenant that pays by invoice; others use the checkout page."""
    print(asyncio.run(subscribe(load_settings().database_url.get_secret_value(), [tenant], plan)))


async def _set_up() -> None:
    from accounts.billing.stripe_adapter import from_settings

    provider = from_settings(load_settings())
    if provider is None:
        msg = "WEIR_STRIPE_API_KEY is not set; expected a secret key such as sk_test_…"
        raise Misconfigured(msg)
    try:
        await provider.set_up()
    finally:
        await provider.close()


async def subscribe(owner_url: str, tenants: list[str], plan: str) -> str:
    """Subscribe tenants that are not subscribed yet; returns a sentence.

    Raises:
        Misconfigured: no key, plan or tenant; Stripe refuses.
        Transient: Stripe or the database does not answer.
    """
    from accounts.billing.stripe_adapter import from_settings
    from accounts.billing.subscriptions import subscribe_directly

    provider = from_settings(load_settings())
    if provider is None:
        msg = "WEIR_STRIPE_API_KEY is not set; expected a secret key such as sk_test_…"
        raise Misconfigured(msg)
    await require_connection(owner_url)
    try:
        async with await psycopg.AsyncConnection.connect(owner_url, autocommit=True) as connection:
            await connection.execute("SET ROLE weir_owner")
            made = [await subscribe_directly(connection, provider, tenant, plan) for tenant in tenants]
    finally:
        await provider.close()
    return ", ".join(f"{one.subscription_id} is {one.status}" for one in made)
