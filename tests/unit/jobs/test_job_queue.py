"""The queue's calls end, whatever the connection does."""

from __future__ import annotations

import asyncio

import pytest
from procrastinate.exceptions import ConnectorException

from jobs import queue


def test_a_call_that_never_returns_ends_as_a_lost_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "_CALL_TIMEOUT_S", 0.01)

    async def call_a_half_open_connection() -> None:
        await queue._bounded(asyncio.Event().wait())

    with pytest.raises(ConnectorException, match="did not answer"):
        asyncio.run(call_a_half_open_connection())
