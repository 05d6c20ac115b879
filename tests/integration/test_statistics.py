"""Tables that were analysed while a great transaction filled them count as empty; nothing may take minutes because of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import psycopg
import pytest

from core.postgres import DatabaseRole, open_pool
from sinks.timescale.statistics import refresh_statistics
from streams.rules.book import RuleBook
from tests.integration.conftest import Broker
from tests.integration.publishing import ThirdPartyDevice, body, reading
from tests.integration.servers import Database, WorkerProcess, create_tenant, wait_until

pytestmark = pytest.mark.integration

RULES = 30_000
# The worker's own limit of a statement. A join that reads one table for each row of the other takes a minute.
STATEMENT_LIMIT_MS = 10_000


def add_rules_that_count_as_none(database: Database) -> None:
    """Recorded in one transaction, and looked at by the planner before it commits."""
    tenant = asyncio.run(create_tenant(database))
    with (
        psycopg.connect(database.admin_url) as adding,
        psycopg.connect(database.admin_url, autocommit=True) as looking,
    ):
        adding.execute(
            "INSERT INTO weir.rule (rule_id, tenant_id) SELECT 'rul_' || n, %s FROM generate_series(1, %s) AS n",
            (tenant.tenant_id, RULES),
        )
        adding.execute(
            "INSERT INTO weir.rule_version (rule_no, version, effective_from, document, recorded_by)"
            " SELECT rule_no, 1, '2020-01-01', NULL, 'test' FROM weir.rule"
        )
        looking.execute("ANALYZE weir.rule, weir.rule_version")


def believed_rules(database: Database) -> float:
    """How many rules the planner thinks there are."""
    return float(database.query("SELECT reltuples FROM pg_class WHERE oid = 'weir.rule'::regclass")[0][0])


def test_workers_load_very_many_rules_that_the_planner_does_not_know_of(database: Database) -> None:
    add_rules_that_count_as_none(database)

    async def load() -> RuleBook:
        book = RuleBook()
        url = database.writer_url
        async with (
            open_pool(url, DatabaseRole.WRITER, statement_timeout_ms=STATEMENT_LIMIT_MS) as pool,
            pool.connection() as connection,
        ):
            await book.refresh(connection)
        return book

    assert believed_rules(database) == 0
    assert len(asyncio.run(load()).changed) == RULES


def test_a_worker_whose_statement_took_too_long_tells_the_planner_what_is_there(database: Database) -> None:
    add_rules_that_count_as_none(database)
    database.query("SELECT pg_stat_reset()")  # forgets when they were analysed

    async def refresh() -> list[str]:
        async with open_pool(database.writer_url, DatabaseRole.WRITER) as pool:
            return await refresh_statistics(pool)

    analysed = asyncio.run(refresh())

    assert {"weir.rule", "weir.rule_version", "weir.alert_episode"} <= set(analysed)
    assert believed_rules(database) == RULES
    assert asyncio.run(refresh()) == []  # a moment ago


def test_a_batch_that_took_too_long_refreshes_what_the_planner_believes_and_is_committed(
    database: Database, broker: Broker, topic_prefix: str, new_worker: Callable[..., WorkerProcess]
) -> None:
    tenant = asyncio.run(create_tenant(database))
    database.query(
        "CREATE FUNCTION weir.crawl() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(30); RETURN NEW; END'"
    )
    database.query("CREATE TRIGGER crawl BEFORE INSERT ON weir.sensor_state FOR EACH ROW EXECUTE FUNCTION weir.crawl()")
    worker = new_worker(WEIR_DATABASE_STATEMENT_TIMEOUT_MS="1000")
    ThirdPartyDevice(broker.bootstrap, f"{topic_prefix}readings").send_all(
        tenant.devices[0], [body(reading("2026-10-01T12:00:00.000Z", 1.0))]
    )

    wait_until(lambda: "statistics.refreshed" in worker.log(), 60, "fresh statistics")
    database.query("DROP TRIGGER crawl ON weir.sensor_state")

    wait_until(lambda: database.query("SELECT count(*) FROM readings") == [(1,)], 60, "the reading")
    assert worker.is_alive()
