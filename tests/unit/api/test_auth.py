"""What authentication remembers, and what it never asks the database."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from api.auth import ApiKeys, DeviceSecrets, Recent
from core.postgres import Pool
from core.secrets import Vault, mint_api_key

VAULT = Vault.from_secret("unit-tests-only-" + "k" * 32)


class Turned:
    """A clock that shows what it is told."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class TestRecent:
    def test_what_held_is_remembered_for_two_seconds_and_no_longer(self) -> None:
        clock = Turned()
        recent: Recent[str] = Recent(clock)
        recent.put("key", "tenant")

        clock.now_s = 1.999
        assert recent.get("key") == "tenant"
        clock.now_s = 2.0
        assert recent.get("key") is None

    def test_it_is_bounded(self) -> None:
        recent: Recent[int] = Recent(Turned(), capacity=3)
        for number in range(10):
            recent.put(number, number)

        assert sum(recent.get(number) is not None for number in range(10)) <= 3
        assert recent.get(9) == 9


NO_DATABASE = cast(Pool, None)  # asking it would be an AttributeError


class TestApiKeys:
    @pytest.mark.parametrize(
        "wrong",
        ["", "romo_live_", "x" * 42, mint_api_key()[:-1], mint_api_key() + "0"],
        ids=["empty", "prefix", "other", "short", "long"],
    )
    def test_a_mistyped_key_never_reaches_the_database(self, wrong: str) -> None:
        keys = ApiKeys(NO_DATABASE, VAULT, Turned())

        assert asyncio.run(keys.authenticate(wrong)) is None

    def test_a_key_with_two_letters_swapped_never_reaches_the_database(self) -> None:
        key = mint_api_key()
        place = next(n for n in range(10, 35) if key[n] != key[n + 1])
        swapped = key[:place] + key[place + 1] + key[place] + key[place + 2 :]

        assert asyncio.run(ApiKeys(NO_DATABASE, VAULT, Turned()).authenticate(swapped)) is None


class TestDeviceSecrets:
    @pytest.mark.parametrize("wrong", ["", ".", "dev_1", "dev_1.", ".secret", "dev\0.secret"])
    def test_what_is_not_an_id_and_a_secret_never_reaches_the_database(self, wrong: str) -> None:
        assert asyncio.run(DeviceSecrets(NO_DATABASE, VAULT, Turned()).authenticate(wrong)) is None
