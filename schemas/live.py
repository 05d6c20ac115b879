"""What travels between workers and bridges: channels, and the newest readings packed into notification payloads.

PostgreSQL's notifications hold less than 8 000 bytes, so readings travel as 24 binary bytes each, in base64, some 240 to a
payload: `<tenant id>:<received at, epoch ms>:<base64> …`. Border: bytes and columns; who sends and who listens is elsewhere.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

LOG_CHANNELS: Final = ("alerts", "scans", "jobs", "notifications")
"""Ordered and resumable; never dropped."""

LATEST_CHANNELS: Final = ("readings", "usage")
"""The newest value of a key wins."""

CHANNELS: Final = (*LATEST_CHANNELS, *LOG_CHANNELS)

LIVE_TOPIC: Final = "weir_live"
"""PostgreSQL channel of wake-ups: `<tenant id> <seq>` after events were written, `<tenant id> sensors` after moves."""

LATEST_TOPIC: Final = "weir_latest"
"""PostgreSQL channel of packed readings."""

MAX_PAYLOAD_CHARS: Final = 7_900

READING: Final = np.dtype([("sensor_no", "<i4"), ("seq", "<i4"), ("at_ms", "<i8"), ("value", "<f8")])
# A multiple of three readings makes base64 without padding; 237 of them are 7 584 characters.
_READINGS_PER_PART: Final = 237


class Newest(NamedTuple):
    """The newest readings of some of one tenant's sensors.

    Attributes:
        tenant_id: whose.
        received_ms: when the worker took the batch in, epoch ms.
        rows: of dtype `READING`.
    """

    tenant_id: str
    received_ms: int
    rows: NDArray[np.void]


def pack(parts: Iterable[Newest]) -> list[str]:
    """Payloads, each below the limit, that together hold every reading."""
    payloads: list[str] = []
    current: list[str] = []
    size = 0
    for text in _texts(parts):
        if current and size + len(text) + 1 > MAX_PAYLOAD_CHARS:
            payloads.append(" ".join(current))
            current, size = [], 0
        current.append(text)
        size += len(text) + 1
    return [*payloads, " ".join(current)] if current else payloads


def unpack(payload: str) -> Iterator[Newest]:
    """What `pack` put into one payload.

    Raises:
        ValueError: it was not made by `pack`.
    """
    for text in payload.split(" "):
        tenant_id, received_ms, encoded = text.split(":")
        rows = np.frombuffer(base64.b64decode(encoded, validate=True), dtype=READING)
        yield Newest(tenant_id, int(received_ms), rows)


def _texts(parts: Iterable[Newest]) -> Iterator[str]:
    for part in parts:
        for first in range(0, len(part.rows), _READINGS_PER_PART):
            encoded = base64.b64encode(part.rows[first : first + _READINGS_PER_PART].tobytes()).decode()
            yield f"{part.tenant_id}:{part.received_ms}:{encoded}"
