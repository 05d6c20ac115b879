"""What the API and the operators read of usage: rows by hour, day or month, and what does not agree.

Border: rows in, rows out. Connections are inside a `core.postgres.tenant_transaction`, or an operator's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from core.postgres import Connection

Bucket = Literal["hour", "day", "month"]

_PAGES: Final = {
    "hour": "SELECT tenant_id, meter, bucket_start, quantity, revision, NULL::bigint FROM weir_tenant.usage_hourly",
    "day": "SELECT tenant_id, meter, bucket_start, quantity, revision,"
    " CASE meter WHEN 'active_sensors' THEN quantity END FROM weir_tenant.usage_daily",
    "month": "SELECT tenant_id, meter, bucket_start, quantity, revision, sensor_days FROM weir_tenant.usage_monthly",
}
_AFTER: Final = " AND (bucket_start, meter) > (%s, %s)"
_DRIFT = """
SELECT tenant_id, meter, bucket_start, stored, metered, pushed, adjusted, stripe, difference, explanation
"""


@dataclass(frozen=True, slots=True)
class UsageRow:
    """A usage row of INTERFACES §7; sensor-days stand beside active sensors in days and months."""

    tenant_id: str
    meter: str
    bucket_start: datetime
    quantity: int
    revision: int
    sensor_days: int | None


@dataclass(frozen=True, slots=True)
class Difference:
    """A row of `usage_drift`; None where there is nothing to compare with."""

    tenant_id: str
    meter: str
    bucket_start: datetime
    stored: int
    metered: int
    pushed: int | None
    adjusted: int | None
    stripe: int | None
    difference: int
    explanation: str


After = tuple[datetime, str]
"""The bucket and meter of the last row shown."""


async def usage_page(
    connection: Connection, bucket: Bucket, start: datetime, end: datetime, after: After | None, limit: int
) -> list[UsageRow]:
    """The current tenant's usage in buckets with start <= bucket_start < end, in the order of bucket and meter."""
    statement = f"{_PAGES[bucket]} WHERE bucket_start >= %s AND bucket_start < %s{_AFTER if after else ''}"
    cursor = await connection.execute(
        f"{statement} ORDER BY bucket_start, meter LIMIT %s".encode(), (start, end, *(after or ()), limit)
    )
    return [UsageRow(*row) for row in await cursor.fetchall()]


async def own_differences(
    connection: Connection, start: datetime | None, end: datetime | None, after: After | None, limit: int
) -> list[Difference]:
    """What does not agree for the current tenant; None is without a bound."""
    cursor = await connection.execute(
        f"{_DRIFT} FROM weir_tenant.usage_drift(coalesce(%s, '-infinity'::timestamptz), coalesce(%s, 'infinity'::timestamptz))"
        f" WHERE true{_AFTER if after else ''} ORDER BY bucket_start, meter LIMIT %s".encode(),
        (start, end, *(after or ()), limit),
    )
    return [Difference(*row) for row in await cursor.fetchall()]


async def touched_differences(connection: Connection) -> list[Difference]:
    """What does not agree on days that changed since the last proof, as an operator or a writer sees it."""
    cursor = await connection.execute(
        f"{_DRIFT} FROM public.usage_drift_touched() ORDER BY tenant_id, bucket_start, meter".encode()
    )
    return [Difference(*row) for row in await cursor.fetchall()]


async def all_differences(connection: Connection, start: datetime | None, end: datetime | None) -> Sequence[Difference]:
    """What does not agree for any tenant, as an operator sees it."""
    cursor = await connection.execute(
        f"{_DRIFT} FROM public.usage_drift_between(coalesce(%s, '-infinity'::timestamptz),"
        " coalesce(%s, 'infinity'::timestamptz)) ORDER BY tenant_id, bucket_start, meter".encode(),
        (start, end),
    )
    return [Difference(*row) for row in await cursor.fetchall()]
