"""`GET /v1/sensors/{sensor_id}/readings`: raw readings, or roll-ups of a minute, an hour or a day."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from fastapi import APIRouter, Depends, Query
from starlette.responses import Response

from accounts.billing.plans import Feature
from api.auth import Principal, Require
from api.errors import Problem
from api.pagination import DEFAULT_LIMIT, Cursor, Cursors, Limit
from api.reading_models import READINGS_RESPONSES
from api.sensors import JSON, SensorId, require_sensor
from api.services import Services, services_of
from api.times import format_instants, parse_instant, window
from core.postgres import Connection, tenant_transaction
from sinks.timescale import reader
from sinks.timescale.reader import STEPS_MS, BucketRow, RawRow

router = APIRouter(prefix="/v1/sensors", tags=["readings"])

Reader = Annotated[Principal, Depends(Require("readings:read"))]

# An hour more than the default, so that no clock stands between.
_ALWAYS_SHOWN_MS = 25 * 3_600_000
_TIME_EXAMPLE = "2026-11-22T20:00:00.000Z"
Start = Annotated[
    str | None,
    Query(
        description="RFC 3339, inclusive, floored to the bucket; default: 24 h before `end`", examples=[_TIME_EXAMPLE]
    ),
]
End = Annotated[str | None, Query(description="RFC 3339, exclusive; default: now", examples=[_TIME_EXAMPLE])]
Resolution = Annotated[Literal["raw", "1m", "1h", "1d"] | None, Query(description="default: raw", examples=["1h"])]
ServicesOfApp = Annotated[Services, Depends(services_of)]


class Continuation(msgspec.Struct, array_like=True):
    """A query and how far its pages have come.

    Attributes:
        sensor_id: whose readings.
        resolution: `raw` or a bucket's.
        start_ms: of the whole query.
        end_ms: of the whole query.
        after_us: raw: time of the last reading shown, in µs; buckets: start of the last one shown, in µs.
        after_seq: raw: seq of the last reading shown.
    """

    sensor_id: str
    resolution: str
    start_ms: int
    end_ms: int
    after_us: int | None = None
    after_seq: int = 0


@router.get(
    "/{sensor_id}/readings", summary="Read a sensor's readings", responses=READINGS_RESPONSES, response_class=Response
)
async def read_readings(
    services: ServicesOfApp,
    principal: Reader,
    sensor_id: SensorId,
    start: Start = None,
    end: End = None,
    resolution: Resolution = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_LIMIT,
) -> Response:
    """Readings with start <= at < end, or the buckets that begin there; by default raw ones of the last 24 h."""
    cursors = Cursors(services.vault, "readings")
    if cursor is None:
        start_ms, end_ms = window(start, end, services.clock.now_ms())
        query = Continuation(sensor_id, resolution or "raw", start_ms, end_ms)
    else:
        query = cursors.decode(principal.tenant_id, cursor, Continuation)
        _require_same(query, sensor_id, start, end, resolution)
    # The last day is always to be seen; what was before is a convenience of the plan.
    if query.start_ms < services.clock.now_ms() - _ALWAYS_SHOWN_MS:
        await services.entitled.require(services, principal.tenant_id, Feature.HISTORY)
    async with tenant_transaction(services.pool, principal.tenant_id) as connection:
        sensor_no = (await require_sensor(connection, sensor_id)).sensor_no
        page = _raw_page if query.resolution == "raw" else _bucket_page
        items, following = await page(connection, sensor_no, query, limit)
    return _page_response(cursors, principal, items, following)


def _page_response(
    cursors: Cursors, principal: Principal, items: list[dict[str, object]], following: Continuation | None
) -> Response:
    after = None if following is None else cursors.encode(principal.tenant_id, following)
    return Response(msgspec.json.encode({"items": items, "next": after}), media_type=JSON)


def _require_same(
    query: Continuation, sensor_id: str, start: str | None, end: str | None, resolution: str | None
) -> None:
    """A cursor continues its own query: what is given beside it must be the same, or be left out.

    Raises:
        Problem: 422, it is another.
    """
    given = (
        sensor_id,
        resolution or query.resolution,
        query.start_ms if start is None else parse_instant(start, "start"),
        query.end_ms if end is None else parse_instant(end, "end"),
    )
    if given != (query.sensor_id, query.resolution, query.start_ms, query.end_ms):
        detail = "cursor belongs to another query; repeat that query's parameters or leave them out"
        raise Problem.invalid(parameter="cursor", detail=detail)


async def _raw_page(
    connection: Connection, sensor_no: int, query: Continuation, limit: int
) -> tuple[list[dict[str, object]], Continuation | None]:
    after = None if query.after_us is None else (query.after_us, query.after_seq)
    rows = await reader.raw_page(connection, sensor_no, query.start_ms, query.end_ms, after, limit + 1)
    page = rows[:limit]
    if len(rows) <= limit:
        return raw_items(page), None
    last_us, _, last_seq, _ = page[-1]
    return raw_items(page), msgspec.structs.replace(query, after_us=last_us, after_seq=last_seq)


async def _bucket_page(
    connection: Connection, sensor_no: int, query: Continuation, limit: int
) -> tuple[list[dict[str, object]], Continuation | None]:
    step_ms = STEPS_MS[query.resolution]
    start_ms = query.start_ms // step_ms * step_ms
    if query.after_us is not None:
        start_ms = query.after_us // 1_000 + step_ms
    rows = await reader.rollup_page(connection, sensor_no, query.resolution, start_ms, query.end_ms, limit + 1)
    page = rows[:limit]
    following = msgspec.structs.replace(query, after_us=page[-1][0]) if len(rows) > limit else None
    return bucket_items(page), following


def raw_items(rows: list[RawRow]) -> list[dict[str, object]]:
    """Readings as the API shows them; whole columns at once, as pages are long."""
    if not rows:
        return []
    at_us, values, seqs, received_us = zip(*rows, strict=True)
    columns = (_instants(at_us), values, seqs, _instants(received_us))
    return [
        {"at": at, "value": value, "seq": seq, "received_at": received_at}
        for at, value, seq, received_at in zip(*columns, strict=True)
    ]


def bucket_items(rows: list[BucketRow]) -> list[dict[str, object]]:
    """Buckets as the API shows them. A sum beyond the range of a double is infinite, which JSON shows as null."""
    starts = _instants(tuple(row[0] for row in rows))
    return [
        {"at": at, "count": count, "min": low, "max": high, "mean": total / count, "first": first, "last": last}
        for at, (_, count, total, low, high, first, last) in zip(starts, rows, strict=True)
    ]


def _instants(at_us: tuple[int, ...]) -> list[str]:
    return format_instants([at // 1_000 for at in at_us])
