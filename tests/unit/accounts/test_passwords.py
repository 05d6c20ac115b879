"""Passwords: which may be set, what is stored, and how many are computed at a time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from accounts import passwords
from accounts.emails import parse_email
from accounts.passwords import Overloaded, Passwords, hash_password, is_password, objection


@pytest.fixture
def keeper() -> Iterator[Passwords]:
    keeper = Passwords(threads=1, max_waiting=1)
    yield keeper
    keeper.close()


class TestObjection:
    @pytest.mark.parametrize("good", ["12345678", "x" * 256, "mot de passe français", "        !"])
    def test_length_alone_decides(self, good: str) -> None:
        assert objection(good) is None

    @pytest.mark.parametrize("bad", ["", "1234567", "x" * 257])
    def test_what_is_wrong_is_said_without_the_password(self, bad: str) -> None:
        assert objection(bad) == f"a password has 8 to 256 characters, this one {len(bad)}"


class TestHash:
    def test_it_is_argon2id_with_owasps_parameters_and_a_salt_of_its_own(self) -> None:
        one, other = hash_password("correct horse"), hash_password("correct horse")

        assert one.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
        assert one != other
        assert is_password("correct horse", one)
        assert not is_password("correct hors", one)

    def test_a_password_is_the_same_from_every_keyboard(self) -> None:
        composed, decomposed = "caf\u00e9 au lait", "cafe\u0301 au lait"

        assert is_password(decomposed, hash_password(composed))

    def test_an_unknown_user_costs_the_same_work_as_a_wrong_password(self) -> None:
        assert passwords._DECOY.rsplit("$", 2)[0] == hash_password("x" * 8).rsplit("$", 2)[0]


class TestPasswords:
    def test_nobodys_password_is_no_password(self, keeper: Passwords) -> None:
        assert asyncio.run(keeper.verify("nobody's password", None)) is False

    def test_it_hashes_and_verifies(self, keeper: Passwords) -> None:
        async def go() -> tuple[bool, bool]:
            stored = await keeper.hash("correct horse")
            return await keeper.verify("correct horse", stored), await keeper.verify("other horse", stored)

        assert asyncio.run(go()) == (True, False)

    def test_more_than_may_wait_are_sent_away_and_places_come_back(self, keeper: Passwords) -> None:
        async def go() -> None:
            held = threading.Event()
            first, second = (asyncio.ensure_future(keeper._run(held.wait)) for _ in range(2))
            await asyncio.sleep(0)
            with pytest.raises(Overloaded, match="too many sign-ins at once"):
                await keeper.hash("correct horse")
            second.cancel()
            await asyncio.sleep(0)
            # Whoever went away still has a place: the thread will come to the work all the same.
            with pytest.raises(Overloaded):
                await keeper.hash("correct horse")
            held.set()
            await first
            assert (await keeper.hash("correct horse")).startswith("$argon2id$")

        asyncio.run(go())


class TestEmail:
    @pytest.mark.parametrize("good", ["a@b", "anna@kitchen.example", "o'neil+x@sub.xn--bcher-kva.example"])
    def test_an_address_is_taken_as_it_is(self, good: str) -> None:
        assert parse_email(f" {good}\n") == good

    @pytest.mark.parametrize(
        "bad",
        [
            "",
            "a",
            "@b",
            "a@",
            "a@b@c",
            "a b@c",
            "a@-b",
            "a@b-",
            "a@b..c",
            "ä@b",
            "a@b\n.c",
            "a\0@b",
            "a@" + "b." * 126 + "cc",
        ],
        ids=range(13),
    )
    def test_anything_else_is_none(self, bad: str) -> None:
        assert parse_email(bad) is None
