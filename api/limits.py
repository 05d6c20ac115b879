"""How often one credential may ask, one address may be signed in to, one machine may try: token buckets in this process.

Border: counts and says how long to wait. Who is counted, and what a refusal looks like, is `api.auth`'s.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

_CAPACITY: Final = 50_000
_MINUTE_S: Final = 60.0
_IPV4: Final = 4
_IPV6_PREFIX: Final = 64


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at_s: float


class TokenBuckets:
    """Buckets that refill at a steady rate, one for each key.

    Args:
        rate_per_s: tokens that come back each second.
        burst: tokens of a full bucket.
        monotonic_s: a clock that never goes back.
        capacity: buckets kept; past it the full ones are forgotten, which changes nothing for their keys.
    """

    def __init__(
        self, rate_per_s: float, burst: int, monotonic_s: Callable[[], float], *, capacity: int = _CAPACITY
    ) -> None:
        self._rate = rate_per_s
        self._burst = float(burst)
        self._now = monotonic_s
        self._capacity = capacity
        self._buckets: dict[str, _Bucket] = {}

    def take(self, key: str) -> float:
        """Take one token; 0.0 if there was one, else the seconds until there is."""
        now = self._now()
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._new(key, now)
        bucket.tokens = min(self._burst, bucket.tokens + (now - bucket.at_s) * self._rate)
        bucket.at_s = now
        if bucket.tokens >= 1.0:
            bucket.tokens -= 1.0
            return 0.0
        return (1.0 - bucket.tokens) / self._rate

    def give_back(self, key: str) -> None:
        """Undo a take: what it was for does not count."""
        bucket = self._buckets.get(key)
        if bucket is not None:
            bucket.tokens = min(self._burst, bucket.tokens + 1.0)

    def _new(self, key: str, now: float) -> _Bucket:
        if len(self._buckets) >= self._capacity:
            refilled_s = self._burst / self._rate
            self._buckets = {name: each for name, each in self._buckets.items() if now - each.at_s < refilled_s}
        bucket = self._buckets[key] = _Bucket(self._burst, now)
        return bucket


class SignInLimits:
    """Tries to sign in: by e-mail address against guessing one password, by machine against trying one on many addresses.

    Only failures count in the end, so that somebody who signs in often is not kept out.

    Args:
        per_email: failures a minute.
        per_address: failures a minute.
        monotonic_s: a clock that never goes back.
    """

    def __init__(self, per_email: int, per_address: int, monotonic_s: Callable[[], float]) -> None:
        self._emails = TokenBuckets(per_email / _MINUTE_S, per_email, monotonic_s)
        self._addresses = TokenBuckets(per_address / _MINUTE_S, per_address, monotonic_s)

    def take(self, address: str, email: str | None = None) -> float:
        """Count a try; 0.0 if it is allowed, else the seconds to wait."""
        wait_s = self._addresses.take(network_of(address))
        if wait_s == 0.0 and email is not None:
            wait_s = self._emails.take(email.lower())
        return wait_s

    def give_back(self, address: str, email: str | None = None) -> None:
        """It succeeded."""
        self._addresses.give_back(network_of(address))
        if email is not None:
            self._emails.give_back(email.lower())


def network_of(address: str) -> str:
    """What one person has of addresses: one of IPv4, 2^64 of IPv6."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:  # a socket of the machine's own
        return address
    return str(found if found.version == _IPV4 else ipaddress.ip_network((found, _IPV6_PREFIX), strict=False))
