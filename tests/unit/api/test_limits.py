"""Token buckets on a clock that the test turns."""

from __future__ import annotations

from api.limits import TokenBuckets


class Turned:
    """A clock that shows what it is told."""

    now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


class TestTokenBuckets:
    def test_a_burst_passes_and_then_the_wait_until_the_next_token_is_told(self) -> None:
        buckets = TokenBuckets(rate_per_s=100, burst=3, monotonic_s=Turned())

        assert [buckets.take("a") for _ in range(3)] == [0.0, 0.0, 0.0]
        assert buckets.take("a") == 0.01  # 1 token at 100/s

    def test_tokens_come_back_at_the_rate_and_never_beyond_the_burst(self) -> None:
        clock = Turned()
        buckets = TokenBuckets(rate_per_s=100, burst=3, monotonic_s=clock)
        for _ in range(3):
            buckets.take("a")

        clock.now_s += 0.0201  # 2 tokens
        assert [buckets.take("a") == 0.0 for _ in range(3)] == [True, True, False]
        clock.now_s += 3_600
        assert [buckets.take("a") == 0.0 for _ in range(4)] == [True, True, True, False]

    def test_a_hundred_a_second_pass_for_ever_at_that_rate(self) -> None:
        clock = Turned()
        buckets = TokenBuckets(rate_per_s=100, burst=1, monotonic_s=clock)

        passed = 0
        for _ in range(1_000):
            passed += buckets.take("a") == 0.0
            clock.now_s += 0.010001
        assert passed == 1_000

    def test_one_key_does_not_use_up_anothers(self) -> None:
        buckets = TokenBuckets(rate_per_s=1, burst=1, monotonic_s=Turned())

        assert buckets.take("a") == 0.0
        assert buckets.take("b") == 0.0
        assert buckets.take("a") > 0

    def test_forgetting_full_buckets_frees_nobody_who_is_over_the_limit(self) -> None:
        clock = Turned()
        buckets = TokenBuckets(rate_per_s=1, burst=2, monotonic_s=clock, capacity=2)
        buckets.take("idle")
        clock.now_s += 10
        buckets.take("busy")
        buckets.take("busy")

        buckets.take("new")  # the third key: `idle` is full again and goes

        assert buckets.take("busy") > 0
