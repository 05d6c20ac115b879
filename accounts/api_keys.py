"""API keys as a tenant's people handle them: shown once, stored as keyed digests, rotated with an overlap.

Runs as weir_reader inside a tenant's transaction; row-level security keeps it within the tenant.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from accounts.provisioning import new_id
from core.postgres import Connection
from core.secrets import Vault, mint_api_key

MAX_KEYS: Final = 1_000
_COLUMNS: Final = "api_key_id, name, last_four, scopes, created_at, expires_at"
_USABLE: Final = "revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())"


@dataclass(frozen=True, slots=True)
class ApiKeyRow:
    """A usable key, without what would let anybody use it."""

    api_key_id: str
    name: str
    last_four: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class NewApiKey:
    """A key that was just made, and its text, which is shown this once."""

    row: ApiKeyRow
    api_key: str


async def list_keys(connection: Connection, after: str, limit: int) -> list[ApiKeyRow]:
    """Usable keys in the order of their ids."""
    statement = (
        f"SELECT {_COLUMNS} FROM weir.api_key WHERE {_USABLE} AND api_key_id > %s"  # noqa: S608 - constants
        " ORDER BY api_key_id LIMIT %s"
    )
    cursor = await connection.execute(statement.encode(), (after, limit))
    return [ApiKeyRow(*row) for row in await cursor.fetchall()]


async def find_key(connection: Connection, api_key_id: str, *, locked: bool = False) -> ApiKeyRow | None:
    """One usable key, if asked for with a lock until the transaction ends."""
    statement = (
        f"SELECT {_COLUMNS} FROM weir.api_key WHERE {_USABLE} AND api_key_id = %s"  # noqa: S608 - constants
        f"{' FOR UPDATE' if locked else ''}"
    )
    cursor = await connection.execute(statement.encode(), (api_key_id,))
    row = await cursor.fetchone()
    return None if row is None else ApiKeyRow(*row)


async def count_keys(connection: Connection) -> int:
    """How many usable keys there are."""
    statement = f"SELECT count(*) FROM weir.api_key WHERE {_USABLE}"  # noqa: S608 - constants
    row = await (await connection.execute(statement.encode())).fetchone()
    return 0 if row is None else int(row[0])


async def create_key(
    connection: Connection, vault: Vault, *, name: str, scopes: list[str], expires_at: datetime | None
) -> NewApiKey:
    """Create a key of the transaction's tenant."""
    api_key = mint_api_key()
    statement = (
        "INSERT INTO weir.api_key (api_key_id, tenant_id, name, digest, last_four, scopes, expires_at)"  # noqa: S608 - constants
        f" VALUES (%s, weir.current_tenant(), %s, %s, %s, %s, %s) RETURNING {_COLUMNS}"
    )
    parameters = new_id("key"), name, vault.digest(api_key), api_key[-4:], scopes, expires_at
    row = await (await connection.execute(statement.encode(), parameters)).fetchone()
    assert row is not None  # noqa: S101 - an insert returns its row
    return NewApiKey(ApiKeyRow(*row), api_key)


async def rotate_key(
    connection: Connection, vault: Vault, row: ApiKeyRow, overlap: timedelta
) -> tuple[NewApiKey, datetime]:
    """Create the key's successor; the old one holds for the overlap, no longer than it would have, until when is told."""
    made = await create_key(connection, vault, name=row.name, scopes=row.scopes, expires_at=row.expires_at)
    cursor = await connection.execute(
        "UPDATE weir.api_key SET expires_at = least(expires_at, now() + %s) WHERE api_key_id = %s RETURNING expires_at",
        (overlap, row.api_key_id),
    )
    old = await cursor.fetchone()
    assert old is not None  # noqa: S101 - the row is locked
    return made, old[0]


async def change_key(
    connection: Connection, api_key_id: str, *, name: str, scopes: list[str], expires_at: datetime | None
) -> None:
    """Set name, scopes and expiry."""
    await connection.execute(
        "UPDATE weir.api_key SET name = %s, scopes = %s, expires_at = %s WHERE api_key_id = %s",
        (name, scopes, expires_at, api_key_id),
    )


async def revoke_key(connection: Connection, api_key_id: str) -> None:
    """Refuse the key from now on, within seconds everywhere."""
    await connection.execute("UPDATE weir.api_key SET revoked_at = now() WHERE api_key_id = %s", (api_key_id,))
