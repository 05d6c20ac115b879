"""`/v1/users`: who may sign in, and as what. Nobody gives a role above their own, and an owner always stays."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Final

import msgspec
from fastapi import APIRouter, Depends, Path
from starlette.responses import Response

from accounts import users
from accounts.permissions import may_grant, permissions_of_role
from accounts.users import MAX_USERS, EmailTaken, LastOwner, UserRow
from api import fields
from api.auth import Principal, Require, ServicesOfApp
from api.bodies import Body, described, require_known
from api.errors import Problem
from api.pagination import DEFAULT_LIMIT, Cursor, Cursors, Limit
from api.people_models import (
    USER_CHANGED,
    USER_CREATED,
    USER_FOUND,
    USER_PATCH_SCHEMA,
    USER_REMOVED,
    USER_SCHEMA,
    USERS_FOUND,
)
from api.times import shown_moment
from core.postgres import Connection, tenant_transaction

router = APIRouter(prefix="/v1/users", tags=["users"])

JSON: Final = "application/json"
Reader = Annotated[Principal, Depends(Require("users:read"))]
Writer = Annotated[Principal, Depends(Require("users:write"))]
UserId = Annotated[str, Path(max_length=200, description="as `/v1/users` lists it", examples=["usr_4f6e0b7d2c"])]

_CREATED_BODY = described(
    USER_SCHEMA,
    {"email": "ben@kitchen.example", "role": "staff", "name": "Ben"},
    "The user. Without a password, a message with a token goes to the address, to set one.",
)
_CHANGED_BODY = described(USER_PATCH_SCHEMA, {"role": "viewer"}, "The fields that change.")


class AfterUser(msgspec.Struct, array_like=True):
    """Where a page of users begins: after this id."""

    user_id: str


@router.post(
    "",
    summary="Create a user",
    status_code=201,
    responses=USER_CREATED,
    response_class=Response,
    openapi_extra=_CREATED_BODY,
)
async def create_user(services: ServicesOfApp, principal: Writer, body: Body) -> Response:
    """Creates a user of the tenant. An address belongs to one user of the whole installation."""
    require_known(body, "email", "role", "name", "password")
    email, role = fields.email(body), fields.role(body)
    name = fields.optional_text(body, "name", max_chars=fields.MAX_NAME) or ""
    password = None if body.get("password") is None else fields.new_password(body)
    require_may_give(principal, role)
    stored = None if password is None else await services.passwords.hash(password)
    async with tenant_transaction(services.pool, principal.tenant_id, principal.subject) as connection:
        await _require_room(connection)
        try:
            user_id = await users.create_user(connection, email=email, name=name, role=role, password_hash=stored)
        except EmailTaken:
            detail = "this e-mail address cannot be used; choose another"
            raise Problem(HTTPStatus.CONFLICT, "email_taken", detail) from None
        if stored is None:
            await users.welcome(connection, services.vault, user_id)
        row = await _require_user(connection, user_id)
    return Response(msgspec.json.encode(_shown(row)), HTTPStatus.CREATED, media_type=JSON)


@router.get("", summary="List users", responses=USERS_FOUND, response_class=Response)
async def list_users(
    services: ServicesOfApp, principal: Reader, cursor: Cursor = None, limit: Limit = DEFAULT_LIMIT
) -> Response:
    """The tenant's users in the order of their ids."""
    cursors = Cursors(services.vault, "users")
    after = "" if cursor is None else cursors.decode(principal.tenant_id, cursor, AfterUser).user_id
    async with tenant_transaction(services.pool, principal.tenant_id) as connection:
        rows = await users.list_users(connection, after, limit + 1)
    page = rows[:limit]
    following = cursors.encode(principal.tenant_id, AfterUser(page[-1].user_id)) if len(rows) > limit else None
    return Response(msgspec.json.encode({"items": [_shown(row) for row in page], "next": following}), media_type=JSON)


@router.get("/{user_id}", summary="Read a user", responses=USER_FOUND, response_class=Response)
async def read_user(services: ServicesOfApp, principal: Reader, user_id: UserId) -> Response:
    """One user."""
    async with tenant_transaction(services.pool, principal.tenant_id) as connection:
        row = await _require_user(connection, user_id)
    return Response(msgspec.json.encode(_shown(row)), media_type=JSON)


@router.patch(
    "/{user_id}",
    summary="Change a user",
    responses=USER_CHANGED,
    response_class=Response,
    openapi_extra=_CHANGED_BODY,
)
async def change_user(services: ServicesOfApp, principal: Writer, user_id: UserId, body: Body) -> Response:
    """Sets name and role; a new role acts within two seconds everywhere."""
    require_known(body, "name", "role")
    async with tenant_transaction(services.pool, principal.tenant_id, principal.subject) as connection:
        row = await _require_user(connection, user_id, locked=True)
        role = fields.role(body) if "role" in body else row.role
        name = fields.text(body, "name", max_chars=fields.MAX_NAME, empty=True) if "name" in body else row.name
        require_may_give(principal, row.role)
        require_may_give(principal, role)
        try:
            await users.change_user(connection, user_id, name=name, role=role)
        except LastOwner:
            raise _last_owner() from None
        row = await _require_user(connection, user_id)
    return Response(msgspec.json.encode(_shown(row)), media_type=JSON)


@router.delete("/{user_id}", summary="Remove a user", status_code=204, responses=USER_REMOVED, response_class=Response)
async def remove_user(services: ServicesOfApp, principal: Writer, user_id: UserId) -> Response:
    """Removes a user; their sessions end within two seconds everywhere."""
    async with tenant_transaction(services.pool, principal.tenant_id, principal.subject) as connection:
        row = await _require_user(connection, user_id, locked=True)
        require_may_give(principal, row.role)
        try:
            await users.remove_user(connection, user_id)
        except LastOwner:
            raise _last_owner() from None
    return Response(status_code=HTTPStatus.NO_CONTENT)


def require_may_give(principal: Principal, role: str) -> None:
    """Nobody makes, changes or removes somebody who may do more than they.

    Raises:
        Problem: 403.
    """
    if not may_grant(principal.permissions, permissions_of_role(role)):
        detail = f"the role {role} may do more than this credential; ask somebody who has it"
        raise Problem(HTTPStatus.FORBIDDEN, "beyond_own_role", detail)


async def _require_user(connection: Connection, user_id: str, *, locked: bool = False) -> UserRow:
    row = None if "\0" in user_id else await users.find_user(connection, user_id, locked=locked)
    if row is None:
        raise Problem.not_found(what="user")
    return row


async def _require_room(connection: Connection) -> None:
    if await users.count_users(connection) >= MAX_USERS:
        detail = f"the tenant has {MAX_USERS} users, the most there can be; remove some"
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "too_many_users", detail)


def _last_owner() -> Problem:
    detail = "this is the last owner who can sign in; make somebody else an owner first"
    return Problem(HTTPStatus.CONFLICT, "last_owner", detail)


def _shown(row: UserRow) -> dict[str, object]:
    return {
        "user_id": row.user_id,
        "email": row.email,
        "name": row.name,
        "role": row.role,
        "active": row.active,
        "created_at": shown_moment(row.created_at),
        "updated_at": shown_moment(row.updated_at),
        "last_login_at": None if row.last_login_at is None else shown_moment(row.last_login_at),
    }
