"""Stripe behind the port: the only module that calls it.

Every POST carries an idempotency key of ours; nothing is retried in here, as the callers' jobs know better when.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, Literal, TypeVar

import stripe

from accounts.billing.plans import PLANS, Plan
from accounts.billing.port import Invoice, Outcome, Push, Report, Subscription
from core import clock
from core.settings import Settings
from schemas.errors import Misconfigured, Transient
from schemas.usage import Meter

_TIMEOUT_S: Final = 20
_PAGE: Final = 100
_DUPLICATE: Final = re.compile(r"event already exists with identifier", re.IGNORECASE)
_TOO_MANY, _CONFLICT, _SERVER_ERROR = 429, 409, 500
_FORMULA: Final[Mapping[Meter, Literal["sum", "last"]]] = {Meter.ACTIVE_SENSORS: "last"}
_CENTS: Final = {
    Meter.READINGS: Decimal("0.0001"),
    Meter.ACTIVE_SENSORS: Decimal(50),
    Meter.SCANS: Decimal(25),
    Meter.SCAN_POINTS: Decimal("0.00001"),
}
# So that no UTC hour straddles two periods: all of them begin with a month.
_ANCHOR: Final[Any] = {"day_of_month": 1, "hour": 0, "minute": 0, "second": 0}
_FINAL: Final = frozenset({"open", "paid", "uncollectible", "void"})
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Catalog:
    """Ids at Stripe, by what we call them."""

    meters: Mapping[str, str]
    prices: Mapping[str, str]


class StripeBilling:
    """The adapter.

    Args:
        key: the secret key.
        base: where the API answers; empty: the real service.
        is_absolute: whether pushes are totals of hours (meters with a window) or what was added.
    """

    def __init__(
        self, key: str, base: str = "", *, is_absolute: bool = True, now_ms: Callable[[], int] = clock.now_ms
    ) -> None:
        self._now_ms = now_ms
        self._is_absolute = is_absolute
        # aiohttp by name: the library would change to another client as soon as one is installed.
        self._http = stripe.AIOHTTPClient(timeout=_TIMEOUT_S)
        addresses: Any = {"base_addresses": {"api": base, "meter_events": base}} if base else {}
        self._client = stripe.StripeClient(key, http_client=self._http, max_network_retries=0, **addresses)
        self._catalog: Catalog | None = None

    async def close(self) -> None:
        """Let go of connections."""
        await self._http.close_async()  # type: ignore[no-untyped-call]

    # --- meters and prices ---

    async def set_up(self) -> None:
        """Make what is missing; check what is there.

        Raises:
            Misconfigured: a meter of ours has another formula or window; meters cannot be changed.
        """
        meters = await self._meters()
        for meter in Meter:
            found = meters.get(_event_name(meter))
            if found is None:
                await _answered(
                    self._client.v1.billing.meters.create_async(self._meter(meter), _key("meter", meter.value))
                )
            elif (found.default_aggregation.formula, found.event_time_window) != (
                _FORMULA.get(meter, "sum"),
                self._window(meter),
            ):
                msg = f"the meter {found.event_name} at Stripe counts otherwise; deactivate it there and set up again"
                raise Misconfigured(msg)
        self._catalog = None
        await self._set_up_prices(await self._ids())

    def _window(self, meter: Meter) -> Literal["hour"] | None:
        return "hour" if self._is_absolute and _FORMULA.get(meter, "sum") == "sum" else None

    def _meter(self, meter: Meter) -> Any:  # noqa: ANN401 - Stripe's typed dictionary
        window = self._window(meter)
        return {
            "display_name": f"Weir {meter.value.replace('_', ' ')}",
            "event_name": _event_name(meter),
            "default_aggregation": {"formula": _FORMULA.get(meter, "sum")},
            **({"event_time_window": window} if window else {}),
        }

    async def _meters(self) -> dict[str, Any]:
        page = await _answered(self._client.v1.billing.meters.list_async({"limit": _PAGE, "status": "active"}))
        return {meter.event_name: meter for meter in page.data}

    async def _set_up_prices(self, catalog: Catalog) -> None:
        wanted: dict[str, Any] = {}
        for plan in PLANS.values():
            flat = {"interval": "month", "usage_type": "licensed"}
            wanted[_flat_key(plan)] = {"unit_amount": plan.monthly_cents, "recurring": flat}
        for meter in Meter:
            metered = {"interval": "month", "usage_type": "metered", "meter": catalog.meters[_event_name(meter)]}
            wanted[_event_name(meter)] = {"unit_amount_decimal": _CENTS[meter], "recurring": metered}
        for key, price in wanted.items():
            if key not in catalog.prices:
                product = await _answered(self._client.v1.products.create_async({"name": key}, _key("product", key)))
                shown: Any = {"currency": "eur", "product": product.id, "lookup_key": key, "nickname": key, **price}
                await _answered(self._client.v1.prices.create_async(shown, _key("price", key)))
        self._catalog = None

    async def _ids(self) -> Catalog:
        if self._catalog is None:
            prices = await _answered(self._client.v1.prices.list_async({"limit": _PAGE, "active": True}))
            meters = {name: meter.id for name, meter in (await self._meters()).items()}
            self._catalog = Catalog(meters, {one.lookup_key: one.id for one in prices.data if one.lookup_key})
        return self._catalog

    # --- customers and subscriptions ---

    async def create_customer(self, tenant_id: str, name: str) -> str:
        """The id of a new customer."""
        wanted: Any = {"name": name, "metadata": {"tenant_id": tenant_id}}
        return (await _answered(self._client.v1.customers.create_async(wanted, _key("customer", tenant_id)))).id

    async def subscribe(self, customer_id: str, tenant_id: str, plan: str) -> Subscription:
        """Subscribe without a checkout page, from the beginning of the month on: what comes late is billed as well."""
        month = datetime.fromtimestamp(self._now_ms() / 1000, UTC).replace(
            day=1, hour=0, minute=0, second=0, microsecond=0
        )
        wanted: Any = {
            "backdate_start_date": int(month.timestamp()),
            "proration_behavior": "none",
            "customer": customer_id,
            "items": await self._items(plan),
            "metadata": {"tenant_id": tenant_id, "plan": plan},
            "billing_cycle_anchor_config": _ANCHOR,
        }
        made = self._client.v1.subscriptions.create_async(wanted, _key("subscription", tenant_id, plan))
        return _subscription(await _answered(made))

    async def _items(self, plan: str) -> list[dict[str, Any]]:
        prices = (await self._ids()).prices
        missing = [key for key in (_flat_key(PLANS[plan]), *map(_event_name, Meter)) if key not in prices]
        if missing:
            msg = f"Stripe has no price {', '.join(missing)}; run `weir billing setup`"
            raise Misconfigured(msg)
        # A metered price takes no quantity.
        return [
            {"price": prices[_flat_key(PLANS[plan])], "quantity": 1},
            *({"price": prices[_event_name(m)]} for m in Meter),
        ]

    async def checkout_url(self, customer_id: str, tenant_id: str, plan: str, success_url: str, cancel_url: str) -> str:
        """Where somebody subscribes; pressing the button twice opens two pages, paying for one closes both here."""
        metadata = {"tenant_id": tenant_id, "plan": plan}
        wanted: Any = {
            "mode": "subscription",
            "customer": customer_id,
            "client_reference_id": tenant_id,
            "line_items": await self._items(plan),
            "success_url": success_url,
            "cancel_url": cancel_url,
            "metadata": metadata,
            "subscription_data": {"metadata": metadata, "billing_cycle_anchor_config": _ANCHOR},
        }
        return str((await _answered(self._client.v1.checkout.sessions.create_async(wanted))).url)

    async def portal_url(self, customer_id: str, return_url: str) -> str:
        """Where somebody changes cards, reads invoices, cancels."""
        wanted: Any = {"customer": customer_id, "return_url": return_url}
        return (await _answered(self._client.v1.billing_portal.sessions.create_async(wanted))).url

    async def subscription(self, subscription_id: str) -> Subscription:
        """How it stands now."""
        return _subscription(await _answered(self._client.v1.subscriptions.retrieve_async(subscription_id)))

    async def invoice(self, invoice_id: str) -> Invoice:
        """How it stands now."""
        found: Any = await _answered(self._client.v1.invoices.retrieve_async(invoice_id))
        return Invoice(
            found.id, str(found.customer), _time(found.period_start), _time(found.period_end), found.status in _FINAL
        )

    # --- usage ---

    async def push(self, push: Push) -> Report:
        """Report usage; what Stripe or the network does is the outcome."""
        values: Any = {
            "event_name": _event_name(push.meter),
            "identifier": push.identifier,
            "timestamp": push.at_s,
            "payload": {"stripe_customer_id": push.customer_id, "value": str(push.value)},
        }
        try:
            await self._client.v1.billing.meter_events.create_async(values, {"idempotency_key": push.identifier})
        except stripe.APIConnectionError as error:
            return Report(Outcome.AMBIGUOUS, f"no answer ({type(error.__cause__ or error).__name__})")
        except stripe.StripeError as error:
            return Report(_outcome(error), f"{error.http_status}: {error.user_message or type(error).__name__}")
        return Report(Outcome.ACCEPTED)

    async def totals(
        self, customer_id: str, meter: Meter, start_s: int, end_s: int, by: Literal["hour", "day"]
    ) -> Mapping[int, int]:
        """What Stripe counts, by the start of each hour or UTC day."""
        meter_id = (await self._ids()).meters[_event_name(meter)]
        wanted: Any = {"customer": customer_id, "start_time": start_s, "end_time": end_s, "limit": _PAGE}
        wanted["value_grouping_window"] = by
        found: dict[int, int] = {}
        while True:
            page = await _answered(self._client.v1.billing.meters.event_summaries.list_async(meter_id, wanted))
            found |= {one.start_time: int(one.aggregated_value) for one in page.data}
            if not page.has_more:
                return found
            wanted["starting_after"] = page.data[-1].id


def from_settings(settings: Settings) -> StripeBilling | None:
    """The adapter of these settings; None without a key: nothing is billed."""
    key = settings.stripe_api_key.get_secret_value()
    if not key:
        return None
    return StripeBilling(key, settings.stripe_api_base, is_absolute=settings.stripe_usage_mode == "absolute")


def _event_name(meter: Meter) -> str:
    return f"weir_{meter.value}"


def _flat_key(plan: Plan) -> str:
    return f"weir_plan_{plan.name}"


def _key(*parts: str) -> Any:  # noqa: ANN401 - Stripe's typed dictionary
    return {"idempotency_key": ":".join(("weir", *parts))}


def _outcome(error: stripe.StripeError) -> Outcome:
    status = error.http_status or 0
    if _DUPLICATE.search(error.user_message or str(error)):
        return Outcome.ACCEPTED
    if status in (_TOO_MANY, _CONFLICT):
        return Outcome.BUSY
    return Outcome.AMBIGUOUS if status >= _SERVER_ERROR or not status else Outcome.REJECTED


async def _answered(call: Awaitable[_T]) -> _T:
    """The answer.

    Raises:
        Transient: Stripe is away, busy or in trouble.
        Misconfigured: it refuses what was asked.
    """
    try:
        return await call
    except stripe.StripeError as error:
        status = error.http_status or 0
        what = f"Stripe answered {status or 'nothing'}: {error.user_message or type(error).__name__}"
        if not status or status in (_TOO_MANY, _CONFLICT) or status >= _SERVER_ERROR:
            raise Transient(what) from error
        msg = f"{what}; correct WEIR_STRIPE_API_KEY, or run `weir billing setup`"
        raise Misconfigured(msg) from error


def _subscription(found: Any) -> Subscription:  # noqa: ANN401 - Stripe's object
    items = found["items"].data
    return Subscription(
        found.id,
        str(found.customer),
        found.status,
        _plan_of(found),
        _time(found.start_date),
        _time(items[0].current_period_start),
        _time(items[0].current_period_end),
        bool(found.cancel_at_period_end),
        None if found.ended_at is None else _time(found.ended_at),
    )


def _plan_of(found: Any) -> str:  # noqa: ANN401 - Stripe's object
    """By its flat price, which the portal changes; of a price that is not ours, as it was subscribed."""
    names = {_flat_key(plan): plan.name for plan in PLANS.values()}
    priced = [names[item.price.lookup_key] for item in found["items"].data if item.price.lookup_key in names]
    return priced[0] if priced else str(found.metadata.to_dict().get("plan", "free"))


def _time(at_s: int) -> datetime:
    return datetime.fromtimestamp(at_s, UTC)
