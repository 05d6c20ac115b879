"""A worker that stands still (SIGSTOP, a paused machine) keeps no turn for itself, and does nothing twice when it comes back."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from kafka import KafkaConsumer

from accounts import rules
from core.leases import Lease, LeaseLost, hold
from core.postgres import DatabaseRole, Pool, open_pool, tenant_transaction
from tests.integration.conftest import Broker
from tests.integration.publishing import ThirdPartyDevice, body, reading
from tests.integration.servers import Database, WorkerProcess, create_tenant, wait_until

pytestmark = pytest.mark.integration

NEW_WORKER = Callable[..., WorkerProcess]
TURNS = ["outbox-relay", "rule-work", "silence-watch"]
TOO_WARM = {"type": "threshold", "above": 8.0}
SILENT = {"type": "silence", "after": "10m"}


def turns(database: Database) -> dict[str, str]:
    """Who has which turn."""
    return dict(database.query("SELECT name, holder FROM weir.lease WHERE expires_at > now() ORDER BY name"))


async def add_rules(database: Database, tenant_id: str) -> None:
    async with (
        open_pool(database.reader_url, DatabaseRole.READER, size=1) as pool,
        tenant_transaction(pool, tenant_id) as connection,
    ):
        for name, condition in (("warm", TOO_WARM), ("silent", SILENT)):
            document = {"name": name, "applies_to": {"all": True}, "severity": "critical", "condition": condition}
            await rules.create_rule(connection, document, datetime(2010, 1, 1, tzinfo=UTC), "test")


def test_another_worker_relays_judges_changed_rules_and_finds_silence_while_one_stands_still(
    database: Database, broker: Broker, topic_prefix: str, new_worker: NEW_WORKER, tmp_path: Path
) -> None:
    tenant = asyncio.run(create_tenant(database))
    last = datetime.now(UTC) - timedelta(minutes=30)
    frozen = new_worker(WEIR_WORKER_ID="frozen")
    device = ThirdPartyDevice(broker.bootstrap, f"{topic_prefix}readings")
    device.send_all(tenant.devices[0], [body(reading(round(last.timestamp() * 1000), 9.0))])
    wait_until(lambda: database.query("SELECT sum(next_offset) FROM stream_positions") == [(1,)], 60, "the reading")
    before = wait_until(lambda: len(found := turns(database)) == 3 and found, 60, "the turns")
    assert list(before) == TURNS

    frozen.signal(signal.SIGSTOP)
    new_worker(WEIR_WORKER_ID="awake")
    asyncio.run(add_rules(database, tenant.tenant_id))
    wait_until(lambda: episodes(database) == EPISODES, 60, "both alarms")
    assert published(broker, topic_prefix) == EPISODES
    assert not set(before.values()) & set(turns(database).values())

    frozen.signal(signal.SIGCONT)
    wait_until(lambda: frozen.log().count("lease.lost") == len(TURNS), 60, "that it noticed")
    assert episodes(database) == EPISODES
    assert database.query("SELECT count(*) FROM weir.notification") == [(2,)]


EPISODES = [("silent", "firing"), ("warm", "firing")]


def episodes(database: Database) -> list[tuple[str, str]]:
    return database.query(
        "SELECT CASE WHEN fired_at > started_at THEN 'silent' ELSE 'warm' END, status FROM alert_episodes ORDER BY 1, 2"
    )


def published(broker: Broker, topic_prefix: str) -> list[tuple[str, str]]:
    """What the topic says of both alarms."""
    consumer = KafkaConsumer(
        f"{topic_prefix}alerts",
        bootstrap_servers=broker.bootstrap,
        auto_offset_reset="earliest",
        consumer_timeout_ms=60_000,
    )
    records = [json.loads(next(consumer).value) for _ in EPISODES]
    consumer.close()
    kinds = {True: "warm", False: "silent"}
    return sorted((kinds[record["fired_at"] == record["started_at"]], record["status"]) for record in records)


@asynccontextmanager
async def writer(database: Database) -> AsyncIterator[Pool]:
    async with open_pool(database.writer_url, DatabaseRole.WRITER, size=4) as pool:
        yield pool


async def turn(pool: Pool, act: Callable[[Lease], Awaitable[None]]) -> bool:
    """Whether it was this one's turn, in which it did something."""
    taken: list[Lease] = []

    async def work(lease: Lease) -> None:
        taken.append(lease)
        await act(lease)

    await hold(pool, "work", work)
    return bool(taken)


async def nothing(_: Lease) -> None:
    return


EXPIRE = "UPDATE weir.lease SET expires_at = now() - interval '1 second'"


def test_a_turn_is_one_processs_until_it_ends_it(database: Database) -> None:
    async def go() -> None:
        async with writer(database) as pool:

            async def meanwhile(lease: Lease) -> None:
                lease.require_here()
                assert not await turn(pool, nothing)

            assert await turn(pool, meanwhile)
            assert await turn(pool, nothing)

    asyncio.run(go())


def test_a_turn_that_ran_out_is_the_next_ones_and_its_last_holder_is_refused(database: Database) -> None:
    async def go() -> None:
        async with writer(database) as pool:

            async def overslept(lease: Lease) -> None:
                async with pool.connection() as connection:
                    await connection.execute(EXPIRE)
                    with pytest.raises(LeaseLost, match="stood still"):
                        await lease.require(connection)
                    assert await turn(pool, nothing)
                    with pytest.raises(LeaseLost, match="stood still"):
                        await lease.require(connection)

            assert await turn(pool, overslept)

    asyncio.run(go())


def test_whoever_lost_the_turn_is_interrupted_and_leaves_the_next_ones_alone(database: Database) -> None:
    async def go() -> None:
        async with writer(database) as pool:

            async def rival(_: Lease) -> None:
                await asyncio.Event().wait()

            async def overslept(_: Lease) -> None:
                async with pool.connection() as connection:
                    await connection.execute("UPDATE weir.lease SET holder = 'rival'")
                await rival(_)

            assert await asyncio.wait_for(turn(pool, overslept), 60)
        assert turns(database) == {"work": "rival"}

    asyncio.run(go())
