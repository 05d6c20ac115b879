"""Dead letters to test with, written as the worker writes them, and the command as a person runs it."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from core.postgres import DatabaseRole, open_pool
from schemas.errors import Reason
from sinks.dead_letters import Refusal, Selection, Source, write_refusals
from tests.commands import weir
from tests.integration.servers import Database

REFUSED_AT = datetime(2026, 11, 22, 20, 0, tzinfo=UTC)
HEADERS = [("weir-device", b"dev_a"), ("weir-signature", b"00ff"), ("blob", b"\xff\x00")]


@dataclass
class Sent:
    """A record as the transport hands it over."""

    offset: int
    value: bytes | None = b"{}"
    key: bytes | None = b"dev_a"
    timestamp: int = 1_795_377_600_000
    headers: Sequence[tuple[str, bytes]] = field(default_factory=lambda: HEADERS)


def refusal(record: Sent, reason: Reason = Reason.WRONG_SHAPE, index: int | None = None, **more: str | None) -> Refusal:
    values: dict[str, Any] = {
        "sensor": None,
        "detail": "no list of readings",
        "device_id": "dev_a",
        "tenant_id": "ten_a",
    }
    return Refusal(record=record, index=index, reason=reason, **values | more)


def refuse(database: Database, topic: str, *refusals: Refusal, refused_at: datetime = REFUSED_AT) -> list[int]:
    """Write dead letters as the worker does; returns their numbers."""
    before = {number for (number,) in database.query("SELECT dead_letter_id FROM dead_letters")}

    async def go() -> None:
        selection = Selection(list(refusals), {}, len(refusals), [])
        async with (
            open_pool(database.writer_url, DatabaseRole.WRITER) as pool,
            pool.connection() as connection,
            connection.transaction(),
        ):
            await write_refusals(connection, Source(topic, 2, "identity"), selection, refused_at, "dead-letters")

    asyncio.run(go())
    rows = database.query("SELECT dead_letter_id FROM dead_letters ORDER BY 1")
    return [int(number) for (number,) in rows if number not in before]


@dataclass(frozen=True)
class Command:
    """`weir dead-letters` with the settings of a person who operates the system."""

    database_url: str
    bootstrap: str

    def __call__(self, *words: str | int) -> subprocess.CompletedProcess[str]:
        settings = {"WEIR_DATABASE_URL": self.database_url, "WEIR_KAFKA_BOOTSTRAP": self.bootstrap}
        return weir("dead-letters", *words, **settings)

    def json(self, *words: str | int) -> list[dict[str, Any]]:
        done = self(*words, "--json")
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]
