"""Many live viewers in one process, as light as they can be: what is measured is the bridge, not the client.

Frames are only counted; a sample of them is decoded, for the readings in it and how old they are.
"""

from __future__ import annotations

import asyncio
import base64
import os
import struct
import time
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import urlsplit

import msgspec

_SAMPLED_EVERY = 7
_TEXT, _CLOSE, _PING, _PONG = 1, 8, 9, 10
_LONG, _LONGER = 126, 127


@dataclass
class Seen:
    """What all viewers saw together."""

    frames: int = 0
    sampled_frames: int = 0
    sampled_readings: int = 0
    latencies_ms: list[float] = field(default_factory=list)
    closed: int = 0

    @property
    def readings(self) -> float:
        """Readings in all frames, by those of the sample."""
        return self.frames * self.sampled_readings / max(1, self.sampled_frames)


class Viewer(asyncio.Protocol):
    """One WebSocket, by hand."""

    def __init__(self, seen: Seen, address: str, token: str, subscribe: str) -> None:
        self._seen = seen
        self._address = address
        self._token = token
        self._subscribe = subscribe
        self._buffer = bytearray()
        self._upgraded = False
        self.cursor: str | None = None
        self.caught_up: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Shake hands and subscribe without waiting for the answer."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        key = base64.b64encode(os.urandom(16)).decode()
        transport.write(
            f"GET /v1/live HTTP/1.1\r\nHost: {self._address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nAuthorization: Bearer {self._token}\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        """Take whole frames off the stream."""
        self._buffer += data
        if not self._upgraded:
            head, found, rest = bytes(self._buffer).partition(b"\r\n\r\n")
            if not found:
                return
            assert b" 101 " in head, head
            self._upgraded, self._buffer = True, bytearray(rest)
            self._send(_TEXT, self._subscribe.encode())
        while self._take():
            pass

    def connection_lost(self, exc: Exception | None) -> None:
        """Count it."""
        self._seen.closed += 1
        if not self.caught_up.done():
            self.caught_up.set_exception(ConnectionError("closed before it was caught up"))

    def _take(self) -> bool:
        buffer = self._buffer
        if len(buffer) < 2:
            return False
        size, start = buffer[1] & 127, 2
        if size == _LONG:
            size, start = (struct.unpack_from(">H", buffer, 2)[0], 4) if len(buffer) >= 4 else (1 << 62, 4)
        elif size == _LONGER:
            size, start = (struct.unpack_from(">Q", buffer, 2)[0], 10) if len(buffer) >= 10 else (1 << 62, 10)
        if len(buffer) < start + size:
            return False
        payload, kind = bytes(buffer[start : start + size]), buffer[0] & 15
        del buffer[: start + size]
        if kind == _PING:
            self._send(_PONG, payload)
        elif kind == _TEXT:
            self._frame(payload)
        return True

    def _frame(self, payload: bytes) -> None:
        if not payload.startswith(b'{"op":"event"'):
            if payload.startswith(b'{"op":"sync"'):
                self.cursor = msgspec.json.decode(payload)["cursor"]
                if not self.caught_up.done():
                    self.caught_up.set_result(None)
            return
        self._seen.frames += 1
        if self._seen.frames % _SAMPLED_EVERY == 0 and self.caught_up.done():
            now_ms = time.time() * 1000
            items = msgspec.json.decode(payload)["items"]
            self._seen.sampled_frames += 1
            self._seen.sampled_readings += len(items)
            self._seen.latencies_ms += [
                now_ms - datetime.fromisoformat(item["at"]).timestamp() * 1000 for item in items if "at" in item
            ]

    def _send(self, kind: int, payload: bytes) -> None:
        assert self.transport is not None
        size = (
            bytes([128 | len(payload)])
            if len(payload) < _LONG
            else bytes([128 | _LONG]) + struct.pack(">H", len(payload))
        )
        self.transport.write(bytes([128 | kind]) + size + b"\0\0\0\0" + payload)  # masked with zeros


async def connect(url: str, seen: Seen, token: str, **subscribe: object) -> Viewer:
    """A viewer that is on its way; await its `caught_up`."""
    address = urlsplit(url).netloc
    host, port = address.split(":")
    text = msgspec.json.encode({"op": "subscribe", "id": 1, **subscribe}).decode()
    _, viewer = await asyncio.get_running_loop().create_connection(
        lambda: Viewer(seen, address, token, text), host, int(port)
    )
    return viewer


async def connect_all(url: str, seen: Seen, wanted: list[tuple[str, dict[str, object]]]) -> list[Viewer]:
    """Viewers (token, subscription), all caught up."""
    viewers = await asyncio.gather(*(connect(url, seen, token, **subscribe) for token, subscribe in wanted))
    await asyncio.wait_for(asyncio.gather(*(viewer.caught_up for viewer in viewers)), 120)
    return list(viewers)


def cut(viewers: list[Viewer]) -> None:
    """End them without a goodbye."""
    for viewer in viewers:
        assert viewer.transport is not None
        viewer.transport.abort()
