"""When a failed attempt is tried again: exponential back-off with full jitter, a server's Retry-After, a bound.

Pure: chance is an argument. `jobs.attempts` asks, procrastinate is told.
"""

from __future__ import annotations

from dataclasses import dataclass

from schemas.errors import Misconfigured, Rejected

# A server may ask for patience, not for ever.
_LONGEST_RETRY_AFTER_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits `random(0, min(cap, base · 2^n))` before attempt n + 2; full jitter keeps a crowd from coming back at once.

    Args:
        base_s: upper bound of the first wait.
        cap_s: upper bound of every wait, not counting a Retry-After.
        max_attempts: attempts in all, the first included.
    """

    base_s: float = 1.0
    cap_s: float = 600.0
    max_attempts: int = 10

    def delay_s(self, error: BaseException, attempts_before: int, chance: float) -> float | None:
        """Seconds until the next attempt, None if there is none.

        Args:
            error: what ended the attempt.
            attempts_before: attempts that ended before this one.
            chance: uniform in [0, 1).
        """
        if isinstance(error, (Rejected, Misconfigured)) or attempts_before + 1 >= self.max_attempts:
            return None
        return retry_after_s(error) + self.jitter_s(attempts_before, chance)

    def jitter_s(self, attempts_before: int, chance: float) -> float:
        """The wait without any Retry-After."""
        # 2.0**1024 overflows; no cap is reached later than after 64 doublings.
        return chance * min(self.cap_s, self.base_s * 2.0 ** min(attempts_before, 64))


def retry_after_s(error: BaseException) -> float:
    """What the other side asked for in the attribute `retry_after_s` of the error, 0 if nothing sensible."""
    wanted = getattr(error, "retry_after_s", None)
    if not isinstance(wanted, (int, float)) or not wanted > 0:
        return 0.0
    return min(float(wanted), _LONGEST_RETRY_AFTER_S)
