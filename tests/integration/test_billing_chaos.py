"""Workers and pushers are killed again and again, replies are lost, clocks jump: the bill is the rows, to the unit."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from accounts.billing.reconciling import Reconciler
from accounts.billing.subscriptions import subscribe_directly
from core.clock import now_ms
from core.postgres import DatabaseRole, open_pool
from ops.fake_stripe.faults import Fault, Trouble
from schemas.usage import HOUR_MS, Meter
from tests.integration import warm
from tests.integration.conftest import Broker
from tests.integration.publishing import ThirdPartyDevice, body, reading
from tests.integration.servers import Database, Tenant, WorkerProcess, create_tenant
from tests.integration.stripe_scene import KEY, StripeScene, stripe_scene

pytestmark = pytest.mark.integration

EVENTS = "/v1/billing/meter_events"
# Whole processes take seconds to come back: `test_billing_kills` kills a hundred cheap ones, this a hundred when told to.
WANTED = int(os.environ.get("WEIR_TEST_KILLS", "0"))
TENANTS, HOURS, RECORDS = 3, 8, max(90, 20 * WANTED)
BATCH = "5" if WANTED else "20"
# How often worker and pusher are killed.
KILLS = {"absolute": (max(2, WANTED // 2), max(5, WANTED // 2)), "delta": (0, 3)}
JUMP = timedelta(hours=25)


def records(rng: random.Random, start_ms: int) -> list[bytes]:
    """Readings of some hours in no order; every fifth record comes twice."""
    made = []
    for _ in range(RECORDS):
        at = [start_ms + rng.randrange(HOURS * HOUR_MS) for _ in range(10)]
        made.append(body(*(reading(moment, 4.0, f"s{rng.randrange(4)}") for moment in at)))
    doubled = made + rng.sample(made, RECORDS // 5)
    rng.shuffle(doubled)
    return doubled


def lose_replies(rng: random.Random, stripe: StripeScene, requests: int) -> None:
    """Of the next requests three in ten are done and never answered."""
    skipped = 0
    for _ in range(requests):
        if rng.random() < 0.3:
            stripe.fake.faults.add(Fault(EVENTS, Trouble.LOST_REPLY, 1, skipped))
            skipped = 0
        else:
            skipped += 1


@contextmanager
def pusher(database: Database, stripe: StripeScene, mode: str, ahead: timedelta = timedelta()) -> Iterator[None]:
    """A process that pushes until it is killed."""
    environment = os.environ | {
        "DATABASE_URL": database.writer_url,
        "STRIPE_KEY": KEY,
        "STRIPE_URL": stripe.url,
        "AHEAD_MS": str(round(ahead.total_seconds() * 1000)),
        "MODE": mode,
    }
    imports = ("accounts.billing.pushes", "accounts.billing.stripe_adapter")
    process = warm.start(("-m", "tests.integration.push_process"), environment, imports=imports)
    try:
        yield
    finally:
        process.kill()
        process.wait(timeout=10)


def settled(database: Database, end: datetime) -> bool:
    """Whether every hour that ended before is stored, metered, pushed and acknowledged."""
    open_hours = (
        "SELECT count(*) FROM usage_hourly u LEFT JOIN usage_pushes p USING (tenant_id, meter, bucket_start)"
        " WHERE u.bucket_start + interval '1 hour' <= %s"
        " AND (p.acked_quantity, p.state) IS DISTINCT FROM (u.quantity, 'acknowledged')"
    )
    return database.query(open_hours, end) == [(0,)]


async def subscribed(database: Database, stripe: StripeScene) -> dict[str, Tenant]:
    """Tenants by their customer at Stripe."""
    await stripe.billing.set_up()
    found = {}
    async with open_pool(database.writer_url, DatabaseRole.WRITER) as pool, pool.connection() as connection:
        for _ in range(TENANTS):
            tenant = await create_tenant(database)
            made = await subscribe_directly(connection, stripe.billing, tenant.tenant_id, "enterprise")
            found[made.customer_id] = tenant
    return found


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition while this process goes on being Stripe."""
    for _ in range(3_600):
        if condition():
            return
        await asyncio.sleep(0.05)
    raise AssertionError(what)


async def worked_up(stripe: StripeScene) -> None:
    """Let Stripe finish what pushers asked before they were killed: no request is a day under way, and taken twice so."""
    for _ in range(20):
        await asyncio.sleep(0)  # their last bytes are in the kernel: a few turns of the loop read them
    await until(lambda: not stripe.fake.is_metering, "the last requests")


def worked_off(database: Database) -> int:
    return int(database.query("SELECT coalesce(sum(next_offset), 0) FROM stream_positions")[0][0])


async def chaos(
    database: Database, broker: Broker, prefix: str, new_worker: Callable[..., WorkerProcess], mode: str, seed: int
) -> None:
    rng = random.Random(seed)
    async with stripe_scene(is_absolute=mode == "absolute") as stripe:
        tenants = await subscribed(database, stripe)
        sent = publish(broker, prefix, tenants, rng)
        lose_replies(rng, stripe, max(2_000, 200 * WANTED))
        await kill_again_and_again(database, stripe, new_worker, mode, rng, sent)
        await worked_up(stripe)
        # What hangs in doubt is a day older now than Stripe remembers identifiers.
        stripe.advance(JUMP.total_seconds())
        with pusher(database, stripe, mode, JUMP):
            end = datetime.fromtimestamp(now_ms() / 1000, UTC)
            await until(lambda: settled(database, end), "every push")
        await compare(database, stripe, tenants, end)


def publish(broker: Broker, prefix: str, tenants: dict[str, Tenant], rng: random.Random) -> int:
    device = ThirdPartyDevice(broker.bootstrap, f"{prefix}readings")
    sent = 0
    for tenant in tenants.values():
        values = records(rng, now_ms() // HOUR_MS * HOUR_MS - (HOURS + 2) * HOUR_MS)
        device.send_all(tenant.devices[0], values)
        sent += len(values)
    return sent


async def kill_again_and_again(
    database: Database,
    stripe: StripeScene,
    new_worker: Callable[..., WorkerProcess],
    mode: str,
    rng: random.Random,
    sent: int,
) -> None:
    """Stop the worker dead at some offsets and the pusher at some requests; both come back each time."""
    worker_kills, pusher_kills = KILLS[mode]
    offsets = [*sorted(rng.sample(range(1, sent), worker_kills)), sent + 1]
    worker = new_worker(WEIR_BATCH_MAX_RECORDS=BATCH)
    while pusher_kills > 0 or len(offsets) > 1:
        pusher_kills -= 1
        heard = len(stripe.events()) + rng.randrange(1, 12)
        with pusher(database, stripe, mode):
            await until(lambda: worked_off(database) >= offsets[0] or len(stripe.events()) >= heard, "progress")  # noqa: B023
        if worked_off(database) >= offsets[0]:
            worker.kill()
            del offsets[0]
            worker = new_worker(WEIR_BATCH_MAX_RECORDS=BATCH)
    await until(lambda: worked_off(database) == sent, "the last record")
    worker.kill()


def differing(database: Database, stripe: StripeScene) -> str:
    """The pushes of which Stripe counts something else than it acknowledged, each with the events it took."""
    query = (
        "SELECT a.customer_id, p.meter, extract(epoch FROM p.bucket_start)::bigint, v.quantity, to_jsonb(p)::text"
        " FROM usage_pushes p JOIN provider_usage v USING (tenant_id, meter, bucket_start)"
        " JOIN billing_accounts a USING (tenant_id) WHERE v.quantity IS DISTINCT FROM p.acked_quantity ORDER BY 1, 2, 3"
    )
    taken = (
        "SELECT identifier, value, received FROM meter_event WHERE customer = ? AND event_name = ? AND at >= ? AND at < ?"
        " ORDER BY number"
    )
    lines = []
    for customer, meter, start_s, counted, push in database.query(query):
        hour = (customer, f"weir_{meter}", start_s, start_s + 3_600)
        lines += [f"Stripe counts {counted} of {push}", *map(str, stripe.fake.store.db.execute(taken, hour))]
    return "\n".join(lines)


async def compare(database: Database, stripe: StripeScene, tenants: dict[str, Tenant], end: datetime) -> None:
    """Rows, usage, pushes and Stripe's totals of every closed hour."""
    stripe.advance(16 * 60)
    later_ms = now_ms() + round(JUMP.total_seconds() * 1000) + 16 * 60_000
    day = end.replace(hour=0, minute=0, second=0, microsecond=0)
    async with open_pool(database.writer_url, DatabaseRole.WRITER) as pool:
        report = await Reconciler(pool, stripe.billing).run(day - timedelta(days=2), day + timedelta(days=3), later_ms)
    assert (report.sent_again, report.alarms) == (0, 0), differing(database, stripe)
    assert database.query("SELECT * FROM usage_drift") == []
    rows = (
        "SELECT (extract(epoch FROM date_bin('1 hour', at, 'epoch')))::bigint, count(*) FROM readings"
        " WHERE tenant_id = %s GROUP BY 1"
    )
    start_s = int((day - timedelta(days=2)).timestamp())
    for customer, tenant in tenants.items():
        counted = await stripe.billing.totals(customer, Meter.READINGS, start_s, start_s + 5 * 86_400, "hour")
        assert dict(counted) == dict(database.query(rows, tenant.tenant_id))
        assert sum(counted.values()) > 0
    # No hour was left out of the comparison; those that ended in the jump may be on their way.
    read = (
        "SELECT count(*) FROM usage_pushes p JOIN provider_usage v USING (tenant_id, meter, bucket_start)"
        " WHERE v.read_at > p.settled_at AND p.bucket_start + interval '1 hour' <= %s"
    )
    pushed = "SELECT count(*) FROM usage_pushes WHERE bucket_start + interval '1 hour' <= %s"
    assert database.query(read, end) == database.query(pushed, end)


@pytest.mark.parametrize("mode", ["absolute", "delta"])
def test_whatever_is_killed_and_lost_the_bill_is_the_rows(
    database: Database, broker: Broker, topic_prefix: str, new_worker: Callable[..., WorkerProcess], mode: str
) -> None:
    asyncio.run(chaos(database, broker, topic_prefix, new_worker, mode, seed=20261123))
