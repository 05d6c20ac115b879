"""The two demo tenants of INTERFACES §2: made once, the same ever after."""

from __future__ import annotations

import secrets

import psycopg

from accounts.passwords import hash_password, is_password
from accounts.provisioning import create_api_key, create_device, create_tenant, create_user
from core.postgres import Connection
from core.secrets import Vault
from ops import demo_places
from ops.connection_file import DemoTenant
from ops.demo_places import Kitchen

_NAMES = ("Demo Kitchen", "Other Kitchen")
_PASSWORD_BYTES = 18
# What people try the system with may do everything.
_SCOPES = ("read", "write", "admin")
_ROLE = "owner"


async def still_there(owner_url: str, tenants: tuple[DemoTenant, ...]) -> bool:
    """Whether the database has exactly these demo tenants and their devices; not so after it was replaced."""
    if len(tenants) != len(_NAMES):
        return False
    async with await _connect(owner_url) as connection:
        cursor = await connection.execute(
            "SELECT count(*) FROM weir.device JOIN unnest(%s::text[], %s::text[]) AS known (device_id, tenant_id)"
            " USING (device_id, tenant_id)",
            ([tenant.device_id for tenant in tenants], [tenant.tenant_id for tenant in tenants]),
        )
        row = await cursor.fetchone()
        return row is not None and row[0] == len(tenants)


async def make(owner_url: str, vault: Vault) -> tuple[DemoTenant, ...]:
    """Make the demo tenants, all or none."""
    async with await _connect(owner_url) as connection, connection.transaction():
        return tuple([await _make_one(connection, vault, name) for name in _NAMES])


async def furnish(owner_url: str, tenants: tuple[DemoTenant, ...]) -> None:
    """Give both a kitchen to look at; the simulator's devices come into the first one's."""
    async with await _connect(owner_url) as connection:
        for number, tenant in enumerate(tenants):
            await demo_places.furnish(connection, Kitchen(tenant.tenant_id, number))


async def open_doors(owner_url: str, vault: Vault, tenants: tuple[DemoTenant, ...]) -> None:
    """Have the credentials of `connection.json` work, whatever was changed in the meantime."""
    async with await _connect(owner_url) as connection, connection.transaction():
        for tenant in tenants:
            await _let_owner_in(connection, tenant)
            await connection.execute(
                "UPDATE weir.api_key SET scopes = %(scopes)s WHERE digest = %(digest)s AND scopes <> %(scopes)s",
                {"scopes": list(_SCOPES), "digest": vault.digest(tenant.api_key)},
            )


async def has_scan(owner_url: str, tenant_id: str) -> bool:
    """Whether a room of the tenant was scanned and measured, or is about to be."""
    async with await _connect(owner_url) as connection:
        cursor = await connection.execute(
            "SELECT FROM weir.scan WHERE tenant_id = %s AND status IN ('queued', 'processing', 'completed')",
            (tenant_id,),
        )
        return await cursor.fetchone() is not None


async def _let_owner_in(connection: Connection, tenant: DemoTenant) -> None:
    cursor = await connection.execute(
        "SELECT role, password_hash FROM weir.app_user WHERE tenant_id = %s AND lower(email) = lower(%s)",
        (tenant.tenant_id, tenant.email),
    )
    found = await cursor.fetchone()
    if found is not None and found[0] == _ROLE and found[1] is not None and is_password(tenant.password, found[1]):
        return
    stored = hash_password(tenant.password)
    if found is None:
        await create_user(
            connection, tenant.tenant_id, email=tenant.email, role=_ROLE, password_hash=stored, name="Demo owner"
        )
        return
    await connection.execute(
        "UPDATE weir.app_user SET role = %s, password_hash = %s, updated_at = now() WHERE lower(email) = lower(%s)",
        (_ROLE, stored, tenant.email),
    )


async def _make_one(connection: Connection, vault: Vault, name: str) -> DemoTenant:
    tenant_id = await create_tenant(connection, name, plan="enterprise")
    device = await create_device(connection, vault, tenant_id, "demo device")
    api_key = await create_api_key(connection, vault, tenant_id, "demo key", scopes=_SCOPES)
    email = await _free_address(connection, name.lower().replace(" ", "-"), tenant_id)
    password = secrets.token_urlsafe(_PASSWORD_BYTES)
    return DemoTenant(tenant_id, api_key, device.device_id, device.secret, email, password)


async def _free_address(connection: Connection, kitchen: str, tenant_id: str) -> str:
    """The owner's address; a database that has the demo of another data dir already gets another one."""
    plain = f"owner@{kitchen}.example"
    cursor = await connection.execute("SELECT 1 FROM weir.app_user WHERE lower(email) = %s", (plain,))
    return plain if await cursor.fetchone() is None else f"owner-{tenant_id[-8:]}@{kitchen}.example"


async def _connect(owner_url: str) -> Connection:
    connection = await psycopg.AsyncConnection.connect(owner_url, autocommit=True)
    await connection.execute("SET ROLE weir_owner")
    return connection
