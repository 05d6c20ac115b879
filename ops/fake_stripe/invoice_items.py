"""Lines that wait for the customer's next invoice, and drafts that take them."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Final

from ops.fake_stripe.objects import plain, required
from ops.fake_stripe.params import Refused
from ops.fake_stripe.store import Object, Store

_KIND: Final = "invoiceitem"
_MOST: Final = 250
_DECIMALS: Final = 12


def create(store: Store, values: Object) -> Object:
    """POST /v1/invoiceitems: an amount, or a quantity of something at a price in cents."""
    if "customer" not in values:
        raise Refused(400, "Missing required param: customer.", code="parameter_missing", param="customer")
    required(store, "customer", values["customer"])
    quantity, unit = int(values.get("quantity", 1)), _price(values)
    period = values.get("period") or {"start": int(store.now()), "end": int(store.now())}
    if period["start"] > period["end"]:
        raise Refused(400, "The period must not end before it starts.", param="period[end]")
    if quantity < 0:
        raise Refused(400, "This value must be greater than or equal to 0.", param="quantity")
    if sum(1 for _ in _pending(store, values["customer"])) >= _MOST:
        raise Refused(400, f"A customer can have at most {_MOST} pending invoice items.")
    amount = int((unit * quantity).quantize(Decimal(1), ROUND_HALF_UP))
    body = {"invoice": None, "discountable": True, "proration": False, **values, "period": period}
    priced = {"amount": amount, "quantity": quantity, "unit_amount_decimal": str(unit), "date": int(store.now())}
    return plain(store, _KIND, "ii", body | priced)


def _price(values: Object) -> Decimal:
    if ("amount" in values) == ("unit_amount_decimal" in values):
        raise Refused(400, "You must specify exactly one of amount and unit_amount_decimal.", param="amount")
    if "currency" not in values:
        raise Refused(400, "Missing required param: currency.", code="parameter_missing", param="currency")
    if "amount" in values and "quantity" in values:
        raise Refused(400, "You may only specify one of these parameters: amount, quantity.", param="quantity")
    unit = Decimal(str(values.get("unit_amount_decimal", values.get("amount"))))
    exponent = unit.as_tuple().exponent
    if not isinstance(exponent, int) or -exponent > _DECIMALS:
        raise Refused(400, f"Invalid decimal: at most {_DECIMALS} decimal places.", param="unit_amount_decimal")
    return unit


def listed(store: Store, values: Object) -> Object:
    """GET /v1/invoiceitems, the newest first."""
    created = values.get("created", {})
    oldest = created.get("gte", 0) if isinstance(created, dict) else created
    found = [
        one
        for one in store.all(_KIND)
        if values.get("customer") in (None, one["customer"])
        and values.get("invoice") in (None, one["invoice"])
        and values.get("pending") in (None, one["invoice"] is None)
        and one["created"] >= oldest
    ]
    place = next((n + 1 for n, one in enumerate(found) if one["id"] == values.get("starting_after")), 0)
    limit = min(100, int(values.get("limit", 10)))
    page = {"object": "list", "url": "/v1/invoiceitems", "data": found[place : place + limit]}
    return page | {"has_more": len(found) > place + limit}


def create_invoice(store: Store, values: Object) -> Object:
    """POST /v1/invoices: of what waits, if it is told to include that."""
    if values.get("pending_invoice_items_behavior") != "include":
        raise Refused(400, "An invoice without lines is of no use here.", param="pending_invoice_items_behavior")
    required(store, "customer", values["customer"])
    now = int(store.now())
    return draft(store, {"parent": None, "period_start": now, "period_end": now, **values})


def draft(store: Store, values: Object) -> Object:
    """An invoice that takes what waits for its customer."""
    empty = {"object": "list", "data": [], "has_more": False}
    made = plain(store, "invoice", "in", {"status": "draft", "currency": "eur", "lines": empty, **values})
    for item in list(_pending(store, made["customer"])):
        store.put(_KIND, item | {"invoice": made["id"]})
    return made


def lines(store: Store, invoice_id: str) -> list[dict[str, Any]]:
    """The lines of an invoice that were items before."""
    return [
        {
            "object": "line_item",
            "price": None,
            "quantity": one["quantity"],
            "amount": one["amount"],
            "description": one.get("description"),
            "period": one["period"],
            "metadata": one["metadata"],
        }
        for one in store.all(_KIND)
        if one["invoice"] == invoice_id
    ]


def _pending(store: Store, customer: str) -> Any:  # noqa: ANN401 - an iterator of objects
    return (one for one in store.all(_KIND) if one["customer"] == customer and one["invoice"] is None)
