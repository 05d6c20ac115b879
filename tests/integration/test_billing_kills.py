"""`kill -9` at 100 random points of the worker's and the job worker's work, with three of ten replies lost: not a unit is off.

Processes are forked from warm parents (`kill_process`), so that a kill costs a fraction of a second; `test_billing_chaos` kills
whole ones, on a broker.
"""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import random
import signal
import sys
from asyncio.subprocess import PIPE
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from core.clock import now_ms
from ops.embedded.lifeline import tied
from schemas.readings import encode_record
from schemas.usage import HOUR_MS
from tests.integration.kill_process import TOPIC
from tests.integration.metering_scene import FetchedRecord
from tests.integration.publishing import signed_headers
from tests.integration.servers import Database, Tenant
from tests.integration.stripe_scene import KEY, StripeScene, stripe_scene
from tests.integration.test_billing_chaos import (
    HOURS,
    JUMP,
    compare,
    lose_replies,
    pusher,
    settled,
    subscribed,
    until,
    worked_up,
)

pytestmark = pytest.mark.integration

# Of the worker and of the job worker, which takes longer to come back: 100 in all.
KILLS = {"absolute": (45, 25), "delta": (20, 10)}
# Far more than all lives together take in on a fast machine.
RECORDS = 1_500
# A life: up to three batches, or one run of pushes, and then some part of the next.
STEPS, LONGEST_S = {"feed": 3, "push": 1}, {"feed": 0.02, "push": 0.05}


def write_log(path: Path, tenants: dict[str, Tenant], rng: random.Random) -> None:
    """What a partition holds: readings of some hours in no order, every tenth record a second time."""
    start_ms = now_ms() // HOUR_MS * HOUR_MS - (HOURS + 2) * HOUR_MS
    log: list[FetchedRecord] = []
    while len(log) < RECORDS:
        [device] = rng.choice(list(tenants.values())).devices
        readings = [(f"s{rng.randrange(4)}", start_ms + rng.randrange(HOURS * HOUR_MS), 4.0, 0) for _ in range(3)]
        value = encode_record(readings)
        made = FetchedRecord(0, device.device_id.encode(), value, signed_headers(device, value))
        log += [made] * (2 if rng.random() < 0.1 else 1)
    for offset, record in enumerate(log):
        log[offset] = FetchedRecord(offset, record.key, record.value, record.headers)
    path.write_bytes(pickle.dumps(log))


async def kill_all(role: str, environment: dict[str, str], lives: list[tuple[int, float]]) -> Counter[str]:
    """Kill a process of this role after each of these lives, one after the other."""
    command = tied([sys.executable, "-m", "tests.integration.kill_process", role], signal.SIGKILL)
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, env=os.environ | environment)
    async with asyncio.timeout(300):
        out, _ = await process.communicate(json.dumps(lives).encode() + b"\n")
    return Counter(out.decode().split())


async def chaos(database: Database, log: Path, mode: str, rng: random.Random) -> None:
    async with stripe_scene(is_absolute=mode == "absolute") as stripe:
        tenants = await subscribed(database, stripe)
        write_log(log, tenants, rng)
        database.query("INSERT INTO weir.stream_position VALUES (%s, 0, 'id', 0)", TOPIC)
        lose_replies(rng, stripe, 20_000)
        environment = {
            "DATABASE_URL": database.writer_url, "LOG": str(log), "MODE": mode, "BATCH": "4",
            "STRIPE_KEY": KEY, "STRIPE_URL": stripe.url,
        }  # fmt: skip
        lives = {
            role: [(rng.randint(0, STEPS[role]), rng.uniform(0, LONGEST_S[role])) for _ in range(kills)]
            for role, kills in zip(("feed", "push"), KILLS[mode], strict=True)
        }
        killed = await asyncio.gather(*(kill_all(role, environment, lives[role]) for role in lives))
        assert [dict(one) for one in killed] == [{"killed": kills} for kills in KILLS[mode]]
        [(offset,)] = database.query("SELECT next_offset FROM weir.stream_position WHERE topic = %s", TOPIC)
        assert 0 < offset < RECORDS  # they worked, and were killed at work
        assert await kill_all("feed", environment | {"BATCH": "100"}, [(RECORDS, 0.0)]) == Counter(ended=1)
        await settle(database, stripe, mode)
        end = datetime.fromtimestamp(now_ms() / 1000, UTC)
        await compare(database, stripe, tenants, end)


async def settle(database: Database, stripe: StripeScene, mode: str) -> None:
    """What hangs in doubt is a day older than Stripe remembers identifiers."""
    await worked_up(stripe)
    stripe.advance(JUMP.total_seconds())
    end = datetime.fromtimestamp(now_ms() / 1000, UTC)
    with pusher(database, stripe, mode, JUMP):
        await until(lambda: settled(database, end), "every push")


@pytest.mark.parametrize("mode", ["absolute", "delta"])
def test_killed_at_a_hundred_random_points_with_replies_lost_the_bill_is_the_rows(
    database: Database, tmp_path: Path, mode: str
) -> None:
    asyncio.run(chaos(database, tmp_path / "log", mode, random.Random(20_261_123)))
