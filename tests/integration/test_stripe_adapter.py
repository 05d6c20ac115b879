"""The Stripe adapter through stripe-python against the stand-in: what is asked has Stripe's shape, what fails is sorted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from accounts.billing.port import Charge, Item, Outcome, Push
from accounts.billing.stripe_adapter import StripeBilling
from ops.fake_stripe.faults import Trouble
from ops.fake_stripe.params import Refused, check, parse_form
from schemas.errors import Misconfigured, Transient
from schemas.usage import Meter
from tests.integration.stripe_scene import StripeScene, stripe_scene

pytestmark = pytest.mark.integration

EVENTS = "/v1/billing/meter_events"
HOUR_S, DAY_S = 3_600, 86_400


def run(act: Callable[[StripeScene], Coroutine[Any, Any, None]], *, is_absolute: bool = True) -> None:
    async def go() -> None:
        async with stripe_scene(is_absolute=is_absolute) as scene:
            await scene.billing.set_up()
            await act(scene)

    asyncio.run(go())


def midnight() -> int:
    return int(time.time()) // DAY_S * DAY_S - DAY_S


def push(customer: str, identifier: str, value: int, at_s: int, meter: Meter = Meter.READINGS) -> Push:
    return Push(identifier, customer, meter, value, at_s)


def test_setting_up_twice_makes_everything_once() -> None:
    async def act(scene: StripeScene) -> None:
        await scene.billing.set_up()

        assert sorted(meter["event_name"] for meter in scene.fake.store.all("meter")) == [
            "weir_active_sensors",
            "weir_readings",
            "weir_scan_points",
            "weir_scans",
        ]
        # Four plans and four meters.
        assert len(list(scene.fake.store.all("price"))) == 8

    run(act)


def test_a_meter_that_counts_otherwise_is_refused() -> None:
    async def act(scene: StripeScene) -> None:
        other = StripeBilling("sk_test_weir", scene.url, is_absolute=False)
        with pytest.raises(Misconfigured, match="counts otherwise"):
            await other.set_up()
        await other.close()

    run(act)


def test_a_subscription_begins_its_periods_with_the_month() -> None:
    async def act(scene: StripeScene) -> None:
        customer = await scene.billing.create_customer("ten_a", "Kitchen")
        made = await scene.billing.subscribe(customer, "ten_a", "enterprise")

        assert (made.status, made.plan, made.customer_id) == ("active", "enterprise", customer)
        end = made.period_end
        assert (end.day, end.hour, end.minute, end.second) == (1, 0, 0, 0)
        assert await scene.billing.subscription(made.subscription_id) == made
        # The same again, as after a lost answer.
        assert await scene.billing.subscribe(customer, "ten_a", "enterprise") == made

    run(act)


def test_paying_on_the_checkout_page_subscribes() -> None:
    async def act(scene: StripeScene) -> None:
        import aiohttp

        customer = await scene.billing.create_customer("ten_a", "Kitchen")
        url = await scene.billing.checkout_url(customer, "ten_a", "basic", "http://127.0.0.1/ok", "http://127.0.0.1/no")
        async with aiohttp.ClientSession() as session:
            for _ in range(2):
                async with session.post(url, allow_redirects=False) as answer:
                    assert answer.headers["Location"] == "http://127.0.0.1/ok"
            async with session.get(await scene.billing.portal_url(customer, "http://127.0.0.1/")) as page:
                shown = await page.text()

        [subscription] = scene.fake.store.all("subscription")
        assert f"{subscription['id']}: active" in shown
        assert subscription["metadata"] == {"tenant_id": "ten_a", "plan": "basic"}
        kinds = [event["type"] for event in scene.fake.store.all("event")]
        assert kinds == ["checkout.session.completed", "customer.subscription.created"]

    run(act)


def test_the_newest_total_of_an_hour_counts_and_days_add_up() -> None:
    async def act(scene: StripeScene) -> None:
        customer, start = await scene.billing.create_customer("ten_a", "Kitchen"), midnight()
        for identifier, value, at_s in (("a", 10, start + 1), ("b", 12, start + 2), ("c", 5, start + HOUR_S + 1)):
            assert (await scene.billing.push(push(customer, identifier, value, at_s))).outcome is Outcome.ACCEPTED
            last = push(customer, f"{identifier}-active", value, at_s, Meter.ACTIVE_SENSORS)
            assert (await scene.billing.push(last)).outcome is Outcome.ACCEPTED

        async def totals(meter: Meter, by: Any) -> Any:
            return await scene.billing.totals(customer, meter, start, start + DAY_S, by)

        assert await totals(Meter.READINGS, "hour") == {start: 12, start + HOUR_S: 5}
        assert await totals(Meter.READINGS, "day") == {start: 17}
        assert await totals(Meter.ACTIVE_SENSORS, "day") == {start: 5}
        assert await totals(Meter.SCANS, "day") == {}

    run(act)


def test_differences_add_up_where_a_meter_has_no_window() -> None:
    async def act(scene: StripeScene) -> None:
        customer, start = await scene.billing.create_customer("ten_a", "Kitchen"), midnight()
        for identifier, value in (("a", 10), ("b", -3)):
            await scene.billing.push(push(customer, identifier, value, start))

        assert await scene.billing.totals(customer, Meter.READINGS, start, start + DAY_S, "hour") == {start: 7}

    run(act, is_absolute=False)


class TestOutcomes:
    def test_a_second_one_of_the_same_identifier_is_delivered_already_for_24_hours(self) -> None:
        async def act(scene: StripeScene) -> None:
            customer = await scene.billing.create_customer("ten_a", "Kitchen")
            one = push(customer, "same", 10, midnight())
            assert (await scene.billing.push(one)).outcome is Outcome.ACCEPTED
            scene.fake.store.db.execute("DELETE FROM answer")
            assert (await scene.billing.push(one)).outcome is Outcome.ACCEPTED
            assert len(scene.events()) == 1
            scene.advance(25 * HOUR_S)
            assert (await scene.billing.push(one)).outcome is Outcome.ACCEPTED
            assert len(scene.events()) == 2

        run(act)

    @pytest.mark.parametrize(
        ("trouble", "outcome", "taken"),
        [
            (Trouble.ERROR_BEFORE, Outcome.AMBIGUOUS, 0),
            (Trouble.ERROR_AFTER, Outcome.AMBIGUOUS, 1),
            (Trouble.LOST_REPLY, Outcome.AMBIGUOUS, 1),
            (Trouble.RATE_LIMIT, Outcome.BUSY, 0),
            (Trouble.CONFLICT, Outcome.BUSY, 0),
        ],
    )
    def test_trouble_is_sorted_and_sending_again_counts_once(
        self, trouble: Trouble, outcome: Outcome, taken: int
    ) -> None:
        async def act(scene: StripeScene) -> None:
            customer = await scene.billing.create_customer("ten_a", "Kitchen")
            scene.fail(EVENTS, trouble)
            one = push(customer, "same", 10, midnight())

            assert (await scene.billing.push(one)).outcome is outcome
            assert len(scene.events()) == taken
            assert (await scene.billing.push(one)).outcome is Outcome.ACCEPTED
            assert len(scene.events()) == 1

        run(act)

    def test_what_stripe_will_never_take_is_rejected(self) -> None:
        async def act(scene: StripeScene) -> None:
            customer, now = await scene.billing.create_customer("ten_a", "Kitchen"), int(time.time())
            for at_s in (now - 35 * DAY_S - 60, now + 400):
                assert (await scene.billing.push(push(customer, f"t{at_s}", 1, at_s))).outcome is Outcome.REJECTED
            many = await scene.billing.push(push(customer, "many", 10**15, now))
            assert many.outcome is Outcome.REJECTED

        run(act)

    def test_two_at_once_for_a_customer_and_meter_are_too_many(self) -> None:
        async def act(scene: StripeScene) -> None:
            customer, start = await scene.billing.create_customer("ten_a", "Kitchen"), midnight()
            scene.fake.behaviour.latency_s = 0.3
            pushes = [push(customer, "a", 1, start), push(customer, "b", 1, start + 1)]
            pushes.append(push(customer, "c", 1, start, Meter.SCANS))
            reports = await asyncio.gather(*map(scene.billing.push, pushes))

            outcomes = [report.outcome for report in reports]
            assert sorted(outcomes[:2]) == [Outcome.ACCEPTED, Outcome.BUSY]
            assert outcomes[2] is Outcome.ACCEPTED

        run(act)

    def test_nobody_there_is_ambiguous_for_usage_and_transient_for_the_rest(self) -> None:
        async def go() -> None:
            billing = StripeBilling("sk_test_weir", "http://127.0.0.1:1")
            try:
                assert (await billing.push(push("cus_x", "a", 1, 0))).outcome is Outcome.AMBIGUOUS
                with pytest.raises(Transient):
                    await billing.create_customer("ten_a", "Kitchen")
            finally:
                await billing.close()

        asyncio.run(go())


def test_summaries_lag_behind_and_then_tell_all() -> None:
    async def act(scene: StripeScene) -> None:
        customer, start = await scene.billing.create_customer("ten_a", "Kitchen"), midnight()
        scene.fake.behaviour.summary_lag_s = 600
        await scene.billing.push(push(customer, "a", 3, start))
        assert await scene.billing.totals(customer, Meter.READINGS, start, start + DAY_S, "hour") == {}
        scene.advance(601)
        assert await scene.billing.totals(customer, Meter.READINGS, start, start + DAY_S, "hour") == {start: 3}

    run(act)


def test_of_very_many_lines_all_are_found() -> None:
    async def act(scene: StripeScene) -> None:
        customer, store = await scene.billing.create_customer("ten_a", "Kitchen"), scene.fake.store
        now = datetime.now(UTC)
        line = Charge("key", "charge 0", customer, Meter.SCANS, -3, now - timedelta(hours=1), now, "late")
        made = await scene.billing.charge(line)
        assert await scene.billing.charge(line) == made  # under the same key it is the same line
        [item] = store.all("invoiceitem")
        for number in range(1, 102):
            store.put(
                "invoiceitem",
                item | {"id": f"ii_{number}", "metadata": item["metadata"] | {"weir_charge": f"charge {number}"}},
            )

        found = await scene.billing.charged(customer, now - timedelta(hours=1))
        assert {one.charge for one in found} == {f"charge {number}" for number in range(102)}
        assert Item(str(made.item_id), "charge 0", -3, is_pending=True) in found

    run(act)


def test_a_period_ends_with_an_invoice_over_its_usage() -> None:
    async def act(scene: StripeScene) -> None:
        customer = await scene.billing.create_customer("ten_a", "Kitchen")
        made = await scene.billing.subscribe(customer, "ten_a", "enterprise")
        await scene.billing.push(push(customer, "a", 42, int(made.period_start.timestamp()) + 1))
        scene.advance((made.period_end - made.period_start).total_seconds() + 60)
        scene.fake.close_periods()
        [draft] = scene.fake.store.all("invoice")
        assert not (await scene.billing.invoice(draft["id"])).is_final
        scene.advance(HOUR_S)
        scene.fake.close_periods()

        invoice = await scene.billing.invoice(draft["id"])
        assert (invoice.is_final, invoice.period_start, invoice.period_end) == (
            True,
            made.period_start,
            made.period_end,
        )
        [final] = scene.fake.store.all("invoice")
        assert 42 in [line["quantity"] for line in final["lines"]["data"]]
        assert (await scene.billing.subscription(made.subscription_id)).period_start == made.period_end

    run(act)


class TestParameters:
    def test_they_are_nested_and_typed_as_the_librarys_own(self) -> None:
        import stripe.params

        values = parse_form(
            "customer=cus_1&items[0][price]=p&items[1][price]=q&items[0][quantity]=2&cancel_at_period_end=true"
        )
        assert check(stripe.params.SubscriptionCreateParams, values) == {
            "customer": "cus_1",
            "items": [{"price": "p", "quantity": 2}, {"price": "q"}],
            "cancel_at_period_end": True,
        }

    @pytest.mark.parametrize(
        ("form", "code"),
        [
            ("event_name=a&payload[value]=1&colour=red", "parameter_unknown"),
            ("event_name=a", "parameter_missing"),
            ("event_name=a&payload[value]=1&timestamp=soon", "parameter_invalid"),
            ("event_name=a&payload[value]=1&api_key=x", "parameter_unknown"),
        ],
    )
    def test_a_wrong_one_is_refused(self, form: str, code: str) -> None:
        import stripe.params.billing

        with pytest.raises(Refused) as refusal:
            check(stripe.params.billing.MeterEventCreateParams, parse_form(form))
        assert refusal.value.code == code
