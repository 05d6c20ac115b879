"""Devices as a tenant's people handle them: making, renaming, new secrets, revoking.

Runs as weir_reader inside a tenant's transaction; row-level security keeps it within the tenant. Secrets go in sealed and
never come out: whoever makes one shows it once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, LiteralString

from accounts.provisioning import DeviceCredentials, new_id
from core.postgres import Connection
from core.secrets import Vault, mint_device_secret


class TooManySecrets(Exception):
    """So many secrets of the device hold at once that every record would be checked against all of them."""


@dataclass(frozen=True, slots=True)
class SecretRow:
    """A secret that holds, without the secret."""

    secret_id: str
    created_at: datetime
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """A device, and what it has sent."""

    device_id: str
    name: str
    created_at: datetime
    revoked_at: datetime | None
    sensors: int = 0
    last_received_at: datetime | None = None
    secrets: tuple[SecretRow, ...] = ()


@dataclass(frozen=True, slots=True)
class MadeSecret:
    """A new secret of a device, to be shown once."""

    secret_id: str
    secret: str


_PAGE: Final[LiteralString] = (
    "SELECT device_id, name, created_at, revoked_at FROM weir.device"
    " WHERE device_id > %s AND (revoked_at IS NULL OR %s) ORDER BY device_id LIMIT %s"
)
# For each sensor its state is looked up by key; a plain join would read those of all the tenant's sensors.
_SENT: Final[LiteralString] = """
SELECT s.device_id, count(*), max(t.last_received_at) FROM weir.sensor s
LEFT JOIN LATERAL (
    SELECT q.last_received_at FROM weir_tenant.sensor_states q WHERE q.sensor_no = s.sensor_no LIMIT 1) t ON true
WHERE s.device_id = ANY (%s) GROUP BY s.device_id
"""
_SECRETS: Final[LiteralString] = (
    "SELECT device_id, secret_id::text, created_at, expires_at FROM weir.device_secret WHERE device_id = ANY (%s)"
    " AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now()) ORDER BY secret_id"
)


async def list_devices(connection: Connection, after: str, limit: int, *, archived: bool) -> list[DeviceRow]:
    """Devices in the order of their ids; revoked ones only if wanted."""
    cursor = await connection.execute(_PAGE, (after, archived, limit))
    return await _completed(connection, await cursor.fetchall())


async def find_device(connection: Connection, device_id: str) -> DeviceRow | None:
    """One device of the tenant, revoked or not."""
    cursor = await connection.execute(
        "SELECT device_id, name, created_at, revoked_at FROM weir.device WHERE device_id = %s", (device_id,)
    )
    rows = await _completed(connection, await cursor.fetchall())
    return rows[0] if rows else None


async def _completed(connection: Connection, rows: Sequence[tuple[Any, ...]]) -> list[DeviceRow]:
    ids = [row[0] for row in rows]
    sent = {device_id: (count, at) for device_id, count, at in await _fetch(connection, _SENT, ids)}
    secrets: dict[str, list[SecretRow]] = {}
    for device_id, *secret in await _fetch(connection, _SECRETS, ids):
        secrets.setdefault(device_id, []).append(SecretRow(*secret))
    found = []
    for device_id, name, created_at, revoked_at in rows:
        sensors, last_at = sent.get(device_id, (0, None))
        # A revoked device's secrets are worth nothing.
        usable = () if revoked_at is not None else tuple(secrets.get(device_id, ()))
        found.append(DeviceRow(device_id, name, created_at, revoked_at, sensors, last_at, usable))
    return found


async def _fetch(connection: Connection, statement: LiteralString, ids: list[str]) -> list[tuple[Any, ...]]:
    return await (await connection.execute(statement, (ids,))).fetchall()


async def create_device(connection: Connection, vault: Vault, name: str) -> DeviceCredentials:
    """Make a device with one secret."""
    made = DeviceCredentials(new_id("dev"), mint_device_secret())
    sealed = vault.seal(made.secret, made.device_id)
    await connection.execute("SELECT weir.register_device(%s, %s, %s)", (made.device_id, name, sealed))
    return made


async def rename_device(connection: Connection, device_id: str, name: str) -> None:
    """Call a device something else."""
    await connection.execute("UPDATE weir.device SET name = %s WHERE device_id = %s", (name, device_id))


async def rotate_secret(connection: Connection, vault: Vault, device_id: str, overlap_ms: int) -> MadeSecret | None:
    """Give a device one more secret; those before it hold for the overlap yet, or not at all.

    Returns:
        None if the device is revoked or there is none.

    Raises:
        TooManySecrets: too many hold already.
    """
    secret = mint_device_secret()
    cursor = await connection.execute(
        "SELECT weir.rotate_device_secret(%s, %s, %s)",
        (device_id, vault.seal(secret, device_id), timedelta(milliseconds=overlap_ms)),
    )
    row = await cursor.fetchone()
    if row is None or row[0] is None:
        return None
    if row[0] == 0:
        raise TooManySecrets(device_id)
    return MadeSecret(str(row[0]), secret)


async def revoke_secret(connection: Connection, device_id: str, secret_id: int) -> bool:
    """Believe nothing more that a secret signs; False if there is no such one that holds."""
    cursor = await connection.execute("SELECT weir.revoke_device_secret(%s, %s)", (device_id, secret_id))
    row = await cursor.fetchone()
    return row is not None and bool(row[0])


async def revoke_device(connection: Connection, device_id: str) -> None:
    """Believe nothing more that a device signs; what it sent stays."""
    await connection.execute("SELECT weir.revoke_device(%s)", (device_id,))
