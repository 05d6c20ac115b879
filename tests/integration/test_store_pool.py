"""The pool's check: a connection that died while nobody used it is replaced, one used a moment ago is not asked again."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from core import postgres
from core.postgres import DatabaseRole, Pool, open_pool
from tests.integration.servers import Database, wait_until

pytestmark = pytest.mark.integration


async def backend(pool: Pool) -> int:
    async with pool.connection() as connection:
        return connection.info.backend_pid


def ended(database: Database, pid: int) -> None:
    database.query("SELECT pg_terminate_backend(%s)", pid)
    wait_until(
        lambda: database.query("SELECT count(*) FROM pg_stat_activity WHERE pid = %s", pid) == [(0,)], 60, "its end"
    )


@pytest.mark.parametrize(("trusted_s", "is_replaced"), [(0.0, True), (3600.0, False)], ids=["idle", "a moment ago"])
def test_a_connection_is_asked_before_its_use_unless_it_was_used_a_moment_ago(
    database: Database, monkeypatch: pytest.MonkeyPatch, trusted_s: float, is_replaced: bool
) -> None:
    monkeypatch.setattr(postgres, "_TRUSTED_S", trusted_s)

    async def pids() -> tuple[int, int]:
        async with open_pool(database.writer_url, DatabaseRole.WRITER, size=1) as pool:
            first = await backend(pool)
            await asyncio.to_thread(ended, database, first)
            second = await backend(pool)
            if second == first:
                with pytest.raises(psycopg.OperationalError):
                    async with pool.connection() as connection:
                        await connection.execute("SELECT 1")
                # What broke in use does not come back.
                assert await backend(pool) != first
            return first, second

    first, second = asyncio.run(pids())
    assert (second != first) is is_replaced
