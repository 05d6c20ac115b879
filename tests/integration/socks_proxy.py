"""A SOCKS5 proxy (RFC 1928, no authentication, IPv4) that breaks its connections on command.

kafka-python connects to the brokers' advertised addresses; through a SOCKS proxy even those connections can be cut.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

_REPLY_GRANTED = b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"


class BreakableProxy:
    """Listens on a port of 127.0.0.1 of its own while it is entered."""

    def __init__(self) -> None:
        self.cuts = 0
        self._lock = threading.Lock()
        self._cut_each_bytes = 0
        self._cuts_left = 0
        self._passed_bytes = 0
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))

    @property
    def url(self) -> str:
        """For kafka-python's proxy_url."""
        return f"socks5://127.0.0.1:{self._listener.getsockname()[1]}"

    def cut_after_bytes(self, count: int, times: int) -> None:
        """Cut all connections each time that so many bytes have passed towards the broker."""
        with self._lock:
            self._cut_each_bytes, self._cuts_left, self._passed_bytes = count, times, 0

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            self._cut()
        for thread in self._threads:
            thread.join(5)

    def _start(self, body: object, *arguments: object) -> None:
        thread = threading.Thread(target=body, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._start(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError), client:
            client.recv(2 + 255)  # version, methods
            client.sendall(b"\x05\x00")
            request = client.recv(4 + 255 + 2)
            host, port = socket.inet_ntoa(request[4:8]), int.from_bytes(request[8:10], "big")
            with socket.create_connection((host, port)) as server:
                with self._lock:
                    self._sockets |= {client, server}
                client.sendall(_REPLY_GRANTED)
                self._start(self._copy, server, client, False)
                self._copy(client, server, True)

    def _copy(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                if counted:
                    self._count(len(data))
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)

    def _count(self, passed: int) -> None:
        """Cut if it is time: before the bytes are passed on, so that requests are lost and not only answers."""
        with self._lock:
            self._passed_bytes += passed
            if self._cuts_left and self._passed_bytes >= self._cut_each_bytes:
                self._passed_bytes = 0
                self._cuts_left -= 1
                self.cuts += 1
                self._cut()

    def _cut(self) -> None:
        for connection in self._sockets:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._sockets.clear()
