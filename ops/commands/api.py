"""`weir api`: serves the API; run as many as needed behind a load balancer."""

from __future__ import annotations

import signal
import socket
from typing import TYPE_CHECKING, Annotated

import typer

from ops.loading import loading
from schemas.errors import Misconfigured

if TYPE_CHECKING:
    import uvicorn

    from core.settings import Settings

_DRAIN_S = 8
_KEEP_ALIVE_S = 30
_PING_S, _PONG_S = 25.0, 10.0
_BACKLOG = 2048
_MAX_HEAD_BYTES = 64 * 1024


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def api(
        host: Annotated[str | None, typer.Option(help="Address to listen on; default: WEIR_API_HOST.")] = None,
        port: Annotated[
            int | None, typer.Option(min=0, max=65535, help="Port to listen on, 0: any; default: WEIR_API_PORT.")
        ] = None,
    ) -> None:
        """Serve the API."""
        from core.logging import configure_logging
        from core.settings import load_settings

        settings = load_settings()
        configure_logging(settings.log_level, settings.log_format, role="api")
        serve(settings, host or settings.api_host, settings.api_port if port is None else port)


def serve(settings: Settings, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT, then let requests that are under way finish.

    Raises:
        Misconfigured: the address is not free, or a setting is missing.
    """
    with loading():
        import structlog

        server = make_server(settings)
    listener = listen(host, port)
    # The server takes these signals while it runs and raises them again at its end: that was a clean stop.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    address = listener.getsockname()
    structlog.get_logger().info("api.listening", host=address[0], port=address[1])
    server.run(sockets=[listener])


def make_server(settings: Settings) -> uvicorn.Server:
    """The server, with what its defaults would get wrong.

    WebSocket compression costs a zlib context per connection, an access log a line per request; both are off.
    """
    import uvicorn

    from api.app import create_app
    from api.live.server import LiveProtocol, LiveServer

    config = uvicorn.Config(
        create_app(settings),
        ws=LiveProtocol,
        ws_per_message_deflate=False,
        ws_max_size=settings.live_message_bytes,
        ws_ping_interval=_PING_S,
        ws_ping_timeout=_PONG_S,
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_DRAIN_S,
        h11_max_incomplete_event_size=_MAX_HEAD_BYTES,
    )
    return LiveServer(config)


def listen(host: str, port: int) -> socket.socket:
    """A socket for the server.

    TCP by its number: only then does asyncio switch Nagle's algorithm off, which with delayed acknowledgements costs a
    small response 40 ms.

    Raises:
        Misconfigured: the address is not free.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(_BACKLOG)  # whoever connects from now on is served as soon as the server runs
    except (OSError, OverflowError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or str(error)
        msg = f"the API cannot listen on {host} port {port} ({reason}); choose others with --host, --port or WEIR_API_PORT"
        raise Misconfigured(msg) from error
    return listener
