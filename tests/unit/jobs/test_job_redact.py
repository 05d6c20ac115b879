"""Kept error texts: without secrets, bounded, storable."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.redact import error_text, redact
from schemas.errors import Transient


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at postgresql://weir:hunter22@db:5432/weir", "at postgresql://weir:***@db:5432/weir"),
        ("amqp://:pw@host", "amqp://:***@host"),
        ("Authorization: Bearer abc.def-ghi", "Authorization: Bearer ***"),
        ('{"password": "open sesame", "user": "a"}', '{"password": ***, "user": "a"}'),
        ("client_secret=abc123&x=1", "client_secret=***&x=1"),
        ("api-key: 'q w e' refused", "api-key: *** refused"),
        ("No such customer; key sk_live_51Habc", "No such customer; key ***"),
        ("romo_live_0123456789abcdefghijklmnop000000 is revoked", "*** is revoked"),
        ("whsec_abcdef", "***"),
    ],
)
def test_what_looks_like_a_secret_is_starred(text: str, shown: str) -> None:
    assert redact(text) == shown


@pytest.mark.parametrize(
    "text", ["sensor air of dev_a: 3.8", "https://api.stripe.com/v1/billing", "the token was refused"]
)
def test_other_text_stays(text: str) -> None:
    assert redact(text) == text


def test_known_secrets_are_starred_wherever_they_stand() -> None:
    assert redact("got 'correct horse' back", ["correct horse"]) == "got '***' back"


def test_a_secret_too_short_to_be_one_does_not_star_half_the_text() -> None:
    assert redact("a database", ["a"]) == "a database"


def test_long_texts_are_cut() -> None:
    shown = redact("x" * 5000)

    assert shown == "x" * 4000 + "… (5000 characters)"


def test_an_unexpected_error_tells_where_it_came_from() -> None:
    try:
        int("three")
    except ValueError as error:
        text = error_text(error)

    assert text.startswith("invalid literal for int() with base 10: 'three'\nat ")
    assert text.endswith("in test_an_unexpected_error_tells_where_it_came_from")


def test_an_error_of_our_own_says_all_in_its_sentence() -> None:
    assert error_text(Transient("the broker is away")) == "the broker is away"


def test_an_error_without_words_is_named() -> None:
    assert error_text(Transient()) == "Transient"


@given(st.text())
def test_every_text_can_be_stored_by_postgresql(text: str) -> None:
    stored = redact(text)

    assert "\x00" not in stored
    stored.encode("utf-8")
