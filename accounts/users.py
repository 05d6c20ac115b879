"""Users of a tenant as its people handle them.

Runs as weir_reader inside a tenant's transaction; row-level security keeps it within the tenant, a trigger keeps an owner in
it. Who may give which role is the caller's to check; signing in is `accounts.sessions`'.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import psycopg

from accounts import messages
from accounts.messages import Content
from accounts.provisioning import new_id
from core.postgres import Connection
from core.secrets import Vault, mint_token

MAX_USERS: Final = 10_000
WELCOME_VALID: Final = timedelta(days=7)
_LAST_OWNER: Final = "WR001"
_COLUMNS: Final = "user_id, email, name, role, active, created_at, updated_at, last_login_at"


class EmailTaken(Exception):
    """Somebody has this address already, here or in another tenant."""


class LastOwner(Exception):
    """The tenant would have no owner left who can sign in."""


@dataclass(frozen=True, slots=True)
class UserRow:
    """A user; `active` once a password is set."""

    user_id: str
    email: str
    name: str
    role: str
    active: bool
    created_at: datetime
    updated_at: datetime
    last_login_at: datetime | None


async def list_users(connection: Connection, after: str, limit: int) -> list[UserRow]:
    """Users in the order of their ids."""
    statement = f"SELECT {_COLUMNS} FROM weir.app_user WHERE user_id > %s ORDER BY user_id LIMIT %s"  # noqa: S608 - constants
    cursor = await connection.execute(statement.encode(), (after, limit))
    return [UserRow(*row) for row in await cursor.fetchall()]


async def find_user(connection: Connection, user_id: str, *, locked: bool = False) -> UserRow | None:
    """One user of the tenant, if asked for with a lock until the transaction ends."""
    statement = f"SELECT {_COLUMNS} FROM weir.app_user WHERE user_id = %s{' FOR UPDATE' if locked else ''}"  # noqa: S608
    cursor = await connection.execute(statement.encode(), (user_id,))
    row = await cursor.fetchone()
    return None if row is None else UserRow(*row)


async def count_users(connection: Connection) -> int:
    """How many there are."""
    row = await (await connection.execute("SELECT count(*) FROM weir.app_user")).fetchone()
    return 0 if row is None else int(row[0])


async def has_email(connection: Connection, email: str) -> bool:
    """Whether a user of this tenant has the address."""
    cursor = await connection.execute("SELECT 1 FROM weir.app_user WHERE lower(email) = lower(%s)", (email,))
    return await cursor.fetchone() is not None


async def create_user(connection: Connection, *, email: str, name: str, role: str, password_hash: str | None) -> str:
    """Create a user of the transaction's tenant and return the id.

    Raises:
        EmailTaken: the transaction is as before the call.
    """
    user_id = new_id("usr")
    try:
        async with connection.transaction():
            await connection.execute(
                "INSERT INTO weir.app_user (user_id, tenant_id, email, name, role, password_hash)"
                " VALUES (%s, weir.current_tenant(), %s, %s, %s, %s)",
                (user_id, email, name, role, password_hash),
            )
    except psycopg.errors.UniqueViolation:
        # Without the cause: it would show the address in whatever prints the chain.
        raise EmailTaken from None
    return user_id


async def welcome(connection: Connection, vault: Vault, user_id: str) -> None:
    """Send a user without a password what they need to set one."""
    token = mint_token("reset")
    content = Content(token=token, expires_in_s=int(WELCOME_VALID.total_seconds()))
    message = messages.seal(vault, content)
    await connection.execute(
        "SELECT weir.welcome_user(%s, %s, %s, %s, %s)",
        (user_id, vault.digest(token), WELCOME_VALID, message.message_id, message.sealed),
    )


async def change_user(connection: Connection, user_id: str, *, name: str, role: str) -> None:
    """Set name and role.

    Raises:
        LastOwner: the transaction is as before the call.
    """
    await _guarded(
        connection,
        b"UPDATE weir.app_user SET name = %s, role = %s, updated_at = now() WHERE user_id = %s",
        (name, role, user_id),
    )


async def remove_user(connection: Connection, user_id: str) -> None:
    """Delete a user with their sessions.

    Raises:
        LastOwner: the transaction is as before the call.
    """
    await _guarded(connection, b"DELETE FROM weir.app_user WHERE user_id = %s", (user_id,))


async def _guarded(connection: Connection, statement: bytes, parameters: tuple[Any, ...]) -> None:
    try:
        async with connection.transaction():
            await connection.execute(statement, parameters)
    except psycopg.Error as exc:
        if exc.sqlstate == _LAST_OWNER:
            raise LastOwner from None
        raise
