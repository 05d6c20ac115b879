"""Keys and secrets at rest: sealing device secrets, minting and recognising API keys and tokens.

Device secrets are needed in clear to check signatures, so they are sealed (AES-256-GCM), not hashed. API keys are
random enough that a keyed digest suffices: no slow hash, a constant-time look-up by digest.
"""

from __future__ import annotations

import base64
import hmac
import secrets
import zlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from schemas.errors import Misconfigured

API_KEY_PREFIX = "romo_live_"
TOKEN_PREFIX = "weir_"  # noqa: S105 - says what it is, is none
_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_RANDOM_CHARS = 26
_CHECKSUM_CHARS = 6
_MIN_KEY_CHARS = 32
_NONCE_BYTES = 12


def _derive(secret_key: str, purpose: bytes) -> bytes:
    if len(secret_key) < _MIN_KEY_CHARS:
        msg = (
            f"WEIR_SECRET_KEY has {len(secret_key)} characters, expected at least {_MIN_KEY_CHARS}; "
            "set it to a random text, the same for every role, and keep a copy"
        )
        raise Misconfigured(msg)
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=purpose).derive(secret_key.encode())


@dataclass(frozen=True)
class Vault:
    """Seals device secrets, digests API keys and signs tokens under keys derived from the setting `WEIR_SECRET_KEY`."""

    sealing_key: bytes
    digest_key: bytes
    token_key: bytes

    @classmethod
    def from_secret(cls, secret_key: str) -> Vault:
        """Derive the keys.

        Raises:
            Misconfigured: the setting is empty or too short.
        """
        purposes = (b"weir device secrets v1", b"weir api keys v1", b"weir access tokens v1")
        return cls(*(_derive(secret_key, purpose) for purpose in purposes))

    def seal(self, secret: str, owner_id: str) -> bytes:
        """Encrypt a device's or a message's secret; its id is authenticated with it, so rows cannot be swapped."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + AESGCM(self.sealing_key).encrypt(nonce, secret.encode(), owner_id.encode())

    def unseal(self, sealed: bytes, device_id: str) -> str:
        """Decrypt a device secret.

        Raises:
            Misconfigured: it was sealed under another WEIR_SECRET_KEY.
        """
        try:
            clear = AESGCM(self.sealing_key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], device_id.encode())
        except InvalidTag as exc:
            msg = f"the secret of device {device_id} does not open with this WEIR_SECRET_KEY; use the key it was made with"
            raise Misconfigured(msg) from exc
        return clear.decode()

    def digest(self, credential: str) -> bytes:
        """What is stored of an API key or a token, 32 bytes; their prefixes keep the kinds apart."""
        return hmac.digest(self.digest_key, credential.encode(), "sha256")


def mint_device_secret() -> str:
    """A new device secret, 43 URL-safe characters (256 random bits)."""
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()


def mint_token(kind: str) -> str:
    """A new `weir_<kind>_…` token, 43 URL-safe characters (256 random bits) after a prefix that secret scanners can find."""
    return f"{TOKEN_PREFIX}{kind}_{mint_device_secret()}"


def mint_api_key() -> str:
    """A new API key: `romo_live_`, 26 random base62 characters, 6 of checksum."""
    body = "".join(secrets.choice(_BASE62) for _ in range(_RANDOM_CHARS))
    return f"{API_KEY_PREFIX}{body}{_checksum(body)}"


def is_well_formed_api_key(text: str) -> bool:
    """Whether prefix, length and checksum fit, so that typing errors never reach the database."""
    body = text.removeprefix(API_KEY_PREFIX)
    if len(body) != _RANDOM_CHARS + _CHECKSUM_CHARS or body == text or not body.isascii() or not body.isalnum():
        return False
    return hmac.compare_digest(_checksum(body[:_RANDOM_CHARS]), body[_RANDOM_CHARS:])


def _checksum(body: str) -> str:
    number = zlib.crc32(body.encode())
    digits = []
    for _ in range(_CHECKSUM_CHARS):
        number, digit = divmod(number, len(_BASE62))
        digits.append(_BASE62[digit])
    return "".join(reversed(digits))
