"""Signatures: the documented HMAC, and nothing else, passes."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.signing import SecretKey, sign

KEY, VALUE = b"dev_1", b'{"readings":[]}'


@given(st.text(st.characters(codec="utf-8"), max_size=100), st.binary(max_size=40), st.binary(max_size=200))
def test_a_signature_is_the_hmac_of_key_nul_value(secret: str, key: bytes, value: bytes) -> None:
    expected = hmac.new(secret.encode(), key + b"\0" + value, hashlib.sha256).hexdigest()

    assert sign(secret, key, value) == expected
    assert SecretKey(secret).verify(key, value, expected)


def test_a_known_signature_stays_what_it_was() -> None:
    # printf 'dev_1\0{"readings":[]}' | openssl dgst -sha256 -hmac s3cret
    assert sign("s3cret", KEY, VALUE) == "775198303170fa47853a843dd53a314c569e6a7ba3e2bfbce69126d8f76b7d0b"


@pytest.mark.parametrize("length", [0, 1, 63, 64, 65, 1_000])
def test_a_secret_may_be_shorter_or_longer_than_a_block_of_the_hash(length: int) -> None:
    expected = hmac.new(b"s" * length, KEY + b"\0" + VALUE, hashlib.sha256).hexdigest()

    assert sign("s" * length, KEY, VALUE) == expected


def test_hex_digits_of_either_case_and_type_are_accepted() -> None:
    key, signature = SecretKey("s3cret"), sign("s3cret", KEY, VALUE)

    assert key.verify(KEY, VALUE, signature.encode())
    assert key.verify(KEY, VALUE, signature.upper())
    assert key.verify(KEY, VALUE, signature.upper().encode())


def test_one_key_verifies_any_number_of_records() -> None:
    key = SecretKey("s3cret")

    assert all(key.verify(KEY, bytes([number]), sign("s3cret", KEY, bytes([number]))) for number in range(3))


@pytest.mark.parametrize(
    ("secret", "key", "value"),
    [
        ("S3cret", KEY, VALUE),
        ("s3cret", b"dev_2", VALUE),
        ("s3cret", KEY, VALUE + b" "),
        ("s3cret", KEY + b"\0", VALUE[1:]),
    ],
)
def test_another_secret_key_or_value_has_another_signature(secret: str, key: bytes, value: bytes) -> None:
    assert not SecretKey("s3cret").verify(KEY, VALUE, sign(secret, key, value))


@pytest.mark.parametrize(
    "signature", ["", "zz", "é", "0" * 63, "0" * 64, "0" * 66, b"", b"\xff" * 64, b"0x" + b"0" * 62]
)
def test_what_is_no_signature_is_wrong_and_no_error(signature: bytes | str) -> None:
    assert not SecretKey("s3cret").verify(KEY, VALUE, signature)


def test_a_truncated_or_padded_signature_is_wrong() -> None:
    key, signature = SecretKey("s3cret"), sign("s3cret", KEY, VALUE)

    assert not key.verify(KEY, VALUE, signature[:-2])
    assert not key.verify(KEY, VALUE, signature + "00")
    assert not key.verify(KEY, VALUE, f" {signature}")
