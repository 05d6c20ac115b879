"""Two tenants with a row in every book, and all that the reader's role can select: what the catalogue says, not a list."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import LiteralString

import psycopg
from psycopg import sql

from sinks.timescale.rollups import advance_frontier, refresh
from tests.integration.servers import Database
from tests.integration.store_scene import DAY_MS, HOUR_MS, StoreScene, at, ms, store_scene

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
    "weir.tenant_job",
    "weir_tenant.jobs",
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
