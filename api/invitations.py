"""`/v1/auth/invitations` and `/v1/auth/password-reset`: a token by mail, and with it a password."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Final

import msgspec
import structlog
from fastapi import APIRouter, Depends, Path
from starlette.background import BackgroundTask
from starlette.responses import Response

from accounts import invitations, sessions, users
from accounts.invitations import InvitationRow
from accounts.users import EmailTaken
from api import fields
from api.auth import Principal, Require, ServicesOfApp
from api.bodies import Body, described, require_known
from api.errors import Problem, classify
from api.pagination import DEFAULT_LIMIT, Cursor, Cursors, Limit
from api.people_models import (
    ACCEPT_EXAMPLE,
    ACCEPT_SCHEMA,
    CONFIRM_EXAMPLE,
    CONFIRM_SCHEMA,
    INVITATION_ACCEPTED,
    INVITATIONS_FOUND,
    INVITE_EXAMPLE,
    INVITE_SCHEMA,
    INVITED,
    REMOVED,
    RESET_ASKED,
    RESET_DONE,
    RESET_EXAMPLE,
    RESET_SCHEMA,
)
from api.services import Services
from api.sign_in import Address, limit_tries, signed_in
from api.times import shown_moment
from api.users import require_may_give
from core.postgres import tenant_transaction

router = APIRouter(prefix="/v1/auth", tags=["sign-in"])
log = structlog.get_logger()

JSON: Final = "application/json"
Reader = Annotated[Principal, Depends(Require("users:read"))]
Writer = Annotated[Principal, Depends(Require("users:write"))]
InvitationId = Annotated[str, Path(max_length=200, description="as the list has it", examples=["inv_4f6e0b7d2c"])]

_INVITE_BODY = described(INVITE_SCHEMA, INVITE_EXAMPLE, "Whom to invite, and as what.")
_ACCEPT_BODY = described(ACCEPT_SCHEMA, ACCEPT_EXAMPLE, "The token of the message, and a password.")
_RESET_BODY = described(RESET_SCHEMA, RESET_EXAMPLE, "Whose password is lost.")
_CONFIRM_BODY = described(CONFIRM_SCHEMA, CONFIRM_EXAMPLE, "The token of the message, and a new password.")


class AfterInvitation(msgspec.Struct, array_like=True):
    """Where a page of invitations begins: after this id."""

    invitation_id: str


@router.post(
    "/invitations",
    summary="Invite somebody",
    status_code=201,
    responses=INVITED,
    response_class=Response,
    openapi_extra=_INVITE_BODY,
)
async def create_invitation(services: ServicesOfApp, principal: Writer, body: Body) -> Response:
    """Sends somebody a token, with which they set a password within seven days and are a user then."""
    require_known(body, "email", "role", "name")
    email, role = fields.email(body), fields.role(body)
    name = fields.optional_text(body, "name", max_chars=fields.MAX_NAME) or ""
    require_may_give(principal, role)
    async with tenant_transaction(services.pool, principal.tenant_id, principal.subject) as connection:
        if await users.has_email(connection, email):
            raise Problem(HTTPStatus.CONFLICT, "email_taken", "a user of yours has this address already")
        row = await invitations.invite(
            connection, services.vault, email=email, name=name, role=role, invited_by=principal.subject
        )
    return Response(msgspec.json.encode(_shown(row)), HTTPStatus.CREATED, media_type=JSON)


@router.get("/invitations", summary="List invitations", responses=INVITATIONS_FOUND, response_class=Response)
async def list_invitations(
    services: ServicesOfApp, principal: Reader, cursor: Cursor = None, limit: Limit = DEFAULT_LIMIT
) -> Response:
    """Invitations that wait to be accepted, in the order of their ids."""
    cursors = Cursors(services.vault, "invitations")
    after = "" if cursor is None else cursors.decode(principal.tenant_id, cursor, AfterInvitation).invitation_id
    async with tenant_transaction(services.pool, principal.tenant_id) as connection:
        rows = await invitations.list_invitations(connection, after, limit + 1)
    page = rows[:limit]
    state = AfterInvitation(page[-1].invitation_id) if len(rows) > limit else None
    following = None if state is None else cursors.encode(principal.tenant_id, state)
    return Response(msgspec.json.encode({"items": [_shown(row) for row in page], "next": following}), media_type=JSON)


@router.delete(
    "/invitations/{invitation_id}",
    summary="Take an invitation back",
    status_code=204,
    responses=REMOVED,
    response_class=Response,
)
async def revoke_invitation(services: ServicesOfApp, principal: Writer, invitation_id: InvitationId) -> Response:
    """Its token opens nothing any more."""
    async with tenant_transaction(services.pool, principal.tenant_id, principal.subject) as connection:
        if "\0" in invitation_id or not await invitations.revoke_invitation(connection, invitation_id):
            raise Problem.not_found(what="invitation")
    return Response(status_code=HTTPStatus.NO_CONTENT)


@router.post(
    "/invitations/accept",
    summary="Accept an invitation",
    status_code=200,
    responses=INVITATION_ACCEPTED,
    response_class=Response,
    openapi_extra=_ACCEPT_BODY,
)
async def accept_invitation(services: ServicesOfApp, address: Address, body: Body) -> Response:
    """Makes the user with this password, and signs them in."""
    require_known(body, "token", "password", "name")
    token, password = fields.text(body, "token"), fields.new_password(body)
    name = fields.optional_text(body, "name", max_chars=fields.MAX_NAME)
    limit_tries(services, address)
    stored = await services.passwords.hash(password)
    try:
        user_id = await invitations.accept_invitation(services.pool, services.vault, token, name, stored)
    except EmailTaken:
        detail = "this address has become a user's meanwhile; sign in, or ask for another invitation"
        raise Problem(HTTPStatus.CONFLICT, "email_taken", detail) from None
    if user_id is None:
        raise _dead_token()
    services.sign_ins.give_back(address)
    session = await sessions.start_session(services.pool, services.vault, user_id, stored)
    if session is None:
        raise Problem.unauthorized(detail="the user was removed meanwhile", presented=True)
    return signed_in(services, session)


@router.post(
    "/password-reset",
    summary="Ask for a new password",
    status_code=202,
    responses=RESET_ASKED,
    response_class=Response,
    openapi_extra=_RESET_BODY,
)
async def request_password_reset(services: ServicesOfApp, address: Address, body: Body) -> Response:
    """Sends a token to the address, good for an hour, if somebody has it; the answer is the same if nobody has."""
    require_known(body, "email")
    email = fields.email(body)
    # What the address is worth is found out after the answer, so that its time tells nothing either.
    limit_tries(services, address, f"reset {email}")
    later = BackgroundTask(_send_reset, services, email)
    return Response(msgspec.json.encode({"status": "accepted"}), HTTPStatus.ACCEPTED, media_type=JSON, background=later)


@router.post(
    "/password-reset/confirm",
    summary="Set a new password",
    status_code=204,
    responses=RESET_DONE,
    response_class=Response,
    openapi_extra=_CONFIRM_BODY,
)
async def confirm_password_reset(services: ServicesOfApp, address: Address, body: Body) -> Response:
    """Sets the password; every session of the user ends. The token works once."""
    require_known(body, "token", "password")
    token, password = fields.text(body, "token"), fields.new_password(body)
    limit_tries(services, address)
    stored = await services.passwords.hash(password)
    if not await invitations.confirm_reset(services.pool, services.vault, token, stored):
        raise _dead_token()
    services.sign_ins.give_back(address)
    return Response(status_code=HTTPStatus.NO_CONTENT)


async def _send_reset(services: Services, email: str) -> None:
    """The answer is out: a failure can only be told to the operator."""
    try:
        await invitations.request_reset(services.pool, services.vault, email)
    except Exception as error:
        if classify(error) is None:
            raise
        log.warning("password_reset.lost", error=type(error).__name__)


def _dead_token() -> Problem:
    return Problem.invalid(parameter="token", detail="token: is unknown, used or expired; ask for another")


def _shown(row: InvitationRow) -> dict[str, object]:
    return {
        "invitation_id": row.invitation_id,
        "email": row.email,
        "name": row.name,
        "role": row.role,
        "invited_by": row.invited_by,
        "created_at": shown_moment(row.created_at),
        "expires_at": shown_moment(row.expires_at),
    }
