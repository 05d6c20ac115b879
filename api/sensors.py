"""`GET /v1/sensors` and `/v1/sensors/{sensor_id}`: what measures, and what it measured last."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Path, Query
from starlette.responses import Response

from api.auth import Principal, Require
from api.errors import Problem
from api.pagination import DEFAULT_LIMIT, Cursor, Cursors, Limit
from api.place_bodies import Archived, Paging, answer
from api.reading_models import SENSOR_RESPONSES, SENSORS_RESPONSES
from api.services import Services, services_of
from api.times import format_duration
from core.postgres import Connection, tenant_transaction
from processors.gaps import DEFAULT_INTERVAL_MS, GAP_INTERVALS
from schemas import rfc3339
from sinks.timescale import reader
from sinks.timescale.reader import SensorFilter, SensorRow

router = APIRouter(prefix="/v1/sensors", tags=["sensors"])

Reader = Annotated[Principal, Depends(Require("sensors:read"))]

JSON: Final = "application/json"
SensorId = Annotated[str, Path(max_length=200, description="as `/v1/sensors` lists it", examples=["sen_4f6e0b7d2c"])]
AtSite = Annotated[str | None, Query(max_length=200, description="at this site", examples=["sit_7d20c9"])]
InUnit = Annotated[str | None, Query(max_length=200, description="in this unit", examples=["uni_c41f88"])]
OfDevice = Annotated[str | None, Query(max_length=200, description="of this device", examples=["dev_91c3f0a7b2"])]
ServicesOfApp = Annotated[Services, Depends(services_of)]


@router.get("", summary="List sensors", responses=SENSORS_RESPONSES, response_class=Response)
async def list_sensors(
    services: ServicesOfApp,
    principal: Reader,
    site_id: AtSite = None,
    unit_id: InUnit = None,
    device_id: OfDevice = None,
    archived: Archived = False,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_LIMIT,
) -> Response:
    """The tenant's sensors in the order of their ids."""
    query = [site_id, unit_id, device_id, "archived" if archived else None]
    page = Paging.begin(Cursors(services.vault, "sensors"), principal.tenant_id, query, cursor, limit)
    wanted = SensorFilter(page.query[0], page.query[1], page.query[2], page.query[3] is not None)
    async with tenant_transaction(services.pool, principal.tenant_id) as connection:
        rows = await reader.list_sensors(connection, page.after, limit + 1, wanted)
    now_ms = services.clock.now_ms()
    items = [sensor_item(row, now_ms) for row in rows[:limit]]
    return answer({"items": items, "next": page.following([row.sensor_id for row in rows])})


@router.get("/{sensor_id}", summary="Read a sensor", responses=SENSOR_RESPONSES, response_class=Response)
async def read_sensor(services: ServicesOfApp, principal: Reader, sensor_id: SensorId) -> Response:
    """One sensor, its newest reading and its status."""
    async with tenant_transaction(services.pool, principal.tenant_id) as connection:
        row = await require_sensor(connection, sensor_id)
    return answer(sensor_item(row, services.clock.now_ms()))


async def require_sensor(connection: Connection, sensor_id: str) -> SensorRow:
    """A sensor of the transaction's tenant.

    Raises:
        Problem: 404.
    """
    row = await reader.find_sensor(connection, sensor_id)
    if row is None:
        raise Problem.not_found(what="sensor")
    return row


def sensor_item(row: SensorRow, now_ms: int) -> dict[str, object]:
    """A sensor as the API shows it."""
    interval = row.expected_interval_ms
    return {
        "sensor_id": row.sensor_id,
        "device_id": row.device_id,
        "name": row.name,
        "unit": row.unit,
        "expected_interval": None if interval is None else format_duration(interval),
        "site_id": row.site_id,
        "unit_id": row.unit_id,
        "last": _last(row),
        "status": status_of(row, now_ms),
        "archived_at": None if row.archived_at_ms is None else rfc3339.format_ms(row.archived_at_ms),
    }


def _last(row: SensorRow) -> dict[str, object] | None:
    if row.last_at_ms is None:
        return None
    return {"at": rfc3339.format_ms(row.last_at_ms), "value": row.last_value}


def status_of(row: SensorRow, now_ms: int) -> str:
    """`new`, `ok`, or `silent`: nothing for longer than what would be a gap."""
    if row.last_at_ms is None:
        return "new"
    silence_ms = now_ms - row.last_at_ms
    return "silent" if silence_ms > GAP_INTERVALS * (row.expected_interval_ms or DEFAULT_INTERVAL_MS) else "ok"
