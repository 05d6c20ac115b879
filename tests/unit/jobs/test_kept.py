"""What a worker keeps between jobs: never more than it may, and of use to many scans that take turns."""

from __future__ import annotations

import pytest

from jobs.kept import FORGOTTEN_AFTER_S, Kept


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_value_is_there_until_it_is_replaced_or_dropped(clock: Clock) -> None:
    kept = Kept(10, clock)
    kept.put("a", b"123")
    kept.put("a", b"4567")

    assert (kept.get("a"), kept.bytes) == (b"4567", 4)
    kept.drop("a")
    kept.drop("a")
    assert (kept.get("a"), kept.bytes) == (None, 0)


def test_of_two_hundred_that_take_turns_those_that_have_room_find_theirs_every_time(clock: Clock) -> None:
    """Forgetting the one used longest ago, the usual way, every one of them would miss every time."""
    kept, found = Kept(1500, clock), 0
    for _turn in range(3):
        for number in range(200):
            clock.now_s += 0.5  # a turn takes 100 s
            found += kept.get(f"scan-{number}") is not None
            kept.put(f"scan-{number}", bytes(10))
            assert kept.bytes <= 1500

    assert found == 2 * 150


def test_a_value_that_grows_out_of_the_room_is_forgotten_alone(clock: Clock) -> None:
    kept = Kept(10, clock)
    kept.put("a", bytes(4))
    kept.put("b", bytes(4))
    kept.put("b", bytes(7))

    assert (kept.get("a"), kept.get("b"), kept.bytes) == (bytes(4), None, 4)


def test_what_nobody_used_for_minutes_gives_way_and_no_more_of_it_than_has_to(clock: Clock) -> None:
    kept = Kept(10, clock)
    for key in "abc":
        kept.put(key, bytes(3))
    clock.now_s = FORGOTTEN_AFTER_S / 2
    kept.get("a")
    clock.now_s = FORGOTTEN_AFTER_S
    kept.put("new", bytes(4))

    assert [kept.get(key) is not None for key in ("a", "b", "c", "new")] == [True, False, True, True]


def test_what_is_larger_than_all_room_is_not_kept(clock: Clock) -> None:
    kept = Kept(10, clock)
    kept.put("a", bytes(11))

    assert (kept.get("a"), kept.bytes) == (None, 0)


def test_no_room_keeps_nothing(clock: Clock) -> None:
    kept = Kept(0, clock)
    kept.put("a", b"1")

    assert kept.get("a") is None
