"""Meters, meter events and their summaries: windows, the 24 h of an identifier, 35 days and 5 minutes, lag."""

from __future__ import annotations

from typing import Any, Final

from ops.fake_stripe.params import Refused
from ops.fake_stripe.store import Object, Store

HOUR_S: Final = 3600
_DAY_S: Final = 86_400
_WINDOW_S: Final = {"hour": HOUR_S, "day": _DAY_S}
_OLDEST_S: Final = 35 * _DAY_S
_NEWEST_S: Final = 300
_IDENTIFIER_S: Final = 24 * HOUR_S
_DIGITS: Final = 15
_PAGE: Final = 100


def create_meter(store: Store, values: Object) -> Object:
    """A meter; an active one's event name is its own."""
    if any(meter["event_name"] == values["event_name"] for meter in store.all("meter") if meter["status"] == "active"):
        raise Refused(400, f"A meter with event_name {values['event_name']} already exists.")
    meter = {
        "id": store.new_id("mtr"),
        "object": "billing.meter",
        "created": int(store.now()),
        "customer_mapping": {"type": "by_id", "event_payload_key": "stripe_customer_id"},
        "display_name": values["display_name"],
        "event_name": values["event_name"],
        "default_aggregation": values["default_aggregation"],
        "event_time_window": values.get("event_time_window"),
        "livemode": False,
        "status": "active",
        "value_settings": {"event_payload_key": "value"},
    }
    return store.put("meter", meter)


def meter_named(store: Store, event_name: str) -> Object | None:
    """The active meter of an event name."""
    return next((one for one in store.all("meter") if one["event_name"] == event_name), None)


def accept_event(store: Store, values: Object) -> tuple[Object, str | None]:
    """Take an event in, as v1 does: its shape is checked at once, what it names later.

    Returns:
        The event, and the code of an error that Stripe reports afterwards.

    Raises:
        Refused: 400.
    """
    now = store.now()
    at, identifier = int(values.get("timestamp", now)), values.get("identifier") or store.new_id("mev")
    _check_event(store, values, at, identifier, now)
    customer, value = values["payload"].get("stripe_customer_id", ""), values["payload"].get("value", "")
    meter, known = meter_named(store, values["event_name"]), store.find(customer)
    error = None
    if meter is None:
        error = "no_meter"
    elif known is None:
        error = "meter_event_customer_not_found"
    store.db.execute(
        "INSERT INTO meter_event (event_name, customer, identifier, at, value, received) VALUES (?, ?, ?, ?, ?, ?)",
        (values["event_name"] if error is None else "", customer, identifier, at, int(value), now),
    )
    event = {
        "object": "billing.meter_event",
        "created": int(now),
        "event_name": values["event_name"],
        "identifier": identifier,
        "livemode": False,
        "payload": values["payload"],
        "timestamp": at,
    }
    return event, error


def _check_event(store: Store, values: Object, at: int, identifier: str, now: float) -> None:
    if at < now - _OLDEST_S:
        raise Refused(400, "The timestamp must be within the past 35 calendar days.", param="timestamp")
    if at > now + _NEWEST_S:
        raise Refused(400, "The timestamp must not be more than 5 minutes in the future.", param="timestamp")
    if len(identifier) > _PAGE:
        raise Refused(400, "Invalid string: identifier must be at most 100 characters", param="identifier")
    value = values["payload"].get("value", "")
    digits = value.removeprefix("-")
    if not digits.isdigit():
        raise Refused(400, "The meter event value must be a whole number.", code="meter_event_invalid_value")
    if len(digits) > _DIGITS:
        raise Refused(400, "The value has too many digits.", code="meter_event_value_too_many_digits")
    row = store.db.execute(
        "SELECT 1 FROM meter_event WHERE identifier = ? AND received > ?", (identifier, now - _IDENTIFIER_S)
    ).fetchone()
    if row is not None:
        raise Refused(400, f"An event already exists with identifier {identifier}.")


def total(store: Store, meter: Object, customer: str, start: int, end: int, lag_s: float = 0.0) -> int | None:
    """What a meter comes to in `[start, end)`; None where it has no event."""
    rows = store.db.execute(
        "SELECT at, value FROM meter_event WHERE event_name = ? AND customer = ? AND at >= ? AND at < ? AND received <= ?"
        " ORDER BY at, number",
        (meter["event_name"], customer, start, end, store.now() - lag_s),
    ).fetchall()
    if not rows:
        return None
    formula = meter["default_aggregation"]["formula"]
    if formula == "last":
        return int(rows[-1][1])
    if formula == "count":
        return len(rows)
    window = _WINDOW_S.get(meter["event_time_window"])
    # With a window events are totals: the newest of each counts.
    values: dict[int, int] = (
        {at // window: value for at, value in rows} if window else dict(enumerate(value for _, value in rows))
    )
    return sum(values.values())


def summaries(store: Store, meter_id: str, values: Object, lag_s: float) -> Object:
    """A page of summaries, the newest first; buckets without events are absent."""
    meter = store.find(meter_id)
    if meter is None:
        raise Refused(404, f"No such meter: '{meter_id}'", code="resource_missing")
    start, end = values["start_time"], values["end_time"]
    step = _WINDOW_S.get(values.get("value_grouping_window", ""), end - start)
    _check_range(start, end, step if "value_grouping_window" in values else 60)
    found = []
    for first in range(start, end, max(1, step)):
        value = total(store, meter, values["customer"], first, min(end, first + step), lag_s)
        if value is not None:
            found.append(_summary(meter_id, first, min(end, first + step), value))
    found.reverse()
    after = values.get("starting_after")
    place = next((n + 1 for n, one in enumerate(found) if one["id"] == after), 0)
    limit = min(_PAGE, int(values.get("limit", 10)))
    page = found[place : place + limit]
    return {
        "object": "list",
        "url": f"/v1/billing/meters/{meter_id}/event_summaries",
        "has_more": len(found) > place + limit,
        "data": page,
    }


def _check_range(start: int, end: int, step: int) -> None:
    if start >= end or start % step or end % step:
        raise Refused(400, f"start_time and end_time must align with {step} second boundaries.", param="start_time")


def _summary(meter_id: str, start: int, end: int, value: int) -> dict[str, Any]:
    return {
        "id": f"mtrusg_{meter_id}_{start}",
        "object": "billing.meter_event_summary",
        "aggregated_value": float(value),
        "start_time": start,
        "end_time": end,
        "livemode": False,
        "meter": meter_id,
    }
