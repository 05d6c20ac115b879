"""What each database role may not see or do, found by walking the catalogue rather than by trusting a list."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import LiteralString

import psycopg
import pytest
from psycopg import errors, sql

from sinks.timescale.rollups import advance_frontier, refresh
from tests.integration.servers import Database
from tests.integration.store_scene import DAY_MS, HOUR_MS, StoreScene, at, ms, store_scene

pytestmark = pytest.mark.integration

NOON = ms("2026-03-10T12:00")
# In every text and every value of the other tenant; nothing that tenant A may see contains either.
MARK, VALUE = "zebra", 777.125
OTHER = f"tenant-{MARK}"
OTHER_SENSOR = 2
# The other tenant's rows show here when the other tenant asks: so an empty answer to A is not for want of data.
SHOWN_TO_ITSELF = {
    "weir.tenant",
    "weir.device",
    "weir.sensor",
    "weir.api_key",
    "weir.app_user",
    "weir.invitation",
    "weir.audit_entry",
    "weir_tenant.readings",
    "weir_tenant.readings_1m",
    "weir_tenant.readings_1h",
    "weir_tenant.readings_1d",
    "weir_tenant.reading_conflicts",
    "weir_tenant.sensor_states",
    "weir_tenant.quality_hourly",
    "weir_tenant.usage_hourly",
    "weir_tenant.usage_monthly",
    "weir.billing_account",
    "weir_tenant.dead_letters",
    "weir_tenant.refused_readings",
    "weir_tenant.refusal_counts",
    "weir.rule",
    "weir.rule_version",
    "weir.rule_work",
    "weir.alert_episode",
    "weir.alert_history",
    "weir.alert_note",
    "weir_tenant.alert_episodes",
    "weir.site",
    "weir.site_version",
    "weir.unit",
    "weir.unit_version",
    "weir.sensor_assignment",
    "weir.place_work",
    "weir.device_secret",
    "weir_tenant.sites",
    "weir_tenant.units",
    "weir_tenant.devices",
    "weir_tenant.sensors",
    "weir_tenant.sensor_assignments",
    "weir.scan",
    "weir.scan_file",
    "weir.scan_result",
    "weir.scan_export",
    "weir_tenant.scans",
    "weir_tenant.scan_frames",
    "weir_tenant.scan_conflicts",
    "weir_tenant.scan_files",
    "weir_tenant.scan_results",
    "weir_tenant.scan_exports",
}
PARTLY_SHOWN: dict[str, LiteralString] = {
    "weir.api_key": "SELECT count(api_key_id) FROM weir.api_key",
    "weir.device_secret": "SELECT count(secret_id) FROM weir.device_secret",
}

# Everything outside the system's own schemas of which the reader may select any column, with those columns.
SELECTABLE = """
SELECT n.nspname, c.relname, array_agg(a.attname ORDER BY a.attnum)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relkind IN ('r', 'v', 'm', 'p', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
  AND has_schema_privilege('weir_reader', n.oid, 'USAGE') AND has_column_privilege('weir_reader', c.oid, a.attnum, 'SELECT')
GROUP BY 1, 2 ORDER BY 1, 2
"""
READER_FUNCTIONS = """
SELECT n.nspname, p.proname, coalesce(p.proargnames[:p.pronargs], '{}'), p.proargtypes::regtype[]::text[]
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = 'weir_tenant' AND has_function_privilege('weir_reader', p.oid, 'EXECUTE') AND p.provolatile <> 'v'
ORDER BY 1, 2
"""


@dataclass(frozen=True)
class Relation:
    """Something that can be selected from."""

    schema: str
    name: str
    columns: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)

    def select(self) -> sql.Composed:
        """All visible columns of all visible rows, as text."""
        columns = [sql.SQL("{}::text").format(sql.Identifier(column)) for column in self.columns]
        return sql.SQL("SELECT {} FROM {}").format(sql.SQL(", ").join(columns), self.identifier)


def run_scene(database: Database, act: Callable[[StoreScene], Awaitable[None]]) -> None:
    """Run a test on tenant A with sensor 1 and the other tenant with sensor 2, each with a row in every book."""

    async def go() -> None:
        async with store_scene(database) as scene:
            await scene.add_sensors({1: "A", OTHER_SENSOR: OTHER})
            await scene.close_hours_before(NOON)
            await _fill(scene)
            await act(scene)

    asyncio.run(go())


async def _fill(scene: StoreScene) -> None:
    """Stored, marked and open hours, and what surrounds readings."""
    await scene.write((1, NOON, 0, 1.0), (OTHER_SENSOR, NOON, 0, VALUE), (OTHER_SENSOR, NOON - DAY_MS, 0, VALUE))
    await advance_frontier(scene.writer, NOON + 4 * HOUR_MS)
    await refresh(scene.maintenance, scene.engine, settle_s=0)
    await scene.write((OTHER_SENSOR, NOON + 1, 0, VALUE), (OTHER_SENSOR, NOON + 3 * HOUR_MS, 0, VALUE))
    await scene.admin("UPDATE weir.sensor SET sensor_id = %s, name = %s WHERE sensor_no = 2", f"sen-{MARK}", MARK)
    await scene.admin("UPDATE weir.device SET name = %s WHERE tenant_id = %s", MARK, OTHER)
    for statement in (
        "INSERT INTO weir.device_secret (device_id, sealed) VALUES ('dev-tenant-zebra', 'zebra')",
        "INSERT INTO weir.api_key (api_key_id, tenant_id, name, digest, last_four, scopes)"
        " VALUES ('key-zebra', 'tenant-zebra', 'zebra', 'zebra', 'abcd', '{}')",
        "INSERT INTO weir.reading_conflict VALUES (2, '2026-03-10T12:00Z', 0, 777.125, now())",
        "INSERT INTO weir.sensor_state VALUES (2, '2026-03-10T12:00Z', 0, 777.125, now(), 1)",
        "INSERT INTO weir.quality_hourly VALUES (2, '2026-03-10T12:00Z', 1, 1)",
        "INSERT INTO weir.usage VALUES ('tenant-zebra', 'readings', '2026-03-10T12:00Z', 3, 1)",
        # Nothing of A's own differs, so that only the other's differences could be told.
        "INSERT INTO weir.usage SELECT s.*, 1 FROM weir.stored_usage(ARRAY['A'], '-infinity', 'infinity') s",
        "INSERT INTO weir.billing_account (tenant_id, customer_id) VALUES ('tenant-zebra', 'cus-zebra')",
        "INSERT INTO weir.dead_letter_record VALUES ('readings', 'id', 0, 0, 'zebra', 'zebra', '[]', 1)",
        'INSERT INTO weir.dead_letter (tenant_id, device_id, sensor, reason, detail, topic, topic_identity, partition, "offset",'
        " refused_at) VALUES ('tenant-zebra', 'dev-zebra', 'zebra', 'invalid_value', 'zebra', 'readings', 'id', 0, 0, now())",
        "INSERT INTO weir.refusal_count VALUES (now(), 'dev-zebra', 'invalid_value', 'tenant-zebra', 1, 1, 0, 0, 'readings', 0)",
        "INSERT INTO weir.rule (rule_no, rule_id, tenant_id) OVERRIDING SYSTEM VALUE VALUES (7, 'rul-zebra', 'tenant-zebra')",
        "INSERT INTO weir.rule_version VALUES (7, 1, now(), '{\"name\": \"zebra\"}', now(), 'zebra')",
        "INSERT INTO weir.rule_work (rule_no, tenant_id, from_at) VALUES (7, 'tenant-zebra', now())",
        "INSERT INTO weir.alert_episode (alert_id, tenant_id, sensor_no, rule_no, severity, status, started_at, peak_at,"
        " peak_value, proven_ms, possible_ms, historical)"
        " VALUES ('alt-zebra', 'tenant-zebra', 2, 7, 'minor', 'firing', now(), now(), 777.125, 0, 0, false)",
        "INSERT INTO weir.alert_history VALUES ('alt-zebra', 1, now(), '{\"alert_id\": \"alt-zebra\"}')",
        "INSERT INTO weir.alert_note (alert_id, kind, author, note) VALUES ('alt-zebra', 'comment', 'zebra', 'zebra')",
        "INSERT INTO weir.site (site_id, tenant_id, name, timezone) VALUES ('sit-zebra', 'tenant-zebra', 'zebra', 'UTC')",
        "INSERT INTO weir.site_version VALUES ('sit-zebra', now(), 'tenant-zebra', 'UTC', '{}')",
        "INSERT INTO weir.unit (unit_id, tenant_id, site_id, name, kind)"
        " VALUES ('uni-zebra', 'tenant-zebra', 'sit-zebra', 'zebra', 'fridge')",
        "INSERT INTO weir.unit_version VALUES ('uni-zebra', '2010-01-01T00:00Z', 'tenant-zebra', 'sit-zebra', 'fridge', '{}')",
        "INSERT INTO weir.sensor_assignment VALUES (2, now(), 'tenant-zebra', 'uni-zebra', 'sit-zebra')",
        "INSERT INTO weir.place_work (tenant_id, sensor_no, from_at) VALUES ('tenant-zebra', 2, now())",
        "INSERT INTO weir.app_user (user_id, tenant_id, email, name, role)"
        " VALUES ('usr-zebra', 'tenant-zebra', 'zebra@zebra.example', 'zebra', 'owner')",
        "INSERT INTO weir.invitation (invitation_id, tenant_id, email, role, digest, invited_by, expires_at)"
        " VALUES ('inv-zebra', 'tenant-zebra', 'zebra@z.example', 'staff', 'zebra', 'usr-zebra', now())",
        "INSERT INTO weir.scan (scan_no, scan_id, tenant_id, name, created_at) OVERRIDING SYSTEM VALUE"
        " VALUES (7, 'sca-zebra', 'tenant-zebra', 'zebra', '2026-03-10T12:00Z')",
        "INSERT INTO weir.scan_frame (scan_no, seq, type, bytes, sha256, object_key, received_at)"
        " VALUES (7, 0, 'depth', 1, 'zebra', 'zebra', now())",
        "INSERT INTO weir.scan_conflict VALUES (7, 0, 'zebra', 'depth', 1, 'zebra', now())",
        "INSERT INTO weir.scan_file (scan_no, tenant_id, file_id) VALUES (7, 'tenant-zebra', 'zebra')",
        "INSERT INTO weir.scan_result VALUES (7, 'tenant-zebra', 1, '{\"verdict\": \"zebra\"}', false)",
        "INSERT INTO weir.scan_export VALUES (7, 'tenant-zebra', 'ply', 1, 'zebra', 'zebra')",
        "INSERT INTO weir.operator_alarm (kind, subject, detail) VALUES ('refusals', 'dev-zebra', 'zebra')",
        "ANALYZE",
    ):
        await scene.admin(statement)


async def as_reader(database: Database, tenant: str | None) -> psycopg.AsyncConnection[tuple[object, ...]]:
    """A session of the reader; the tenant's setting as given, or never made."""
    connection = await psycopg.AsyncConnection.connect(database.reader_url, autocommit=True)
    await connection.execute("SET ROLE weir_reader")
    if tenant is not None:
        await connection.execute("SELECT set_config('weir.tenant', %s, false)", (tenant,))
    return connection


def tells_of_the_other(text: object) -> bool:
    return MARK in str(text) or str(VALUE) in str(text) or MARK.encode().hex() in str(text)


async def relations_that_tell(scene: StoreScene, tenant: str | None) -> set[str]:
    """Names of the relations in which the reader finds anything of the other tenant without asking for it by name."""
    relations = [Relation(schema, name, tuple(names)) for schema, name, names in await scene.admin(SELECTABLE)]
    found = set()
    async with await as_reader(scene.database, tenant) as connection:
        for relation in relations:
            rows = await (await connection.execute(relation.select())).fetchall()
            if tells_of_the_other(rows):
                found.add(str(relation))
    return found


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


# How to call whatever function there is; the sensor is the other tenant's.
ARGUMENTS = {
    "p_sensor_no": OTHER_SENSOR,
    "p_sensor_nos": [OTHER_SENSOR],
    "p_resolution": "1h",
    "p_start": at(NOON - 2 * DAY_MS),
    "p_end": at(NOON + 2 * DAY_MS),
    "p_before": at(NOON + 2 * DAY_MS),
    "p_from": at(NOON - 2 * DAY_MS),
    "p_to": at(NOON + 2 * DAY_MS),
    "p_limit": 1000,
    "p_after_at": None,
    "p_after_seq": None,
    "p_after_no": None,
    "p_scan_id": "sca-zebra",
    "p_statuses": None,
    "p_device_id": None,
}


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


PLACES_WRITTEN = (
    "SELECT weir.record_site('sit-zebra', 2, 'mine', 'UTC', '{}', false, NULL) IS NOT NULL",
    "SELECT weir.record_unit('uni-zebra', 2, 'mine', 'fridge', NULL, '{}', false, NULL) IS NOT NULL",
    "SELECT weir.assign_sensor('sen-zebra', 'uni-zebra', NULL, '2020-01-01T00:00Z')",
    "SELECT weir.rotate_device_secret('dev-tenant-zebra', 'mine', '1 hour') IS NOT NULL",
    "SELECT weir.revoke_device_secret('dev-tenant-zebra', (SELECT min(secret_id) FROM weir.device_secret))",
    "SELECT weir.revoke_device('dev-tenant-zebra')",
)
SCANS_WRITTEN = (
    "SELECT weir_tenant.complete_scan('sca-zebra', NULL) IS NOT NULL",
    "SELECT weir_tenant.cancel_scan('sca-zebra') IS NOT NULL",
    "SELECT weir_tenant.retry_scan('sca-zebra') IS NOT NULL",
)


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
