"""Cursors are signed for tenant and channel, and say exactly where."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from api.live.cursors import LiveCursors
from core.secrets import Vault
from sinks.timescale.live import Place

VAULT = Vault.from_secret("k" * 32)
MINE, YOURS = LiveCursors(VAULT, "mine"), LiveCursors(VAULT, "yours")


@given(st.integers(0, 2**62), st.integers(0, 2**62))
def test_a_cursor_is_read_as_it_was_made_by_its_own_tenant_and_channel_only(seq: int, at_us: int) -> None:
    cursor = MINE.of_place("alerts", Place(seq, at_us))
    assert MINE.place("alerts", cursor) == (seq, at_us)
    assert YOURS.place("alerts", cursor) is None
    assert MINE.place("jobs", cursor) is None
    assert MINE.time("alerts", cursor) is None
    assert LiveCursors(Vault.from_secret("other" * 8), "mine").place("alerts", cursor) is None


@given(st.text(max_size=60))
def test_any_text_is_either_a_cursor_that_was_given_out_or_none(text: str) -> None:
    assert MINE.place("alerts", text) is None
    assert MINE.time("readings", text) is None


def test_every_change_of_a_cursor_is_noticed() -> None:
    cursor = MINE.of_time("readings", 1_790_856_000_000)
    assert MINE.time("readings", cursor) == 1_790_856_000_000
    for place in range(len(cursor)):
        changed = cursor[:place] + ("A" if cursor[place] != "A" else "B") + cursor[place + 1 :]
        assert MINE.time("readings", changed) is None
