"""`GET /v1/usage` and `/v1/usage/reconciliation`: what is billed, and whether it is what is stored.

Border: HTTP; the numbers are the views'.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, Literal

import msgspec
from fastapi import APIRouter, Depends, Query
from starlette.responses import Response

from api.auth import Principal, Require
from api.errors import Problem
from api.pagination import DEFAULT_LIMIT, Cursor, Cursors, Limit
from api.readings import End
from api.sensors import JSON
from api.services import Services, services_of
from api.times import DAY_MS, parse_instant
from api.usage_models import RECONCILIATION_RESPONSES, USAGE_RESPONSES
from core.postgres import tenant_transaction
from schemas import rfc3339
from schemas.usage import HOUR_MS
from sinks.timescale import usage_reader
from sinks.timescale.usage_reader import After, Difference, UsageRow

router = APIRouter(prefix="/v1/usage", tags=["usage"])

Reader = Annotated[Principal, Depends(Require("billing:read"))]
ServicesOfApp = Annotated[Services, Depends(services_of)]
Start = Annotated[
    str | None,
    Query(
        description="RFC 3339, inclusive, floored to the bucket; default: 24 hours, 30 days or 12 months before `end`",
        examples=["2026-11-01T00:00:00.000Z"],
    ),
]
Bound = Annotated[
    str | None, Query(description="RFC 3339, floored to the hour; default: no bound", examples=["2026-11-01T00:00:00Z"])
]
BucketName = Annotated[Literal["hour", "day", "month"], Query(description="width of a bucket, in UTC")]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DEFAULT_SPAN_MS: Final = {"hour": DAY_MS, "day": 30 * DAY_MS, "month": 365 * DAY_MS}


class Continuation(msgspec.Struct, array_like=True):
    """A query and how far its pages have come."""

    bucket: Literal["hour", "day", "month"]
    start_ms: int
    end_ms: int
    after_ms: int
    after_meter: str


class DriftContinuation(msgspec.Struct, array_like=True):
    """The same of differences."""

    start_ms: int | None
    end_ms: int | None
    after_ms: int
    after_meter: str


@router.get("", summary="Read usage", responses=USAGE_RESPONSES, response_class=Response)
async def read_usage(
    services: ServicesOfApp,
    principal: Reader,
    start: Start = None,
    end: End = None,
    bucket: BucketName = "hour",
    cursor: Cursor = None,
    limit: Limit = DEFAULT_LIMIT,
) -> Response:
    """Usage by meter in buckets with floor(start) <= bucket_start < end, in their order; empty buckets are absent."""
    cursors = Cursors(services.vault, "usage")
    after: After | None = None
    if cursor is None:
        start_ms, end_ms = _window(start, end, bucket, services.clock.now_ms())
    else:
        query = cursors.decode(principal.tenant_id, cursor, Continuation)
        bucket, start_ms, end_ms = query.bucket, query.start_ms, query.end_ms
        after = (_time(query.after_ms), query.after_meter)
    async with tenant_transaction(services.pool, principal.tenant_id) as connection:
        rows = await usage_reader.usage_page(connection, bucket, _time(start_ms), _time(end_ms), after, limit + 1)
    following = None
    if len(rows) > limit:
        last = rows[limit - 1]
        following = Continuation(bucket, start_ms, end_ms, _ms(last.bucket_start), last.meter)
    return _page(cursors, principal, [usage_item(row) for row in rows[:limit]], following)


@router.get("/reconciliation", summary="Compare usage", responses=RECONCILIATION_RESPONSES, response_class=Response)
async def read_reconciliation(
    services: ServicesOfApp,
    principal: Reader,
    start: Bound = None,
    end: Bound = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_LIMIT,
) -> Response:
    """Every hour in which stored rows, metered usage and what the payment provider was told differ; empty: all agree."""
    cursors = Cursors(services.vault, "reconciliation")
    after: After | None = None
    if cursor is None:
        start_ms = None if start is None else parse_instant(start, "start") // HOUR_MS * HOUR_MS
        end_ms = None if end is None else -(-parse_instant(end, "end") // HOUR_MS) * HOUR_MS
    else:
        query = cursors.decode(principal.tenant_id, cursor, DriftContinuation)
        start_ms, end_ms = query.start_ms, query.end_ms
        after = (_time(query.after_ms), query.after_meter)
    lower, upper = (None if one is None else _time(one) for one in (start_ms, end_ms))
    async with tenant_transaction(services.pool, principal.tenant_id) as connection:
        rows = await usage_reader.own_differences(connection, lower, upper, after, limit + 1)
    following = None
    if len(rows) > limit:
        last = rows[limit - 1]
        following = DriftContinuation(start_ms, end_ms, _ms(last.bucket_start), last.meter)
    return _page(cursors, principal, [difference_item(row) for row in rows[:limit]], following)


def _page(
    cursors: Cursors, principal: Principal, items: list[dict[str, object]], following: msgspec.Struct | None
) -> Response:
    after = None if following is None else cursors.encode(principal.tenant_id, following)
    return Response(msgspec.json.encode({"items": items, "next": after}), media_type=JSON)


def usage_item(row: UsageRow) -> dict[str, object]:
    """A usage row as the API shows it."""
    item: dict[str, object] = {
        "tenant_id": row.tenant_id,
        "meter": row.meter,
        "bucket_start": rfc3339.format_ms(_ms(row.bucket_start)),
        "quantity": row.quantity,
        "revision": row.revision,
    }
    return item if row.sensor_days is None else item | {"sensor_days": row.sensor_days}


def difference_item(row: Difference) -> dict[str, object]:
    """A difference as the API shows it."""
    fields = ("stored", "metered", "pushed", "adjusted", "stripe", "difference", "explanation")
    return {
        "tenant_id": row.tenant_id,
        "meter": row.meter,
        "bucket_start": rfc3339.format_ms(_ms(row.bucket_start)),
        **{name: getattr(row, name) for name in fields},
    }


def _window(start: str | None, end: str | None, bucket: str, now_ms: int) -> tuple[int, int]:
    """The interval asked for, its start floored to the bucket.

    Raises:
        Problem: 422, a time is none, or the interval is empty.
    """
    end_ms = now_ms if end is None else parse_instant(end, "end")
    span_ms = _DEFAULT_SPAN_MS[bucket]
    start_ms = max(end_ms - span_ms, rfc3339.MIN_MS) if start is None else parse_instant(start, "start")
    if start_ms >= end_ms:
        detail = f"start {rfc3339.format_ms(start_ms)} is not before end {rfc3339.format_ms(end_ms)}"
        raise Problem.invalid(parameter="start", detail=detail)
    return _floor(start_ms, bucket), end_ms


def _floor(at_ms: int, bucket: str) -> int:
    if bucket == "month":
        first = _time(at_ms).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        return _ms(first)
    width_ms = DAY_MS if bucket == "day" else HOUR_MS
    return at_ms // width_ms * width_ms


def _time(at_ms: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=at_ms)


def _ms(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(milliseconds=1)
