"""What a receipt is written from: a tenant's sealed hours of a month and what was billed of them.

Border: an operator's connection in, a receipt out; whether it holds is `processors.seals`'s.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from core.postgres import Connection
from schemas import rfc3339
from schemas.receipts import FORMAT, BilledHour, Receipt, Seal

# What is on its way to Stripe, or will be since rows came late, is no part of a receipt.
_HOURS: Final = """
SELECT u.bucket_start, u.quantity, CASE WHEN p.state IS NOT NULL THEN coalesce(p.acked_quantity, 0) END, p.adjusted
FROM usage_hourly u LEFT JOIN usage_pushes p ON (p.tenant_id, p.meter, p.bucket_start) = (u.tenant_id, u.meter, u.bucket_start)
     AND p.quantity = u.quantity AND p.state IN ('acknowledged', 'adjusted', 'rejected')
WHERE u.tenant_id = %(tenant)s AND u.meter = 'readings' AND u.bucket_start >= %(start)s AND u.bucket_start < %(end)s
  AND u.bucket_start + interval '1 hour' <= now() ORDER BY 1
"""
# From the month's first link to its last, with those of other months that lie between.
_SEALS: Final = """
SELECT seal_no, bucket_start, version, readings, sensors, encode(rows_sha256, 'hex'), encode(previous, 'hex'), encode(seal, 'hex')
FROM usage_seals, (SELECT min(seal_no) AS first, max(seal_no) AS last FROM usage_seals
                   WHERE tenant_id = %(tenant)s AND bucket_start >= %(start)s AND bucket_start < %(end)s) span
WHERE tenant_id = %(tenant)s AND seal_no BETWEEN span.first AND span.last ORDER BY 1
"""


async def make_receipt(
    connection: Connection, tenant_id: str, start: datetime, end: datetime, now: datetime
) -> Receipt:
    """Seal what is over of a month and read its receipt.

    Args:
        connection: of the operator role.
        tenant_id: whose.
        start: of the month, UTC.
        end: of the month.
        now: for the receipt.
    """
    values = {"tenant": tenant_id, "start": start, "end": end}
    async with connection.transaction():
        await connection.execute("SELECT public.seal_usage(%(tenant)s, %(start)s, %(end)s)", values)
        hours = await (await connection.execute(_HOURS, values)).fetchall()
        seals = await (await connection.execute(_SEALS, values)).fetchall()
    return Receipt(
        format=FORMAT,
        tenant_id=tenant_id,
        month=f"{start:%Y-%m}",
        made_at=rfc3339.format_ms(round(now.timestamp() * 1000)),
        readings=sum(row[1] for row in hours),
        hours=[BilledHour(_hour(row[0]), *row[1:]) for row in hours],
        seals=[Seal(row[0], _hour(row[1]), *row[2:]) for row in seals],
    )


def _hour(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"
