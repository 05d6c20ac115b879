"""`/v1/sites`: places of the tenant, with time zones and attributes; archived rather than deleted."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Path
from starlette.responses import Response

from accounts import place_fields, places
from accounts.place_fields import Site
from accounts.place_states import Place
from api import place_bodies
from api.auth import Principal, Require
from api.bodies import Body, described, require_known
from api.pagination import DEFAULT_LIMIT, Cursor, Cursors, Limit
from api.place_bodies import Archived, Paging, changing, checked, is_archived
from api.place_kinds import PlaceKind, anything
from api.place_models import (
    PLACE_ARCHIVED,
    SITE_CHANGE,
    SITE_CHANGED,
    SITE_CREATED,
    SITE_EXAMPLE,
    SITE_FOUND,
    SITE_PATCH_SCHEMA,
    SITE_SCHEMA,
    SITES_FOUND,
)
from api.sensors import ServicesOfApp
from core.postgres import Connection, tenant_transaction

router = APIRouter(prefix="/v1/sites", tags=["places"])

Reader = Annotated[Principal, Depends(Require("places:read"))]
Writer = Annotated[Principal, Depends(Require("places:write"))]
SiteId = Annotated[str, Path(max_length=200, description="as `/v1/sites` lists it", examples=["sit_7d20c9"])]

_CREATED_BODY: Final = described(SITE_SCHEMA, SITE_EXAMPLE, "The site; what it is said to be, it has always been.")
_CHANGED_BODY: Final = described(
    SITE_PATCH_SCHEMA,
    SITE_CHANGE,
    "The fields that change, each replaced whole. Time zone and attributes hold from `effective_from` on, by default from now;"
    " what was recorded for later is replaced. With the `revision` that was read, a change by somebody else is not overwritten.",
)


def _shown(site: Site) -> dict[str, object]:
    return {"name": site.name, "timezone": site.timezone, "attributes": site.attributes}


SITES: Final = PlaceKind(
    "site",
    Place.SITE,
    place_fields.SITE_FIELDS,
    places.find_site,
    place_fields.changed_site,
    places.change_site,
    _shown,
)


@router.post(
    "",
    summary="Create a site",
    status_code=201,
    responses=SITE_CREATED,
    response_class=Response,
    openapi_extra=_CREATED_BODY,
)
async def create_site(services: ServicesOfApp, principal: Writer, body: Body) -> Response:
    """Makes a site."""
    require_known(body, *place_fields.SITE_FIELDS)
    site = checked(lambda: place_fields.new_site(body))
    async with changing(services, principal.tenant_id, principal.subject) as connection:
        await places.require_room_for(connection, "site", "sites", place_bodies.MAX_SITES)
        made = await SITES.require(connection, await places.create_site(connection, site))
        return await SITES.answer(services, connection, made, HTTPStatus.CREATED)


@router.get("", summary="List sites", responses=SITES_FOUND, response_class=Response)
async def list_sites(
    services: ServicesOfApp,
    principal: Reader,
    archived: Archived = False,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_LIMIT,
) -> Response:
    """The tenant's sites in the order of their ids, each with how its sensors are doing."""
    query = ["archived" if archived else None]
    page = Paging.begin(Cursors(services.vault, "sites"), principal.tenant_id, query, cursor, limit)
    async with tenant_transaction(services.pool, principal.tenant_id) as connection:
        rows = await places.list_sites(connection, page.after, limit + 1, archived=page.query[0] is not None)
        return await SITES.page(services, connection, rows, page)


@router.get("/{site_id}", summary="Read a site", responses=SITE_FOUND, response_class=Response)
async def read_site(services: ServicesOfApp, principal: Reader, site_id: SiteId) -> Response:
    """One site, archived or not."""
    return await SITES.read(services, principal, site_id)


@router.patch(
    "/{site_id}",
    summary="Change a site",
    responses=SITE_CHANGED,
    response_class=Response,
    openapi_extra=_CHANGED_BODY,
)
async def change_site(services: ServicesOfApp, principal: Writer, site_id: SiteId, body: Body) -> Response:
    """Changes a site, or brings it back (`archived`: false). Nothing changed, nothing recorded."""
    return await SITES.change(services, principal, site_id, body, anything)


@router.delete(
    "/{site_id}", summary="Archive a site", status_code=204, responses=PLACE_ARCHIVED, response_class=Response
)
async def archive_site(services: ServicesOfApp, principal: Writer, site_id: SiteId) -> Response:
    """Takes it out of the lists. Its units and sensors stay as they are, and so do the rules that watch them."""
    return await SITES.archive(services, principal, site_id)


async def require_open_site(connection: Connection, site_id: str | None) -> None:
    """A site that something may be put into, or none.

    Raises:
        Problem: 404, or 409 if it is archived.
    """
    if site_id is not None and (await SITES.require(connection, site_id)).held.archived:
        raise is_archived(what="site")
