"""Standing still is: records wait, nothing works on them, and nothing moves for the limit."""

from __future__ import annotations

import asyncio

import pytest

from streams.log_ends import LogEnds
from streams.stalls import Progress, StallWatch, Standing, StreamStalled

IDLE_AT_5 = Standing(committed=5, handed_over=5, position=5, busy=False)


def test_a_quiet_partition_never_stands_still() -> None:
    progress = Progress(60)
    assert [progress.stalled(now_s, {0: IDLE_AT_5}, {0: 5}) for now_s in (0, 60, 3600)] == [[], [], []]


def test_a_record_that_is_not_fetched_for_the_limit_is_a_stall() -> None:
    progress = Progress(60)
    assert [progress.stalled(now_s, {0: IDLE_AT_5}, {0: 6}) for now_s in (10, 69, 70)] == [[], [], [0]]


def test_a_record_that_was_handed_over_and_went_astray_is_a_stall() -> None:
    astray = IDLE_AT_5._replace(handed_over=6, position=6)
    progress = Progress(60)
    assert [progress.stalled(now_s, {0: astray}, {0: 6}) for now_s in (0, 60)] == [[], [0]]


def test_a_position_that_is_never_found_is_a_stall_even_without_records() -> None:
    lost = IDLE_AT_5._replace(position=None)
    progress = Progress(60)
    assert [progress.stalled(now_s, {0: lost}, {0: 5}) for now_s in (0, 60)] == [[], [0]]


def test_offsets_that_are_no_records_are_passed_by_the_position_alone() -> None:
    behind_a_marker = IDLE_AT_5._replace(position=6)
    progress = Progress(60)
    assert [progress.stalled(now_s, {0: behind_a_marker}, {0: 6}) for now_s in (0, 60)] == [[], []]


def test_every_move_starts_the_time_again_and_work_stops_it() -> None:
    progress = Progress(60)
    assert progress.stalled(0, {0: IDLE_AT_5}, {0: 9}) == []
    assert progress.stalled(50, {0: Standing(6, 6, 6, busy=False)}, {0: 9}) == []
    assert progress.stalled(100, {0: Standing(6, 6, 6, busy=False)}, {0: 9}) == []
    assert progress.stalled(105, {0: Standing(6, 6, 6, busy=True)}, {0: 9}) == []
    assert progress.stalled(120, {0: Standing(6, 6, 6, busy=False)}, {0: 9}) == []
    assert progress.stalled(180, {0: Standing(6, 6, 6, busy=False)}, {0: 9}) == [0]


def test_a_partition_that_was_given_away_is_forgotten() -> None:
    progress = Progress(60)
    assert progress.stalled(0, {0: IDLE_AT_5, 1: IDLE_AT_5}, {0: 9, 1: 9}) == []
    assert progress.stalled(30, {1: IDLE_AT_5}, {0: 9, 1: 9}) == []
    assert progress.stalled(60, {0: IDLE_AT_5, 1: IDLE_AT_5}, {0: 9, 1: 9}) == [1]


def test_a_rebalance_without_an_end_is_a_stall() -> None:
    async def rebalancing() -> None:
        return None

    async def ends() -> LogEnds:
        raise AssertionError

    with pytest.raises(StreamStalled, match="handed out"):
        asyncio.run(StallWatch(0.02, rebalancing, ends).run())


def test_a_broker_that_is_away_makes_nobody_stand_still_and_its_return_starts_the_time_again() -> None:
    asked = 0

    async def standings() -> dict[int, Standing]:
        return {0: IDLE_AT_5}

    async def ends() -> LogEnds:
        nonlocal asked
        asked += 1
        if asked < 20:
            raise ConnectionRefusedError
        return LogEnds("t", {0: 6})

    with pytest.raises(StreamStalled, match=r"\{0: \(5, 5, 5, 6\)\}"):
        asyncio.run(StallWatch(0.02, standings, ends).run())
    # The 20th answer shows the record; only one that comes a limit later shows that nothing moved.
    assert asked >= 21
