"""Publishing what a fleet sends, in real time: signs as the devices, keeps the pace, survives a broker that goes away.

The only part of the simulator that does I/O besides `roster`. What the broker has not confirmed is sent again, as a
device would; the stream removes the copies.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, KafkaTimeoutError

from core.clock import Clock, SystemClock
from ops.simulator.fleet import MINUTE_NS, Emission, Fleet, interval_for
from ops.simulator.scenarios import Scenario, find_scenario
from schemas.errors import Misconfigured, Transient
from schemas.readings import encode_record
from schemas.signing import HEADER_DEVICE, HEADER_SIGNATURE, SecretKey

_TICK_S = 0.05
_SLICE_MS = 1000
_RECORDS_PER_BREATH = 50
_MAX_UNCONFIRMED = 5000
_RETRY_PAUSE_S = 1.0
_END_S = 1.0
_FLUSH_S = 3.0
_CLOSE_S = 2.0
_LINGER_MS = 5
_BATCH_BYTES = 262_144


class Credentials(Protocol):
    """What it takes to publish as a device; accounts.provisioning.DeviceCredentials is one."""

    @property
    def device_id(self) -> str:
        """The id, which is also the key of its records."""
        ...

    @property
    def secret(self) -> str:
        """What it signs with."""
        ...


@dataclass(slots=True)
class Tally:
    """What has been handed to the broker so far.

    Attributes:
        readings: all of them, copies included.
        late: readings that waited for their device's radio.
        duplicates: readings in records that were sent before.
        records: Kafka records.
        confirmed: records that the broker has stored.
        retried: how often a record was sent again because the broker did not confirm it.
    """

    readings: int = 0
    late: int = 0
    duplicates: int = 0
    records: int = 0
    confirmed: int = 0
    retried: int = 0

    @property
    def unconfirmed(self) -> int:
        """Records that the broker may not have."""
        return self.records - self.confirmed

    def add(self, emission: Emission) -> None:
        """Count one record."""
        count = len(emission.readings)
        self.records += 1
        self.readings += count
        self.late += count if emission.late else 0
        self.duplicates += count if emission.copy else 0


@dataclass(frozen=True, slots=True)
class _Message:
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


class _Sender:
    """Hands records to the producer and sends the unconfirmed ones again."""

    def __init__(self, producer: AIOKafkaProducer, topic: str, devices: Sequence[Credentials], tally: Tally) -> None:
        self._producer = producer
        self._topic = topic
        self._keys = [device.device_id.encode() for device in devices]
        self._signers = [SecretKey(device.secret) for device in devices]
        self._tally = tally
        self._unconfirmed: deque[tuple[asyncio.Future[object], _Message]] = deque()

    async def send(self, emission: Emission) -> None:
        """Sign and send one record; waits while too much is unconfirmed.

        Raises:
            Misconfigured: the broker refuses the records for good.
        """
        key = self._keys[emission.device]
        value = encode_record(emission.readings, emission.sent_at_ms)
        signature = self._signers[emission.device].digest(key, value).hex().encode()
        self._tally.add(emission)
        await self._offer(_Message(key, value, [(HEADER_DEVICE, key), (HEADER_SIGNATURE, signature)]))
        if self._tally.records % _RECORDS_PER_BREATH == 0:
            await asyncio.sleep(0)  # the producer only sends when it is its turn
        await self.confirm(_MAX_UNCONFIRMED)

    async def flush(self) -> None:
        """Wait until everything is confirmed, or give up after 3 s."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_FLUSH_S):
                await self.confirm(0)

    async def confirm(self, leave: int = _MAX_UNCONFIRMED) -> None:
        """Count the oldest records that are confirmed and send failed ones again; waits while more than `leave` are open.

        Raises:
            Misconfigured: the broker refuses a record for good.
        """
        while self._unconfirmed and (len(self._unconfirmed) > leave or self._unconfirmed[0][0].done()):
            future, message = self._unconfirmed[0]
            try:
                await asyncio.shield(future)
            except KafkaError as error:
                self._judge(error)
                self._tally.retried += 1
                await asyncio.sleep(_RETRY_PAUSE_S)
                await self._offer(message)
            else:
                self._tally.confirmed += 1
            self._unconfirmed.popleft()

    async def _offer(self, message: _Message) -> None:
        while True:
            try:
                future = await self._producer.send(self._topic, message.value, key=message.key, headers=message.headers)
            except KafkaError as error:  # no room, because the broker takes nothing
                self._judge(error)
                await asyncio.sleep(_RETRY_PAUSE_S)
            else:
                self._unconfirmed.append((future, message))
                return

    def _judge(self, error: KafkaError) -> None:
        if not (error.retriable or isinstance(error, KafkaTimeoutError)):
            why = type(error).__name__
            msg = f"the broker refuses records on topic {self._topic} ({why}); check that topic's settings"
            raise Misconfigured(msg) from error


async def run_simulation(
    devices: Sequence[Credentials],
    bootstrap: str,
    topic: str,
    scenario: str,
    rate: float | None,
    seconds: float | None,
    stop: asyncio.Event,
    *,
    tenants: int = 1,
    seed: int = 1,
    backfill_ms: int = 0,
    tally: Tally | None = None,
    clock: Clock | None = None,
) -> Tally:
    """Publish as these devices until `seconds` have passed or `stop` is set, then flush.

    Args:
        devices: as whom, ordered by tenant, the same number for each tenant.
        bootstrap: Kafka brokers, host:port separated by commas.
        topic: the broker's name of the readings topic.
        scenario: a name from `scenarios.SCENARIOS`.
        rate: readings per second of all devices together; None: one a minute from each sensor.
        seconds: of real time; None: without end.
        stop: ends the run within a second, plus at most five for a broker that does not answer.
        tenants: number of tenants; each is one site with its own weather.
        seed: everything random follows from it; the same seed repeats the same readings at the same times.
        backfill_ms: how much of the past is sent first, at one reading a minute from each sensor.
        tally: counted in while running.
        clock: tells the time.

    Returns:
        The tally.

    Raises:
        ValueError: an unknown scenario, or a rate out of range.
        Transient: no broker answers at the start; later on it is waited for.
        Misconfigured: the broker refuses the records.
    """
    clock, tally = clock or SystemClock(), tally or Tally()
    plan = _Plan.make(
        len(devices),
        tenants,
        seed=seed,
        scenario=find_scenario(scenario),
        interval_ns=MINUTE_NS if rate is None else interval_for(rate, len(devices)),
        now_ms=clock.now_ms(),
    )
    end_ms = None if seconds is None else plan.start_ms + int(seconds * 1000)
    producer = await _start_producer(bootstrap)
    try:
        sender = _Sender(producer, topic, devices, tally)
        await _until(stop, _send_plan(plan, backfill_ms, end_ms, sender, stop, clock))
        await sender.flush()
    finally:
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_S):  # it would wait 40 s for a broker that is gone
                await producer.stop()
    return tally


@dataclass(frozen=True, slots=True)
class _Plan:
    """The same fleet twice: as it was until now, once a minute, and from now on at the wanted rate."""

    history: Fleet
    live: Fleet
    start_ms: int

    @classmethod
    def make(cls, devices: int, tenants: int, *, seed: int, scenario: Scenario, interval_ns: int, now_ms: int) -> _Plan:
        history, live = (
            Fleet(seed, tenants, devices // tenants, scenario=scenario, origin_ms=now_ms, interval_ns=each)
            for each in (MINUTE_NS, interval_ns)
        )
        return cls(history, live, now_ms)


async def _start_producer(bootstrap: str) -> AIOKafkaProducer:
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, acks="all", linger_ms=_LINGER_MS, max_batch_size=_BATCH_BYTES
    )
    try:
        await producer.start()
    except (KafkaError, OSError) as error:
        await producer.stop()
        msg = f"no Kafka broker answers at {bootstrap} ({type(error).__name__}); start it, or correct the address"
        raise Transient(msg) from error
    return producer


async def _until(stop: asyncio.Event, work: Coroutine[object, object, None]) -> None:
    """Do the work; once `stop` is set it has a second to end by itself, as it does unless the broker is away."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait({working}, timeout=_END_S)
    finally:
        working.cancel()
        stopping.cancel()
        await asyncio.wait({working, stopping})
    if not working.cancelled():
        working.result()


async def _send_plan(
    plan: _Plan, backfill_ms: int, end_ms: int | None, sender: _Sender, stop: asyncio.Event, clock: Clock
) -> None:
    await _send_all(plan.history, plan.start_ms - backfill_ms, plan.start_ms, sender, stop)
    await _send_live(plan, end_ms, sender, stop, clock)


async def _send_all(fleet: Fleet, from_ms: int, to_ms: int, sender: _Sender, stop: asyncio.Event) -> None:
    if from_ms >= to_ms:
        return
    for emission in fleet.emissions(from_ms, to_ms):
        if stop.is_set():
            return
        await sender.send(emission)


async def _send_live(plan: _Plan, end_ms: int | None, sender: _Sender, stop: asyncio.Event, clock: Clock) -> None:
    """Send what falls due as time passes, in slices of a second at most so that falling behind costs no memory."""
    position = plan.start_ms
    while not stop.is_set() and (end_ms is None or position < end_ms):
        until = min(clock.now_ms(), position + _SLICE_MS, end_ms if end_ms is not None else position + _SLICE_MS)
        await _send_all(plan.live, position, until, sender, stop)
        position = max(position, until)
        await sender.confirm()
        if position >= clock.now_ms() - int(_TICK_S * 1000):
            await _pause(stop, _TICK_S)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()
