"""Lanes: bounded, ordered within a partition, overlapping across partitions."""

from __future__ import annotations

import asyncio

from streams.lanes import Lanes


def test_work_of_one_partition_is_done_in_order() -> None:
    async def scenario() -> list[int]:
        lanes, done = Lanes(3), []
        gates = [asyncio.Event() for _ in range(3)]

        async def work(number: int) -> None:
            await gates[number].wait()
            done.append(number)

        for number in range(3):
            await lanes.add(0, lambda number=number: work(number))  # type: ignore[misc]
        for gate in reversed(gates):
            gate.set()
        await lanes.drain()
        return done

    assert asyncio.run(scenario()) == [0, 1, 2]


def test_partitions_overlap() -> None:
    async def scenario() -> bool:
        lanes, first, second = Lanes(2), asyncio.Event(), asyncio.Event()

        async def one() -> None:
            first.set()
            await second.wait()

        async def other() -> None:
            await first.wait()
            second.set()

        await lanes.add(0, one)
        await lanes.add(1, other)
        await asyncio.wait_for(lanes.drain(), 5)
        return True

    assert asyncio.run(scenario())


def test_more_work_than_lanes_waits_outside() -> None:
    async def scenario() -> bool:
        lanes, gate = Lanes(1), asyncio.Event()
        await lanes.add(0, gate.wait)  # type: ignore[arg-type]
        waiting = asyncio.create_task(lanes.add(1, gate.wait))  # type: ignore[arg-type]
        done, _ = await asyncio.wait({waiting}, timeout=0.05)
        gate.set()
        await asyncio.wait_for(waiting, 5)
        await lanes.drain()
        return not done

    assert asyncio.run(scenario())
