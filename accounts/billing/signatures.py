"""Whether a webhook is Stripe's: signature over the raw body, clock skew both ways, several secrets while one is replaced."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import Final

TOLERANCE_S: Final = 300


class BadSignature(Exception):
    """Why a webhook is not believed."""


def verify(body: bytes, header: str, secrets: Sequence[str], now_s: float) -> None:
    """Check `t=…,v1=…`.

    Raises:
        BadSignature: it is missing, malformed, too old, from the future, or made with another secret.
    """
    parts = [part.partition("=") for part in header.split(",")]
    stamps = [value for name, _, value in parts if name.strip() == "t"]
    signatures = [value.strip() for name, _, value in parts if name.strip() == "v1"]
    if len(stamps) != 1 or not stamps[0].isascii() or not stamps[0].isdigit() or not signatures:
        msg = "the header Stripe-Signature is not t=…,v1=…"
        raise BadSignature(msg)
    if abs(now_s - int(stamps[0])) > TOLERANCE_S:
        msg = f"the signature's time is more than {TOLERANCE_S} s from now"
        raise BadSignature(msg)
    signed = stamps[0].encode() + b"." + body
    expected = [hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest().encode() for secret in secrets if secret]
    # Every pair is compared, so that time tells nothing.
    held = [hmac.compare_digest(one, given.encode()) for one in expected for given in signatures]
    if not any(held):
        msg = "no secret of this endpoint made the signature"
        raise BadSignature(msg)
