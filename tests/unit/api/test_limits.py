"""Token buckets on a clock that the test turns."""

from __future__ import annotations

import pytest

from api.limits import SignInLimits, TokenBuckets, network_of


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


class TestSignInLimits:
    def test_failures_with_one_address_are_bounded_however_it_is_written_and_wherever_they_come_from(self) -> None:
        clock = Turned()
        limits = SignInLimits(per_email=2, per_address=60, monotonic_s=clock)

        assert [limits.take(f"10.0.0.{n}", "Anna@b.example") for n in range(2)] == [0.0, 0.0]
        assert limits.take("10.0.0.9", "anna@B.example") == pytest.approx(30)  # 2 a minute
        assert limits.take("10.0.0.9", "ben@b.example") == 0.0
        clock.now_s += 30
        assert limits.take("10.0.0.9", "anna@b.example") == 0.0

    def test_failures_from_one_machine_are_bounded_whomever_they_are_for(self) -> None:
        limits = SignInLimits(per_email=10, per_address=3, monotonic_s=Turned())

        waits = [limits.take("10.0.0.1", f"user{n}@b.example") for n in range(4)]
        assert waits == [0.0, 0.0, 0.0, pytest.approx(20)]  # 3 a minute
        assert limits.take("10.0.0.2", "user0@b.example") == 0.0

    def test_what_succeeds_does_not_count(self) -> None:
        limits = SignInLimits(per_email=2, per_address=2, monotonic_s=Turned())
        for _ in range(100):
            assert limits.take("10.0.0.1", "anna@b.example") == 0.0
            limits.give_back("10.0.0.1", "Anna@b.example")

    @pytest.mark.parametrize(
        ("address", "network"),
        [
            ("192.0.2.7", "192.0.2.7"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
            ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
            ("", ""),
        ],
    )
    def test_one_person_has_many_addresses_of_ipv6(self, address: str, network: str) -> None:
        assert network_of(address) == network
