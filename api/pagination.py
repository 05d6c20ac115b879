"""Keyset pages: opaque, signed cursors and the limits of a page.

A cursor says where the next page begins and which query it continues, so a page that starts from one is the same page
whatever "the last 24 h" has become meanwhile. It is signed for its tenant: a changed or foreign one is refused, never
guessed at. Border: text to state and back; what the state means is its endpoint's.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from typing import Annotated, Final, TypeVar

import msgspec
from fastapi import Query

from api.errors import Problem
from core.secrets import Vault

DEFAULT_LIMIT: Final = 1_000
MAX_LIMIT: Final = 10_000

_SIGNATURE_BYTES: Final = 16
_MAX_CURSOR_CHARS: Final = 1_024
_NOT_OURS: Final = "cursor is not one that this list gave out; start again without it"

Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="most items on a page")]
Cursor = Annotated[
    str | None,
    Query(max_length=_MAX_CURSOR_CHARS, description="`next` of the page before; the first page has none"),
]

State = TypeVar("State", bound=msgspec.Struct)


T = TypeVar("T")


def continued(known: list[T], given: list[T]) -> list[T]:
    """The query that a cursor continues: what is given beside it must be the same, or be left out.

    Raises:
        Problem: 422, it is another.
    """
    if any(value is not None and value != before for before, value in zip(known, given, strict=True)):
        detail = "cursor belongs to another query; repeat that query's parameters or leave them out"
        raise Problem.invalid(parameter="cursor", detail=detail)
    return known


class Cursors:
    """Makes and reads cursors of one kind of list.

    Args:
        vault: signs; a cursor outlives a restart as long as WEIR_SECRET_KEY stays.
        kind: of the list; a cursor of another kind is refused.
    """

    def __init__(self, vault: Vault, kind: str) -> None:
        self._vault = vault
        self._kind = kind

    def encode(self, tenant_id: str, state: msgspec.Struct) -> str:
        """The cursor of a state: letters, digits, `-` and `_`."""
        payload = msgspec.msgpack.encode(state)
        return base64.urlsafe_b64encode(payload + self._signature(tenant_id, payload)).rstrip(b"=").decode()

    def decode(self, tenant_id: str, cursor: str, shape: type[State]) -> State:
        """The state of a cursor that `encode` made for this tenant.

        Raises:
            Problem: 422, it was changed, or made for another list or tenant.
        """
        try:
            raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
            payload, signature = raw[:-_SIGNATURE_BYTES], raw[-_SIGNATURE_BYTES:]
            genuine = hmac.compare_digest(signature, self._signature(tenant_id, payload))
            # The unused bits of the last character could be anything: only the cursor as it was given out is valid.
            if genuine and self.encode(tenant_id, state := msgspec.msgpack.decode(payload, type=shape)) == cursor:
                return state
        except (binascii.Error, ValueError):
            pass
        raise Problem.invalid(parameter="cursor", detail=_NOT_OURS)

    def _signature(self, tenant_id: str, payload: bytes) -> bytes:
        # API keys, which the same key digests, never begin like this.
        text = f"cursor {self._kind} {tenant_id} {payload.hex()}"
        return self._vault.digest(text)[:_SIGNATURE_BYTES]
