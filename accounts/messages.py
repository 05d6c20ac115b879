"""Messages to people, kept sealed until they are sent: they carry a token that must be in no log and no backup in clear.

Border: seals and unseals. Keeping and queueing happen in the transaction that makes the token.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from accounts.provisioning import new_id
from core.secrets import Vault


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """What the message must carry.

    Attributes:
        token: the secret that opens what the message is about.
        expires_in_s: how long it does.
        invited_by: who asks, for an invitation.
    """

    token: str
    expires_in_s: int
    invited_by: str | None = None


@dataclass(frozen=True, slots=True)
class Sealed:
    """A message as it is stored."""

    message_id: str
    sealed: bytes


def seal(vault: Vault, content: Content) -> Sealed:
    """Encrypt a message under an id of its own."""
    message_id = new_id("msg")
    return Sealed(message_id, vault.seal(msgspec.json.encode(content).decode(), message_id))


def unseal(vault: Vault, message: Sealed) -> Content:
    """Decrypt it, to send it."""
    return msgspec.json.decode(vault.unseal(message.sealed, message.message_id), type=Content)
