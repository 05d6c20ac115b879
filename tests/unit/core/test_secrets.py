"""Sealing device secrets and recognising API keys."""

from __future__ import annotations

import pytest

from core.secrets import API_KEY_PREFIX, Vault, is_well_formed_api_key, mint_api_key, mint_device_secret
from schemas.errors import Misconfigured

VAULT = Vault.from_secret("a secret of thirty-two characters")


def test_a_sealed_secret_opens_again_for_the_same_device_only() -> None:
    secret = mint_device_secret()
    sealed = VAULT.seal(secret, "dev_a")

    assert VAULT.unseal(sealed, "dev_a") == secret
    assert secret.encode() not in sealed
    with pytest.raises(Misconfigured, match="dev_b"):
        VAULT.unseal(sealed, "dev_b")


def test_another_key_does_not_open_it_and_the_message_names_the_setting() -> None:
    sealed = VAULT.seal("secret", "dev_a")

    with pytest.raises(Misconfigured, match="WEIR_SECRET_KEY"):
        Vault.from_secret("another secret of thirty-two chars").unseal(sealed, "dev_a")


def test_a_short_secret_key_is_refused_with_the_remedy() -> None:
    with pytest.raises(Misconfigured, match="at least 32"):
        Vault.from_secret("short")


def test_api_keys_have_prefix_length_and_checksum() -> None:
    key = mint_api_key()

    assert key.startswith(API_KEY_PREFIX)
    assert len(key) == len("romo_live_") + 32
    assert is_well_formed_api_key(key)


def test_a_changed_character_or_another_length_is_noticed() -> None:
    key = mint_api_key()
    changed = key[:15] + ("a" if key[15] != "a" else "b") + key[16:]

    assert not is_well_formed_api_key(changed)
    assert not is_well_formed_api_key(key[:-1])
    assert not is_well_formed_api_key(key.removeprefix(API_KEY_PREFIX))
    assert not is_well_formed_api_key(key[:-1] + "é")


def test_digests_differ_by_key_and_by_vault() -> None:
    other = Vault.from_secret("another secret of thirty-two chars")

    assert VAULT.digest("a") != VAULT.digest("b")
    assert VAULT.digest("a") != other.digest("a")
