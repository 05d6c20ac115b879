"""How many bytes a server on this machine has sent on each of its connections, asked of the kernel (Linux).

`sock_diag` answers everybody about the sockets of the same network namespace. Formats: linux/inet_diag.h, linux/tcp.h.
"""

from __future__ import annotations

import os
import re
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_REQUEST_DUMP = 0x1 | 0x300
_DONE, _ERROR = 3, 2
_INFO_ATTRIBUTE = 2
_ALL_STATES = 0xFFFF_FFFF
_HEADER = struct.Struct("=IHHII")
_MESSAGE_BYTES = 72  # struct inet_diag_msg
_BYTES_SENT_AT = 200  # tcpi_bytes_sent in struct tcp_info, since Linux 4.19
_RECEIVE_BYTES = 1 << 16


CLOSED = -1


def bytes_sent(port: int) -> dict[int, int]:
    """Bytes that the server on loopback `port` has sent, by the port of the client.

    A connection that was closed up to a minute ago is there too, as CLOSED.

    Raises:
        OSError: the kernel does not tell.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as kernel:
        kernel.send(_request())
        rows = [_connection(payload) for payload in _payloads(kernel)]
    # Who closes first keeps a trace of the connection for a minute, so that may be the client.
    found = {local: CLOSED for local, remote, _ in rows if remote == port}
    return found | {remote: sent for local, remote, sent in rows if local == port and remote}


def own_ports() -> set[int]:
    """Local ports of this process' own TCP connections."""
    inodes = set()
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the descriptor of this very look
            inodes |= set(re.findall(r"^socket:\[(\d+)\]$", str(entry.readlink())))
    rows = (line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:])
    return {int(row[1].rpartition(":")[2], 16) for row in rows if row[9] in inodes}


def _request() -> bytes:
    about = struct.pack("=BBBxI", socket.AF_INET, socket.IPPROTO_TCP, 1 << (_INFO_ATTRIBUTE - 1), _ALL_STATES)
    body = about + bytes(48)  # struct inet_diag_sockid: any
    return _HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 1, 0) + body


def _payloads(kernel: socket.socket) -> Iterator[bytes]:
    while True:
        data = kernel.recv(_RECEIVE_BYTES)
        while data:
            length, kind, *_ = _HEADER.unpack_from(data)
            if kind == _DONE:
                return
            if kind == _ERROR:
                number = -struct.unpack_from("=i", data, _HEADER.size)[0]
                raise OSError(number, os.strerror(number))
            yield data[_HEADER.size : length]
            data = data[(length + 3) & ~3 :]


def _connection(payload: bytes) -> tuple[int, int, int]:
    """Local port, remote port and bytes sent."""
    local, remote = struct.unpack_from(">HH", payload, 4)
    at = _MESSAGE_BYTES
    while at + 4 <= len(payload):
        length, kind = struct.unpack_from("=HH", payload, at)
        if kind == _INFO_ATTRIBUTE and length >= 4 + _BYTES_SENT_AT + 8:
            return local, remote, struct.unpack_from("=Q", payload, at + 4 + _BYTES_SENT_AT)[0]
        at += (length + 3) & ~3 or 4
    return local, remote, CLOSED
