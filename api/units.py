"""`/v1/units`: what is monitored at the sites, and how it is doing; archived rather than deleted."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Path, Query
from starlette.responses import Response

from accounts import place_fields, places
from accounts.place_fields import Unit
from accounts.place_states import Place
from accounts.places import UnitFilter
from api import place_bodies
from api.auth import Principal, Require
from api.bodies import Body, described, require_known
from api.pagination import DEFAULT_LIMIT, Cursor, Cursors, Limit
from api.place_bodies import Archived, Paging, changing, checked
from api.place_kinds import PlaceKind
from api.place_models import (
    PLACE_ARCHIVED,
    UNIT_CHANGE,
    UNIT_CHANGED,
    UNIT_CREATED,
    UNIT_EXAMPLE,
    UNIT_FOUND,
    UNIT_PATCH_SCHEMA,
    UNIT_SCHEMA,
    UNITS_FOUND,
)
from api.sensors import ServicesOfApp
from api.sites import require_open_site
from core.postgres import Connection, tenant_transaction

router = APIRouter(prefix="/v1/units", tags=["places"])

Reader = Annotated[Principal, Depends(Require("places:read"))]
Writer = Annotated[Principal, Depends(Require("places:write"))]
UnitId = Annotated[str, Path(max_length=200, description="as `/v1/units` lists it", examples=["uni_c41f88"])]
SiteFilter = Annotated[str | None, Query(max_length=200, description="at this site", examples=["sit_7d20c9"])]
KindFilter = Annotated[
    str | None, Query(description=f"one of {', '.join(place_fields.UNIT_KINDS)}", examples=["fridge"])
]

_CREATED_BODY: Final = described(UNIT_SCHEMA, UNIT_EXAMPLE, "The unit; what it is said to be, it has always been.")
_CHANGED_BODY: Final = described(
    UNIT_PATCH_SCHEMA,
    UNIT_CHANGE,
    "The fields that change, each replaced whole. Site, kind and attributes hold from `effective_from` on, by default from now;"
    " what was recorded for later is replaced. With the `revision` that was read, a change by somebody else is not overwritten.",
)


def _shown(unit: Unit) -> dict[str, object]:
    return {"name": unit.name, "kind": unit.kind, "site_id": unit.site_id, "attributes": unit.attributes}


UNITS: Final = PlaceKind(
    "unit",
    Place.UNIT,
    place_fields.UNIT_FIELDS,
    places.find_unit,
    place_fields.changed_unit,
    places.change_unit,
    _shown,
)


@router.post(
    "",
    summary="Create a unit",
    status_code=201,
    responses=UNIT_CREATED,
    response_class=Response,
    openapi_extra=_CREATED_BODY,
)
async def create_unit(services: ServicesOfApp, principal: Writer, body: Body) -> Response:
    """Makes a unit."""
    require_known(body, *place_fields.UNIT_FIELDS)
    unit = checked(lambda: place_fields.new_unit(body))
    async with changing(services, principal.tenant_id, principal.subject) as connection:
        await require_open_site(connection, unit.site_id)
        await places.require_room_for(connection, "unit", "units", place_bodies.MAX_UNITS)
        made = await UNITS.require(connection, await places.create_unit(connection, unit))
        return await UNITS.answer(services, connection, made, HTTPStatus.CREATED)


@router.get("", summary="List units", responses=UNITS_FOUND, response_class=Response)
async def list_units(
    services: ServicesOfApp,
    principal: Reader,
    site_id: SiteFilter = None,
    kind: KindFilter = None,
    archived: Archived = False,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_LIMIT,
) -> Response:
    """The tenant's units in the order of their ids, each with how its sensors are doing."""
    if kind is not None:
        checked(lambda: place_fields.unit_kind(kind, "kind"))
    query = [site_id, kind, "archived" if archived else None]
    page = Paging.begin(Cursors(services.vault, "units"), principal.tenant_id, query, cursor, limit)
    async with tenant_transaction(services.pool, principal.tenant_id) as connection:
        wanted = UnitFilter(page.query[0], page.query[1], archived=page.query[2] is not None)
        rows = await places.list_units(connection, wanted, page.after, limit + 1)
        return await UNITS.page(services, connection, rows, page)


@router.get("/{unit_id}", summary="Read a unit", responses=UNIT_FOUND, response_class=Response)
async def read_unit(services: ServicesOfApp, principal: Reader, unit_id: UnitId) -> Response:
    """One unit, archived or not."""
    return await UNITS.read(services, principal, unit_id)


@router.patch(
    "/{unit_id}",
    summary="Change a unit",
    responses=UNIT_CHANGED,
    response_class=Response,
    openapi_extra=_CHANGED_BODY,
)
async def change_unit(services: ServicesOfApp, principal: Writer, unit_id: UnitId, body: Body) -> Response:
    """Changes a unit, or brings it back (`archived`: false). To another site it takes its sensors along."""
    return await UNITS.change(services, principal, unit_id, body, _require_open_target)


@router.delete(
    "/{unit_id}", summary="Archive a unit", status_code=204, responses=PLACE_ARCHIVED, response_class=Response
)
async def archive_unit(services: ServicesOfApp, principal: Writer, unit_id: UnitId) -> Response:
    """Takes it out of the lists. Its sensors stay in it, and the rules that watch them go on."""
    return await UNITS.archive(services, principal, unit_id)


async def _require_open_target(connection: Connection, before: Unit, after: Unit) -> None:
    if after.site_id != before.site_id:
        await require_open_site(connection, after.site_id)
