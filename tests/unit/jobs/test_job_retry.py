"""Back-off with full jitter, Retry-After, and where trying ends."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.retry import Backoff, retry_after_s
from schemas.errors import Misconfigured, Reason, Rejected, Transient

SECONDS = Backoff(base_s=2.0, cap_s=60.0, max_attempts=10)


def asking(seconds: object) -> Transient:
    error = Transient("429")
    error.retry_after_s = seconds  # type: ignore[attr-defined] # as adapters set it
    return error


@pytest.mark.parametrize(
    ("attempts_before", "longest"),
    [(0, 2.0), (1, 4.0), (2, 8.0), (3, 16.0), (4, 32.0), (5, 60.0), (8, 60.0)],  # 2 · 2^n, at most 60
)
def test_the_longest_wait_doubles_up_to_the_cap(attempts_before: int, longest: float) -> None:
    assert SECONDS.delay_s(OSError(), attempts_before, chance=1.0) == longest


def test_full_jitter_reaches_down_to_no_wait_at_all() -> None:
    assert SECONDS.delay_s(OSError(), 3, chance=0.0) == 0.0
    assert SECONDS.delay_s(OSError(), 3, chance=0.25) == 4.0  # a quarter of 16


def test_the_tenth_attempt_is_the_last() -> None:
    assert SECONDS.delay_s(OSError(), 8, 0.5) is not None  # the ninth has just failed
    assert SECONDS.delay_s(OSError(), 9, 0.5) is None


@pytest.mark.parametrize("error", [Rejected(Reason.EMPTY, "nothing"), Misconfigured("no key")])
def test_what_no_waiting_helps_is_not_tried_again(error: Exception) -> None:
    assert SECONDS.delay_s(error, 0, 0.5) is None


def test_a_retry_after_comes_before_the_jitter_so_that_nobody_is_early_and_the_crowd_is_spread() -> None:
    assert SECONDS.delay_s(asking(30), 0, chance=0.0) == 30.0
    assert SECONDS.delay_s(asking(30), 0, chance=0.5) == 31.0  # 30 + half of 2


@pytest.mark.parametrize("nonsense", [None, "soon", -5, 0, math.nan])
def test_a_retry_after_that_makes_no_sense_is_ignored(nonsense: object) -> None:
    assert retry_after_s(asking(nonsense)) == 0.0


@pytest.mark.parametrize("endless", [10**9, math.inf])
def test_a_retry_after_is_a_day_at_most(endless: float) -> None:
    assert retry_after_s(asking(endless)) == 86_400.0


@given(st.integers(0, 100_000), st.floats(0, 1, exclude_max=True))
def test_no_wait_is_negative_or_past_the_cap(attempts_before: int, chance: float) -> None:
    assert 0.0 <= SECONDS.jitter_s(attempts_before, chance) <= 60.0
