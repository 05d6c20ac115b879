"""What the HTTP server itself has to do for live connections: cut one that takes nothing more, and drain before it stops.

Border: uvicorn's classes, extended.
"""

from __future__ import annotations

import socket

import uvicorn
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from api.live.connection import ABORT
from api.services import Services


class LiveProtocol(WebSocketsSansIOProtocol):
    """Offers the application to cut the connection: a full socket never takes a close frame."""

    def handle_connect(self, event: Request) -> None:
        """As before, and the offer."""
        super().handle_connect(event)
        scope = getattr(self, "scope", None)
        if scope is not None:
            scope["extensions"][ABORT] = self.transport.abort


class LiveServer(uvicorn.Server):
    """Sends live connections away one by one before the server stops; without this all would come back at once."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, then stop."""
        # `loaded_app` is wrapped into uvicorn's own middleware.
        services: Services | None = getattr(getattr(self.config.app, "state", None), "services", None)
        if services is not None:
            await services.live.drain()
        await super().shutdown(sockets)
