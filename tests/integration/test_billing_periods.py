"""Every hour's usage is in exactly one invoice, or in a dated adjustment: periods, their ends, and what comes late."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest

from accounts.billing.subscriptions import take_invoice, take_subscription
from core.clock import now_ms
from ops.fake_stripe.subscriptions import complete_checkout
from schemas.usage import Meter
from tests.integration.servers import Database, create_tenant
from tests.integration.usage_push_scene import Scene, run

pytestmark = pytest.mark.integration

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
# A year ahead of us: the first of a March that follows a February of 28 days, or 29.
YEAR = datetime.now(UTC).year + 1


def first(month: int, year: int = YEAR) -> datetime:
    return datetime(year + (month - 1) // 12, (month - 1) % 12 + 1, 1, tzinfo=UTC)


class Calendar:
    """A scene in which months pass."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.used: dict[datetime, int] = {}

    @property
    def now(self) -> datetime:
        return datetime.fromtimestamp(self.scene.now_ms / 1000, UTC)

    def go_to(self, moment: datetime) -> None:
        self.scene.advance(moment - self.now)

    async def check_out(self, plan: str = "basic") -> str:
        """Subscribe on the hosted page, now."""
        scene = self.scene
        tenant_id = (await create_tenant(scene.database)).tenant_id
        customer = scene.customers[tenant_id] = await scene.stripe.billing.create_customer(tenant_id, "tenant")
        account = "INSERT INTO weir.billing_account (tenant_id, customer_id) VALUES (%s, %s)"
        scene.database.query(account, tenant_id, customer)
        await self.check_out_again(tenant_id, plan)
        return tenant_id

    async def check_out_again(self, tenant_id: str, plan: str = "basic") -> None:
        billing, fake = self.scene.stripe.billing, self.scene.stripe.fake
        there = "http://a.example"
        await billing.checkout_url(self.scene.customers[tenant_id], tenant_id, plan, there, there)
        [session] = [one["id"] for one in fake.store.all("checkout.session") if one["status"] == "open"]
        complete_checkout(fake.store, session)
        await self.look()

    async def look(self) -> None:
        """Act on webhooks: ask how everything stands."""
        scene = self.scene
        scene.stripe.fake.close_periods()
        async with scene.pool.connection() as connection:
            for one in list(scene.stripe.fake.store.all("subscription")):
                await take_subscription(connection, await scene.stripe.billing.subscription(one["id"]))
            for one in list(scene.stripe.fake.store.all("invoice")):
                await take_invoice(connection, await scene.stripe.billing.invoice(one["id"]))

    async def use(self, tenant_id: str, hours: Iterable[datetime], quantity: int = 1) -> None:
        """Usage in these hours, each of its own quantity: no sum comes about by accident."""
        for place, hour in enumerate(hours):
            amount = quantity << place
            self.used[hour] = self.used.get(hour, 0) + amount
            await self.scene.use(tenant_id, hour, amount, Meter.READINGS)

    async def push(self) -> None:
        await self.scene.pusher.run(self.scene.now_ms)

    async def end_period(self, end: datetime) -> None:
        """Push up to the end, bill, and let the invoice become final."""
        self.go_to(end + timedelta(minutes=1))
        await self.push()
        await self.look()
        self.go_to(end + 2 * HOUR)
        await self.look()

    def invoiced(self, meter: str = "readings") -> list[tuple[datetime, int]]:
        """The beginning of each final invoice's period and what it bills of a meter, the oldest first."""
        found = [one for one in self.scene.stripe.fake.store.all("invoice") if one["status"] != "draft"]
        lines = [
            (datetime.fromtimestamp(one["period_start"], UTC), line["quantity"])
            for one in found
            for line in one["lines"]["data"]
            if line["description"] == f"weir_{meter}"
        ]
        return sorted(lines)

    def total(self, start: datetime, end: datetime) -> int:
        return sum(quantity for hour, quantity in self.used.items() if start <= hour < end)


def test_from_14_37_through_months_of_28_to_31_days_and_a_change_of_clocks_each_hour_is_in_one_invoice(
    database: Database,
) -> None:
    # Whoever reads times in Berlin's zone must not shift a period.
    database.query(f"ALTER DATABASE {database.name} SET timezone = 'Europe/Berlin'")

    async def act(scene: Scene) -> None:
        calendar = Calendar(scene)
        begun = datetime(YEAR - 1, 12, 10, 14, 37, tzinfo=UTC)
        calendar.go_to(begun)
        tenant_id = await calendar.check_out()
        starts = [first(month) for month in range(1, 6)]  # January to May: December, 31, 28 or 29, 31 (clocks), 30 days
        edges = [hour for start in starts[:4] for hour in (start, start + 11 * DAY, start - HOUR)]
        clocks = [datetime(YEAR, 3, day, hour, tzinfo=UTC) for day in (25, 28, 31) for hour in (0, 1, 2)]
        await calendar.use(tenant_id, [begun.replace(minute=0), starts[4] - HOUR, *sorted({*edges, *clocks})])
        for end in starts:
            await calendar.end_period(end)

        periods = list(zip([begun.replace(minute=0), *starts[:-1]], starts, strict=True))
        assert [quantity for _, quantity in calendar.invoiced()] == [calendar.total(*period) for period in periods]
        assert [start for start, _ in calendar.invoiced()][1:] == starts[:-1]
        assert sum(quantity for _, quantity in calendar.invoiced()) == sum(calendar.used.values())

    run(database, act)


def test_what_comes_late_is_pushed_while_the_period_is_open_and_adjusted_after(database: Database) -> None:
    async def act(scene: Scene) -> None:
        calendar = Calendar(scene)
        calendar.go_to(first(3) + HOUR)
        tenant_id = await calendar.check_out()
        calendar.go_to(first(4) - 3 * DAY)
        now = calendar.now.replace(minute=0, second=0, microsecond=0)
        on_time = [now - 2 * HOUR, now - 3 * DAY]
        await calendar.use(tenant_id, on_time)
        await calendar.push()
        await calendar.use(tenant_id, on_time, 16)  # two hours and three days late
        await calendar.push()
        assert [await scene.at_stripe(tenant_id, hour, Meter.READINGS) for hour in on_time] == [17, 34]
        revisions = "SELECT revision, state FROM usage_pushes"
        assert database.query(revisions) == [(2, "acknowledged")] * 2
        await calendar.end_period(first(4))
        sent = len(scene.stripe.events())

        calendar.go_to(first(4) + 3 * DAY)
        await calendar.use(tenant_id, [first(4) - HOUR], 100)  # three days late, the invoice is final
        await calendar.push()
        calendar.go_to(first(4) + 33 * DAY)
        await calendar.use(tenant_id, [first(4) - DAY], 200)  # 34 days
        await calendar.push()
        calendar.go_to(first(4) + 40 * DAY)
        await calendar.use(tenant_id, [first(4) - 2 * DAY], 400)  # and 42
        await calendar.push()

        assert len(scene.stripe.events()) == sent
        adjusted = "SELECT bucket_start, quantity, reason FROM usage_adjustments ORDER BY adjustment_id"
        is_final = "the invoice of the period is final"
        assert database.query(adjusted) == [
            (first(4) - HOUR, 100, is_final),
            (first(4) - DAY, 200, is_final),
            (first(4) - 2 * DAY, 400, is_final),
        ]
        assert database.query("SELECT sum(quantity) FROM usage_hourly WHERE meter = 'readings'") == [(51 + 700,)]
        assert calendar.invoiced() == [(calendar.invoiced()[0][0], 51)]

    run(database, act)


def test_a_larger_plan_in_the_middle_of_a_month_changes_no_count(database: Database) -> None:
    async def act(scene: Scene) -> None:
        calendar = Calendar(scene)
        calendar.go_to(first(3) + timedelta(minutes=1))
        tenant_id = await calendar.check_out("basic")
        await calendar.use(tenant_id, [first(3), first(3) + 14 * DAY - HOUR])
        calendar.go_to(first(3) + 14 * DAY)
        await calendar.push()
        store = scene.stripe.fake.store
        [subscription] = store.all("subscription")
        larger = next(price for price in store.all("price") if price["lookup_key"] == "weir_plan_professional")
        item = next(one for one in subscription["items"]["data"] if one["price"]["lookup_key"] == "weir_plan_basic")
        change = {"items": [{"id": item["id"], "price": larger["id"]}]}
        scene.stripe.fake.update_subscription(change, subscription["id"])
        await calendar.look()
        assert database.query("SELECT plan FROM weir.tenant WHERE tenant_id = %s", tenant_id) == [("professional",)]
        await calendar.use(tenant_id, [first(3) + 14 * DAY, first(4) - HOUR], 4)
        await calendar.end_period(first(4))

        assert [quantity for _, quantity in calendar.invoiced()] == [1 + 2 + 4 + 8]

    run(database, act)


def test_a_cancelled_subscription_bills_its_last_hour_and_nothing_after(database: Database) -> None:
    async def act(scene: Scene) -> None:
        calendar = Calendar(scene)
        calendar.go_to(first(3) + timedelta(minutes=1))
        tenant_id = await calendar.check_out()
        [subscription] = scene.stripe.fake.store.all("subscription")
        scene.stripe.fake.update_subscription({"cancel_at_period_end": True}, subscription["id"])
        await calendar.look()
        await calendar.use(tenant_id, [first(4) - HOUR, first(4)])
        await calendar.end_period(first(4))
        calendar.go_to(first(5) + HOUR)
        await calendar.push()
        await calendar.look()

        assert [quantity for _, quantity in calendar.invoiced()] == [1]
        assert [value for _, value, _ in scene.stripe.events()] == [1]
        assert database.query("SELECT plan FROM weir.tenant WHERE tenant_id = %s", tenant_id) == [("free",)]
        assert database.query("SELECT count(*) FROM usage_adjustments") == [(0,)]

    run(database, act)


def test_a_period_that_is_silent_from_its_first_day_on_bills_the_sensors_that_were_active_at_its_start(
    database: Database,
) -> None:
    async def act(scene: Scene) -> None:
        calendar = Calendar(scene)
        calendar.go_to(first(3) + timedelta(minutes=1))
        tenant_id = await calendar.check_out()
        # Three sensors whose last readings are of 23:00 on March's last day count for the 24 hours from then on.
        for hour in (first(4) - HOUR + n * HOUR for n in range(24)):
            await scene.use(tenant_id, hour, 3, Meter.ACTIVE_SENSORS)
        await calendar.end_period(first(4))
        await calendar.end_period(first(5))
        await calendar.end_period(first(6))

        # In May nothing was active, and nothing said so: a period without any event comes to nothing.
        assert [quantity for _, quantity in calendar.invoiced("active_sensors")] == [3, 3, 0]

    run(database, act)


def test_the_scene_lies_ahead_of_the_real_clock() -> None:
    assert first(1).timestamp() * 1000 > now_ms()


def test_what_was_used_between_two_subscriptions_is_billed_to_neither(database: Database) -> None:
    async def act(scene: Scene) -> None:
        calendar = Calendar(scene)
        calendar.go_to(first(3) + timedelta(minutes=1))
        tenant_id = await calendar.check_out()
        [subscription] = scene.stripe.fake.store.all("subscription")
        scene.stripe.fake.update_subscription({"cancel_at_period_end": True}, subscription["id"])
        await calendar.use(tenant_id, [first(4) - HOUR])
        await calendar.end_period(first(4))
        free = [first(4), first(4) + 3 * DAY, first(6) - HOUR]  # more than 34 days before somebody pays again, and less
        await calendar.use(tenant_id, free, 10)
        calendar.go_to(first(6) + timedelta(minutes=37))
        await calendar.push()
        await calendar.check_out_again(tenant_id)
        # Two that come late: of March, and of the time between.
        await calendar.use(tenant_id, [first(6), first(4) - 2 * HOUR, first(4) + 4 * DAY], 100)
        calendar.go_to(first(6) + 2 * HOUR)
        await calendar.push()

        assert [value for _, value, _ in scene.stripe.events()] == [1, 100]
        adjusted = "SELECT bucket_start, quantity, reason FROM usage_adjustments"
        assert database.query(adjusted) == [(first(4) - 2 * HOUR, 200, "the invoice of the period is final")]
        assert database.query("SELECT starts_at, ends_at FROM billing_lapses") == [(first(4), first(6))]
        # Nor compared with what Stripe was told.
        unbilled = database.query("SELECT bucket_start FROM usage_drift WHERE pushed IS NULL ORDER BY 1")
        assert [hour for (hour,) in unbilled] == [first(4), first(4) + 3 * DAY, first(4) + 4 * DAY, first(6) - HOUR]

    run(database, act)


def test_news_of_an_older_subscription_change_nothing_once_a_later_one_has_ended_too(database: Database) -> None:
    async def act(scene: Scene) -> None:
        calendar = Calendar(scene)
        calendar.go_to(first(3) + HOUR)
        tenant_id = await calendar.check_out()
        [older] = scene.stripe.fake.store.all("subscription")
        scene.stripe.fake.cancel_subscription({}, older["id"])
        await calendar.look()
        calendar.go_to(first(5) + HOUR)
        await calendar.check_out_again(tenant_id, "professional")
        account = "SELECT subscription_id, status FROM billing_accounts"
        [(later, status)] = database.query(account)
        assert (later != older["id"], status) == (True, "active")
        scene.stripe.fake.cancel_subscription({}, later)
        for one in (later, older["id"]):
            async with scene.pool.connection() as connection:
                await take_subscription(connection, await scene.stripe.billing.subscription(one))

        assert database.query(account) == [(later, "canceled")]

    run(database, act)
