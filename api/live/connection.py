"""One WebSocket: authentication, operations in, frames out, one way to end.

Two tasks: one reads, one writes what the outbox holds, so a slow client holds up nobody but itself. Border: one
connection; the hub decides what it gets.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import structlog
from starlette.types import Receive, Scope, Send

from api.live import protocol
from api.live.hub import PERMISSIONS
from api.live.outbox import Outbox
from api.live.protocol import Auth, BadMessage, CloseCode, Code, Criteria, Ping, Pong, Subscribe, Unsubscribe
from api.live.subscription import Subscription
from core.clock import monotonic_s
from core.postgres import is_transient

if TYPE_CHECKING:
    from api.auth import Principal
    from api.live.service import LiveService

log = structlog.get_logger()

AUTH_S: Final = 10.0
ABORT: Final = "weir.abort"
"""ASGI extension by which our server offers to cut a connection that takes nothing more."""

PUSH: Final = "weir.push"
"""ASGI extension by which our server sends a whole frame that many share at once, without a task of each having to wake up."""

_FLUSH_S: Final = 3.0
_STALLED_S: Final = 20.0
_MAX_ERRORS: Final = 100
_INVALID: Final = "the credential is unknown, revoked or expired; use another"


class Connection:
    """One WebSocket connection.

    Args:
        service: hub, sessions and limits.
        receive: of ASGI.
        send: of ASGI.
        scope: of ASGI.
    """

    __slots__ = (
        "_abort", "_allowance", "_asked_s", "_closing_s", "_credential", "_errors", "_is_gone", "_outbox", "_principal",
        "_receive", "_send", "_sending_s", "_service", "_subscriptions", "closing",
    )  # fmt: skip

    def __init__(self, service: LiveService, receive: Receive, send: Send, scope: Scope) -> None:
        self._service = service
        self._receive = receive
        self._send = send
        self._abort: Callable[[], None] | None = scope.get("extensions", {}).get(ABORT)
        push: Callable[[bytes], bool] | None = scope.get("extensions", {}).get(PUSH)
        self._outbox = Outbox(
            service.limits.queue_bytes, lambda message, ref: message.frame(ref), self._overflowed, push
        )
        self._principal: Principal | None = None
        self._credential = ""
        self._subscriptions: dict[str, Subscription] = {}
        self._errors = 0
        self._allowance = float(service.limits.message_burst)
        self._asked_s = monotonic_s()
        self._sending_s: float | None = None
        self.closing: tuple[CloseCode, str] | None = None
        self._closing_s: float | None = None
        self._is_gone = False

    async def run(self, credential: str | None) -> None:
        """Serve until either side ends it.

        Args:
            credential: of the handshake's Authorization header; None: the first message brings it.
        """
        writer = asyncio.create_task(self._write())
        try:
            await self._read(credential)
        finally:
            writer.cancel()
            self._leave()
            await asyncio.gather(writer, return_exceptions=True)

    def close(self, code: CloseCode, reason: str) -> None:
        """End it; what is queued is still sent, except to a client that is too slow for it."""
        if self.closing is None:
            self.closing = code, reason
            self._outbox.close(discard=code is CloseCode.SLOW)
            self._closing_s = monotonic_s()

    def drain(self, retry_ms: int) -> None:
        """Ask the client to come back after a time of its own."""
        self._outbox.put(protocol.failure("draining", "this server stops; come back", retry_ms=retry_ms))
        self.close(CloseCode.DRAINING, f"this server stops; come back after {retry_ms} ms")

    def permitted(self, principal: Principal) -> bool:
        """Whether everything that it is subscribed to is still allowed."""
        self._principal = principal
        return all(principal.may(PERMISSIONS[one.channel]) for one in self._subscriptions.values())

    def check(self, now_s: float) -> None:
        """End it if its client has taken nothing for long; cut it if it takes not even the close."""
        if self._sending_s is not None and now_s - self._sending_s > _STALLED_S:
            self._overflowed()
        if self._abort is not None and self._closing_s is not None and now_s - self._closing_s > _FLUSH_S:
            self._abort()

    def _overflowed(self) -> None:
        self.close(CloseCode.SLOW, "this client takes too little of what it asked for; come back with the cursor")

    def _leave(self) -> None:
        for subscription in self._subscriptions.values():
            self._service.leave(subscription)
        self._subscriptions.clear()
        if self._principal is not None:
            self._service.sessions.leave(self._credential, self)
        self._outbox.close(discard=True)

    async def _write(self) -> None:
        try:
            while (frame := await self._outbox.next()) is not None:
                self._sending_s = monotonic_s()
                await self._send({"type": "websocket.send", "text": frame})
                self._sending_s = None
            if self.closing is not None:
                code, reason = self.closing
                await self._send({"type": "websocket.close", "code": int(code), "reason": reason})
        except OSError:  # uvicorn's and Starlette's way to say that the client is gone; the reader learns it too
            return

    # --- what the client says ---

    async def _read(self, credential: str | None) -> None:
        """Until the client is gone; once closing, what it says does not matter any more."""
        try:
            await self._converse(credential)
        except TimeoutError:
            self.close(CloseCode.AUTH_TIMEOUT, f"no authentication within {AUTH_S:.0f} s")
        except Exception as error:
            if not is_transient(error):
                log.exception("live.failed")
            self.close(CloseCode.SERVER_ERROR, "the server cannot serve this now; come back with the cursor")
        while not self._is_gone:
            self._is_gone = (await self._receive())["type"] == "websocket.disconnect"

    async def _converse(self, credential: str | None) -> None:
        async with asyncio.timeout(AUTH_S) as deadline:
            if credential is not None:
                await self._authenticate(credential)
            while self._principal is None and self.closing is None:
                if not await self._take_one():
                    return
            deadline.reschedule(None)
        while self.closing is None and await self._take_one():
            pass

    async def _take_one(self) -> bool:
        """One message; False when the client is gone."""
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            self._is_gone = True
            return False
        try:
            await self._obey(message)
        except BadMessage as error:
            self._outbox.put(protocol.failure(error.code, error.message, error.ref))
            self._errors += 1
            if self._principal is None:
                code = CloseCode.UNAUTHORIZED if error.code is Code.UNAUTHENTICATED else CloseCode.BAD_REQUEST
                self.close(code, error.message[:100])
            elif error.code is Code.RATE_LIMITED:
                self.close(CloseCode.RATE_LIMITED, "more messages than a connection may send; come back")
            elif self._errors > _MAX_ERRORS:
                self.close(CloseCode.TOO_MANY_ERRORS, f"more than {_MAX_ERRORS} refused messages")
        return True

    async def _obey(self, message: Mapping[str, Any]) -> None:
        self._limit_rate()
        text = message.get("text")
        if text is None:
            raise BadMessage(Code.MALFORMED, "messages are JSON in text frames; this was a binary one")
        operation = protocol.decode(text)
        if isinstance(operation, Auth):
            await self._authenticate(operation.token)
        elif isinstance(operation, Ping):
            self._outbox.put(protocol.PONG)
        elif isinstance(operation, Pong):
            return
        elif self._principal is None:
            raise BadMessage(Code.UNAUTHENTICATED, 'authenticate first: {"op": "auth", "token": "…"}')
        elif isinstance(operation, Subscribe):
            await self._subscribe(operation, self._principal)
        else:
            self._unsubscribe(operation)

    def _limit_rate(self) -> None:
        limits, now_s = self._service.limits, monotonic_s()
        earned = (now_s - self._asked_s) * limits.messages_per_s
        self._allowance = min(float(limits.message_burst), self._allowance + earned) - 1.0
        self._asked_s = now_s
        is_fair = self._principal is None or self._service.takes_message(self._principal.tenant_id)
        if self._allowance < 0 or not is_fair:
            raise BadMessage(
                Code.RATE_LIMITED, f"at most {limits.messages_per_s:g} messages a second; come back slower"
            )

    async def _authenticate(self, credential: str) -> None:
        sessions = self._service.sessions
        principal = await sessions.authenticate(credential)
        if principal is None or (self._principal is not None and principal.tenant_id != self._principal.tenant_id):
            self._outbox.put(protocol.failure("unauthorized", _INVALID))
            self.close(CloseCode.UNAUTHORIZED, _INVALID)
            return
        if self._principal is not None:
            sessions.leave(self._credential, self)
        elif sessions.is_full(principal.tenant_id):
            retry_ms = self._service.spread_ms(self._service.limits.crowded_retry_ms)
            text = "the tenant has as many connections as it may; close some or come back later"
            self._outbox.put(protocol.failure("too_many_connections", text, retry_ms=retry_ms))
            self.close(CloseCode.TOO_MANY_CONNECTIONS, text)
            return
        self._principal, self._credential = principal, credential
        sessions.enter(credential, principal, self)
        self._outbox.put(protocol.ready(principal.tenant_id, self._service.spread_ms(self._service.limits.retry_ms)))

    async def _subscribe(self, operation: Subscribe, principal: Principal) -> None:
        ref = protocol.ref_of(operation.id)
        self._require_allowed(operation, principal, ref)
        subscription = Subscription(
            principal.tenant_id, operation.channel, Criteria(operation.filter), ref, self._outbox, self.close
        )
        self._subscriptions[ref] = subscription
        await self._service.join(subscription, operation.cursor)

    def _require_allowed(self, operation: Subscribe, principal: Principal, ref: str) -> None:
        permission = PERMISSIONS[operation.channel]
        if not principal.may(permission):
            raise BadMessage(Code.MISSING_PERMISSION, f"this credential lacks {permission}; use one that has it", ref)
        if ref in self._subscriptions:
            raise BadMessage(
                Code.DUPLICATE_ID, "there is a subscription with this id; unsubscribe it or choose another", ref
            )
        limits = self._service.limits
        if len(self._subscriptions) >= limits.subscriptions_per_connection:
            text = f"at most {limits.subscriptions_per_connection} subscriptions a connection; use filters of many ids"
            raise BadMessage(Code.TOO_MANY_SUBSCRIPTIONS, text, ref)
        if self._service.subscriptions_of(principal.tenant_id) >= limits.subscriptions_per_tenant:
            text = "the tenant has as many subscriptions as it may; end some"
            raise BadMessage(Code.TOO_MANY_SUBSCRIPTIONS, text, ref)

    def _unsubscribe(self, operation: Unsubscribe) -> None:
        ref = protocol.ref_of(operation.id)
        subscription = self._subscriptions.pop(ref, None)
        if subscription is None:
            raise BadMessage(Code.UNKNOWN_ID, "there is no subscription with this id", ref)
        self._service.leave(subscription)


def spread(base_ms: int) -> int:
    """A time around this one, another for each client, so that they do not come back all at once."""
    return random.randint(base_ms // 2, base_ms * 3 // 2)  # noqa: S311 - no secret
