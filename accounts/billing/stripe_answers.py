"""What Stripe answers, in our terms: errors sorted by what to do about them, its objects as the port knows them."""

from __future__ import annotations

import re
from collections.abc import Awaitable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, TypeVar

import stripe

from accounts.billing.plans import PLANS, Plan
from accounts.billing.port import NotThere, Outcome, Subscription
from schemas.errors import Misconfigured, Transient

_DUPLICATE: Final = re.compile(r"event already exists with identifier", re.IGNORECASE)
_NOT_FOUND, _TOO_MANY, _CONFLICT, _SERVER_ERROR = 404, 429, 409, 500
_T = TypeVar("_T")


def flat_key(plan: Plan) -> str:
    """What a plan's flat price is looked up by."""
    return f"weir_plan_{plan.name}"


def outcome(error: stripe.StripeError) -> Outcome:
    """What is known after it."""
    status = error.http_status or 0
    if _DUPLICATE.search(error.user_message or str(error)):
        return Outcome.ACCEPTED
    if status in (_TOO_MANY, _CONFLICT):
        return Outcome.BUSY
    return Outcome.AMBIGUOUS if status >= _SERVER_ERROR or not status else Outcome.REJECTED


async def answered(call: Awaitable[_T]) -> _T:
    """The answer.

    Raises:
        Transient: Stripe is away, busy or in trouble.
        NotThere: it knows no such thing.
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
        raise (NotThere if status == _NOT_FOUND else Misconfigured)(msg) from error


def subscription(found: Any) -> Subscription:  # noqa: ANN401 - Stripe's object
    """A subscription; periods are those of its first item."""
    items = found["items"].data
    return Subscription(
        found.id,
        str(found.customer),
        found.status,
        _plan_of(found),
        time(found.start_date),
        time(items[0].current_period_start),
        time(items[0].current_period_end),
        bool(found.cancel_at_period_end),
        None if found.ended_at is None else time(found.ended_at),
    )


def _plan_of(found: Any) -> str:  # noqa: ANN401 - Stripe's object
    """By its flat price, which the portal changes; of a price that is not ours, as it was subscribed."""
    names = {flat_key(plan): plan.name for plan in PLANS.values()}
    priced = [names[item.price.lookup_key] for item in found["items"].data if item.price.lookup_key in names]
    return priced[0] if priced else str(found.metadata.to_dict().get("plan", "free"))


def time(at_s: int) -> datetime:
    """Epoch seconds as a time."""
    return datetime.fromtimestamp(at_s, UTC)


def unit(price: Any) -> Decimal | None:  # noqa: ANN401 - Stripe's object
    """Cents of one unit; None: it has tiers."""
    cents = getattr(price, "unit_amount_decimal", None)
    return None if cents is None else Decimal(str(cents))
