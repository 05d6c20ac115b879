"""Making tenants, users, devices and API keys. Runs under the owner role; the secrets it returns are shown only once."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import psycopg

from core.postgres import Connection
from core.secrets import Vault, mint_api_key, mint_device_secret
from schemas.errors import Misconfigured


@dataclass(frozen=True, slots=True)
class DeviceCredentials:
    """What a device needs to publish."""

    device_id: str
    secret: str


def new_id(kind: str) -> str:
    """An opaque id such as `dev_4f…`, without a dot."""
    return f"{kind}_{secrets.token_hex(10)}"


async def create_tenant(connection: Connection, name: str, *, plan: str = "enterprise") -> str:
    """Create a tenant and return its id."""
    tenant_id = new_id("ten")
    await connection.execute(
        "INSERT INTO weir.tenant (tenant_id, name, plan) VALUES (%s, %s, %s)", (tenant_id, name, plan)
    )
    return tenant_id


async def create_user(
    connection: Connection, tenant_id: str, *, email: str, role: str, password_hash: str, name: str = ""
) -> str:
    """Create a user who may sign in, and return the id.

    Raises:
        Misconfigured: the tenant does not exist, or the address is somebody's already.
    """
    user_id = new_id("usr")
    try:
        await connection.execute(
            "INSERT INTO weir.app_user (user_id, tenant_id, email, name, role, password_hash)"
            " VALUES (%s, %s, %s, %s, %s, %s)",
            (user_id, tenant_id, email, name, role, password_hash),
        )
    except psycopg.errors.ForeignKeyViolation:
        msg = f"there is no tenant {tenant_id}; `weir tenant create NAME` makes one and tells its id"
        raise Misconfigured(msg) from None
    except psycopg.errors.UniqueViolation:
        msg = f"{email} is a user's already; an address belongs to one user of the installation, choose another"
        raise Misconfigured(msg) from None
    return user_id


async def create_device(connection: Connection, vault: Vault, tenant_id: str, name: str) -> DeviceCredentials:
    """Create a device with one secret."""
    device = DeviceCredentials(new_id("dev"), mint_device_secret())
    async with connection.transaction():
        await connection.execute(
            "INSERT INTO weir.device (device_id, tenant_id, name) VALUES (%s, %s, %s)",
            (device.device_id, tenant_id, name),
        )
        await connection.execute(
            "INSERT INTO weir.device_secret (device_id, sealed) VALUES (%s, %s)",
            (device.device_id, vault.seal(device.secret, device.device_id)),
        )
    return device


async def revoke_device(connection: Connection, device_id: str) -> bool:
    """Refuse everything the device signs from now on; True if it was not revoked before."""
    cursor = await connection.execute(
        "UPDATE weir.device SET revoked_at = now() WHERE device_id = %s AND revoked_at IS NULL", (device_id,)
    )
    return cursor.rowcount == 1


async def create_api_key(
    connection: Connection, vault: Vault, tenant_id: str, name: str, *, scopes: tuple[str, ...] = ("read", "write")
) -> str:
    """Create an API key and return it; only its digest is stored."""
    api_key = mint_api_key()
    await connection.execute(
        "INSERT INTO weir.api_key (api_key_id, tenant_id, name, digest, last_four, scopes) VALUES (%s, %s, %s, %s, %s, %s)",
        (new_id("key"), tenant_id, name, vault.digest(api_key), api_key[-4:], list(scopes)),
    )
    return api_key
