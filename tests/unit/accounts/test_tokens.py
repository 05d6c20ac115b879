"""Access tokens: what is taken, and every way to forge one that is not."""

from __future__ import annotations

import base64
import json
from typing import Any

import jwt
import pytest

from accounts.tokens import AUDIENCE, ISSUER, LIFETIME_S, TYPE, AccessTokens, Claims

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
NOW_S = 1_795_377_600
TOKENS = AccessTokens(KEY)
GOOD: dict[str, Any] = {
    "iss": ISSUER,
    "aud": AUDIENCE,
    "iat": NOW_S,
    "exp": NOW_S + 900,
    "sub": "usr_1",
    "sid": "ses_1",
}


def forged(
    claims: dict[str, Any], key: bytes = KEY, algorithm: str = "HS256", headers: dict[str, Any] | None = None
) -> str:
    return jwt.encode(claims, key, algorithm, headers={"typ": TYPE} | (headers or {}))


def unsigned(header: dict[str, Any], claims: dict[str, Any], signature: str = "") -> str:
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (header, claims)]
    return ".".join([*parts, signature])


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in GOOD.items() if key != name}


class TestTaken:
    def test_a_token_says_who_signed_in_where_for_a_quarter_of_an_hour(self) -> None:
        token = TOKENS.issue("usr_1", "ses_1", NOW_S)

        assert LIFETIME_S == 15 * 60
        assert TOKENS.read(token, NOW_S) == Claims("usr_1", "ses_1", NOW_S + 900)
        assert TOKENS.read(token, NOW_S + 899.9) is not None
        assert TOKENS.read(token, NOW_S + 900) is None

    def test_a_clock_that_is_a_minute_behind_takes_it_too(self) -> None:
        token = TOKENS.issue("usr_1", "ses_1", NOW_S)

        assert TOKENS.read(token, NOW_S - 60) is not None
        assert TOKENS.read(token, NOW_S - 61) is None

    def test_what_is_forged_below_would_be_taken_if_it_were_whole(self) -> None:
        assert TOKENS.read(forged(GOOD), NOW_S) == Claims("usr_1", "ses_1", NOW_S + 900)


class TestForged:
    @pytest.mark.parametrize(
        "token",
        [
            unsigned({"alg": "none", "typ": TYPE}, GOOD),
            unsigned({"alg": "None", "typ": TYPE}, GOOD),
            unsigned({"alg": "HS256", "typ": TYPE}, GOOD),
            unsigned({"typ": TYPE}, GOOD, "c2ln"),
            forged(GOOD, OTHER_KEY),
            forged(GOOD, KEY * 2, "HS512"),
            forged(GOOD, KEY * 2, "HS384"),
            forged(GOOD, headers={"typ": "JWT"}),
            forged(GOOD, headers={"typ": None}),
            forged(GOOD, OTHER_KEY, headers={"jwk": {"kty": "oct", "k": "b28"}, "kid": "../../dev/null"}),
            forged(GOOD | {"aud": "weir-live"}),
            forged(GOOD | {"aud": [AUDIENCE, "weir-live"]}),
            forged(GOOD | {"iss": "somebody"}),
            forged(GOOD | {"exp": NOW_S}),
            forged(GOOD | {"iat": NOW_S + 3_600, "exp": NOW_S + 7_200}),
            forged(GOOD | {"exp": str(NOW_S + 900)}),
            forged(GOOD | {"exp": 1e300}),
            forged(GOOD | {"exp": True}),
            forged(GOOD | {"iat": "now"}),
            forged(GOOD | {"sid": ["ses_1"]}),
            *(forged(without(name)) for name in ("aud", "iss", "exp", "iat", "sub", "sid")),
            "",
            "..",
            "a.b.c",
            "romo_live_0000000000000000000000000000000",
            "weir_refresh_" + "A" * 43,
        ],
        ids=[
            "alg none",
            "alg None",
            "no signature",
            "no alg",
            "other key",
            "HS512",
            "HS384",
            "another type",
            "no type",
            "its own key",
            "another audience",
            "several audiences",
            "another issuer",
            "expired",
            "of tomorrow",
            "expiry as text",
            "expiry as float",
            "expiry as bool",
            "issue as text",
            "session as list",
            "without aud",
            "without iss",
            "without exp",
            "without iat",
            "without sub",
            "without sid",
            "empty",
            "dots",
            "no base64",
            "API key",
            "refresh token",
        ],
    )
    def test_it_is_nobody(self, token: str) -> None:
        assert TOKENS.read(token, NOW_S) is None

    def test_a_token_of_which_one_letter_was_changed_is_nobody(self) -> None:
        token = forged(GOOD)
        head, body, signature = token.split(".")
        changed = base64.urlsafe_b64encode(json.dumps(GOOD | {"sub": "usr_2"}).encode()).rstrip(b"=").decode()

        assert TOKENS.read(f"{head}.{changed}.{signature}", NOW_S) is None
        assert TOKENS.read(f"{head}.{body}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}", NOW_S) is None
