"""The queue of one connection: order, bound, conflation while busy, and the end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from api.live import protocol
from api.live.outbox import Outbox
from api.live.protocol import Criteria, Message
from api.live.subscription import Subscription


class NewestValues:
    """A feed of newest values."""

    def has_more(self, subscription: Subscription) -> bool:
        return bool(subscription.pending)

    def drain(self, subscription: Subscription) -> Message:
        return protocol.event("cursor", subscription.take_pending())


def scene(limit: int = 1_000) -> tuple[Outbox, Subscription, list[str]]:
    overflows: list[str] = []
    outbox = Outbox(limit, lambda message, ref: f"{ref}:{message.tail}", lambda: overflows.append("overflow"))
    subscription = Subscription("ten_1", "readings", Criteria(), "1", outbox, lambda code, reason: None)
    subscription.feed = NewestValues()
    return outbox, subscription, overflows


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(test(), 10)

    asyncio.run(bounded())


def offer(subscription: Subscription, **entries: str) -> None:
    kept: dict[object, str] = {}
    kept.update(entries)
    subscription.offer(protocol.event("c", entries.values()), kept)


def test_frames_come_out_in_order_and_after_the_end_none() -> None:
    async def test() -> None:
        outbox, _, overflows = scene()
        outbox.put("a")
        outbox.put("b")
        outbox.close()
        outbox.put("c")
        assert [await outbox.next() for _ in range(3)] == ["a", "b", None]
        assert overflows == []

    run(test)


def test_a_frame_that_does_not_fit_overflows_but_a_single_one_always_fits() -> None:
    async def test() -> None:
        outbox, _, overflows = scene(limit=10)
        outbox.put("x" * 50)
        assert overflows == []
        outbox.put("y")
        assert overflows == ["overflow"]
        assert await outbox.next() == "x" * 50

    run(test)


def test_newest_values_go_at_once_to_an_idle_connection_and_conflate_for_a_busy_one() -> None:
    async def test() -> None:
        outbox, subscription, _ = scene()
        offer(subscription, s1="1", s2="2")
        assert await outbox.next() == '1:,"cursor":"c","items":[1,2]'
        # Being sent: the connection is busy until the writer asks for more.
        offer(subscription, s1="3")
        offer(subscription, s2="4")
        offer(subscription, s1="5")
        assert await outbox.next() == '1:,"cursor":"cursor","items":[5,4]'
        assert not subscription.pending
        sending = asyncio.create_task(outbox.next())
        await asyncio.sleep(0)
        offer(subscription, s1="6")
        assert await sending == '1:,"cursor":"c","items":[6]'

    run(test)


def test_values_that_wait_are_never_overtaken_by_newer_ones() -> None:
    async def test() -> None:
        outbox, subscription, _ = scene()
        subscription.keep({"s1": "1"})
        offer(subscription, s1="2")
        assert await outbox.next() == '1:,"cursor":"cursor","items":[2]'
        assert not outbox.has_room(10_000)
        assert outbox.has_room(10)

    run(test)


def test_while_its_snapshot_is_sent_a_subscription_gets_nothing_else() -> None:
    async def test() -> None:
        outbox, subscription, _ = scene()
        subscription.is_held = True
        offer(subscription, s1="1")
        outbox.put("snapshot")
        outbox.put("sync")
        subscription.release()
        assert [await outbox.next() for _ in range(3)] == ["snapshot", "sync", '1:,"cursor":"cursor","items":[1]']

    run(test)


def test_who_sends_much_waits_until_half_is_free() -> None:
    async def test() -> None:
        outbox, _, _ = scene(limit=100)
        outbox.put("x" * 60)
        outbox.put("y" * 40)
        waiting = asyncio.create_task(outbox.room())
        await asyncio.sleep(0)
        assert not waiting.done()
        await outbox.next()
        await waiting

    run(test)


def test_an_idle_connection_is_sent_to_at_once_and_one_that_is_behind_gets_everything_in_order() -> None:
    async def test() -> None:
        sent: list[bytes] = []
        takes = True

        def push(frame: bytes) -> bool:
            if takes:
                sent.append(frame)
            return takes

        outbox = Outbox(1_000, lambda message, ref: message.frame(ref), lambda: None, push)
        outbox.deliver("1", protocol.sync("a"))
        takes = False
        outbox.deliver("1", protocol.sync("b"))
        takes = True
        # It waits for its turn behind what waits already, although there would be room now.
        outbox.deliver("1", protocol.sync("c"))
        first = await outbox.next()
        outbox.deliver("1", protocol.sync("d"))  # while the first is on its way
        queued = [first, await outbox.next(), await outbox.next()]
        assert [json.loads(frame or "")["cursor"] for frame in queued] == ["b", "c", "d"]
        assert [json.loads(frame[2:])["cursor"] for frame in sent] == ["a"]
        outbox.close()
        outbox.deliver("1", protocol.sync("e"))
        assert len(sent) == 1
        assert await outbox.next() is None

    run(test)


@pytest.mark.parametrize("size", [0, 99, 100, 65_000, 65_509, 65_510, 70_000])
def test_a_shared_frame_is_what_a_websocket_library_reads(size: int) -> None:
    message = protocol.event("c", ["9" * size])
    client = ClientProtocol(parse_uri("ws://127.0.0.1"), state=State.OPEN, max_size=None)
    client.receive_data(message.wire("7"))
    [frame] = client.events_received()
    assert isinstance(frame, Frame)
    assert (frame.opcode, frame.fin, frame.data) == (Opcode.TEXT, True, message.frame("7").encode())
