"""What the stand-in does behind its routes, and which parameters each route takes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import stripe.params
import stripe.params.billing
import stripe.params.billing_portal
import stripe.params.checkout

from ops.fake_stripe import invoice_items, metering, subscriptions
from ops.fake_stripe.faults import Faults
from ops.fake_stripe.objects import plain, required
from ops.fake_stripe.params import Refused
from ops.fake_stripe.store import Object, Store
from ops.fake_stripe.webhooks import Deliveries, Manners

_TICK_S: Final = 1.0
_PAGE: Final = 100
_LATENCY_S: Final = 0.002
_BAD_REQUEST: Final = 400

P, B = stripe.params, stripe.params.billing


@dataclass(slots=True)
class Behaviour:
    """What can be told to behave otherwise while it runs."""

    summary_lag_s: float = 0.0
    latency_s: float = _LATENCY_S


class FakeStripe:
    """State, faults and deliveries behind the routes."""

    def __init__(self, path: str, key: str, manners: Manners) -> None:
        self.store = Store(path)
        self.key = key
        self.faults = Faults()
        self.deliveries = Deliveries(self.store, manners)
        self.behaviour = Behaviour()
        self.public_url = ""
        self._metering: set[tuple[str, str]] = set()

    # --- what the routes do ---

    def create_customer(self, values: Object) -> Object:
        """POST /v1/customers."""
        return plain(self.store, "customer", "cus", values)

    def create_product(self, values: Object) -> Object:
        """POST /v1/products."""
        return plain(self.store, "product", "prod", {"active": True, **values})

    def create_price(self, values: Object) -> Object:
        """POST /v1/prices."""
        return subscriptions.create_price(self.store, values)

    def create_meter(self, values: Object) -> Object:
        """POST /v1/billing/meters."""
        return metering.create_meter(self.store, values)

    def create_meter_event(self, values: Object) -> Object:
        """POST /v1/billing/meter_events; what it names wrongly is reported afterwards."""
        event, error = metering.accept_event(self.store, values)
        if error is not None:
            meter = metering.meter_named(self.store, values["event_name"])
            reason = {
                "developer_message_summary": f"There is 1 invalid event: {error}",
                "reason": {
                    "error_count": 1,
                    "error_types": [
                        {
                            "code": error,
                            "error_count": 1,
                            "sample_errors": [{"request": {"identifier": event["identifier"]}}],
                        }
                    ],
                },
            }
            kind = "no_meter_found" if meter is None else "error_report_triggered"
            self.deliveries.emit_thin(f"v1.billing.meter.{kind}", "" if meter is None else meter["id"], reason)
        return event

    def create_subscription(self, values: Object) -> Object:
        """POST /v1/subscriptions."""
        subscription = subscriptions.subscribe(self.store, values)
        self.deliveries.emit("customer.subscription.created", subscription)
        return subscription

    def update_subscription(self, values: Object, subscription_id: str) -> Object:
        """POST /v1/subscriptions/{id}."""
        subscription = required(self.store, "subscription", subscription_id)
        subscription |= {key: values[key] for key in ("cancel_at_period_end", "metadata") if key in values}
        subscriptions.change_items(self.store, subscription, values.get("items", []))
        self.store.put("subscription", subscription)
        self.deliveries.emit("customer.subscription.updated", subscription)
        return subscription

    def cancel_subscription(self, _values: Object, subscription_id: str) -> Object:
        """DELETE /v1/subscriptions/{id}: at once."""
        subscription = required(self.store, "subscription", subscription_id)
        now = int(self.store.now())
        subscription |= {"status": "canceled", "canceled_at": now, "ended_at": now}
        self.store.put("subscription", subscription)
        self.deliveries.emit("customer.subscription.deleted", subscription)
        return subscription

    def create_checkout(self, values: Object) -> Object:
        """POST /v1/checkout/sessions."""
        for item in values.get("line_items", []):
            price = required(self.store, "price", item["price"])
            if price.get("recurring", {}).get("usage_type") == "metered" and "quantity" in item:
                raise Refused(_BAD_REQUEST, "Quantity should not be specified where usage_type is metered.")
        session = {"status": "open", "payment_status": "unpaid", "subscription": None, **values}
        session = plain(self.store, "checkout.session", "cs_test", session)
        session["url"] = f"{self.public_url}/pay/{session['id']}"
        return self.store.put("checkout.session", session)

    def create_portal(self, values: Object) -> Object:
        """POST /v1/billing_portal/sessions."""
        required(self.store, "customer", values["customer"])
        session = plain(self.store, "billing_portal.session", "bps", values)
        session["url"] = f"{self.public_url}/portal/{session['id']}"
        return self.store.put("billing_portal.session", session)

    def create_invoice_item(self, values: Object) -> Object:
        """POST /v1/invoiceitems."""
        return invoice_items.create(self.store, values)

    def list_invoice_items(self, values: Object) -> Object:
        """GET /v1/invoiceitems."""
        return invoice_items.listed(self.store, values)

    def create_invoice(self, values: Object) -> Object:
        """POST /v1/invoices."""
        invoice = invoice_items.create_invoice(self.store, values)
        self.deliveries.emit("invoice.created", invoice)
        return invoice

    def list_summaries(self, values: Object, meter_id: str) -> Object:
        """GET /v1/billing/meters/{id}/event_summaries."""
        return metering.summaries(self.store, meter_id, values, self.behaviour.summary_lag_s)

    def list_of(self, kind: str) -> Callable[[Object], Object]:
        """A list route: filters by what was asked for, pages by id."""

        def list_them(values: Object) -> Object:
            wanted = {key: values[key] for key in ("customer", "subscription", "active") if key in values}
            keys = values.get("lookup_keys")
            found = [
                one
                for one in self.store.all(kind)
                if all(one.get(key) == value for key, value in wanted.items())
                and (keys is None or one.get("lookup_key") in keys)
                and (one.get("status") != "canceled" or values.get("status") in ("all", "canceled"))
            ]
            place = next((n + 1 for n, one in enumerate(found) if one["id"] == values.get("starting_after")), 0)
            limit = min(_PAGE, int(values.get("limit", 10)))
            page = {"object": "list", "url": f"/v1/{kind}", "data": found[place : place + limit]}
            return page | {"has_more": len(found) > place + limit}

        return list_them

    def one_of(self, kind: str) -> Callable[[Object, str], Object]:
        """A retrieve route."""
        return lambda _values, object_id: required(self.store, kind, object_id)

    # --- around them ---

    @property
    def is_metering(self) -> bool:
        """Whether meter events are being taken in."""
        return bool(self._metering)

    async def metered(self, values: Object, work: Callable[[Object], Object]) -> Object:
        """One call per customer and meter at a time, as Stripe allows."""
        lane = (str(values.get("event_name")), str(dict(values.get("payload", {})).get("stripe_customer_id")))
        if lane in self._metering:
            raise Refused(429, "Too many concurrent requests for this customer and meter.", code="lock_timeout")
        self._metering.add(lane)
        try:
            await asyncio.sleep(self.behaviour.latency_s)
            return work(values)
        finally:
            self._metering.discard(lane)

    async def tick(self) -> None:
        """Bill what is over, for ever."""
        while True:
            self.close_periods()
            await asyncio.sleep(_TICK_S)

    def close_periods(self) -> None:
        """Bill what is over."""
        for kind, thing in subscriptions.close_periods(self.store):
            self.deliveries.emit(kind, thing)


def routes(fake: FakeStripe) -> list[tuple[str, re.Pattern[str], Any, Callable[..., Object]]]:
    """Method, path, shape of the parameters and what is done."""
    table: list[tuple[str, str, Any, Callable[..., Object]]] = [
        ("POST", "/v1/customers", P.CustomerCreateParams, fake.create_customer),
        ("GET", "/v1/customers/(.+)", P.CustomerRetrieveParams, fake.one_of("customer")),
        ("POST", "/v1/products", P.ProductCreateParams, fake.create_product),
        ("POST", "/v1/prices", P.PriceCreateParams, fake.create_price),
        ("GET", "/v1/prices", P.PriceListParams, fake.list_of("price")),
        ("POST", "/v1/billing/meters", B.MeterCreateParams, fake.create_meter),
        ("GET", "/v1/billing/meters", B.MeterListParams, fake.list_of("meter")),
        ("GET", "/v1/billing/meters/([^/]+)/event_summaries", B.MeterListEventSummariesParams, fake.list_summaries),
        ("POST", "/v1/billing/meter_events", B.MeterEventCreateParams, fake.create_meter_event),
        ("POST", "/v1/subscriptions", P.SubscriptionCreateParams, fake.create_subscription),
        ("GET", "/v1/subscriptions", P.SubscriptionListParams, fake.list_of("subscription")),
        ("GET", "/v1/subscriptions/(.+)", P.SubscriptionRetrieveParams, fake.one_of("subscription")),
        ("POST", "/v1/subscriptions/(.+)", P.SubscriptionUpdateParams, fake.update_subscription),
        ("DELETE", "/v1/subscriptions/(.+)", P.SubscriptionCancelParams, fake.cancel_subscription),
        ("POST", "/v1/invoiceitems", P.InvoiceItemCreateParams, fake.create_invoice_item),
        ("GET", "/v1/invoiceitems", P.InvoiceItemListParams, fake.list_invoice_items),
        ("GET", "/v1/invoiceitems/(.+)", P.InvoiceItemRetrieveParams, fake.one_of("invoiceitem")),
        ("POST", "/v1/invoices", P.InvoiceCreateParams, fake.create_invoice),
        ("GET", "/v1/invoices", P.InvoiceListParams, fake.list_of("invoice")),
        ("GET", "/v1/invoices/(.+)", P.InvoiceRetrieveParams, fake.one_of("invoice")),
        ("GET", "/v1/events/(.+)", P.EventRetrieveParams, fake.one_of("event")),
        ("POST", "/v1/checkout/sessions", stripe.params.checkout.SessionCreateParams, fake.create_checkout),
        ("POST", "/v1/billing_portal/sessions", stripe.params.billing_portal.SessionCreateParams, fake.create_portal),
    ]
    return [(method, re.compile(path), shape, act) for method, path, shape, act in table]
