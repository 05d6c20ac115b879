"""What the HTTP server itself has to do for live connections: send shared frames, cut who takes nothing, drain at the end.

Border: uvicorn's classes, extended.
"""

from __future__ import annotations

import socket

import uvicorn
from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request
from websockets.protocol import State

from api.live.connection import ABORT, PUSH
from api.services import Services


class LiveProtocol(WebSocketsSansIOProtocol):
    """Offers the application to send what is framed already, and to cut a connection whose full socket takes no close frame."""

    def handle_connect(self, event: Request) -> None:
        """As before, and the offers."""
        super().handle_connect(event)
        scope = getattr(self, "scope", None)
        if scope is not None:
            scope["extensions"] |= {ABORT: self.transport.abort, PUSH: self.push}

    async def send(self, message: ASGISendEvent) -> None:
        """As before; a handshake that was refused by an HTTP response is complete, which uvicorn would log as an error."""
        await super().send(message)
        if self.initial_response is not None and self.close_sent:
            self.handshake_complete = True

    def push(self, frame: bytes) -> bool:
        """Send a frame at once; False if the client is behind or the connection ends, and the frame has to wait its turn."""
        is_open = self.conn.state is State.OPEN and not self.close_sent and not self.transport.is_closing()
        if not is_open or not self.writable.is_set():
            return False
        self.transport.write(frame)
        return True


class LiveServer(uvicorn.Server):
    """Sends live connections away one by one before the server stops; without this all would come back at once."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, then stop."""
        # `loaded_app` is wrapped into uvicorn's own middleware.
        services: Services | None = getattr(getattr(self.config.app, "state", None), "services", None)
        if services is not None:
            await services.live.drain()
        await super().shutdown(sockets)
