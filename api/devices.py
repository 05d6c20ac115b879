"""`/v1/devices`: what publishes, and its secrets. A secret is shown once; revoking acts within seconds everywhere."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Path
from starlette.responses import Response

from accounts import devices, place_fields, places
from accounts.devices import DeviceRow, SecretRow, TooManySecrets
from api import place_bodies
from api.auth import Principal, Require
from api.bodies import Body, described, require_known
from api.device_models import (
    DEVICE_CHANGED,
    DEVICE_CREATED,
    DEVICE_FOUND,
    DEVICE_REVOKED,
    DEVICE_SCHEMA,
    DEVICES_FOUND,
    OVERLAP_SCHEMA,
    SECRET_CREATED,
)
from api.errors import Problem
from api.pagination import DEFAULT_LIMIT, Cursor, Cursors, Limit
from api.place_bodies import Archived, Paging, answer, changing, checked, instant
from api.sensors import ServicesOfApp
from core.postgres import Connection, tenant_transaction

router = APIRouter(prefix="/v1/devices", tags=["devices"])

Reader = Annotated[Principal, Depends(Require("devices:read"))]
Writer = Annotated[Principal, Depends(Require("devices:write"))]
DeviceId = Annotated[str, Path(max_length=200, description="as `/v1/devices` lists it", examples=["dev_91c3f0a7b2"])]
SecretId = Annotated[str, Path(max_length=200, description="as the device lists it", examples=["17"])]

DEFAULT_OVERLAP: Final = "24h"
_MAX_SECRET_ID: Final = 2**63 - 1
_CREATED_BODY: Final = described(DEVICE_SCHEMA, {"name": "Kitchen gateway"}, "The device.")
_CHANGED_BODY: Final = described(DEVICE_SCHEMA, {"name": "Kitchen gateway"}, "Its new name.")
_SECRET_BODY: Final = described(
    OVERLAP_SCHEMA,
    {"overlap": "2h"},
    f"How long earlier secrets hold yet: {DEFAULT_OVERLAP} if left out, at most 30d; 0s ends them at once.",
    required=False,
)


@router.post(
    "",
    summary="Create a device",
    status_code=201,
    responses=DEVICE_CREATED,
    response_class=Response,
    openapi_extra=_CREATED_BODY,
)
async def create_device(services: ServicesOfApp, principal: Writer, body: Body) -> Response:
    """Makes a device. Its secret is in this answer and nowhere else."""
    require_known(body, "name")
    name = checked(lambda: place_fields.printable(body.get("name"), "name"))
    async with changing(services, principal.tenant_id, principal.subject) as connection:
        await places.require_room_for(connection, "device", "devices", place_bodies.MAX_DEVICES)
        made = await devices.create_device(connection, services.vault, name)
        row = await _require_device(connection, made.device_id)
    return answer({**shown(row), "secret": made.secret}, HTTPStatus.CREATED)


@router.get("", summary="List devices", responses=DEVICES_FOUND, response_class=Response)
async def list_devices(
    services: ServicesOfApp,
    principal: Reader,
    archived: Archived = False,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_LIMIT,
) -> Response:
    """The tenant's devices in the order of their ids; revoked ones are archived."""
    query = ["archived" if archived else None]
    page = Paging.begin(Cursors(services.vault, "devices"), principal.tenant_id, query, cursor, limit)
    async with tenant_transaction(services.pool, principal.tenant_id) as connection:
        rows = await devices.list_devices(connection, page.after, limit + 1, archived=page.query[0] is not None)
    following = page.following([row.device_id for row in rows])
    return answer({"items": [shown(row) for row in rows[:limit]], "next": following})


@router.get("/{device_id}", summary="Read a device", responses=DEVICE_FOUND, response_class=Response)
async def read_device(services: ServicesOfApp, principal: Reader, device_id: DeviceId) -> Response:
    """One device, revoked or not, and which secrets of it hold."""
    async with tenant_transaction(services.pool, principal.tenant_id) as connection:
        row = await _require_device(connection, device_id)
    return answer(shown(row))


@router.patch(
    "/{device_id}",
    summary="Rename a device",
    responses=DEVICE_CHANGED,
    response_class=Response,
    openapi_extra=_CHANGED_BODY,
)
async def change_device(services: ServicesOfApp, principal: Writer, device_id: DeviceId, body: Body) -> Response:
    """Calls it something else. A device never changes its tenant: revoke it there and create it here."""
    require_known(body, "name")
    name = checked(lambda: place_fields.printable(body.get("name"), "name")) if "name" in body else None
    async with changing(services, principal.tenant_id, principal.subject) as connection:
        row = await _require_device(connection, device_id)
        if name is not None and name != row.name:
            await devices.rename_device(connection, device_id, name)
            row = await _require_device(connection, device_id)
    return answer(shown(row))


@router.delete(
    "/{device_id}", summary="Revoke a device", status_code=204, responses=DEVICE_REVOKED, response_class=Response
)
async def revoke_device(services: ServicesOfApp, principal: Writer, device_id: DeviceId) -> Response:
    """Refuses what it signs, within seconds and for good. Its sensors and what it sent stay."""
    async with changing(services, principal.tenant_id, principal.subject) as connection:
        await _require_device(connection, device_id)
        await devices.revoke_device(connection, device_id)
    return Response(status_code=HTTPStatus.NO_CONTENT)


@router.post(
    "/{device_id}/secrets",
    summary="Rotate a device's secret",
    status_code=201,
    responses=SECRET_CREATED,
    response_class=Response,
    openapi_extra=_SECRET_BODY,
)
async def rotate_device_secret(services: ServicesOfApp, principal: Writer, device_id: DeviceId, body: Body) -> Response:
    """Makes one more secret, shown here and nowhere else; earlier ones hold for the overlap yet."""
    require_known(body, "overlap")
    overlap_ms = checked(lambda: place_fields.overlap_ms(body.get("overlap", DEFAULT_OVERLAP), "overlap"))
    async with changing(services, principal.tenant_id, principal.subject) as connection:
        await _require_device(connection, device_id)
        try:
            made = await devices.rotate_secret(connection, services.vault, device_id, overlap_ms)
        except TooManySecrets as exc:
            detail = "5 secrets of the device hold at once; revoke one, wait until one expires, or use an overlap of 0s"
            raise Problem(HTTPStatus.CONFLICT, "too_many_secrets", detail) from exc
        if made is None:
            raise Problem(HTTPStatus.CONFLICT, "revoked", "the device is revoked for good; create another")
        row = await _require_device(connection, device_id)
    [kept] = [_secret(each) for each in row.secrets if each.secret_id == made.secret_id]
    return answer({"device_id": device_id, **kept, "secret": made.secret}, HTTPStatus.CREATED)


@router.delete(
    "/{device_id}/secrets/{secret_id}",
    summary="Revoke a device's secret",
    status_code=204,
    responses=DEVICE_REVOKED,
    response_class=Response,
)
async def revoke_device_secret(
    services: ServicesOfApp, principal: Writer, device_id: DeviceId, secret_id: SecretId
) -> Response:
    """Refuses what this secret signs, within seconds; the device's other ones hold."""
    number = int(secret_id) if secret_id.isascii() and secret_id.isdecimal() else 0
    async with changing(services, principal.tenant_id, principal.subject) as connection:
        await _require_device(connection, device_id)
        is_one = number <= _MAX_SECRET_ID and await devices.revoke_secret(connection, device_id, number)
        if not is_one:
            raise Problem.not_found(what="secret of this device that holds")
    return Response(status_code=HTTPStatus.NO_CONTENT)


async def _require_device(connection: Connection, device_id: str) -> DeviceRow:
    row = None if "\0" in device_id else await devices.find_device(connection, device_id)
    if row is None:
        raise Problem.not_found(what="device")
    return row


def shown(row: DeviceRow) -> dict[str, object]:
    """A device as the API shows it."""
    return {
        "device_id": row.device_id,
        "name": row.name,
        "sensors": row.sensors,
        "last_received_at": instant(row.last_received_at),
        "secrets": [_secret(each) for each in row.secrets],
        "created_at": instant(row.created_at),
        "revoked_at": instant(row.revoked_at),
        "archived_at": instant(row.revoked_at),
    }


def _secret(row: SecretRow) -> dict[str, object]:
    return {
        "secret_id": row.secret_id,
        "created_at": instant(row.created_at),
        "expires_at": instant(row.expires_at),
    }
