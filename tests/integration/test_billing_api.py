"""Subscribing over HTTP: from the checkout page over Stripe's webhooks to the tenant's plan, whatever the webhooks do."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import httpx2
import pytest
import structlog
from pydantic import SecretStr

from accounts.billing.port import BillingProvider, Subscription
from accounts.billing.subscriptions import Inbox
from api import usage_models
from core.postgres import DatabaseRole, open_pool
from ops.fake_stripe.service import FakeStripe
from ops.fake_stripe.webhooks import Manners
from schemas.errors import Transient
from tests.integration.api_scene import add_readings, add_sensor, api_settings, client, new_tenant, serving, shown
from tests.integration.servers import Database, Tenant, wait_until
from tests.integration.stripe_scene import KEY, SECRET, StripeScene, stripe_scene

pytestmark = pytest.mark.integration

OLD_SECRET = "whsec_before"


def sell(database: Database, act: Any, **manners: Any) -> None:
    """Run an API and the stand-in, each knowing the other."""

    async def go() -> None:
        async with stripe_scene(webhooks=Manners(secret=SECRET, **manners)) as stripe:
            await stripe.billing.set_up()
            settings = api_settings(
                database.reader_url,
                stripe_api_key=SecretStr(KEY),
                stripe_api_base=stripe.url,
                stripe_webhook_secret=SecretStr(f"{SECRET},{OLD_SECRET}"),
            )
            with serving(settings) as url:
                stripe.fake.deliveries.manners.url = f"{url}/v1/webhooks/stripe"
                await act(stripe, url)

    asyncio.run(go())


async def take(database: Database, stripe: StripeScene, wanted: Any) -> None:
    """Act on events, as the job does every second, until something holds."""
    async with open_pool(database.writer_url, DatabaseRole.WRITER) as pool:
        async with asyncio.timeout(60):
            while not wanted():
                await Inbox(pool, stripe.billing).process()
                await asyncio.sleep(0.05)


def account(database: Database, tenant: Tenant) -> tuple[Any, ...] | None:
    rows = database.query("SELECT status, plan FROM billing_accounts WHERE tenant_id = %s", tenant.tenant_id)
    return rows[0] if rows else None


@pytest.fixture
def tenant(database: Database) -> Tenant:
    made = new_tenant(database)
    database.query("UPDATE weir.tenant SET plan = 'free' WHERE tenant_id = %s", made.tenant_id)
    return made


def test_from_checkout_to_plan_and_back_although_events_come_three_times_and_shuffled(
    database: Database, tenant: Tenant
) -> None:
    async def act(stripe: StripeScene, url: str) -> None:
        def ask(path: str, document: dict[str, str]) -> str:
            with client(url, tenant.api_key) as api:
                response = api.http.post(path, json=document)
                assert response.status_code == 201, response.text
                return str(response.json()["url"])

        page = await asyncio.to_thread(ask, "/v1/billing/checkout", {"plan": "professional"})
        async with httpx2.AsyncClient() as browser:
            assert (await browser.post(page)).status_code == 303
        await take(database, stripe, lambda: account(database, tenant) == ("active", "professional"))
        portal = await asyncio.to_thread(ask, "/v1/billing/portal", {})
        assert portal.startswith(f"{stripe.url}/portal/")

        [subscription] = stripe.fake.store.all("subscription")
        for status in ("past_due", "unpaid", "active", "unpaid"):
            stripe.fake.store.put("subscription", subscription | {"status": status})
            stripe.fake.deliveries.emit("customer.subscription.updated", subscription | {"status": status})
        await take(database, stripe, lambda: _all_processed(database, stripe.fake))

        assert account(database, tenant) == ("unpaid", "professional")
        # Each event once, however often it came.
        assert len(database.query("SELECT event_id FROM billing_events")) == len(list(stripe.fake.store.all("event")))

    sell(database, act, copies=3, shuffle_s=0.5)


def test_events_of_what_stripe_does_not_know_or_nobody_understands_hold_up_no_other(
    database: Database, tenant: Tenant
) -> None:
    async def act(stripe: StripeScene, url: str) -> None:
        customer = await stripe.billing.create_customer(tenant.tenant_id, "Kitchen")
        database.query(
            "INSERT INTO weir.billing_account (tenant_id, customer_id) VALUES (%s, %s)", tenant.tenant_id, customer
        )
        events = [
            ("evt_odd", "customer.subscription.updated", {"object": None}),
            ("evt_gone", "customer.subscription.deleted", {"object": {"id": "sub_of_nobody"}}),
            ("evt_foreign", "invoice.paid", {"object": {"id": "in_of_nobody"}}),
            ("evt_upcoming", "invoice.upcoming", {"object": {"customer": customer}}),
        ]
        async with httpx2.AsyncClient() as sender:
            for event_id, kind, data in events:
                body = json.dumps({"id": event_id, "type": kind, "data": data})
                headers = {"Stripe-Signature": stripe.fake.deliveries.sign(body)}
                kept = await sender.post(f"{url}/v1/webhooks/stripe", content=body, headers=headers)
                assert kept.status_code == 200
        await stripe.billing.subscribe(customer, tenant.tenant_id, "basic")
        async with asyncio.timeout(60):
            while stripe.fake.store.db.execute("SELECT count(*) FROM delivery").fetchone()[0]:  # noqa: ASYNC110
                await asyncio.sleep(0.05)  # the stand-in has no event to wait for

        async with open_pool(database.writer_url, DatabaseRole.WRITER) as pool:
            with pytest.raises(AttributeError):
                await Inbox(pool, stripe.billing).process()

        assert account(database, tenant) == ("active", "basic")
        outcomes = dict(database.query("SELECT event_id, outcome FROM billing_events"))
        assert {event_id: outcomes[event_id] for event_id, _, _ in events} == {
            "evt_odd": None, "evt_gone": "unknown", "evt_foreign": "unknown", "evt_upcoming": "ignored",
        }  # fmt: skip

    sell(database, act)


class Away:
    """Stripe, of which nothing is heard."""

    async def subscription(self, subscription_id: str) -> Subscription:
        msg = f"no answer about {subscription_id}"
        raise Transient(msg)


def test_an_event_waits_however_long_stripe_is_away_and_is_told_of_when_it_is_given_up(database: Database) -> None:
    for number, thing in enumerate(({"id": "sub_of_nobody"}, None)):
        database.query(
            "INSERT INTO weir.billing_event (event_id, type, body) VALUES (%s, %s, %s::jsonb)",
            *(f"evt_{number}", "customer.subscription.updated", json.dumps({"data": {"object": thing}})),
        )
    left = "SELECT event_id, outcome FROM billing_events ORDER BY 1"
    alarms = "SELECT subject, detail FROM weir.operator_alarm WHERE kind = 'billing'"

    async def act(stripe: StripeScene, _url: str) -> None:
        async with open_pool(database.writer_url, DatabaseRole.WRITER) as pool:
            for _ in range(25):
                with pytest.raises(Transient):
                    await Inbox(pool, cast("BillingProvider", Away())).process()
            for attempt in range(1, 21):
                with pytest.raises(AttributeError):
                    await Inbox(pool, stripe.billing).process()
                assert len(database.query(alarms)) == (attempt == 20)
            assert await Inbox(pool, stripe.billing).process() == 0

    sell(database, act)
    assert database.query(left) == [("evt_0", "unknown"), ("evt_1", None)]
    [(subject, detail)] = database.query(alarms)
    assert subject == "customer.subscription.updated"
    assert "evt_1 could not be acted on in 20 attempts (AttributeError)" in detail


def test_usage_that_stripe_finds_wrong_afterwards_raises_an_alarm(database: Database) -> None:
    async def act(stripe: StripeScene, _url: str) -> None:
        for number in range(2):
            payload = {"stripe_customer_id": "cus_nobody", "value": "7"}
            event = {"event_name": "weir_readings", "payload": payload, "identifier": f"lost-{number}"}
            stripe.fake.create_meter_event(event | {"timestamp": int(time.time())})
        processed = "SELECT count(*) FROM billing_events WHERE processed_at IS NOT NULL"
        await take(database, stripe, lambda: database.query(processed) == [(2,)])

        alarms = database.query("SELECT subject FROM weir.operator_alarm WHERE kind = 'billing' AND closed_at IS NULL")
        assert alarms == [("v1.billing.meter.error_report_triggered",)]

    sell(database, act, copies=3)


def _all_processed(database: Database, fake: FakeStripe) -> bool:
    waiting = fake.store.db.execute("SELECT count(*) FROM delivery").fetchone()[0]
    return waiting == 0 and database.query("SELECT count(*) FROM billing_events WHERE processed_at IS NULL") == [(0,)]


@pytest.mark.parametrize(
    ("secret", "skew_s", "status"),
    [
        (SECRET, 0, 200),
        (OLD_SECRET, 0, 200),
        ("whsec_foreign", 0, 400),
        (SECRET, -301, 400),
        (SECRET, 3_600, 400),
    ],
    ids=["new secret", "old secret", "foreign secret", "too old", "from the future"],
)
def test_a_webhook_is_believed_by_its_signature_alone(
    database: Database, secret: str, skew_s: int, status: int
) -> None:
    async def act(stripe: StripeScene, url: str) -> None:
        body = json.dumps({"id": "evt_1", "type": "customer.subscription.updated", "data": {"object": {}}})
        signer = stripe.fake.deliveries
        signer.manners.secret, signer.manners.skew_s = secret, skew_s
        async with httpx2.AsyncClient() as sender:
            headers = {"Stripe-Signature": signer.sign(body)}
            with structlog.testing.capture_logs() as logs:
                answers = [
                    await sender.post(f"{url}/v1/webhooks/stripe", content=body, headers=headers) for _ in range(2)
                ]
                changed = await sender.post(f"{url}/v1/webhooks/stripe", content=body + " ", headers=headers)

        assert [answer.status_code for answer in answers] == [status, status]
        assert changed.status_code == 400
        # Each refusal is logged, and why; what is believed makes the job that acts on it, once.
        refused = [one["why"] for one in logs if one["event"] == "webhook.refused"]
        assert len(refused) == (1 if status == 200 else 3)
        jobs = "SELECT count(*) FROM weir_jobs.procrastinate_jobs WHERE task_name = 'take_billing_events'"
        assert database.query(jobs) == [(1 if status == 200 else 0,)]
        kept = database.query("SELECT count(*) FROM billing_events")
        assert kept == [(1 if status == 200 else 0,)]

    sell(database, act)


def test_without_a_key_nothing_is_sold(database: Database, tenant: Tenant) -> None:
    with serving(api_settings(database.reader_url)) as url, client(url, tenant.api_key) as api:
        assert api.http.post("/v1/billing/checkout", json={"plan": "basic"}).status_code == 404
        # Without a plan the smallest is meant.
        assert api.http.post("/v1/billing/checkout").status_code == 404
        assert api.http.post("/v1/billing/checkout", json={"plan": "free"}).status_code == 422
        # No secret is configured: nothing can be signed rightly.
        header = f"t={int(time.time())},v1="
        response = api.http.post("/v1/webhooks/stripe", content=b"{}", headers={"Stripe-Signature": header})
        assert response.status_code == 400


def test_an_unpaid_tenant_loses_history_and_keeps_the_last_day_and_its_alerts(database: Database) -> None:
    tenant = new_tenant(database)
    sensor_no, sensor_id = add_sensor(database, tenant, "air")
    now = datetime.now(UTC)
    add_readings(database, sensor_no, [(now - timedelta(days=3), 0, 1.0), (now - timedelta(hours=1), 0, 2.0)])
    path, history = f"/v1/sensors/{sensor_id}/readings", {"start": shown(now - timedelta(days=4))}

    def account_is(status: str) -> None:
        database.query(
            "INSERT INTO weir.billing_account (tenant_id, customer_id, status, status_since) VALUES (%s, 'cus_1', %s, now())"
            " ON CONFLICT (tenant_id) DO UPDATE SET status = EXCLUDED.status",
            tenant.tenant_id,
            status,
        )

    with serving(api_settings(database.reader_url)) as url, client(url, tenant.api_key) as api:
        account_is("unpaid")
        problem = api.get(path, status=402, **history)
        assert problem["code"] == "unpaid"
        assert [item["value"] for item in api.get(path)["items"]] == [2.0]
        assert api.get("/v1/alerts")["items"] == []
        account_is("active")
        # What was found holds for a second.
        wait_until(lambda: api.http.get(path, params=history).status_code == 200, 60, "access")
        database.query("UPDATE weir.tenant SET plan = 'free' WHERE tenant_id = %s", tenant.tenant_id)
        database.query(
            "INSERT INTO weir.usage (tenant_id, meter, bucket_start, quantity)"
            " VALUES (%s, 'readings', date_trunc('month', now(), 'UTC'), 500001)",
            tenant.tenant_id,
        )
        wait_until(lambda: api.http.get(path, params=history).status_code == 429, 60, "the quota")


def test_the_bill_tells_plan_period_meters_quotas_and_corrections_of_the_tenant_alone(database: Database) -> None:
    tenant, other = new_tenant(database), new_tenant(database)
    month = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    for one, quantity in ((tenant, 4_500_000), (other, 7)):
        database.query("UPDATE weir.tenant SET plan = 'basic' WHERE tenant_id = %s", one.tenant_id)
        for meter, used in (("readings", quantity), ("active_sensors", 5)):
            database.query("INSERT INTO weir.usage VALUES (%s, %s, %s, %s)", one.tenant_id, meter, month, used)
    database.query(
        "INSERT INTO weir.billing_account (tenant_id, customer_id, subscription_id, status, subscribed_at, activated_at)"
        " VALUES (%s, 'cus_1', 'sub_1', 'active', %s, now())",
        tenant.tenant_id,
        month,
    )
    database.query(
        "INSERT INTO weir.usage_push (tenant_id, meter, bucket_start, revision, quantity, state, acked_quantity, adjusted)"
        " VALUES (%s, 'readings', %s, 1, 4499990, 'acknowledged', 4499980, 3)",
        tenant.tenant_id,
        month,
    )
    database.query(
        "INSERT INTO weir.usage_adjustment (tenant_id, meter, bucket_start, quantity, reason)"
        " VALUES (%s, 'readings', %s, 3, 'the invoice of the period is final')",
        tenant.tenant_id,
        month,
    )
    with serving(api_settings(database.reader_url)) as url, client(url, tenant.api_key) as api:
        bill = api.get("/v1/billing")
    usage_models.BillingStatement.model_validate(bill)

    assert (bill["plan"], bill["status"], bill["is_subscribed"], bill["is_sold"]) == ("basic", "active", True, False)
    assert bill["period"]["start"] == shown(month)
    readings, sensors = bill["meters"]
    assert readings == {
        "meter": "readings", "metered": 4_500_000, "pushed": 4_499_980, "adjusted": 3, "stripe": None,
        "in_flight": 17, "rejected": 0,
    }  # fmt: skip
    assert (sensors["meter"], sensors["metered"]) == ("active_sensors", 5)
    quotas = {one["meter"]: (one["used"], one["percent"], one["warning"]) for one in bill["quotas"]}
    assert quotas == {"readings": (4_500_000, 90, "near"), "active_sensors": (5, 20, None), "scans": (0, 0, None)}
    assert [(one["quantity"], one["reason"]) for one in bill["corrections"]] == [
        (3, "the invoice of the period is final")
    ]
