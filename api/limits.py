"""How often one credential may ask: a token bucket each, in this process.

Border: counts and says how long to wait. Who is counted, and what a refusal looks like, is `api.auth`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

_CAPACITY: Final = 50_000


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

    def _new(self, key: str, now: float) -> _Bucket:
        if len(self._buckets) >= self._capacity:
            refilled_s = self._burst / self._rate
            self._buckets = {name: each for name, each in self._buckets.items() if now - each.at_s < refilled_s}
        bucket = self._buckets[key] = _Bucket(self._burst, now)
        return bucket
