"""What each database role may do: the reader reads, the writer writes rows, and only the owner's functions do more."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors

from tests.integration.servers import Database

pytestmark = pytest.mark.integration

ROLES = ["weir_owner", "weir_writer", "weir_reader", "weir_operator"]


# What the API writes by itself, each under a policy that keeps it within the tenant; the rest is for functions of the owner.
WRITABLE = {
    "weir.api_key": {"INSERT", "UPDATE"},
    "weir.app_user": {"INSERT", "UPDATE", "DELETE"},
    "weir.device": {"UPDATE"},
    "weir.invitation": {"INSERT", "UPDATE"},
    "weir.scan_upload": {"DELETE"},
    "weir.sensor": {"UPDATE"},
    "weir.tenant": {"UPDATE"},
}


def test_the_reader_writes_only_relations_that_a_policy_keeps_within_the_tenant(database: Database) -> None:
    writable = database.query(
        "SELECT c.oid::regclass::text, array_agg(p) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " CROSS JOIN unnest('{INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER}'::text[]) AS p"
        " WHERE c.relkind IN ('r', 'v', 'm', 'p', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema')"
        " AND (has_table_privilege('weir_reader', c.oid, p) OR p IN ('INSERT', 'UPDATE', 'REFERENCES')"
        " AND has_any_column_privilege('weir_reader', c.oid, p)) GROUP BY c.oid"
    )
    assert {name: set(privileges) for name, privileges in writable} == WRITABLE
    unguarded = database.query(
        "SELECT c.oid::regclass::text FROM pg_class c WHERE c.oid = ANY (%s::regclass[]) AND NOT (c.relrowsecurity AND EXISTS"
        " (SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND 'weir_reader'::regrole = ANY (p.polroles)"
        " AND pg_get_expr(p.polqual, p.polrelid) = '(tenant_id = weir.current_tenant())'))",
        list(WRITABLE),
    )
    assert unguarded == []


def test_the_reader_cannot_write_beside_that(database: Database) -> None:
    with psycopg.connect(database.reader_url, autocommit=True) as connection:
        connection.execute("SET ROLE weir_reader")
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute("INSERT INTO weir.sensor DEFAULT VALUES")
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute("SELECT weir.begin_batch('readings', 0, 'id', 0, 1)")


# What people change through functions of the owner.
CHANGED_BY_FUNCTIONS = {
    "weir.alert_note",
    "weir.device_secret",
    "weir.rule_version",
    "weir.sensor_assignment",
    "weir.site",
    "weir.site_version",
    "weir.unit",
    "weir.unit_version",
    "weir.user_session",
}


def test_everything_that_people_change_is_in_the_audit_log(database: Database) -> None:
    unaudited = database.query(
        "SELECT c.oid::regclass::text FROM pg_class c WHERE c.oid = ANY (%s::regclass[]) AND NOT EXISTS"
        " (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgname = 'audit')",
        [*WRITABLE, *CHANGED_BY_FUNCTIONS],
    )
    assert unaudited == [], (
        "add to a migration: CREATE TRIGGER audit … EXECUTE FUNCTION weir.audit_row(kind, id column)"
    )


ASKING_FOR_THE_TENANT = {
    "weir.assign_sensor",
    "weir.handle_alert",
    "weir.post_message",
    "weir.record_rule",
    "weir.record_site",
    "weir.record_unit",
    "weir.register_device",
    "weir.remember_customer",
    "weir.revoke_device",
    "weir.revoke_device_secret",
    "weir.rotate_device_secret",
    "weir.welcome_user",
}
# These tell and take numbers and ids, nothing of what tenants store; a provider's event is kept and never shown.
ACROSS_TENANTS = {"weir.live_heads", "weir.receive_billing_event", "weir.refusals_by_reason", "weir.want_live"}
# These take a digest, a session's id or an e-mail address, and answer with what belongs to it.
BEFORE_ANY_TENANT = {
    "weir.accept_invitation",
    "weir.change_password",
    "weir.confirm_password_reset",
    "weir.device_credentials",
    "weir.end_session",
    "weir.find_api_key",
    "weir.find_login",
    "weir.find_session",
    "weir.request_password_reset",
    "weir.rotate_refresh_token",
    "weir.start_session",
}


def test_the_reader_runs_as_owner_only_what_asks_for_the_tenant_or_needs_none(database: Database) -> None:
    runnable = database.query(
        "SELECT p.pronamespace::regnamespace || '.' || p.proname FROM pg_proc p"
        " WHERE p.prosecdef AND p.prorettype <> 'trigger'::regtype AND p.pronamespace::regnamespace::text ~ '^(weir.*|public)$'"
        " AND has_function_privilege('weir_reader', p.oid, 'EXECUTE')"
    )
    outside = {name for (name,) in runnable if not name.startswith("weir_tenant.")}
    assert outside == ASKING_FOR_THE_TENANT | BEFORE_ANY_TENANT | ACROSS_TENANTS


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE weir.mine (x integer)",
        "CREATE TABLE public.mine (x integer)",
        "CREATE VIEW weir.mine AS SELECT 1",
        "CREATE FUNCTION weir.mine() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
        "CREATE SCHEMA mine",
        "ALTER TABLE weir.reading ADD COLUMN x integer",
        "ALTER TABLE weir.sensor DISABLE ROW LEVEL SECURITY",
        "CREATE INDEX ON weir.reading (value)",
        "DROP TABLE weir.reading_conflict",
        "TRUNCATE weir.reading",
        "CREATE POLICY mine ON weir.tenant USING (true)",
        "ALTER FUNCTION weir.begin_batch OWNER TO weir_writer",
        "SET ROLE weir_owner",
        "SELECT sealed FROM weir.device_secret",
        "SELECT digest FROM weir.api_key",
        "UPDATE weir.tenant SET name = 'x'",
        "UPDATE weir.sensor SET tenant_id = 'x'",
        "DELETE FROM weir.tenant",
    ],
)
def test_the_writer_cannot_change_the_schema_or_read_secrets(database: Database, statement: str) -> None:
    with psycopg.connect(database.writer_url, autocommit=True) as connection:
        connection.execute("SET ROLE weir_writer")
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute(statement.encode())


def test_everything_belongs_to_the_owner(database: Database) -> None:
    foreign = database.query(
        "SELECT 'relation', c.oid::regclass::text FROM pg_class c"
        " WHERE c.relnamespace::regnamespace::text IN ('weir', 'weir_tenant') AND c.relowner <> 'weir_owner'::regrole"
        " UNION ALL SELECT 'function', p.oid::regprocedure::text FROM pg_proc p"
        " WHERE p.pronamespace::regnamespace::text IN ('weir', 'weir_tenant') AND p.proowner <> 'weir_owner'::regrole"
        " UNION ALL SELECT 'type', t.oid::regtype::text FROM pg_type t"
        " WHERE t.typnamespace::regnamespace::text IN ('weir', 'weir_tenant') AND t.typowner <> 'weir_owner'::regrole"
    )
    assert foreign == []


def test_functions_that_run_as_owner_do_not_follow_the_callers_search_path(database: Database) -> None:
    loose = database.query(
        "SELECT p.oid::regprocedure::text FROM pg_proc p"
        " WHERE p.prosecdef AND p.pronamespace::regnamespace::text IN ('weir', 'weir_tenant', 'public')"
        " AND p.proowner = 'weir_owner'::regrole"
        " AND NOT EXISTS (SELECT FROM unnest(p.proconfig) AS c WHERE c LIKE 'search_path=pg_catalog%')"
    )
    assert loose == []


def test_the_group_roles_have_no_powers_of_their_own(database: Database) -> None:
    powers = database.query(
        "SELECT rolname FROM pg_roles WHERE rolname = ANY (%s)"
        " AND (rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication)",
        ROLES,
    )
    assert powers == []
    memberships = database.query(
        "SELECT m.roleid::regrole::text, m.member::regrole::text FROM pg_auth_members m"
        " WHERE m.member::regrole::text = ANY (%s)",
        ROLES,
    )
    assert memberships == []
