"""`/dashboard/session`: signing in as the page does it, with the refresh token in a cookie that no script can read.

The same sessions as `/v1/auth` (docs/decisions/0007 tells why the page has a door of its own). Border: moves the refresh token
between the cookie and `api.sign_in`; what it is worth is decided there.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

import msgspec
from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from accounts import sessions
from accounts.sessions import IDLE, Session
from api import sign_in
from api.auth import ServicesOfApp
from api.bodies import Body
from api.errors import Problem
from api.live.websocket import is_own_origin
from api.services import Services
from api.sign_in import Address

router = APIRouter(prefix="/dashboard/session", include_in_schema=False)

COOKIE: Final = "weir_refresh"


async def require_own_page(request: Request) -> None:
    """Refuse what another page sends, although the browser adds the cookie: ports of one host are one site to SameSite.

    Raises:
        Problem: 403.
    """
    if not is_own_origin(request.headers.get("origin"), request.headers.get("host", ""), frozenset()):
        detail = "only the dashboard's own page may use this; other programs sign in at /v1/auth/login"
        raise Problem(HTTPStatus.FORBIDDEN, "foreign_origin", detail)


OwnPage = Depends(require_own_page)


@router.post("", dependencies=[OwnPage])
async def begin(request: Request, services: ServicesOfApp, address: Address, body: Body) -> Response:
    """Sign in with e-mail and password."""
    return _began(request, services, await sign_in.begin_session(services, address, body))


@router.post("/refresh", dependencies=[OwnPage])
async def go_on(request: Request, services: ServicesOfApp, address: Address) -> Response:
    """The next access token; 204 if nobody is signed in here, or not any more."""
    token = request.cookies.get(COOKIE)
    if not token:
        return Response(status_code=HTTPStatus.NO_CONTENT)
    try:
        session = await sign_in.continue_session(services, address, token)
    except Problem as problem:
        if problem.status is not HTTPStatus.UNAUTHORIZED:
            raise
        return _forgotten(request)
    return _began(request, services, session)


@router.delete("", dependencies=[OwnPage])
async def end(request: Request, services: ServicesOfApp, address: Address) -> Response:
    """Sign out; works with an access token that has ended, too."""
    token = request.cookies.get(COOKIE)
    if token:
        try:
            session = await sign_in.continue_session(services, address, token)
        except Problem as problem:
            if problem.status is not HTTPStatus.UNAUTHORIZED:
                raise
        else:
            await sessions.end_session(services.pool, session.session_id, session.user_id)
            services.users.forget(session.session_id)
    return _forgotten(request)


def _began(request: Request, services: Services, session: Session) -> Response:
    """The access token for the page, the refresh token for the cookie."""
    tokens = sign_in.tokens_of(services, session)
    shown = {name: tokens[name] for name in ("access_token", "token_type", "expires_in")}
    response = Response(msgspec.json.encode(shown), media_type="application/json")
    _set(request, response, session.refresh_token, int(IDLE.total_seconds()))
    return response


def _forgotten(request: Request) -> Response:
    response = Response(status_code=HTTPStatus.NO_CONTENT)
    _set(request, response, "", 0)
    return response


def _set(request: Request, response: Response, token: str, max_age_s: int) -> None:
    # Without TLS, as on a machine of one's own, browsers would drop a Secure cookie.
    is_secure = request.url.scheme == "https"
    path = f"{request.scope.get('root_path', '')}/dashboard/session"
    response.set_cookie(COOKIE, token, max_age=max_age_s, path=path, secure=is_secure, httponly=True, samesite="strict")
