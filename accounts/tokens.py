"""Access tokens: short-lived JWTs that name a user and a session, and nothing that anybody could want to steal.

The algorithm is fixed (HS256), never the token's to choose; whether the session goes on is asked elsewhere. Border: text
to claims and back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import jwt

ALGORITHM: Final = "HS256"
ISSUER: Final = "weir"
AUDIENCE: Final = "weir-api"
TYPE: Final = "at+jwt"
LIFETIME_S: Final = 900
_MAX_CLOCK_SKEW_S: Final = 60
_REQUIRED: Final = ("iss", "aud", "exp", "iat", "sub", "sid")


@dataclass(frozen=True, slots=True)
class Claims:
    """What a good token says."""

    user_id: str
    session_id: str
    expires_at_s: int


class AccessTokens:
    """Makes and reads access tokens.

    Args:
        key: of the vault; tokens of another WEIR_SECRET_KEY are none of ours.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def issue(self, user_id: str, session_id: str, now_s: int, lifetime_s: int = LIFETIME_S) -> str:
        """A token that holds from now on."""
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "iat": now_s,
            "exp": now_s + lifetime_s,
            "sub": user_id,
            "sid": session_id,
        }
        return jwt.encode(claims, self._key, ALGORITHM, headers={"typ": TYPE})

    def read(self, token: str, now_s: float) -> Claims | None:
        """The claims of a token that holds now; None for everything else."""
        try:
            # Times are held against our own clock below.
            options: Any = {"require": list(_REQUIRED), "verify_exp": False, "verify_iat": False, "verify_nbf": False}
            decoded = jwt.decode_complete(token, self._key, [ALGORITHM], options, audience=AUDIENCE, issuer=ISSUER)
        except jwt.InvalidTokenError:
            return None
        payload = decoded["payload"]
        if decoded["header"].get("typ") != TYPE or payload["aud"] != AUDIENCE:
            return None
        issued, expires, session_id = payload["iat"], payload["exp"], payload["sid"]
        if type(issued) is not int or type(expires) is not int or not isinstance(session_id, str):
            return None
        if not issued - _MAX_CLOCK_SKEW_S <= now_s < expires:
            return None
        return Claims(payload["sub"], session_id, expires)
