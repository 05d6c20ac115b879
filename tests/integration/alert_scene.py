"""Rules, readings and episodes that tests of rules over the stream share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from accounts import rules
from core.postgres import DatabaseRole, open_pool, tenant_transaction
from tests.integration.publishing import reading
from tests.integration.servers import Database, Tenant, WorkerProcess, wait_until

NEW_WORKER = Callable[..., WorkerProcess]
START_MS = 1_790_856_000_000  # 2026-10-01T12:00:00Z
MINUTE_MS = 60_000
LONG_AGO = datetime(2010, 1, 1, tzinfo=UTC)
TOO_WARM = {"type": "threshold", "above": 8.0, "for": "30m"}


def add_rule(
    database: Database, tenant: Tenant, condition: dict[str, Any], effective_from: datetime | None = LONG_AGO
) -> str:
    document = {"name": "rule", "applies_to": {"all": True}, "severity": "critical", "condition": condition}
    return record_rule(database, tenant, document, effective_from)


def record_rule(
    database: Database, tenant: Tenant, document: dict[str, Any], effective_from: datetime | None = LONG_AGO
) -> str:
    async def add() -> str:
        async with (
            open_pool(database.reader_url, DatabaseRole.READER, size=1) as pool,
            tenant_transaction(pool, tenant.tenant_id) as connection,
        ):
            return await rules.create_rule(connection, document, effective_from, "test")

    return asyncio.run(add())


def episodes(database: Database, tenant: Tenant) -> list[tuple[Any, ...]]:
    return database.query(
        "SELECT status, started_at, fired_at, resolved_at, peak_value, proven_seconds::float8, possible_seconds::float8"
        " FROM alert_episodes WHERE status <> 'retracted' AND tenant_id = %s ORDER BY started_at",
        tenant.tenant_id,
    )


def at(minute: float) -> datetime:
    return datetime.fromtimestamp((START_MS + minute * MINUTE_MS) / 1000, UTC)


def minutes(values: list[float], first: int = 0, step: int = 5) -> list[dict[str, Any]]:
    return [reading(START_MS + (first + n * step) * MINUTE_MS, value) for n, value in enumerate(values)]


def change_rule(
    database: Database, tenant: Tenant, rule_id: str, document: dict[str, Any] | None, effective_from: datetime
) -> None:
    """Record the rule's next version; a document of None deletes it."""

    async def change() -> None:
        async with (
            open_pool(database.reader_url, DatabaseRole.READER, size=1) as pool,
            tenant_transaction(pool, tenant.tenant_id) as connection,
        ):
            row = await rules.find_rule(connection, rule_id)
            assert row is not None
            await rules.change_rule(connection, row, document, effective_from, "test")

    asyncio.run(change())


def settled(database: Database, records: int) -> None:
    wait_until(
        lambda: database.query("SELECT coalesce(sum(next_offset), 0) FROM stream_positions") == [(records,)],
        120,
        "all records committed",
    )
    wait_until(
        lambda: database.query("SELECT count(*) FROM weir.rule_work WHERE done_at IS NULL") == [(0,)],
        120,
        "rule work done",
    )
