"""`kill -9` at random points of charging what came late, with three of ten replies lost: each of it is on one line."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from accounts.billing.subscriptions import subscribe_directly
from core.postgres import DatabaseRole, open_pool
from ops.fake_stripe.faults import Fault, Trouble
from tests.integration.kill_process import charge_what_is_due
from tests.integration.servers import Database, create_tenant
from tests.integration.stripe_scene import KEY, StripeScene, stripe_scene
from tests.integration.test_billing_kills import kill_all

pytestmark = pytest.mark.integration

KILLS = 25
ITEMS = "/v1/invoiceitems"


def lose_replies(stripe: StripeScene, rng: random.Random) -> None:
    """Of the next requests about lines three in ten are done and never answered."""
    skipped = 0
    for _ in range(10_000):
        if rng.random() < 0.3:
            stripe.fake.faults.add(Fault(ITEMS, Trouble.LOST_REPLY, 1, skipped))
            skipped = 0
        else:
            skipped += 1


def test_killed_at_random_points_with_replies_lost_all_that_came_late_is_charged_once(database: Database) -> None:
    rng = random.Random(20_261_123)

    async def act() -> None:
        async with stripe_scene() as stripe, open_pool(database.writer_url, DatabaseRole.WRITER) as pool:
            await stripe.billing.set_up()
            async with pool.connection() as connection:
                for _ in range(3):
                    tenant = await create_tenant(database)
                    await subscribe_directly(connection, stripe.billing, tenant.tenant_id, "professional")
            lose_replies(stripe, rng)
            environment = {"DATABASE_URL": database.writer_url, "STRIPE_KEY": KEY, "STRIPE_URL": stripe.url}
            lives = [(rng.randint(0, 2), rng.uniform(0, 0.03)) for _ in range(KILLS)]
            assert await kill_all("charge", environment, lives) == Counter(killed=KILLS)
            async with asyncio.timeout(120):
                while await charge_what_is_due(pool, stripe.billing):
                    pass
            require_each_once(database, stripe)

    asyncio.run(act())


def require_each_once(database: Database, stripe: StripeScene) -> None:
    """What was noted, what was charged of it, and the lines that customers see."""
    lines = Counter((item["customer"], item["quantity"], item["id"]) for item in stripe.fake.store.all("invoiceitem"))
    charged = database.query(
        "SELECT a.customer_id, c.quantity, c.item_id FROM usage_charges c JOIN billing_accounts a USING (tenant_id)"
        " WHERE c.state = 'acknowledged'"
    )
    assert lines == Counter(charged)
    noted = database.query(
        "SELECT count(*), sum(quantity)::bigint FROM usage_adjustments WHERE charge_state = 'acknowledged'"
    )
    assert noted == database.query("SELECT count(*), sum(quantity)::bigint FROM usage_adjustments")
    assert sum(quantity for _, quantity, _ in charged) == noted[0][1] > KILLS * 1_000_000
