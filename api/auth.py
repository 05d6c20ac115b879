"""Who asks: API keys and access tokens of people, device secrets of devices; the tenant comes from the credential alone.

A kind of bearer credential is an `Authenticator` in the list of the services; endpoints ask for a `Principal`
with a permission and never see what it was made from. What held within the last two seconds is not asked for again, so a
revocation acts within that time; what does not hold is never remembered.
"""

from __future__ import annotations

import hashlib
import hmac
import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Final, Generic, Protocol, TypeVar

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from accounts import sessions
from accounts.permissions import ALL, Permissions, permissions_of_role, permissions_of_scopes
from accounts.sessions import SessionUser
from accounts.tokens import AccessTokens
from api.errors import Problem
from api.services import Services, services_of
from core.clock import Clock
from core.postgres import Pool
from core.secrets import Vault, is_well_formed_api_key
from sinks.timescale import credentials

CACHE_S: Final = 2.0
_CACHE_CAPACITY: Final = 50_000
_MAX_CREDENTIAL_CHARS: Final = 4_096
_INVALID: Final = "the credential is unknown, revoked or expired"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a request comes from.

    Attributes:
        tenant_id: whose data it may see.
        subject: the person's or the key's id, never the credential; what the audit log knows the actor by.
        permissions: what it may do.
        role: of a person; None for a key.
        session_id: of a signed-in person; None for a key.
        expires_at_s: when the credential ends, epoch seconds; None if it does not by itself.
    """

    tenant_id: str
    subject: str
    permissions: Permissions
    role: str | None = None
    session_id: str | None = None
    expires_at_s: float | None = None

    def may(self, permission: str) -> bool:
        """Whether it has a permission."""
        return permission in self.permissions


@dataclass(frozen=True, slots=True)
class Device:
    """A device that proved its secret."""

    device_id: str
    tenant_id: str
    secret: str


class Authenticator(Protocol):
    """Recognises one kind of bearer credential."""

    async def authenticate(self, credential: str) -> Principal | None:
        """Whose it is; None if it is of another kind, or does not hold."""
        ...


class Recent(Generic[T]):
    """Remembers what held for two seconds; bounded."""

    def __init__(
        self, monotonic_s: Callable[[], float], ttl_s: float = CACHE_S, capacity: int = _CACHE_CAPACITY
    ) -> None:
        self._now = monotonic_s
        self._ttl_s = ttl_s
        self._capacity = capacity
        self._entries: dict[Hashable, tuple[float, T]] = {}

    def get(self, key: Hashable) -> T | None:
        """What was put less than the time to live ago."""
        entry = self._entries.get(key)
        return entry[1] if entry is not None and self._now() < entry[0] else None

    def put(self, key: Hashable, value: T) -> None:
        """Remember from now on."""
        if len(self._entries) >= self._capacity:
            self._entries.clear()
        self._entries[key] = (self._now() + self._ttl_s, value)

    def forget(self, key: Hashable) -> None:
        """Remember it no longer."""
        self._entries.pop(key, None)


class ApiKeys:
    """API keys, looked up by their digest."""

    def __init__(self, pool: Pool, vault: Vault, monotonic_s: Callable[[], float]) -> None:
        self._pool = pool
        self._vault = vault
        self._recent: Recent[Principal] = Recent(monotonic_s)

    async def authenticate(self, credential: str) -> Principal | None:
        """Whose key it is; a mistyped one never reaches the database."""
        if not is_well_formed_api_key(credential):
            return None
        digest = self._vault.digest(credential)
        known = self._recent.get(digest)
        if known is not None:
            return known
        found = await credentials.find_api_key(self._pool, digest)
        if found is None:
            return None
        principal = Principal(found.tenant_id, found.api_key_id, permissions_of_scopes(found.scopes))
        self._recent.put(digest, principal)
        return principal


class UserTokens:
    """Access tokens of people who signed in; whether the session goes on, and as what, is asked every two seconds."""

    def __init__(self, pool: Pool, vault: Vault, clock: Clock, monotonic_s: Callable[[], float]) -> None:
        self._pool = pool
        self._tokens = AccessTokens(vault.token_key)
        self._clock = clock
        self._recent: Recent[SessionUser] = Recent(monotonic_s)

    async def authenticate(self, credential: str) -> Principal | None:
        """Who signed in; a token that is none of ours never reaches the database."""
        claims = self._tokens.read(credential, self._clock.now_ms() / 1000)
        if claims is None:
            return None
        user = self._recent.get(claims.session_id)
        if user is None:
            user = await sessions.find_session(self._pool, claims.session_id)
            if user is None:
                return None
            self._recent.put(claims.session_id, user)
        if user.user_id != claims.user_id:
            return None
        permissions = permissions_of_role(user.role)
        return Principal(
            user.tenant_id, user.user_id, permissions, user.role, claims.session_id, float(claims.expires_at_s)
        )

    def forget(self, session_id: str) -> None:
        """Ask anew for a session that this process has just ended."""
        self._recent.forget(session_id)


class DeviceSecrets:
    """Credentials of the form `<device id>.<device secret>`."""

    def __init__(self, pool: Pool, vault: Vault, monotonic_s: Callable[[], float]) -> None:
        self._pool = pool
        self._vault = vault
        self._recent: Recent[Device] = Recent(monotonic_s)

    async def authenticate(self, credential: str) -> Device | None:
        """The device, if the secret is one of its secrets; compared in constant time."""
        device_id, _, secret = credential.partition(".")
        if not device_id or not secret or "\0" in device_id:
            return None
        digest = hashlib.sha256(credential.encode()).digest()
        known = self._recent.get(digest)
        if known is not None:
            return known
        found = await credentials.find_device(self._pool, device_id)
        if found is None or not self._is_one_of(secret, found):
            return None
        device = Device(device_id, found.tenant_id, secret)
        self._recent.put(digest, device)
        return device

    def _is_one_of(self, secret: str, found: credentials.DeviceRow) -> bool:
        usable = [self._vault.unseal(sealed, found.device_id) for sealed in found.sealed]
        matches = [hmac.compare_digest(each.encode(), secret.encode()) for each in usable]
        return any(matches)


_bearer = HTTPBearer(
    scheme_name="Bearer",
    bearerFormat="romo_live_… or an access token",
    description="An API key of the tenant, or the access token of somebody who signed in.",
    auto_error=False,
)
_device_bearer = HTTPBearer(
    scheme_name="DeviceSecret",
    bearerFormat="<device id>.<device secret>",
    description="A device's id and secret, joined by a dot.",
    auto_error=False,
)

Presented = HTTPAuthorizationCredentials | None
ServicesOfApp = Annotated[Services, Depends(services_of)]


async def principal_of(services: Services, credential: str) -> Principal | None:
    """Whose credential it is, by the first kind that knows it; None if it does not hold (any more)."""
    for authenticator in services.authenticators:
        principal = await authenticator.authenticate(credential)
        if principal is not None:
            return principal
    return None


class Require:
    """A dependency that yields the principal, if it has a permission and keeps to its rate.

    Args:
        permission: of `accounts.permissions`, such as `rules:write`; None: any principal will do.

    Raises:
        ValueError: there is no such permission.
    """

    def __init__(self, permission: str | None) -> None:
        if permission is not None and permission not in ALL:
            msg = f"there is no permission {permission}; accounts.permissions lists them"
            raise ValueError(msg)
        self.permission = permission

    async def __call__(self, services: ServicesOfApp, presented: Annotated[Presented, Security(_bearer)]) -> Principal:
        """The principal of the request.

        Raises:
            Problem: 401, 403 or 429.
        """
        credential = _credential(presented, "send the header Authorization: Bearer <api key or access token>")
        principal = await principal_of(services, credential)
        if principal is None:
            raise Problem.unauthorized(detail=_INVALID, presented=True)
        limit_rate(services, principal.subject)
        self._require_permission(principal)
        return principal

    def _require_permission(self, principal: Principal) -> None:
        if self.permission is not None and not principal.may(self.permission):
            detail = f"this credential may not do {self.permission}; use one whose role or scopes allow it"
            raise Problem(HTTPStatus.FORBIDDEN, "missing_permission", detail)


async def require_device(
    services: ServicesOfApp, presented: Annotated[Presented, Security(_device_bearer)], request: Request
) -> Device:
    """The device of the request.

    Raises:
        Problem: 401 or 429.
    """
    credential = _credential(presented, "send the header Authorization: Bearer <device id>.<device secret>")
    device = await services.devices.authenticate(credential)
    if device is None:
        raise Problem.unauthorized(detail=_INVALID, presented=True)
    limit_rate(services, device.device_id)
    return device


def limit_rate(services: Services, subject: str) -> None:
    """Take one request off a subject's allowance.

    Raises:
        Problem: 429, with the time to wait.
    """
    wait_s = services.limiter.take(subject)
    if wait_s > 0:
        retry_after = {"Retry-After": str(math.ceil(wait_s))}
        detail = f"more requests than this credential may make; wait {wait_s:.3f} s"
        raise Problem(HTTPStatus.TOO_MANY_REQUESTS, "rate_limited", detail, headers=retry_after)


def _credential(presented: Presented, remedy: str) -> str:
    if presented is None or not presented.credentials:
        raise Problem.unauthorized(detail=f"a bearer credential is needed; {remedy}", presented=False)
    if len(presented.credentials) > _MAX_CREDENTIAL_CHARS:
        raise Problem.unauthorized(detail=_INVALID, presented=True)
    return presented.credentials


Anyone = Annotated[Principal, Depends(Require(None))]
Publisher = Annotated[Device, Depends(require_device)]
