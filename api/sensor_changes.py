"""`PATCH /v1/sensors/{sensor_id}`: what a sensor measures in, how often, and where it is since when; and where it was."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends
from starlette.responses import Response

from accounts import place_fields, sensors
from accounts.sensors import Assignment
from api.auth import Principal, Require
from api.bodies import Body, described, require_known
from api.device_models import ASSIGNMENTS_FOUND, SENSOR_CHANGE, SENSOR_CHANGED, SENSOR_SCHEMA
from api.errors import Problem
from api.pagination import DEFAULT_LIMIT, Cursor, Cursors, Limit
from api.place_bodies import Paging, answer, changing, checked, instant, is_archived, moment
from api.sensors import SensorId, ServicesOfApp, require_sensor, sensor_item
from api.sites import require_open_site
from api.units import UNITS
from core.postgres import Connection, tenant_transaction
from sinks.timescale.reader import SensorRow

router = APIRouter(prefix="/v1/sensors", tags=["sensors"])

Reader = Annotated[Principal, Depends(Require("sensors:read"))]
Writer = Annotated[Principal, Depends(Require("sensors:write"))]

_FIELDS: Final = ("unit", "expected_interval", "unit_id", "site_id", "effective_from", "archived")
_CHANGED_BODY: Final = described(
    SENSOR_SCHEMA,
    SENSOR_CHANGE,
    "The fields that change. In a unit it is at the unit's site, and moves with it; `unit_id`: null takes it out, and it stays"
    " at the site unless `site_id` says otherwise. It is there from `effective_from` on, by default from now; what was recorded"
    " for later is replaced. `expected_interval`: null takes the median spacing of its readings.",
)


@router.patch(
    "/{sensor_id}",
    summary="Change a sensor",
    responses=SENSOR_CHANGED,
    response_class=Response,
    openapi_extra=_CHANGED_BODY,
)
async def change_sensor(services: ServicesOfApp, principal: Writer, sensor_id: SensorId, body: Body) -> Response:
    """Changes a sensor. Its stored readings are judged again from the moment on that the change concerns."""
    changes = _changes(body)
    effective_from = moment(body, services.clock)
    async with changing(services, principal.tenant_id, principal.subject) as connection:
        row = await require_sensor(connection, sensor_id)
        unit_id, site_id = await _place(connection, row, body)
        if (unit_id, site_id) != (row.unit_id, row.site_id) or effective_from is not None:
            await sensors.place_sensor(connection, sensor_id, unit_id, site_id, effective_from)
        await sensors.change_sensor(connection, sensor_id, changes)
        row = await require_sensor(connection, sensor_id)
    return answer(sensor_item(row, services.clock.now_ms()))


@router.get(
    "/{sensor_id}/assignments", summary="Read where a sensor was", responses=ASSIGNMENTS_FOUND, response_class=Response
)
async def list_assignments(
    services: ServicesOfApp,
    principal: Reader,
    sensor_id: SensorId,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_LIMIT,
) -> Response:
    """Units and sites, oldest first; before the first one it was nowhere."""
    page = Paging.begin(Cursors(services.vault, "assignments"), principal.tenant_id, [sensor_id], cursor, limit)
    after = datetime.fromisoformat(page.after) if page.after else None
    async with tenant_transaction(services.pool, principal.tenant_id) as connection:
        row = await require_sensor(connection, sensor_id)
        found = await sensors.list_assignments(connection, row.sensor_no, after, limit + 1)
    items = [_shown(one) for one in found]
    return answer({"items": items[:limit], "next": page.following([str(one["effective_from"]) for one in items])})


def _shown(assignment: Assignment) -> dict[str, object]:
    return {
        "effective_from": instant(assignment.effective_from),
        "effective_to": instant(assignment.effective_to),
        "unit_id": assignment.unit_id,
        "site_id": assignment.site_id,
    }


def _changes(body: Mapping[str, Any]) -> dict[str, object]:
    """What is changed of the sensor itself."""
    if "name" in body:
        detail = "name: is what the device calls the sensor in its readings; change it there, and a new sensor begins"
        raise Problem.invalid(parameter="name", detail=detail)
    require_known(body, *_FIELDS)
    if "effective_from" in body and not {"unit_id", "site_id"} & set(body):
        detail = "effective_from: says since when a sensor is somewhere; send unit_id or site_id with it"
        raise Problem.invalid(parameter="effective_from", detail=detail)
    checks = {
        "unit": ("unit", place_fields.measured_in),
        "expected_interval": ("expected_interval_ms", place_fields.expected_interval_ms),
        "archived": ("archived", place_fields.flag),
    }
    return checked(
        lambda: {column: check(body[name], name) for name, (column, check) in checks.items() if name in body}
    )


async def _place(connection: Connection, row: SensorRow, body: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """The unit and site in which the sensor is to be.

    Raises:
        Problem: 404, 409 or 422.
    """
    given = checked(
        lambda: {name: place_fields.optional_id(body[name], name) for name in ("unit_id", "site_id") if name in body}
    )
    unit_id, site_id = given.get("unit_id", row.unit_id), given.get("site_id", row.site_id)
    if site_id != row.site_id:
        await require_open_site(connection, site_id)
    if unit_id is None:
        return None, site_id
    unit = (await UNITS.require(connection, unit_id)).held
    if unit_id != row.unit_id and unit.archived:
        raise is_archived(what="unit")
    if "site_id" in given and site_id != unit.site_id:
        detail = (
            f"site_id: the unit {unit_id} is at {unit.site_id or 'no site'}; leave it out, or send unit_id: null too"
        )
        raise Problem.invalid(parameter="site_id", detail=detail)
    return unit_id, unit.site_id
