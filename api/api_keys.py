"""`/v1/api-keys`: credentials of programs. A key is shown when it is made, and nobody makes one that may do more than they."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Depends, Path
from starlette.responses import Response

from accounts import api_keys
from accounts.api_keys import MAX_KEYS, ApiKeyRow
from accounts.permissions import Scope, may_grant, permissions_of_scopes
from api import fields
from api.auth import Principal, Require, ServicesOfApp
from api.bodies import Body, described, require_known
from api.errors import Problem
from api.pagination import DEFAULT_LIMIT, Cursor, Cursors, Limit
from api.people_models import (
    KEY_CHANGED,
    KEY_CREATED,
    KEY_EXAMPLE,
    KEY_FOUND,
    KEY_PATCH_SCHEMA,
    KEY_ROTATED,
    KEY_SCHEMA,
    KEYS_FOUND,
    REMOVED,
    ROTATE_EXAMPLE,
    ROTATE_SCHEMA,
)
from api.services import Services
from api.times import shown_moment
from core.postgres import Connection, tenant_transaction

router = APIRouter(prefix="/v1/api-keys", tags=["API keys"])

JSON: Final = "application/json"
Reader = Annotated[Principal, Depends(Require("keys:read"))]
Writer = Annotated[Principal, Depends(Require("keys:write"))]
KeyId = Annotated[str, Path(max_length=200, description="as `/v1/api-keys` lists it", examples=["key_91c3f0a7b2"])]

_OVERLAP: Final = timedelta(hours=24)
_LONGEST_OVERLAP: Final = timedelta(days=30)
_CREATED_BODY = described(KEY_SCHEMA, KEY_EXAMPLE, "The key; without `expires_at` it holds until it is revoked.")
_CHANGED_BODY = described(KEY_PATCH_SCHEMA, {"name": "reports"}, "The fields that change; a null expiry is none.")
_ROTATE_BODY = described(
    ROTATE_SCHEMA, ROTATE_EXAMPLE, "How long the old key still holds, 24h by default.", required=False
)


class AfterKey(msgspec.Struct, array_like=True):
    """Where a page of keys begins: after this id."""

    api_key_id: str


@router.post(
    "",
    summary="Create an API key",
    status_code=201,
    responses=KEY_CREATED,
    response_class=Response,
    openapi_extra=_CREATED_BODY,
)
async def create_api_key(services: ServicesOfApp, principal: Writer, body: Body) -> Response:
    """Creates a key and shows it, this once: only a digest is kept."""
    require_known(body, "name", "scopes", "expires_at")
    name, scopes = fields.text(body, "name", max_chars=fields.MAX_NAME), _scopes(principal, body)
    expires_at = _expiry(services, body)
    async with tenant_transaction(services.pool, principal.tenant_id, principal.subject) as connection:
        await _require_room(connection)
        made = await api_keys.create_key(connection, services.vault, name=name, scopes=scopes, expires_at=expires_at)
    return _answer({**_shown(made.row), "api_key": made.api_key}, HTTPStatus.CREATED)


@router.get("", summary="List API keys", responses=KEYS_FOUND, response_class=Response)
async def list_api_keys(
    services: ServicesOfApp, principal: Reader, cursor: Cursor = None, limit: Limit = DEFAULT_LIMIT
) -> Response:
    """Usable keys in the order of their ids, each with its last four characters."""
    cursors = Cursors(services.vault, "API keys")
    after = "" if cursor is None else cursors.decode(principal.tenant_id, cursor, AfterKey).api_key_id
    async with tenant_transaction(services.pool, principal.tenant_id) as connection:
        rows = await api_keys.list_keys(connection, after, limit + 1)
    page = rows[:limit]
    following = cursors.encode(principal.tenant_id, AfterKey(page[-1].api_key_id)) if len(rows) > limit else None
    return _answer({"items": [_shown(row) for row in page], "next": following})


@router.get("/{api_key_id}", summary="Read an API key", responses=KEY_FOUND, response_class=Response)
async def read_api_key(services: ServicesOfApp, principal: Reader, api_key_id: KeyId) -> Response:
    """One usable key."""
    async with tenant_transaction(services.pool, principal.tenant_id) as connection:
        row = await _require_key(connection, api_key_id)
    return _answer(_shown(row))


@router.patch(
    "/{api_key_id}",
    summary="Change an API key",
    responses=KEY_CHANGED,
    response_class=Response,
    openapi_extra=_CHANGED_BODY,
)
async def change_api_key(services: ServicesOfApp, principal: Writer, api_key_id: KeyId, body: Body) -> Response:
    """Sets name, scopes and expiry; they act within two seconds everywhere."""
    require_known(body, "name", "scopes", "expires_at")
    async with tenant_transaction(services.pool, principal.tenant_id, principal.subject) as connection:
        row = await _require_own_key(connection, principal, api_key_id)
        await api_keys.change_key(
            connection,
            api_key_id,
            name=fields.text(body, "name", max_chars=fields.MAX_NAME) if "name" in body else row.name,
            scopes=_scopes(principal, body) if "scopes" in body else row.scopes,
            expires_at=_expiry(services, body) if "expires_at" in body else row.expires_at,
        )
        row = await _require_key(connection, api_key_id)
    return _answer(_shown(row))


@router.post(
    "/{api_key_id}/rotate",
    summary="Rotate an API key",
    status_code=201,
    responses=KEY_ROTATED,
    response_class=Response,
    openapi_extra=_ROTATE_BODY,
)
async def rotate_api_key(services: ServicesOfApp, principal: Writer, api_key_id: KeyId, body: Body) -> Response:
    """Creates the key's successor, with the same name, scopes and expiry; both hold for the overlap."""
    require_known(body, "overlap")
    overlap = fields.duration(body, "overlap", _OVERLAP, _LONGEST_OVERLAP)
    async with tenant_transaction(services.pool, principal.tenant_id, principal.subject) as connection:
        await _require_room(connection)
        row = await _require_own_key(connection, principal, api_key_id)
        made, until = await api_keys.rotate_key(connection, services.vault, row, overlap)
    shown = _shown(made.row) | {"api_key": made.api_key, "replaces": api_key_id, "replaced_until": shown_moment(until)}
    return _answer(shown, HTTPStatus.CREATED)


@router.delete(
    "/{api_key_id}", summary="Revoke an API key", status_code=204, responses=REMOVED, response_class=Response
)
async def revoke_api_key(services: ServicesOfApp, principal: Writer, api_key_id: KeyId) -> Response:
    """Refuses the key within two seconds everywhere; it cannot come back."""
    async with tenant_transaction(services.pool, principal.tenant_id, principal.subject) as connection:
        await _require_own_key(connection, principal, api_key_id)
        await api_keys.revoke_key(connection, api_key_id)
    return Response(status_code=HTTPStatus.NO_CONTENT)


def _scopes(principal: Principal, body: Mapping[str, Any]) -> list[str]:
    wanted = body.get("scopes")
    known = ", ".join(Scope)
    if not isinstance(wanted, list) or not wanted or not all(isinstance(scope, str) for scope in wanted):
        raise Problem.invalid(parameter="scopes", detail=f"scopes: expected a list of some of {known}")
    unknown = [scope for scope in wanted if scope not in set(Scope)]
    if unknown:
        detail = f"scopes: {unknown[0][:100]} is unknown, known are {known}"
        raise Problem.invalid(parameter="scopes", detail=detail)
    _require_may_give(principal, wanted)
    return [scope.value for scope in Scope if scope in wanted]


def _require_may_give(principal: Principal, scopes: list[str]) -> None:
    if not may_grant(principal.permissions, permissions_of_scopes(scopes)):
        detail = f"a key of {', '.join(scopes)} may do more than this credential; ask somebody who may"
        raise Problem(HTTPStatus.FORBIDDEN, "beyond_own_role", detail)


def _expiry(services: Services, body: Mapping[str, Any]) -> datetime | None:
    expires_at = fields.moment(body, "expires_at")
    if expires_at is not None and expires_at <= datetime.fromtimestamp(services.clock.now_ms() / 1000, UTC):
        raise Problem.invalid(parameter="expires_at", detail="expires_at: is over; choose a later time")
    return expires_at


async def _require_key(connection: Connection, api_key_id: str, *, locked: bool = False) -> ApiKeyRow:
    row = None if "\0" in api_key_id else await api_keys.find_key(connection, api_key_id, locked=locked)
    if row is None:
        raise Problem.not_found(what="API key")
    return row


async def _require_own_key(connection: Connection, principal: Principal, api_key_id: str) -> ApiKeyRow:
    """A key to change, which may do no more than whoever changes it."""
    row = await _require_key(connection, api_key_id, locked=True)
    _require_may_give(principal, row.scopes)
    return row


async def _require_room(connection: Connection) -> None:
    if await api_keys.count_keys(connection) >= MAX_KEYS:
        detail = f"the tenant has {MAX_KEYS} API keys, the most there can be; revoke some"
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "too_many_keys", detail)


def _shown(row: ApiKeyRow) -> dict[str, object]:
    return {
        "api_key_id": row.api_key_id,
        "name": row.name,
        "last_four": row.last_four,
        "scopes": row.scopes,
        "created_at": shown_moment(row.created_at),
        "expires_at": None if row.expires_at is None else shown_moment(row.expires_at),
    }


def _answer(content: Mapping[str, object], status: HTTPStatus = HTTPStatus.OK) -> Response:
    return Response(msgspec.json.encode(content), status, media_type=JSON)
