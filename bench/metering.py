"""`weir bench metering`: what metering costs beside ingest, how long a proof takes, and the pushes of an hour for many tenants.

One database is started for the run; the pipeline is fed without a broker, the stand-in for Stripe answers in this process.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
from aiohttp import web

from accounts.billing.planning import plan_pushes
from accounts.billing.pushes import Pusher
from accounts.billing.stripe_adapter import StripeBilling
from bench import metering_share
from core.postgres import DatabaseRole, Pool, open_pool
from ops.embedded.postgres import EmbeddedPostgres
from ops.fake_stripe.server import make_app
from ops.fake_stripe.service import FakeStripe
from ops.fake_stripe.webhooks import Manners
from sinks.timescale import usage_proof
from sinks.timescale.migrate import migrate

_STRIPE_KEY = "sk_test_bench"
_STATEMENT_MS = 600_000

_TENANTS = """
WITH made AS (INSERT INTO weir.tenant (tenant_id, name) SELECT 'proof_' || n, 'tenant' FROM generate_series(1, %(tenants)s) n),
devices AS (INSERT INTO weir.device (device_id, tenant_id, name)
            SELECT 'proof_' || n, 'proof_' || n, 'device' FROM generate_series(1, %(tenants)s) n)
INSERT INTO weir.sensor (tenant_id, device_id, name)
SELECT 'proof_' || n, 'proof_' || n, 'air' FROM generate_series(1, %(tenants)s) n
"""
_PARTITIONS = """
SELECT weir.ensure_partitions(array_agg(d))
FROM generate_series(%s::timestamptz, now() + interval '1 day', interval '12 hours') AS d
"""
_READINGS = """
INSERT INTO weir.reading (sensor_no, seq, at, value, received_at)
SELECT s.sensor_no, 0, %(day)s + n * interval '5 minutes', 4, now()
FROM generate_series(0, 287) n, weir.sensor s WHERE s.tenant_id LIKE 'proof%%' AND %(day)s + n * interval '5 minutes' < now()
"""
_USAGE = """
INSERT INTO weir.usage (tenant_id, meter, bucket_start, quantity)
SELECT tenant_id, meter, bucket_start, quantity FROM weir.stored_usage(NULL::text[], '-infinity', 'infinity')
WHERE tenant_id LIKE 'proof%' ORDER BY 1, 2, 3
"""
_SCANS = """
INSERT INTO weir.usage (tenant_id, meter, bucket_start, quantity)
SELECT tenant_id, 'scans', date_trunc('hour', now(), 'UTC') - interval '1 hour', 3 FROM weir.tenant WHERE tenant_id LIKE 'proof%'
"""
_MAKE_OLD = "UPDATE weir.usage SET changed_at = bucket_start WHERE bucket_start < now() - interval '2 hours'"
_ACKNOWLEDGE = "UPDATE weir.usage_push SET state = 'acknowledged', acked_quantity = quantity, settled_at = now()"
_ACCOUNTS = """
INSERT INTO weir.billing_account (tenant_id, customer_id, subscription_id, status, subscribed_at, activated_at)
SELECT tenant_id, 'cus_' || tenant_id, 'sub_' || tenant_id, 'active', now() - interval '90 days', now()
FROM weir.tenant WHERE tenant_id LIKE 'proof%'
"""


def _fill(url: str, tenants: int, days: int) -> int:
    """Readings each five minutes, and what is metered of them."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_TENANTS, {"tenants": tenants})
        first = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(days=days)
        connection.execute(_PARTITIONS, (first,))
        rows = 0
        for day in range(days):
            rows += connection.execute(_READINGS, {"day": first + timedelta(days=day)}).rowcount
        connection.execute(_USAGE)
        connection.execute("VACUUM ANALYZE")
    return rows


@asynccontextmanager
async def _stripe() -> AsyncIterator[tuple[FakeStripe, StripeBilling]]:
    fake = FakeStripe(":memory:", _STRIPE_KEY, Manners())
    runner = web.AppRunner(make_app(fake), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    billing = StripeBilling(_STRIPE_KEY, f"http://{host}:{port}")
    try:
        yield fake, billing
    finally:
        await billing.close()
        await runner.cleanup()


async def _proofs(pool: Pool, rows: int) -> AsyncIterator[dict[str, object]]:
    for name in ("first_proof", "proof_of_what_was_touched"):
        started = time.monotonic()
        differing = len(await usage_proof.prove(pool))
        yield {
            "measure": name,
            "readings": rows,
            "seconds": round(time.monotonic() - started, 2),
            "differences": differing,
        }
        async with pool.connection() as connection:
            # As if all but the last hours had been stored before the first proof.
            await connection.execute("ALTER TABLE weir.usage DISABLE TRIGGER USER")
            await connection.execute(_MAKE_OLD)
            await connection.execute("ALTER TABLE weir.usage ENABLE TRIGGER USER")


async def _pushes(pool: Pool, tenants: int) -> AsyncIterator[dict[str, object]]:
    """A month's first planning, then an hour of three meters for every tenant."""
    now = datetime.now(UTC)
    async with _stripe() as (_, billing):
        await billing.set_up()
        for name in ("plan_first", "plan_again"):
            started = time.monotonic()
            await plan_pushes(pool, now)
            yield {"measure": name, "tenants": tenants, "seconds": round(time.monotonic() - started, 2)}
        async with pool.connection() as connection:
            await connection.execute(_ACKNOWLEDGE)
            await connection.execute("DELETE FROM weir.usage_push WHERE bucket_start >= now() - interval '2 hours'")
        started = time.monotonic()
        run = await Pusher(pool, billing).run(int(now.timestamp() * 1000))
        seconds = time.monotonic() - started
    yield {
        "measure": "pushes_of_an_hour", "tenants": tenants, "pushes": run.sent, "unsettled": run.unsettled,
        "seconds": round(seconds, 2), "per_s": round(run.sent / seconds),
    }  # fmt: skip


async def _billing(url: str, tenants: int, rows: int) -> list[dict[str, object]]:
    found = []
    async with open_pool(url, DatabaseRole.OWNER, size=4, statement_timeout_ms=_STATEMENT_MS) as pool:
        found += [line async for line in _proofs(pool, rows)]
        async with pool.connection() as connection:
            await connection.execute(_SCANS)
            await connection.execute(_ACCOUNTS)
        found += [line async for line in _pushes(pool, tenants)]
        started = time.monotonic()
        async with pool.connection() as connection:
            await connection.execute("SELECT count(*) FROM public.usage_drift")
        found.append({"measure": "full_proof", "readings": rows, "seconds": round(time.monotonic() - started, 2)})
    return found


def run(tenants: int, days: int, batches: int) -> Iterator[dict[str, object]]:
    """Measure everything once.

    Yields:
        One JSON-able object per measurement.
    """
    # A database each: what runs without metering leaves rows that no proof would pass.
    with _database() as postgres:
        for count in (10, tenants):
            share = metering_share.measure(postgres.superuser_url, count, batches)
            yield {"bench": "metering", **asyncio.run(share)}
    with _database() as postgres:
        rows = _fill(postgres.superuser_url, tenants, days)
        for line in asyncio.run(_billing(postgres.superuser_url, tenants, rows)):
            yield {"bench": "metering", **line}


@contextmanager
def _database() -> Iterator[EmbeddedPostgres]:
    with (
        tempfile.TemporaryDirectory(prefix="weir-bench-") as name,
        EmbeddedPostgres(Path(name) / "postgres") as postgres,
    ):
        migrate(postgres.superuser_url)
        yield postgres
