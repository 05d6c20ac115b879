"""Lanes: bounded, ordered within a partition, overlapping across partitions, taking together what waited."""

from __future__ import annotations

import asyncio

from streams.lanes import Lanes


def test_what_waited_for_a_partition_is_taken_together_and_in_order() -> None:
    async def scenario() -> list[list[int]]:
        taken: list[list[int]] = []
        gate = asyncio.Event()

        async def work(_partition: int, items: list[int]) -> None:
            taken.append(items)
            await gate.wait()

        lanes = Lanes[int](3, 100, work)
        await lanes.add(0, 1, 1)
        await asyncio.sleep(0)
        for number in (2, 3, 4):
            await lanes.add(0, number, 1)
        gate.set()
        await lanes.drain()
        return taken

    assert asyncio.run(scenario()) == [[1], [2, 3, 4]]


def test_partitions_overlap() -> None:
    async def scenario() -> bool:
        first, second = asyncio.Event(), asyncio.Event()

        async def work(partition: int, _items: list[str]) -> None:
            if partition == 0:
                first.set()
                await second.wait()
            else:
                await first.wait()
                second.set()

        lanes = Lanes[str](2, 100, work)
        await lanes.add(0, "one", 1)
        await lanes.add(1, "other", 1)
        await asyncio.wait_for(lanes.drain(), 5)
        return True

    assert asyncio.run(scenario())


def test_no_more_partitions_than_lanes_are_worked_on_at_once() -> None:
    async def scenario() -> list[int]:
        begun: list[int] = []
        gate = asyncio.Event()

        async def work(partition: int, _items: list[str]) -> None:
            begun.append(partition)
            await gate.wait()

        lanes = Lanes[str](2, 100, work)
        for partition in range(4):
            await lanes.add(partition, "some", 1)
        await asyncio.sleep(0)
        before = list(begun)
        gate.set()
        await lanes.drain()
        assert begun == [0, 1, 2, 3]
        return before

    assert asyncio.run(scenario()) == [0, 1]


def test_with_enough_waiting_the_next_waits_outside() -> None:
    async def scenario() -> bool:
        gate = asyncio.Event()

        async def work(_partition: int, _items: list[str]) -> None:
            await gate.wait()

        lanes = Lanes[str](1, 10, work)
        await lanes.add(0, "worked on", 10)
        await asyncio.sleep(0)
        await lanes.add(0, "waiting", 10)
        outside = asyncio.create_task(lanes.add(0, "outside", 1))
        done, _ = await asyncio.wait({outside}, timeout=0.05)
        gate.set()
        await asyncio.wait_for(outside, 5)
        await lanes.drain()
        return not done

    assert asyncio.run(scenario())


def test_lanes_that_do_not_hold_up_take_what_comes_and_say_that_they_are_full() -> None:
    async def scenario() -> list[bool]:
        gate = asyncio.Event()

        async def work(_partition: int, _items: list[int]) -> None:
            await gate.wait()

        lanes = Lanes[int](1, 10, work, holds_up=False)
        for number in range(4):  # one is worked on, the others wait
            await asyncio.wait_for(lanes.add(number, number, 6), 60)
        was_full = lanes.is_full
        gate.set()
        await lanes.drain()
        return [was_full, lanes.is_full]

    assert asyncio.run(scenario()) == [True, False]
