"""Ports on this machine: which are free, and one that stays the same across restarts.

Ports are taken from below the ephemeral range. A client that keeps reconnecting to a port of that range on loopback
can be given the very same port as its own and so connect to itself, which then keeps the server from coming back.
"""

from __future__ import annotations

import errno
import secrets
import socket

from schemas.errors import Misconfigured

LOOPBACK = "127.0.0.1"
_LOWEST, _HIGHEST = 15_000, 32_000
_ATTEMPTS = 200


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Whether a server could listen there now."""
    return _bind_error(port, host) is None


def pick_port(preferred: int | None = None) -> int:
    """`preferred` if it is free, else a random free port of loopback.

    Raises:
        Misconfigured: no free port was found.
    """
    if preferred is not None and is_free(preferred):
        return preferred
    for _ in range(_ATTEMPTS):
        port = _LOWEST + secrets.randbelow(_HIGHEST - _LOWEST)
        if is_free(port):
            return port
    msg = f"no free port between {_LOWEST} and {_HIGHEST} on {LOOPBACK}; end some of the servers on this machine"
    raise Misconfigured(msg)


def require_free(port: int, host: str, remedy: str) -> None:
    """Say in one sentence why nothing can listen on `host`:`port`, or return.

    Args:
        port: the wanted port.
        host: the address to listen on.
        remedy: what to do instead, as the end of the sentence.

    Raises:
        Misconfigured: the port is in use, reserved or the address is not one of this machine.
    """
    error = _bind_error(port, host)
    if error is None:
        return
    reasons = {
        errno.EADDRINUSE: f"port {port} on {host} is already in use",
        errno.EACCES: f"port {port} on {host} may only be opened by an administrator",
        errno.EADDRNOTAVAIL: f"{host} is not an address of this machine",
    }
    reason = reasons.get(error.errno or 0, f"cannot listen on {host}:{port} ({error.strerror or error})")
    msg = f"{reason}; {remedy}"
    raise Misconfigured(msg)


def accepts_connections(port: int, host: str = LOOPBACK) -> bool:
    """Whether something listens there."""
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def _bind_error(port: int, host: str) -> OSError | None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As servers do: a port whose last connections are only waiting out their time counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            return error
    return None
