"""The broker of `weir up`: the embedded one, kept running, small and with its topics, or one that the user named."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psycopg
from kafka.errors import KafkaError

from core.kafka import Topic, ensure_topics, topic_name
from core.settings import Settings
from ops.embedded.broker import EmbeddedBroker
from ops.embedded.first_topics import require_sound
from ops.embedded.lifeline import wait_until
from ops.embedded.recycle import Ledger, freeze_if_idle, memory_mib
from ops.supervisor import Service, Supervisor
from schemas.errors import Transient

STAGE = 1
_NAME = "broker"
_WATCH_S = 5.0
_LOOK_FOR_A_MOMENT_S = 3.0
# Of the 20 s that stopping may take.
_DRAIN_S, _DRAIN_POLL_S = 8.0, 0.1
_TOPIC_ATTEMPTS, _TOPIC_PAUSE_S = 10, 1.0
_WRITTEN_BY_DEVICES = (Topic.READINGS, Topic.SCAN_FRAMES)


class BrokerPart:
    """The broker that the settings name, or an embedded one if they name none.

    Args:
        settings: as the user set them.
        data_dir: takes the embedded broker's log.
        port: where the embedded broker listened the last time.
        memory_mib: above this the embedded broker is started afresh, as soon as nothing waits in it.
        say: prints a line for people.
        restarted: called when the embedded broker has come back and has its topics again.
    """

    def __init__(
        self,
        settings: Settings,
        data_dir: Path,
        port: int | None,
        memory_mib: int,
        *,
        say: Callable[[str], None],
        restarted: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._memory_mib = memory_mib
        self._say = say
        self._restarted = restarted
        self._embedded: EmbeddedBroker | None = None
        if "kafka_bootstrap" not in settings.model_fields_set:
            self._embedded = EmbeddedBroker(port=port, log_file=data_dir / "broker.log", topics=self._topics())

    @property
    def is_embedded(self) -> bool:
        """Whether it is ours to run."""
        return self._embedded is not None

    @property
    def bootstrap(self) -> str:
        """What Kafka clients call `bootstrap.servers`."""
        return self._settings.kafka_bootstrap if self._embedded is None else self._embedded.bootstrap

    @property
    def port(self) -> int | None:
        """Where the embedded broker listens."""
        return None if self._embedded is None else self._embedded.port

    async def start(self, supervisor: Supervisor) -> None:
        """Start it if it is ours, and make sure of its topics.

        Raises:
            WeirError: it does not start, does not answer, or cannot have its topics.
        """
        if (broker := self._embedded) is not None:
            await supervisor.start(self._service(broker))
        for attempts_left in reversed(range(_TOPIC_ATTEMPTS)):
            try:
                await self._ensure_topics()
            except Transient as error:
                if not attempts_left or broker is None:
                    raise
                self._say(f"{_NAME}: {error}")
                supervisor.restart(_NAME)
                await asyncio.sleep(_TOPIC_PAUSE_S)
            else:
                return

    async def keep_small(self, supervisor: Supervisor, database_url: str) -> None:
        """Start the embedded broker afresh whenever it has grown and nothing waits in it; for ever.

        Args:
            supervisor: keeps the broker.
            database_url: of a login that may read the stored positions.
        """
        while True:
            await asyncio.sleep(_WATCH_S)
            broker = self._embedded
            if broker is None or not broker.is_running():
                continue
            pid, grown_mib = broker.pid, memory_mib(broker.pid)
            if grown_mib > self._memory_mib and await asyncio.to_thread(self._freeze, pid, database_url):
                self._say(f"{_NAME}: nothing waits in its {grown_mib} MiB; starting it afresh")
                supervisor.restart(_NAME)

    async def drain(self, database_url: str) -> bool:
        """Before the embedded broker goes, and its memory with it, let the workers commit what it has acknowledged.

        What is left when the time is up is named: its senders believe it delivered. Returns whether nothing is.
        """
        broker = self._embedded
        if broker is None or not broker.is_running():
            return False
        try:
            is_empty = await asyncio.to_thread(self._wait_until_empty, database_url)
        except (KafkaError, psycopg.Error, OSError):
            return False  # one of them is gone already: nothing more can be committed
        if not is_empty:
            self._say(f"{_NAME}: still holds records that no worker has committed; have their devices send them again")
        return is_empty

    def _wait_until_empty(self, database_url: str) -> bool:
        topics = [topic_name(self._settings.topic_prefix, Topic.READINGS)]
        deadline_s = time.monotonic() + _DRAIN_S
        with closing(Ledger(self.bootstrap, database_url, topics)) as ledger:
            while not ledger.nothing_waits():
                if time.monotonic() > deadline_s:
                    return False
                time.sleep(_DRAIN_POLL_S)
        return True

    def _service(self, broker: EmbeddedBroker) -> Service:
        def spawn() -> subprocess.Popen[bytes]:
            broker.prepare()
            return broker.spawn()

        async def is_ready() -> bool:
            return broker.is_ready()

        async def restarted() -> None:
            await self._ensure_topics()
            self._restarted()

        return Service(_NAME, STAGE, spawn, is_ready, end=lambda _: broker.stop(), restarted=restarted)

    def _topics(self) -> dict[str, int]:
        settings = self._settings
        return {topic_name(settings.topic_prefix, topic): settings.topic_partitions for topic in Topic}

    async def _ensure_topics(self) -> None:
        settings = self._settings
        await asyncio.to_thread(ensure_topics, self.bootstrap, settings.topic_prefix, settings.topic_partitions)
        if self._embedded is not None:
            await asyncio.to_thread(require_sound, self.bootstrap, self._topics())

    def _freeze(self, pid: int, database_url: str) -> bool:
        assert self._embedded is not None  # noqa: S101 - the caller looked
        topics = [topic_name(self._settings.topic_prefix, topic) for topic in _WRITTEN_BY_DEVICES]
        try:
            with closing(Ledger(self.bootstrap, database_url, topics)) as ledger:
                # Between two records of a busy device there is a moment in which nothing waits.
                port = self._embedded.port
                return wait_until(lambda: freeze_if_idle(pid, port, ledger.nothing_waits), _LOOK_FOR_A_MOMENT_S)
        except (KafkaError, psycopg.Error, OSError):
            return False  # one of them is away just now
