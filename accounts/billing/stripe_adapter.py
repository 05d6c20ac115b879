"""Stripe behind the port: the only module that calls it.

Every POST carries an idempotency key of ours; nothing is retried in here, as the callers' jobs know better when.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, Literal

import stripe

from accounts.billing.plans import PLANS
from accounts.billing.port import Charge, Charged, Invoice, Item, Outcome, Push, Report, Subscription
from accounts.billing.stripe_answers import answered, flat_key, outcome, subscription, time, unit
from core import clock
from core.settings import Settings
from schemas.errors import Misconfigured, Transient
from schemas.usage import Meter

_TIMEOUT_S: Final = 20
_PAGE: Final = 100
_FORMULA: Final[Mapping[Meter, Literal["sum", "last"]]] = {Meter.ACTIVE_SENSORS: "last"}
_CENTS: Final = {
    Meter.READINGS: Decimal("0.0001"),
    Meter.ACTIVE_SENSORS: Decimal(50),
    Meter.SCANS: Decimal(25),
    Meter.SCAN_POINTS: Decimal("0.00001"),
}
# So that no UTC hour straddles two periods: all of them begin with a month.
_ANCHOR: Final[Any] = {"day_of_month": 1, "hour": 0, "minute": 0, "second": 0}
# By this charges are found again among a customer's lines.
_CHARGE: Final = "weir_charge"
_FINAL: Final = frozenset({"open", "paid", "uncollectible", "void"})


@dataclass(frozen=True, slots=True)
class Catalog:
    """Ids at Stripe, by what we call them."""

    meters: Mapping[str, str]
    prices: Mapping[str, str]
    # Of a unit, in cents; None: the price has tiers.
    units: Mapping[str, tuple[Decimal | None, str]]


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
                await answered(
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
        page = await answered(self._client.v1.billing.meters.list_async({"limit": _PAGE, "status": "active"}))
        return {meter.event_name: meter for meter in page.data}

    async def _set_up_prices(self, catalog: Catalog) -> None:
        wanted: dict[str, Any] = {}
        for plan in PLANS.values():
            flat = {"interval": "month", "usage_type": "licensed"}
            wanted[flat_key(plan)] = {"unit_amount": plan.monthly_cents, "recurring": flat}
        for meter in Meter:
            metered = {"interval": "month", "usage_type": "metered", "meter": catalog.meters[_event_name(meter)]}
            wanted[_event_name(meter)] = {"unit_amount_decimal": _CENTS[meter], "recurring": metered}
        for key, price in wanted.items():
            if key not in catalog.prices:
                product = await answered(self._client.v1.products.create_async({"name": key}, _key("product", key)))
                shown: Any = {"currency": "eur", "product": product.id, "lookup_key": key, "nickname": key, **price}
                await answered(self._client.v1.prices.create_async(shown, _key("price", key)))
        self._catalog = None

    async def _ids(self) -> Catalog:
        if self._catalog is None:
            prices = await answered(self._client.v1.prices.list_async({"limit": _PAGE, "active": True}))
            meters = {name: meter.id for name, meter in (await self._meters()).items()}
            own = [one for one in prices.data if one.lookup_key]
            units = {str(one.lookup_key): (unit(one), one.currency) for one in own}
            self._catalog = Catalog(meters, {str(one.lookup_key): one.id for one in own}, units)
        return self._catalog

    # --- customers and subscriptions ---

    async def create_customer(self, tenant_id: str, name: str) -> str:
        """The id of a new customer."""
        wanted: Any = {"name": name, "metadata": {"tenant_id": tenant_id}}
        return (await answered(self._client.v1.customers.create_async(wanted, _key("customer", tenant_id)))).id

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
        return subscription(await answered(made))

    async def _items(self, plan: str) -> list[dict[str, Any]]:
        prices = (await self._ids()).prices
        missing = [key for key in (flat_key(PLANS[plan]), *map(_event_name, Meter)) if key not in prices]
        if missing:
            msg = f"Stripe has no price {', '.join(missing)}; run `weir billing setup`"
            raise Misconfigured(msg)
        # A metered price takes no quantity.
        return [
            {"price": prices[flat_key(PLANS[plan])], "quantity": 1},
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
        return str((await answered(self._client.v1.checkout.sessions.create_async(wanted))).url)

    async def portal_url(self, customer_id: str, return_url: str) -> str:
        """Where somebody changes cards, reads invoices, cancels."""
        wanted: Any = {"customer": customer_id, "return_url": return_url}
        return (await answered(self._client.v1.billing_portal.sessions.create_async(wanted))).url

    async def subscription(self, subscription_id: str) -> Subscription:
        """How it stands now."""
        return subscription(await answered(self._client.v1.subscriptions.retrieve_async(subscription_id)))

    async def invoice(self, invoice_id: str) -> Invoice:
        """How it stands now."""
        found: Any = await answered(self._client.v1.invoices.retrieve_async(invoice_id))
        return Invoice(
            found.id, str(found.customer), time(found.period_start), time(found.period_end), found.status in _FINAL
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
            return Report(outcome(error), f"{error.http_status}: {error.user_message or type(error).__name__}")
        return Report(Outcome.ACCEPTED)

    # --- charges ---

    async def charge(self, charge: Charge) -> Charged:
        """Put a line on the next invoice, at the price that the meter has; what Stripe or the network does is the outcome."""
        try:
            wanted = self._line(charge, *(await self._ids()).units[_event_name(charge.meter)])
        except KeyError:
            return Charged(
                Outcome.REJECTED, detail=f"there is no price {_event_name(charge.meter)}; run `weir billing setup`"
            )
        except Transient as error:
            return Charged(Outcome.BUSY, detail=str(error))
        except Misconfigured as error:
            return Charged(Outcome.REJECTED, detail=str(error))
        if not wanted["unit_amount_decimal"]:
            return Charged(Outcome.ACCEPTED, detail="the meter costs nothing")
        try:
            made = await self._client.v1.invoice_items.create_async(wanted, {"idempotency_key": charge.key})
        except stripe.APIConnectionError as error:
            return Charged(Outcome.AMBIGUOUS, detail=f"no answer ({type(error.__cause__ or error).__name__})")
        except stripe.StripeError as error:
            return Charged(outcome(error), detail=f"{error.http_status}: {error.user_message or type(error).__name__}")
        return Charged(Outcome.ACCEPTED, made.id)

    @staticmethod
    def _line(charge: Charge, unit: Decimal | None, currency: str) -> Any:  # noqa: ANN401 - Stripe's typed dictionary
        if unit is None:
            msg = f"the price {_event_name(charge.meter)} has tiers; charge {charge.quantity} by hand"
            raise Misconfigured(msg)
        return {
            "customer": charge.customer_id,
            "currency": currency,
            # A quantity is never negative, a price may be.
            "quantity": abs(charge.quantity),
            "unit_amount_decimal": unit if charge.quantity > 0 else -unit,
            "period": {"start": int(charge.start.timestamp()), "end": int(charge.end.timestamp())},
            "description": charge.description,
            "metadata": {_CHARGE: charge.charge, "meter": charge.meter.value, "quantity": str(charge.quantity)},
        }

    async def charged(self, customer_id: str, since: datetime) -> Sequence[Item]:
        """The lines that `charge` made, by what they carry of ours."""
        wanted: Any = {"customer": customer_id, "limit": _PAGE, "created": {"gte": int(since.timestamp())}}
        found: list[Item] = []
        while True:
            page: Any = await answered(self._client.v1.invoice_items.list_async(wanted))
            for one in page.data:
                told = one.metadata.to_dict() if one.metadata else {}
                if _CHARGE in told:
                    # What is billed, not what it was made with: somebody may have changed it. A credit has the price's sign.
                    quantity = -one.quantity if int(told["quantity"]) < 0 else one.quantity
                    found.append(Item(one.id, told[_CHARGE], quantity, one.invoice is None))
            if not page.has_more:
                return found
            wanted["starting_after"] = page.data[-1].id

    async def invoice_pending(self, customer_id: str, key: str) -> None:
        """An invoice of what waits; asked for twice, the second finds nothing that waits."""
        waiting = await answered(
            self._client.v1.invoice_items.list_async({"customer": customer_id, "pending": True, "limit": 1})
        )
        if waiting.data:
            wanted: Any = {"customer": customer_id, "auto_advance": True, "pending_invoice_items_behavior": "include"}
            await answered(self._client.v1.invoices.create_async(wanted, {"idempotency_key": key}))

    async def totals(
        self, customer_id: str, meter: Meter, start_s: int, end_s: int, by: Literal["hour", "day"]
    ) -> Mapping[int, int]:
        """What Stripe counts, by the start of each hour or UTC day."""
        meter_id = (await self._ids()).meters[_event_name(meter)]
        wanted: Any = {"customer": customer_id, "start_time": start_s, "end_time": end_s, "limit": _PAGE}
        wanted["value_grouping_window"] = by
        found: dict[int, int] = {}
        while True:
            page = await answered(self._client.v1.billing.meters.event_summaries.list_async(meter_id, wanted))
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


def _key(*parts: str) -> Any:  # noqa: ANN401 - Stripe's typed dictionary
    return {"idempotency_key": ":".join(("weir", *parts))}
