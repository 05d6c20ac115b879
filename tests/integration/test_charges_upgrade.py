"""An upgrade to charged adjustments: what was settled by hand before is never charged, what comes after it is."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from psycopg import sql

from accounts.billing.charges import Charger
from accounts.billing.subscriptions import subscribe_directly
from core.clock import now_ms
from core.postgres import DatabaseRole, open_pool
from ops.embedded.postgres import EmbeddedPostgres
from sinks.timescale import migrate as migrating
from sinks.timescale.migrate import Engine, migrate
from tests.integration.servers import with_database
from tests.integration.stripe_scene import stripe_scene

pytestmark = pytest.mark.integration

BEFORE = 34  # 0035 makes charges
MARCH, APRIL = datetime(2026, 3, 30, 7, tzinfo=UTC), datetime(2026, 4, 2, 5, tzinfo=UTC)
ADJUSTMENT = (
    "INSERT INTO weir.usage_adjustment (tenant_id, meter, bucket_start, quantity, reason, created_at)"
    " VALUES ('upgraded', %s, %s, %s, 'late', now() - interval '5 days')"
)


@pytest.fixture
def old_database(postgres: EmbeddedPostgres, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a database as the version before left it."""
    name = f"test_{secrets.token_hex(6)}"
    every = migrating.migrations
    with psycopg.connect(postgres.superuser_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
        with monkeypatch.context() as patch:
            patch.setattr(migrating, "migrations", lambda chosen: every(chosen)[:BEFORE])
            migrate(with_database(postgres.superuser_url, name), engine=engine)
        yield with_database(postgres.superuser_url, name)
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def test_adjustments_from_before_are_settled_and_only_later_ones_are_charged(old_database: str) -> None:
    async def act(connection: psycopg.Connection[tuple[object, ...]]) -> None:
        async with stripe_scene() as stripe, open_pool(old_database, DatabaseRole.WRITER) as pool:
            await stripe.billing.set_up()
            async with pool.connection() as writer:
                await subscribe_directly(writer, stripe.billing, "upgraded", "professional")
            for hour, quantity in ((MARCH, 40), (MARCH + timedelta(hours=1), 2), (APRIL, 5), (APRIL, -1)):
                connection.execute(ADJUSTMENT, ("readings", hour, quantity))
            connection.execute(ADJUSTMENT, ("active_sensors", MARCH, 3))
            assert migrate(old_database).applied[0] == "0035_usage_charges"

            charger = Charger(pool, stripe.billing)
            await charger.run(now_ms())
            assert list(stripe.fake.store.all("invoiceitem")) == []
            settled = "SELECT meter, month, quantity, state FROM usage_charges ORDER BY meter, month"
            march, april = (day.replace(day=1, hour=0) for day in (MARCH, APRIL))
            assert connection.execute(settled).fetchall() == [
                ("active_sensors", march, 3, "free"), ("readings", march, 42, "free"), ("readings", april, 4, "free"),
            ]  # fmt: skip
            assert connection.execute("SELECT * FROM usage_adjustments WHERE charge_id IS NULL").fetchall() == []

            connection.execute(ADJUSTMENT, ("readings", MARCH, 1_000_000))
            await charger.run(now_ms())
            assert [item["quantity"] for item in stripe.fake.store.all("invoiceitem")] == [1_000_000]

    with psycopg.connect(old_database, autocommit=True) as connection:
        connection.execute("INSERT INTO weir.tenant (tenant_id, name) VALUES ('upgraded', 'tenant')")
        asyncio.run(act(connection))
