"""What billing asks of a payment provider. Stripe is one adapter; the rest of the package knows only this."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal, Protocol

from schemas.errors import Misconfigured
from schemas.usage import Meter


class NotThere(Misconfigured):
    """The provider knows no such thing: it was removed, or is another account's."""


class Outcome(StrEnum):
    """What is known after a push."""

    # The provider has it, from this call or an earlier one.
    ACCEPTED = "accepted"
    # The provider will never take it.
    REJECTED = "rejected"
    # It was not begun; try again.
    BUSY = "busy"
    # Nobody knows whether the provider has it.
    AMBIGUOUS = "ambiguous"


@dataclass(frozen=True, slots=True)
class Push:
    """One value of one meter of one customer.

    Args:
        identifier: the provider takes it once within 24 h.
        value: an hour's total, or in delta mode what it gained.
        at_s: epoch seconds, within the hour that it speaks of.
    """

    identifier: str
    customer_id: str
    meter: Meter
    value: int
    at_s: int


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a push; `detail` is for people and carries no secrets."""

    outcome: Outcome
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Charge:
    """A line of the customer's next invoice.

    Args:
        key: the provider acts on it once within 24 h.
        charge: what it is found by afterwards.
        quantity: units of the meter at its price; negative: a credit.
        start: of the first hour that it speaks of.
        end: of the last one.
    """

    key: str
    charge: str
    customer_id: str
    meter: Meter
    quantity: int
    start: datetime
    end: datetime
    description: str


@dataclass(frozen=True, slots=True)
class Charged:
    """What came of a charge; accepted without an item: there is nothing to pay."""

    outcome: Outcome
    item_id: str | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Item:
    """A line as the provider has it; `is_pending` until it is on an invoice."""

    item_id: str
    charge: str
    quantity: int
    is_pending: bool


@dataclass(frozen=True, slots=True)
class Subscription:
    """A subscription as the provider has it now."""

    subscription_id: str
    customer_id: str
    status: str
    plan: str
    started_at: datetime
    period_start: datetime
    period_end: datetime
    cancel_at_period_end: bool
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class Invoice:
    """An invoice as the provider has it now; once final, usage of its period cannot change it."""

    invoice_id: str
    customer_id: str
    period_start: datetime
    period_end: datetime
    is_final: bool


class BillingProvider(Protocol):
    """A payment provider.

    Raises (all but `push` and `charge`): Transient when the provider does not answer or asks for patience, Misconfigured when it
    refuses.
    """

    async def set_up(self) -> None:
        """Make the meters and prices that are missing; check those that are there."""
        ...

    async def create_customer(self, tenant_id: str, name: str) -> str:
        """The id of a new customer; the same again for the same tenant within 24 h."""
        ...

    async def subscribe(self, customer_id: str, tenant_id: str, plan: str) -> Subscription:
        """Subscribe without a checkout page, for customers who pay by invoice; from the beginning of the month on."""
        ...

    async def checkout_url(self, customer_id: str, tenant_id: str, plan: str, success_url: str, cancel_url: str) -> str:
        """Where somebody subscribes."""
        ...

    async def portal_url(self, customer_id: str, return_url: str) -> str:
        """Where somebody changes cards, reads invoices, cancels."""
        ...

    async def subscription(self, subscription_id: str) -> Subscription:
        """How it stands now; raises `NotThere`."""
        ...

    async def invoice(self, invoice_id: str) -> Invoice:
        """How it stands now; raises `NotThere`."""
        ...

    async def push(self, push: Push) -> Report:
        """Report usage; never raises for what the provider or the network does."""
        ...

    async def charge(self, charge: Charge) -> Charged:
        """Put a line on the customer's next invoice; never raises for what the provider or the network does."""
        ...

    async def charged(self, customer_id: str, since: datetime) -> Sequence[Item]:
        """The lines that were made by `charge` since then, also those on invoices."""
        ...

    async def invoice_pending(self, customer_id: str, key: str) -> None:
        """An invoice of the lines that wait, for a customer who gets no other one any more; none wait: nothing."""
        ...

    async def totals(
        self, customer_id: str, meter: Meter, start_s: int, end_s: int, by: Literal["hour", "day"]
    ) -> Mapping[int, int]:
        """What the provider counts, by the start of each hour or UTC day in epoch seconds; those without usage are absent."""
        ...
