"""What billing asks of Stripe and relies on: of the stand-in, or with `WEIR_STRIPE_API_KEY` of the real service.

Set it to a test key (`sk_test_…`) of an account that holds nothing of worth; `WEIR_STRIPE_API_BASE` names another address. The
customer portal must have been saved once in the account's settings.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from accounts.billing.port import Charge, Outcome, Push
from accounts.billing.stripe_adapter import StripeBilling
from schemas.usage import Meter
from tests.integration.stripe_scene import stripe_scene

pytestmark = pytest.mark.integration

HOUR_S, DAY_S = 3_600, 86_400
# Summaries of the real service lag by minutes.
PATIENCE_S = 900.0


@asynccontextmanager
async def service() -> AsyncIterator[StripeBilling]:
    """Who answers, set up."""
    key = os.environ.get("WEIR_STRIPE_API_KEY", "")
    if not key:
        async with stripe_scene() as scene:
            await scene.billing.set_up()
            yield scene.billing
        return
    assert key.startswith(("sk_test_", "rk_test_")), "WEIR_STRIPE_API_KEY is no test key; nothing real may be charged"
    billing = StripeBilling(key, os.environ.get("WEIR_STRIPE_API_BASE", ""))
    try:
        await billing.set_up()
        yield billing
    finally:
        await billing.close()


def run(act: Callable[[StripeBilling, str, str], Coroutine[Any, Any, None]]) -> None:
    async def go() -> None:
        async with service() as billing:
            tenant_id = f"ten_test_{secrets.token_hex(6)}"
            await act(billing, await billing.create_customer(tenant_id, "Weir's tests"), tenant_id)

    asyncio.run(go())


def hour_s() -> int:
    return int(time.time()) // HOUR_S * HOUR_S - 3 * HOUR_S


async def comes_to(billing: StripeBilling, customer: str, meter: Meter, expected: dict[int, int]) -> None:
    """Until summaries say so."""
    start_s = min(expected) // DAY_S * DAY_S
    deadline = time.monotonic() + PATIENCE_S
    while (found := await billing.totals(customer, meter, start_s, start_s + 2 * DAY_S, "hour")) != expected:
        assert time.monotonic() < deadline, f"Stripe counts {found}, expected {expected}"
        await asyncio.sleep(1.0)


def test_setting_up_again_finds_everything_as_it_should_be() -> None:
    async def act(billing: StripeBilling, _customer: str, _tenant_id: str) -> None:
        await billing.set_up()

    run(act)


def test_of_an_hours_totals_the_newest_counts_and_a_duplicate_is_delivered_already() -> None:
    async def act(billing: StripeBilling, customer: str, tenant_id: str) -> None:
        start = hour_s()
        for number, value in ((1, 10), (2, 12), (2, 12), (3, 11)):
            push = Push(f"{tenant_id}:r:{number}", customer, Meter.READINGS, value, start + number)
            assert (await billing.push(push)).outcome is Outcome.ACCEPTED
        other = Push(f"{tenant_id}:r:other", customer, Meter.READINGS, 5, start + HOUR_S + 1)
        assert (await billing.push(other)).outcome is Outcome.ACCEPTED
        for number, value in ((1, 7), (2, 4)):
            push = Push(f"{tenant_id}:s:{number}", customer, Meter.ACTIVE_SENSORS, value, start + number)
            assert (await billing.push(push)).outcome is Outcome.ACCEPTED

        await comes_to(billing, customer, Meter.READINGS, {start: 11, start + HOUR_S: 5})
        await comes_to(billing, customer, Meter.ACTIVE_SENSORS, {start: 4})

    run(act)


def test_what_is_too_old_or_too_far_ahead_is_rejected() -> None:
    async def act(billing: StripeBilling, customer: str, tenant_id: str) -> None:
        now = int(time.time())
        for at_s in (now - 35 * DAY_S - 60, now + 400):
            push = Push(f"{tenant_id}:{at_s}", customer, Meter.READINGS, 1, at_s)
            assert (await billing.push(push)).outcome is Outcome.REJECTED

    run(act)


def test_somebody_can_subscribe_pay_and_manage() -> None:
    async def act(billing: StripeBilling, customer: str, tenant_id: str) -> None:
        page = await billing.checkout_url(customer, tenant_id, "basic", "https://a.example/", "https://a.example/")
        assert page.startswith("http")
        made = await billing.subscribe(customer, tenant_id, "free")
        assert (made.status, made.plan, made.customer_id) == ("active", "free", customer)
        end = made.period_end
        assert (end.day, end.hour, end.minute, end.second) == (1, 0, 0, 0)
        assert await billing.subscription(made.subscription_id) == made
        assert (await billing.portal_url(customer, "https://a.example/")).startswith("http")

    run(act)


def test_what_is_charged_is_found_again_and_charged_once() -> None:
    async def act(billing: StripeBilling, customer: str, tenant_id: str) -> None:
        now = datetime.now(UTC)
        spans = (now - timedelta(days=40), now - timedelta(days=39))
        line = Charge(
            f"{tenant_id}:1", f"{tenant_id}:c1", customer, Meter.READINGS, 20_000_000, *spans, "readings, late"
        )
        credit = Charge(
            f"{tenant_id}:2", f"{tenant_id}:c2", customer, Meter.ACTIVE_SENSORS, -2, *spans, "sensors, late"
        )
        first = await billing.charge(line)
        assert first.outcome is Outcome.ACCEPTED
        assert await billing.charge(line) == first
        assert (await billing.charge(credit)).outcome is Outcome.ACCEPTED

        async def found() -> dict[str, tuple[int, bool]]:
            items = await billing.charged(customer, now - timedelta(hours=1))
            return {item.charge: (item.quantity, item.is_pending) for item in items}

        assert await found() == {f"{tenant_id}:c1": (20_000_000, True), f"{tenant_id}:c2": (-2, True)}
        for _ in range(2):
            await billing.invoice_pending(customer, f"{tenant_id}:invoice")
        assert {is_pending for _, is_pending in (await found()).values()} == {False}

    run(act)
