"""Cursors of live channels: opaque, signed for tenant and channel, good on every bridge and after any restart.

A log's cursor names an event by number and time, so one from a future that a restored backup took back is noticed. A latest
channel's cursor is the time up to which its client has seen. Border: text to place and back.
"""

from __future__ import annotations

import msgspec

from api.errors import Problem
from api.pagination import Cursors, State
from core.secrets import Vault
from sinks.timescale.live import Place


class _LogPlace(msgspec.Struct, array_like=True):
    seq: int
    at_us: int


class _SeenUntil(msgspec.Struct, array_like=True):
    at: int


class LiveCursors:
    """Makes and reads the cursors of one tenant.

    Args:
        vault: signs.
        tenant_id: whose; another's cursor is not valid.
    """

    def __init__(self, vault: Vault, tenant_id: str) -> None:
        self._vault = vault
        self._tenant_id = tenant_id

    def of_place(self, channel: str, place: Place) -> str:
        """After this event."""
        return self._cursors(channel).encode(self._tenant_id, _LogPlace(place.seq, place.at_us))

    def place(self, channel: str, cursor: str) -> Place | None:
        """The event that a cursor names; None if the cursor is not one of this tenant and channel."""
        found = self._decode(channel, cursor, _LogPlace)
        return None if found is None else Place(found.seq, found.at_us)

    def of_time(self, channel: str, at: int) -> str:
        """Everything up to this time was seen; the channel knows the unit."""
        return self._cursors(channel).encode(self._tenant_id, _SeenUntil(at))

    def time(self, channel: str, cursor: str) -> int | None:
        """The time that a cursor stands for; None if the cursor is not one of this tenant and channel."""
        found = self._decode(channel, cursor, _SeenUntil)
        return None if found is None else found.at

    def _cursors(self, channel: str) -> Cursors:
        return Cursors(self._vault, f"live {channel}")

    def _decode(self, channel: str, cursor: str, shape: type[State]) -> State | None:
        try:
            return self._cursors(channel).decode(self._tenant_id, cursor, shape)
        except Problem:
            return None
