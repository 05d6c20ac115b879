"""Cursors: what was given out comes back, anything else is refused."""

from __future__ import annotations

import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.errors import Problem
from api.pagination import Cursors
from core.secrets import Vault

VAULT = Vault.from_secret("unit-tests-only-" + "k" * 32)
CURSORS = Cursors(VAULT, "sensors")
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


class Place(msgspec.Struct, array_like=True):
    sensor_id: str
    at_us: int | None = None


places = st.builds(Place, st.text(max_size=50), st.none() | st.integers(-(2**60), 2**60))


class TestCursors:
    @given(places)
    def test_a_cursor_brings_its_state_back_in_the_letters_that_urls_need_not_escape(self, place: Place) -> None:
        cursor = CURSORS.encode("ten_a", place)

        assert re.fullmatch(r"[A-Za-z0-9_.~-]+", cursor)
        assert CURSORS.decode("ten_a", cursor, Place) == place

    @given(places, st.data())
    def test_any_changed_character_is_refused(self, place: Place, data: st.DataObject) -> None:
        cursor = CURSORS.encode("ten_a", place)
        where = data.draw(st.integers(0, len(cursor) - 1))
        other = data.draw(st.sampled_from(ALPHABET).filter(lambda letter: letter != cursor[where]))

        with pytest.raises(Problem):
            CURSORS.decode("ten_a", cursor[:where] + other + cursor[where + 1 :], Place)

    @given(st.text(max_size=80))
    def test_whatever_was_not_given_out_is_refused(self, text: str) -> None:
        with pytest.raises(Problem) as refusal:
            CURSORS.decode("ten_a", text, Place)

        assert refusal.value.status == 422

    def test_a_cursor_holds_for_its_tenant_its_list_and_its_key_only(self) -> None:
        cursor = CURSORS.encode("ten_a", Place("sen_1"))
        other_key = Cursors(Vault.from_secret("another-" + "k" * 32), "sensors")

        for cursors, tenant in [(CURSORS, "ten_b"), (Cursors(VAULT, "readings"), "ten_a"), (other_key, "ten_a")]:
            with pytest.raises(Problem):
                cursors.decode(tenant, cursor, Place)

    def test_an_added_padding_or_newline_is_refused(self) -> None:
        cursor = CURSORS.encode("ten_a", Place("sen_1"))

        for changed in (cursor + "=", cursor + "\n", " " + cursor, cursor + "A", cursor[:-1]):
            with pytest.raises(Problem):
                CURSORS.decode("ten_a", changed, Place)
