"""`/v1/auth`: signing in and out, refreshing, one's own password, who one is.

Tries are bounded by e-mail address and by machine; an unknown address costs what a wrong password costs and is answered
alike. No token is logged or comes in a URL.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any, Final

import msgspec
import structlog
from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from accounts import sessions, users
from accounts.emails import parse_email
from accounts.sessions import Session, TokenReused
from accounts.tokens import LIFETIME_S, AccessTokens
from api import fields
from api.auth import Anyone, Principal, ServicesOfApp
from api.bodies import Body, described, require_known
from api.errors import Problem
from api.people_models import (
    LOGIN_EXAMPLE,
    LOGIN_SCHEMA,
    MYSELF,
    PASSWORD_CHANGED,
    PASSWORD_EXAMPLE,
    PASSWORD_SCHEMA,
    REFRESH_EXAMPLE,
    REFRESH_SCHEMA,
    SIGNED_IN,
    SIGNED_OUT,
)
from api.services import Services
from core.postgres import tenant_transaction

router = APIRouter(prefix="/v1/auth", tags=["sign-in"])
log = structlog.get_logger()

JSON: Final = "application/json"
_LOGIN_BODY = described(LOGIN_SCHEMA, LOGIN_EXAMPLE, "Who, and the password.")
_REFRESH_BODY = described(REFRESH_SCHEMA, REFRESH_EXAMPLE, "The newest refresh token of the session.")
_PASSWORD_BODY = described(PASSWORD_SCHEMA, PASSWORD_EXAMPLE, "The old password once more, and the new one.")


async def address_of(request: Request) -> str:
    """The network address that a request comes from."""
    return request.client.host if request.client is not None else ""


Address = Annotated[str, Depends(address_of)]


@router.post(
    "/login",
    summary="Sign in",
    responses=SIGNED_IN,
    response_class=Response,
    openapi_extra=_LOGIN_BODY,
    status_code=200,
)
async def login(services: ServicesOfApp, address: Address, body: Body) -> Response:
    """Gives an access token for 15 minutes, and a refresh token to get the next one with."""
    return signed_in(services, await begin_session(services, address, body))


async def begin_session(services: Services, address: str, body: Mapping[str, Any]) -> Session:
    """The session of somebody who knows their password.

    Raises:
        Problem: 401, 422 or 429.
    """
    require_known(body, "email", "password")
    # What is no address is nobody's: asking for it costs what every other try costs.
    email, password = parse_email(fields.text(body, "email")) or "", fields.text(body, "password", empty=True)
    limit_tries(services, address, email)
    found = await sessions.find_login(services.pool, email)
    known = found.password_hash if found is not None else None
    matches = await services.passwords.verify(password, known)
    session = None
    if matches and found is not None and known is not None:
        session = await sessions.start_session(services.pool, services.vault, found.user_id, known)
    if session is None:
        log.info("sign_in.refused")
        raise Problem.unauthorized(detail="the e-mail address or the password is wrong", presented=True)
    services.sign_ins.give_back(address, email)
    return session


@router.post(
    "/refresh",
    summary="Refresh tokens",
    responses=SIGNED_IN,
    response_class=Response,
    openapi_extra=_REFRESH_BODY,
    status_code=200,
)
async def refresh(services: ServicesOfApp, address: Address, body: Body) -> Response:
    """Exchanges a refresh token for the next tokens. One that comes again after ten seconds ends the session."""
    require_known(body, "refresh_token")
    return signed_in(services, await continue_session(services, address, fields.text(body, "refresh_token")))


async def continue_session(services: Services, address: str, token: str) -> Session:
    """The session of a refresh token, with the next one.

    Raises:
        Problem: 401 or 429.
    """
    limit_tries(services, address)
    try:
        session = await sessions.refresh_session(services.pool, services.vault, token)
    except TokenReused as exc:
        services.users.forget(exc.session_id)
        log.warning("refresh_token.reused", session_id=exc.session_id, user_id=exc.user_id)
        session = None
    if session is None:
        raise Problem.unauthorized(
            detail="the refresh token is unknown, used or expired; sign in again", presented=True
        )
    services.sign_ins.give_back(address)
    return session


@router.post("/logout", summary="Sign out", status_code=204, responses=SIGNED_OUT, response_class=Response)
async def logout(services: ServicesOfApp, principal: Anyone) -> Response:
    """Ends the session: its refresh token at once, its access tokens within two seconds everywhere."""
    session_id = _session_of(principal)
    await sessions.end_session(services.pool, session_id, principal.subject)
    services.users.forget(session_id)
    return Response(status_code=HTTPStatus.NO_CONTENT)


@router.post(
    "/password",
    summary="Change one's password",
    status_code=204,
    responses=PASSWORD_CHANGED,
    response_class=Response,
    openapi_extra=_PASSWORD_BODY,
)
async def change_password(services: ServicesOfApp, principal: Anyone, address: Address, body: Body) -> Response:
    """Sets a new password; the user's other sessions end."""
    require_known(body, "old_password", "new_password")
    session_id = _session_of(principal)
    old, new = fields.text(body, "old_password", empty=True), fields.new_password(body, "new_password")
    async with tenant_transaction(services.pool, principal.tenant_id) as connection:
        user = await users.find_user(connection, principal.subject)
    email = "" if user is None else user.email
    limit_tries(services, address, email)
    found = await sessions.find_login(services.pool, email)
    known = found.password_hash if found is not None else None
    if known is None or not await services.passwords.verify(old, known):
        raise Problem.invalid(parameter="old_password", detail="old_password: is not the password")
    services.sign_ins.give_back(address, email)
    if not await sessions.change_password(services.pool, session_id, known, await services.passwords.hash(new)):
        detail = "the password was changed at the same time; sign in and try again"
        raise Problem(HTTPStatus.CONFLICT, "changed_meanwhile", detail)
    return Response(status_code=HTTPStatus.NO_CONTENT)


@router.get("/me", summary="Tell whose credential it is", responses=MYSELF, response_class=Response)
async def read_myself(services: ServicesOfApp, principal: Anyone) -> Response:
    """Who the credential belongs to, and what it may do."""
    shown: dict[str, Any] = {
        "kind": "api_key" if principal.session_id is None else "user",
        "subject_id": principal.subject,
        "tenant_id": principal.tenant_id,
        "permissions": sorted(principal.permissions),
    }
    if principal.session_id is not None:
        async with tenant_transaction(services.pool, principal.tenant_id) as connection:
            user = await users.find_user(connection, principal.subject)
        if user is not None:
            shown |= {"email": user.email, "name": user.name, "role": user.role}
    return Response(msgspec.json.encode(shown), media_type=JSON)


def signed_in(services: Services, session: Session) -> Response:
    """The tokens of a session, as an answer."""
    return Response(msgspec.json.encode(tokens_of(services, session)), media_type=JSON)


def tokens_of(services: Services, session: Session) -> dict[str, Any]:
    """The tokens of a session."""
    tokens = AccessTokens(services.vault.token_key)
    now_s = services.clock.now_ms() // 1000
    return {
        "access_token": tokens.issue(session.user_id, session.session_id, now_s),
        "refresh_token": session.refresh_token,
        "token_type": "Bearer",
        "expires_in": LIFETIME_S,
    }


def limit_tries(services: Services, address: str, email: str | None = None) -> None:
    """Count a try.

    Raises:
        Problem: 429, with the time to wait.
    """
    wait_s = services.sign_ins.take(address, email)
    if wait_s > 0:
        detail = f"too many failed tries; wait {math.ceil(wait_s)} s"
        headers = {"Retry-After": str(math.ceil(wait_s))}
        raise Problem(HTTPStatus.TOO_MANY_REQUESTS, "too_many_tries", detail, headers=headers)


def _session_of(principal: Principal) -> str:
    if principal.session_id is None:
        detail = "this is an API key's doing; only people who signed in can do it"
        raise Problem(HTTPStatus.FORBIDDEN, "not_signed_in", detail)
    return principal.session_id
