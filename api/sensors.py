"""`GET /v1/sensors` and `/v1/sensors/{sensor_id}`: what measures, and what it measured last."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from fastapi import APIRouter, Depends, Path
from starlette.responses import Response

from api.auth import Principal, Require
from api.errors import Problem
from api.models import SENSOR_RESPONSES, SENSORS_RESPONSES
from api.pagination import DEFAULT_LIMIT, Cursor, Cursors, Limit
from api.services import Services, services_of
from api.times import format_duration
from core.postgres import Connection, tenant_transaction
from processors.gaps import DEFAULT_INTERVAL_MS, GAP_INTERVALS
from schemas import rfc3339
from sinks.timescale import reader
from sinks.timescale.reader import SensorRow

router = APIRouter(prefix="/v1/sensors", tags=["sensors"])

Reader = Annotated[Principal, Depends(Require("sensors:read"))]

JSON: Final = "application/json"
SensorId = Annotated[str, Path(max_length=200, description="as `/v1/sensors` lists it", examples=["sen_4f6e0b7d2c"])]
ServicesOfApp = Annotated[Services, Depends(services_of)]


class AfterSensor(msgspec.Struct, array_like=True):
    """Where a page of sensors begins: after this id."""

    sensor_id: str


@router.get("", summary="List sensors", responses=SENSORS_RESPONSES, response_class=Response)
async def list_sensors(
    services: ServicesOfApp, principal: Reader, cursor: Cursor = None, limit: Limit = DEFAULT_LIMIT
) -> Response:
    """The tenant's sensors in the order of their ids."""
    cursors = Cursors(services.vault, "sensors")
    after = "" if cursor is None else cursors.decode(principal.tenant_id, cursor, AfterSensor).sensor_id
    async with tenant_transaction(services.pool, principal.tenant_id) as connection:
        rows = await reader.list_sensors(connection, after, limit + 1)
    page, more = rows[:limit], len(rows) > limit
    now_ms = services.clock.now_ms()
    following = cursors.encode(principal.tenant_id, AfterSensor(page[-1].sensor_id)) if more else None
    items = [sensor_item(row, now_ms) for row in page]
    return Response(msgspec.json.encode({"items": items, "next": following}), media_type=JSON)


@router.get("/{sensor_id}", summary="Read a sensor", responses=SENSOR_RESPONSES, response_class=Response)
async def read_sensor(services: ServicesOfApp, principal: Reader, sensor_id: SensorId) -> Response:
    """One sensor, its newest reading and its status."""
    async with tenant_transaction(services.pool, principal.tenant_id) as connection:
        row = await require_sensor(connection, sensor_id)
    return Response(msgspec.json.encode(sensor_item(row, services.clock.now_ms())), media_type=JSON)


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
