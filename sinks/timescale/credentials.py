"""Credentials as the API looks them up: before any tenant is known, by digest or device id only.

Border: rows in, rows out, under the role weir_reader, through functions that run as owner and show nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

from core.postgres import Pool


@dataclass(frozen=True, slots=True)
class ApiKeyRow:
    """A usable API key."""

    api_key_id: str
    tenant_id: str
    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """A device and its usable secrets, sealed; a revoked device has none."""

    device_id: str
    tenant_id: str
    sealed: tuple[bytes, ...]


async def find_api_key(pool: Pool, digest: bytes) -> ApiKeyRow | None:
    """The usable key with this digest."""
    async with pool.connection() as connection:
        cursor = await connection.execute("SELECT api_key_id, tenant_id, scopes FROM weir.find_api_key(%s)", (digest,))
        row = await cursor.fetchone()
    return None if row is None else ApiKeyRow(row[0], row[1], tuple(row[2]))


async def find_device(pool: Pool, device_id: str) -> DeviceRow | None:
    """A device with its usable secrets."""
    async with pool.connection() as connection:
        cursor = await connection.execute(
            "SELECT device_id, tenant_id, sealed FROM weir.device_credentials(ARRAY[%s])", (device_id,)
        )
        row = await cursor.fetchone()
    return None if row is None else DeviceRow(row[0], row[1], tuple(map(bytes, row[2])))
