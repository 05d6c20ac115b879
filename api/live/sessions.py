"""Who is connected with which credential: asked again every few seconds, counted per tenant.

A credential that ends closes every connection made with it. Many connections of one credential cost one question, and who
reconnects while others of the same credential are connected costs none. Border: knows connections only by `close`.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from api.live.protocol import CloseCode
from core.clock import monotonic_s
from core.postgres import is_transient

if TYPE_CHECKING:
    from api.auth import Authenticator, Principal

log = structlog.get_logger()

CHECK_S: Final = 2.0
_FRESH_S: Final = 3.0
_AT_ONCE: Final = 16


class Connected(Protocol):
    """A connection, through whichever door."""

    def close(self, code: CloseCode, reason: str) -> None:
        """End it; the client learns the code."""
        ...

    def permitted(self, principal: Principal) -> bool:
        """Whether everything that it is subscribed to is still allowed."""
        ...


@dataclass(slots=True)
class _Watch:
    credential: str
    principal: Principal
    checked_s: float
    connections: dict[Connected, None] = field(default_factory=dict)


class Sessions:
    """The credentials of all connections of this process.

    Args:
        authenticators: kinds of bearer credentials, asked in this order.
        limit: connections that one tenant may have here.
    """

    def __init__(self, authenticators: Sequence[Authenticator], limit: int) -> None:
        self._authenticators = authenticators
        self._limit = limit
        self._watches: dict[bytes, _Watch] = {}
        self._asking: dict[bytes, asyncio.Task[Principal | None]] = {}
        self._counts: Counter[str] = Counter()

    async def authenticate(self, credential: str) -> Principal | None:
        """Whose it is; one question however many ask at once."""
        key = _key(credential)
        watch = self._watches.get(key)
        if watch is not None and monotonic_s() - watch.checked_s < _FRESH_S:
            return watch.principal
        task = self._asking.get(key)
        if task is None:
            task = self._asking[key] = asyncio.create_task(self._ask(credential))
            task.add_done_callback(lambda _: self._asking.pop(key, None))
        return await asyncio.shield(task)

    async def _ask(self, credential: str) -> Principal | None:
        for authenticator in self._authenticators:
            principal = await authenticator.authenticate(credential)
            if principal is not None:
                return principal
        return None

    def is_full(self, tenant_id: str) -> bool:
        """Whether a tenant has as many connections as it may."""
        return self._counts[tenant_id] >= self._limit

    def enter(self, credential: str, principal: Principal, connection: Connected) -> None:
        """A connection was authenticated."""
        key = _key(credential)
        watch = self._watches.get(key)
        if watch is None:
            watch = self._watches[key] = _Watch(credential, principal, monotonic_s())
        watch.connections[connection] = None
        self._counts[principal.tenant_id] += 1

    def leave(self, credential: str, connection: Connected) -> None:
        """A connection ended, or goes on with another credential."""
        watch = self._watches.get(_key(credential))
        if watch is None or connection not in watch.connections:
            return
        del watch.connections[connection]
        tenant_id = watch.principal.tenant_id
        self._counts[tenant_id] -= 1
        if not self._counts[tenant_id]:
            del self._counts[tenant_id]
        if not watch.connections:
            del self._watches[_key(credential)]

    async def run(self) -> None:
        """Ask again, forever."""
        gate = asyncio.Semaphore(_AT_ONCE)

        async def check(watch: _Watch) -> None:
            async with gate:
                await self._check(watch)

        while True:
            await asyncio.sleep(CHECK_S)
            await asyncio.gather(*(check(watch) for watch in list(self._watches.values())))

    async def _check(self, watch: _Watch) -> None:
        try:
            principal = await self._ask(watch.credential)
        except Exception as error:
            if not is_transient(error):
                raise
            return  # nobody can tell now; nothing new comes out of that database either
        if principal is not None and principal.tenant_id == watch.principal.tenant_id:
            watch.principal, watch.checked_s = principal, monotonic_s()
            unpermitted = [one for one in watch.connections if not one.permitted(principal)]
            for connection in unpermitted:
                connection.close(CloseCode.REVOKED, "the credential may no longer see what it is subscribed to")
            return
        for connection in list(watch.connections):
            connection.close(CloseCode.REVOKED, "the credential was revoked or has expired")


def _key(credential: str) -> bytes:
    return hashlib.sha256(credential.encode("utf-8", "surrogatepass")).digest()
