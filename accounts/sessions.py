"""Sessions of signed-in people: a refresh token that changes with every use, and the look-up that makes an end act at once.

Runs as weir_reader before any tenant is known, through functions that run as owner. Tokens go in as digests. A refresh token
that comes twice ends its session; only for `GRACE` after a refresh the one before is taken once more, because two requests
of one client may cross, or the answer may have been lost. The tokens that such a crossing makes are of one generation: the
first of them that is used again retires the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from accounts.provisioning import new_id
from core.postgres import Pool
from core.secrets import Vault, mint_token

GRACE: Final = timedelta(seconds=10)
IDLE: Final = timedelta(days=30)
LONGEST: Final = timedelta(days=180)


class TokenReused(Exception):
    """A refresh token came a second time; its session has ended."""

    def __init__(self, session_id: str, user_id: str) -> None:
        super().__init__(f"a refresh token of session {session_id} was used twice")
        self.session_id = session_id
        self.user_id = user_id


@dataclass(frozen=True, slots=True)
class Login:
    """A user as signing in knows them; no hash: none has been set."""

    user_id: str
    password_hash: str | None


@dataclass(frozen=True, slots=True)
class SessionUser:
    """The user of a session that goes on."""

    user_id: str
    tenant_id: str
    role: str


@dataclass(frozen=True, slots=True)
class Session:
    """A session and its newest refresh token, in clear."""

    session_id: str
    user_id: str
    refresh_token: str


async def find_login(pool: Pool, email: str) -> Login | None:
    """The user with this address, however it is written."""
    async with pool.connection() as connection:
        cursor = await connection.execute("SELECT user_id, password_hash FROM weir.find_login(%s)", (email,))
        row = await cursor.fetchone()
    return None if row is None else Login(*row)


async def start_session(pool: Pool, vault: Vault, user_id: str, password_hash: str) -> Session | None:
    """Begin a session; None if the password has been changed since it was checked."""
    session = Session(new_id("ses"), user_id, mint_token("refresh"))
    async with pool.connection() as connection:
        cursor = await connection.execute(
            "SELECT weir.start_session(%s, %s, %s, %s, %s)",
            (user_id, password_hash, session.session_id, vault.digest(session.refresh_token), IDLE),
        )
        row = await cursor.fetchone()
    return session if row is not None and row[0] else None


async def refresh_session(pool: Pool, vault: Vault, refresh_token: str, *, grace: timedelta = GRACE) -> Session | None:
    """Exchange a refresh token for the next one; None if it is unknown or its session has ended.

    Raises:
        TokenReused: it was used before; the session has ended with this.
    """
    following = mint_token("refresh")
    async with pool.connection() as connection:
        cursor = await connection.execute(
            "SELECT outcome, session_id, user_id FROM weir.rotate_refresh_token(%s, %s, %s, %s, %s)",
            (vault.digest(refresh_token), vault.digest(following), grace, IDLE, LONGEST),
        )
        row = await cursor.fetchone()
    if row is None:
        return None
    outcome, session_id, user_id = row
    if outcome == "reused":
        raise TokenReused(session_id, user_id)
    return Session(session_id, user_id, following)


async def find_session(pool: Pool, session_id: str) -> SessionUser | None:
    """Whose session it is, if it goes on; role and tenant as they are now."""
    async with pool.connection() as connection:
        cursor = await connection.execute("SELECT user_id, tenant_id, role FROM weir.find_session(%s)", (session_id,))
        row = await cursor.fetchone()
    return None if row is None else SessionUser(*row)


async def end_session(pool: Pool, session_id: str, user_id: str) -> None:
    """Sign out."""
    async with pool.connection() as connection, connection.transaction():
        await connection.execute("SELECT set_config('weir.actor', %s, true)", (user_id,))
        await connection.execute("SELECT weir.end_session(%s)", (session_id,))


async def change_password(pool: Pool, session_id: str, old_hash: str, new_hash: str) -> bool:
    """Set a signed-in user's new password and end their other sessions; False if the old one is theirs no more."""
    async with pool.connection() as connection:
        cursor = await connection.execute("SELECT weir.change_password(%s, %s, %s)", (session_id, old_hash, new_hash))
        row = await cursor.fetchone()
    return row is not None and bool(row[0])
