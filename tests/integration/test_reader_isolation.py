"""What each database role may not see or do, found by walking the catalogue rather than by trusting a list."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors, sql

from tests.integration.isolation_scene import (
    ARGUMENTS,
    OTHER,
    PARTLY_SHOWN,
    PLACES_WRITTEN,
    READER_FUNCTIONS,
    SCANS_WRITTEN,
    SELECTABLE,
    SHOWN_TO_ITSELF,
    VALUE,
    as_reader,
    relations_that_tell,
    run_scene,
    tells_of_the_other,
)
from tests.integration.servers import Database
from tests.integration.store_scene import StoreScene

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("tenant", ["A", "", None, "nobody", "%", "tenant-zebr_"])
def test_no_query_that_forgets_the_tenant_shows_another_tenants_row(database: Database, tenant: str | None) -> None:
    async def act(scene: StoreScene) -> None:
        assert await relations_that_tell(scene, tenant) == set()

    run_scene(database, act)


def test_a_tenant_sees_its_own_rows_in_every_view(database: Database) -> None:
    async def act(scene: StoreScene) -> None:
        assert await relations_that_tell(scene, OTHER) >= SHOWN_TO_ITSELF

    run_scene(database, act)


def test_without_a_tenant_no_tenants_rows_are_shown(database: Database) -> None:
    async def act(scene: StoreScene) -> None:
        for tenant in ("", None):
            async with await as_reader(scene.database, tenant) as connection:
                for name in sorted(SHOWN_TO_ITSELF):
                    query = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(*name.split(".")))
                    if name in PARTLY_SHOWN:
                        query = sql.SQL(PARTLY_SHOWN[name]).format()
                    assert await (await connection.execute(query)).fetchone() == (0,), name

    run_scene(database, act)


@pytest.mark.parametrize(("tenant", "tells"), [("A", False), ("", False), (None, False), (OTHER, True)])
def test_no_function_tells_a_tenant_of_anothers_sensor(database: Database, tenant: str | None, tells: bool) -> None:
    async def act(scene: StoreScene) -> None:
        telling = set()
        async with await as_reader(scene.database, tenant) as connection:
            for schema, name, names, types in await scene.admin(READER_FUNCTIONS):
                values = [
                    sql.SQL("{}::{}").format(ARGUMENTS[arg], sql.SQL(kind))
                    for arg, kind in zip(names, types, strict=True)
                ]
                call = sql.SQL("SELECT t::text FROM {}({}) t").format(
                    sql.Identifier(schema, name), sql.SQL(", ").join(values)
                )
                rows = await (await connection.execute(call)).fetchall()
                if rows not in ([], [(None,)]):
                    telling.add(name)
        telltales = {
            "own_sensor",
            "sensor_raw",
            "sensor_rollup",
            "sensor_conflicts",
            "reading_times",
            "reading_neighbours",
            "usage_drift",
            "scan_by_id",
            "scan_page",
        }
        assert telling == (telltales if tells else set())

    run_scene(database, act)


def test_a_cheap_function_of_the_readers_own_is_not_shown_rows_that_the_views_hide(database: Database) -> None:
    async def act(scene: StoreScene) -> None:
        heard: list[str] = []
        async with await as_reader(scene.database, "A") as connection:
            connection.add_notice_handler(lambda notice: heard.append(str(notice.message_primary)))
            await connection.execute(
                "CREATE FUNCTION pg_temp.leak(text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001"
                " AS $$ BEGIN RAISE NOTICE 'saw %', $1; RETURN true; END $$"
            )
            for schema, name, names in await scene.admin(SELECTABLE):
                leaks = [sql.SQL("pg_temp.leak({}::text)").format(sql.Identifier(column)) for column in names]
                query = sql.SQL("SELECT FROM {} WHERE {}")
                relation = sql.Identifier(schema, name)
                await connection.execute(query.format(relation, sql.SQL(" AND ").join(leaks)))
        assert any("saw A" in line for line in heard)
        assert not any(tells_of_the_other(line) for line in heard)

    run_scene(database, act)


def test_an_error_cannot_be_provoked_by_a_row_that_is_hidden(database: Database) -> None:
    async def act(scene: StoreScene) -> None:
        for tenant in ("A", OTHER):
            async with await as_reader(scene.database, tenant) as connection:
                query = sql.SQL("SELECT FROM weir_tenant.readings WHERE 1 / (value - {}) > 0").format(VALUE)
                if tenant == "A":
                    await connection.execute(query)
                else:
                    with pytest.raises(errors.DivisionByZero):
                        await connection.execute(query)

    run_scene(database, act)


def test_the_planners_statistics_do_not_tell(database: Database) -> None:
    async def act(scene: StoreScene) -> None:
        async with await as_reader(scene.database, "A") as connection:
            for name in ("pg_stats", "pg_stats_ext", "pg_stats_ext_exprs"):
                query = sql.SQL("SELECT t::text FROM {} t WHERE schemaname <> 'pg_catalog'").format(
                    sql.Identifier(name)
                )
                rows = await (await connection.execute(query)).fetchall()
                assert not tells_of_the_other(rows), name

    run_scene(database, act)


@pytest.mark.parametrize(("tenant", "handled"), [("A", False), ("", False), (None, False), (OTHER, True)])
def test_functions_that_write_for_the_reader_write_for_its_tenant_only(
    database: Database, tenant: str | None, handled: bool
) -> None:
    async def act(scene: StoreScene) -> None:
        async with await as_reader(scene.database, tenant) as connection:
            alert = "SELECT weir.handle_alert('alt-zebra', 'comment', 'me', 'mine', 'alerts') IS NOT NULL"
            rule = "SELECT weir.record_rule('rul-zebra', 2, NULL, NULL, 'me')"
            for call in (alert, rule, *PLACES_WRITTEN, *SCANS_WRITTEN):
                assert await (await connection.execute(call.encode())).fetchone() == (handled,), call
        written = await scene.admin(
            "SELECT (SELECT count(*) FROM weir.alert_note WHERE author = 'me'),"
            " (SELECT count(*) FROM weir.rule_version WHERE recorded_by = 'me'), (SELECT count(*) FROM weir.topic_outbox),"
            " (SELECT count(*) FROM weir.site WHERE name = 'mine'), (SELECT count(*) FROM weir.unit WHERE name = 'mine'),"
            " (SELECT count(*) FROM weir.sensor_assignment WHERE effective_from = '2020-01-01T00:00Z'),"
            " (SELECT count(*) FROM weir.device_secret WHERE sealed = 'mine'),"
            " (SELECT count(*) FROM weir.device WHERE revoked_at IS NOT NULL),"
            " (SELECT count(*) FROM weir.scan WHERE cancelled_at IS NOT NULL)"
        )
        assert written == [(1,) * 9 if handled else (0,) * 9]

    run_scene(database, act)


def test_the_operator_reads_every_view_of_the_interface_to_the_last_column(database: Database) -> None:
    with psycopg.connect(database.operator_url, autocommit=True) as connection:
        connection.execute("SET ROLE weir_operator")
        for view in (
            "readings",
            "reading_conflicts",
            "readings_1m",
            "readings_1h",
            "readings_1d",
            "alert_episodes",
            "usage_hourly",
            "usage_daily",
            "usage_drift",
            "dead_letters",
            "stream_positions",
            "scans",
        ):
            connection.execute(psycopg.sql.SQL("SELECT * FROM {}").format(psycopg.sql.Identifier(view))).fetchall()
