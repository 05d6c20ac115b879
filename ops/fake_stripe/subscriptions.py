"""Customers, products, prices, checkout, subscriptions and their invoices: as much as a subscription's life needs."""

from __future__ import annotations

import calendar
from datetime import UTC, datetime
from typing import Any, Final

from ops.fake_stripe import invoice_items, metering
from ops.fake_stripe.objects import plain, required
from ops.fake_stripe.params import Refused
from ops.fake_stripe.store import Object, Store

_GRACE_S: Final = 3600
LIVE: Final = frozenset({"active", "trialing", "past_due", "unpaid", "paused"})


def create_price(store: Store, values: Object) -> Object:
    """A price; a metered one names an active meter."""
    recurring = values.get("recurring", {})
    if recurring.get("usage_type") == "metered" and store.find(recurring.get("meter", "")) is None:
        raise Refused(400, "Metered prices must be backed by a meter.", param="recurring[meter]")
    if any(one.get("lookup_key") == values.get("lookup_key", "") for one in store.all("price")):
        raise Refused(400, f"A price already uses the lookup key {values['lookup_key']}.", param="lookup_key")
    decimal = {"unit_amount_decimal": str(values["unit_amount"])} if "unit_amount" in values else {}
    return plain(store, "price", "price", {"active": True, "type": "recurring", **decimal, **values})


def subscribe(store: Store, values: Object) -> Object:
    """A subscription that is paid for at once."""
    required(store, "customer", values["customer"])
    now = int(store.now())
    subscription_id = store.new_id("sub")
    ends = next_anchor(now, values.get("billing_cycle_anchor_config"))
    start = int(values.get("backdate_start_date", now))
    items = [_item(store, subscription_id, item, start, ends) for item in values["items"]]
    return store.put(
        "subscription",
        {
            "id": subscription_id,
            "object": "subscription",
            "created": now,
            "customer": values["customer"],
            "status": "active",
            "cancel_at_period_end": False,
            "canceled_at": None,
            "billing_cycle_anchor": ends if "billing_cycle_anchor_config" in values else now,
            "start_date": start,
            "ended_at": None,
            "items": {"object": "list", "data": items, "has_more": False, "url": "/v1/subscription_items"},
            "metadata": values.get("metadata", {}),
            "livemode": False,
        },
    )


def _item(store: Store, subscription_id: str, item: Object, start: int, end: int) -> Object:
    price = required(store, "price", item["price"])
    if price.get("recurring", {}).get("usage_type") == "metered" and "quantity" in item:
        raise Refused(400, "Quantity should not be specified where usage_type is metered.", param="items[quantity]")
    return {
        "id": store.new_id("si"),
        "object": "subscription_item",
        "subscription": subscription_id,
        "price": price,
        "quantity": item.get("quantity"),
        "current_period_start": start,
        "current_period_end": end,
        "metadata": {},
    }


def change_items(store: Store, subscription: Object, changes: list[Object]) -> None:
    """Other prices for items, as when somebody takes another plan; what was metered stays the customer's."""
    for change in changes:
        found = next((item for item in subscription["items"]["data"] if item["id"] == change.get("id")), None)
        if found is None:
            raise Refused(400, f"No such subscription item: '{change.get('id')}'", param="items")
        found["price"] = required(store, "price", change["price"])


def next_anchor(at: int, config: Object | None) -> int:
    """When the period of this moment ends: a month later, or on the day and hour asked for."""
    moment = datetime.fromtimestamp(at, UTC)
    if config is None:
        return _month_later(moment, moment.day)
    midnight = moment.replace(hour=config.get("hour", 0), minute=config.get("minute", 0), second=0, microsecond=0)
    this_month = midnight.replace(day=_day_in(midnight.year, midnight.month, config["day_of_month"]))
    return int(this_month.timestamp()) if this_month > moment else _month_later(this_month, config["day_of_month"])


def _month_later(at: datetime, day: int) -> int:
    year, month = (at.year + 1, 1) if at.month == 12 else (at.year, at.month + 1)  # noqa: PLR2004
    return int(at.replace(year=year, month=month, day=_day_in(year, month, day)).timestamp())


def _day_in(year: int, month: int, day: int) -> int:
    return min(day, calendar.monthrange(year, month)[1])


def close_periods(store: Store, finalize_after_s: float = _GRACE_S) -> list[tuple[str, Object]]:
    """Bill what is over: an invoice per period, final an hour later; returns the events that this makes."""
    now = store.now()
    events: list[tuple[str, Object]] = []
    for subscription in list(store.all("subscription")):
        first = subscription["items"]["data"][0]
        while subscription["status"] in LIVE and first["current_period_end"] <= now:
            events.append(("invoice.created", _invoice(store, subscription)))
            _renew(store, subscription)
            kind = "deleted" if subscription["status"] == "canceled" else "updated"
            events.append((f"customer.subscription.{kind}", subscription))
    for invoice in list(store.all("invoice")):
        if invoice["status"] == "draft" and invoice["created"] + finalize_after_s <= now:
            events += _finalize(store, invoice)
    return events


def _invoice(store: Store, subscription: Object) -> Object:
    first = subscription["items"]["data"][0]
    parent = {
        "type": "subscription_details",
        "subscription_details": {"subscription": subscription["id"], "metadata": subscription["metadata"]},
    }
    period = {"period_start": first["current_period_start"], "period_end": first["current_period_end"]}
    return invoice_items.draft(store, {"customer": subscription["customer"], "parent": parent, **period})


def _finalize(store: Store, invoice: Object) -> list[tuple[str, Object]]:
    lines, is_paid = invoice_items.lines(store, invoice["id"]), True
    if invoice["parent"] is not None:
        subscription = required(store, "subscription", invoice["parent"]["subscription_details"]["subscription"])
        lines += [_line(store, item, invoice) for item in subscription["items"]["data"]]
        is_paid = subscription["status"] == "active"
    invoice |= {"status": "open", "lines": {"object": "list", "data": lines, "has_more": False}}
    store.put("invoice", invoice)
    events = [("invoice.finalized", invoice)]
    if is_paid:
        invoice |= {"status": "paid"}
        events.append(("invoice.paid", store.put("invoice", invoice)))
    return events


def _line(store: Store, item: Object, invoice: Object) -> dict[str, Any]:
    price, quantity = item["price"], item["quantity"] or 0
    recurring = price.get("recurring", {})
    if recurring.get("usage_type") == "metered":
        meter = required(store, "billing.meter", recurring["meter"])
        counted = metering.total(store, meter, invoice["customer"], invoice["period_start"], invoice["period_end"])
        quantity = max(0, counted or 0)
    return {"object": "line_item", "price": price["id"], "quantity": quantity, "description": price.get("nickname")}


def _renew(store: Store, subscription: Object) -> None:
    start = subscription["items"]["data"][0]["current_period_end"]
    anchor = datetime.fromtimestamp(subscription["billing_cycle_anchor"], UTC)
    end = _month_later(datetime.fromtimestamp(start, UTC), anchor.day)
    for item in subscription["items"]["data"]:
        item |= {"current_period_start": start, "current_period_end": end}
    if subscription["cancel_at_period_end"]:
        subscription |= {"status": "canceled", "ended_at": start, "canceled_at": start}
    store.put("subscription", subscription)


def complete_checkout(store: Store, session_id: str) -> list[tuple[str, Object]]:
    """What happens once somebody has paid on the hosted page; a second time nothing does."""
    session = required(store, "checkout.session", session_id)
    if session["status"] != "open":
        return []
    data = session.get("subscription_data", {})
    values = {
        "customer": session["customer"],
        "items": session["line_items"],
        **{key: data[key] for key in ("metadata", "billing_cycle_anchor_config") if key in data},
    }
    subscription = subscribe(store, values)
    session |= {"status": "complete", "payment_status": "paid", "subscription": subscription["id"]}
    store.put("checkout.session", session)
    return [("customer.subscription.created", subscription), ("checkout.session.completed", session)]
