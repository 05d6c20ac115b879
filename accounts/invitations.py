"""Invitations and password resets: somebody proves by a token that they read a mailbox, and sets a password.

Tokens are stored as digests, work once and expire. Inviting and listing run inside a tenant's transaction, the rest before
any tenant is known, through functions that run as owner.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import psycopg

from accounts import messages
from accounts.messages import Content
from accounts.provisioning import new_id
from accounts.users import EmailTaken
from core.postgres import Connection, Pool
from core.secrets import Vault, mint_token

INVITATION_VALID: Final = timedelta(days=7)
RESET_VALID: Final = timedelta(hours=1)
_COLUMNS: Final = "invitation_id, email, name, role, invited_by, created_at, expires_at"
_OPEN: Final = "accepted_at IS NULL AND revoked_at IS NULL AND expires_at > now()"


@dataclass(frozen=True, slots=True)
class InvitationRow:
    """An invitation that waits to be accepted."""

    invitation_id: str
    email: str
    name: str
    role: str
    invited_by: str
    created_at: datetime
    expires_at: datetime


async def invite(
    connection: Connection, vault: Vault, *, email: str, name: str, role: str, invited_by: str
) -> InvitationRow:
    """Keep an invitation and its message; whether the address is free elsewhere shows when it is accepted."""
    token = mint_token("invite")
    content = Content(token=token, expires_in_s=int(INVITATION_VALID.total_seconds()), invited_by=invited_by)
    message = messages.seal(vault, content)
    statement = (
        "INSERT INTO weir.invitation (invitation_id, tenant_id, email, name, role, digest, invited_by, expires_at)"  # noqa: S608 - constants
        f" VALUES (%s, weir.current_tenant(), %s, %s, %s, %s, %s, now() + %s) RETURNING {_COLUMNS}"
    )
    parameters = new_id("inv"), email, name, role, vault.digest(token), invited_by, INVITATION_VALID
    cursor = await connection.execute(statement.encode(), parameters)
    row = await cursor.fetchone()
    assert row is not None  # noqa: S101 - an insert returns its row
    await connection.execute(
        "SELECT weir.post_message(%s, 'invitation', %s, %s)", (message.message_id, email, message.sealed)
    )
    return InvitationRow(*row)


async def list_invitations(connection: Connection, after: str, limit: int) -> list[InvitationRow]:
    """Invitations that wait, in the order of their ids."""
    statement = (
        f"SELECT {_COLUMNS} FROM weir.invitation WHERE {_OPEN} AND invitation_id > %s"  # noqa: S608 - constants
        " ORDER BY invitation_id LIMIT %s"
    )
    cursor = await connection.execute(statement.encode(), (after, limit))
    return [InvitationRow(*row) for row in await cursor.fetchall()]


async def revoke_invitation(connection: Connection, invitation_id: str) -> bool:
    """Take an invitation back; False if none waits under this id."""
    statement = f"UPDATE weir.invitation SET revoked_at = now() WHERE invitation_id = %s AND {_OPEN}"  # noqa: S608 - constants
    return (await connection.execute(statement.encode(), (invitation_id,))).rowcount == 1


async def accept_invitation(pool: Pool, vault: Vault, token: str, name: str | None, password_hash: str) -> str | None:
    """Make the user that was invited and return the id; None if the token is unknown, used, revoked or expired.

    Raises:
        EmailTaken: the address has become somebody's; the invitation stays.
    """
    user_id = new_id("usr")
    try:
        async with pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT weir.accept_invitation(%s, %s, %s, %s)", (vault.digest(token), user_id, name, password_hash)
            )
            row = await cursor.fetchone()
    except psycopg.errors.UniqueViolation:
        raise EmailTaken from None
    return user_id if row is not None and row[0] else None


async def request_reset(pool: Pool, vault: Vault, email: str) -> bool:
    """Send a reset token, if somebody has this address."""
    token = mint_token("reset")
    message = messages.seal(vault, Content(token=token, expires_in_s=int(RESET_VALID.total_seconds())))
    async with pool.connection() as connection:
        cursor = await connection.execute(
            "SELECT weir.request_password_reset(%s, %s, %s, %s, %s)",
            (email, vault.digest(token), RESET_VALID, message.message_id, message.sealed),
        )
        row = await cursor.fetchone()
    return row is not None and bool(row[0])


async def confirm_reset(pool: Pool, vault: Vault, token: str, password_hash: str) -> bool:
    """Set a new password and end every session; False if the token is unknown, used or expired."""
    async with pool.connection() as connection:
        cursor = await connection.execute(
            "SELECT weir.confirm_password_reset(%s, %s)", (vault.digest(token), password_hash)
        )
        row = await cursor.fetchone()
    return row is not None and bool(row[0])
