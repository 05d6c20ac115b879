"""`/v1/organization`: the tenant itself."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Depends
from starlette.responses import Response

from accounts import organization, place_fields
from accounts.organization import Organization
from api.auth import Principal, Require
from api.bodies import Body, described, require_known
from api.device_models import ORGANIZATION_CHANGED, ORGANIZATION_FOUND, ORGANIZATION_SCHEMA
from api.place_bodies import answer, changing, checked, instant
from api.sensors import ServicesOfApp
from api.times import format_duration
from core.postgres import tenant_transaction

router = APIRouter(prefix="/v1/organization", tags=["organization"])

Reader = Annotated[Principal, Depends(Require("organization:read"))]
Writer = Annotated[Principal, Depends(Require("organization:write"))]

_CHANGED_BODY: Final = described(ORGANIZATION_SCHEMA, {"name": "Harbour Kitchens"}, "Its new name.")


@router.get("", summary="Read the organization", responses=ORGANIZATION_FOUND, response_class=Response)
async def read_organization(services: ServicesOfApp, principal: Reader) -> Response:
    """The tenant whose credential this is."""
    async with tenant_transaction(services.pool, principal.tenant_id) as connection:
        return answer(shown(await organization.read_organization(connection)))


@router.patch(
    "",
    summary="Rename the organization",
    responses=ORGANIZATION_CHANGED,
    response_class=Response,
    openapi_extra=_CHANGED_BODY,
)
async def change_organization(services: ServicesOfApp, principal: Writer, body: Body) -> Response:
    """Calls it something else; its plan is changed by subscribing."""
    require_known(body, "name")
    name = checked(lambda: place_fields.printable(body.get("name"), "name")) if "name" in body else None
    async with changing(services, principal.tenant_id, principal.subject) as connection:
        if name is not None:
            await organization.rename_organization(connection, name)
        return answer(shown(await organization.read_organization(connection)))


def shown(tenant: Organization) -> dict[str, object]:
    """The tenant as the API shows it."""
    kept_ms = tenant.raw_retention_ms
    return {
        "organization_id": tenant.tenant_id,
        "tenant_id": tenant.tenant_id,
        "name": tenant.name,
        "plan": tenant.plan,
        "raw_retention": None if kept_ms is None else format_duration(kept_ms),
        "created_at": instant(tenant.created_at),
    }
