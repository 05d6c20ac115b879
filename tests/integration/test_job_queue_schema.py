"""procrastinate's tables in `weir_jobs`: made whole, upgraded file by file, and a version that does not fit is noticed."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from ops.embedded.postgres import EmbeddedPostgres
from schemas.errors import Misconfigured
from sinks.timescale import job_queue
from sinks.timescale.job_queue import install_job_queue, library_files, library_version
from sinks.timescale.migrate import migrate
from tests.integration.job_scene import prepare, put, quick, running_worker, wait_for_state
from tests.integration.servers import Database

pytestmark = pytest.mark.integration

# Functions without their comments and spacing, columns, indexes and triggers: what two queues must have in common.
_SHAPE = """
    SELECT 'column', table_name || '.' || column_name, data_type || coalesce(column_default, '') || is_nullable
    FROM information_schema.columns WHERE table_schema = 'weir_jobs'
    UNION ALL SELECT 'index', indexname, indexdef FROM pg_indexes WHERE schemaname = 'weir_jobs'
    UNION ALL SELECT 'function', oid::regprocedure::text, proconfig::text || proacl::text
    FROM pg_proc WHERE pronamespace = 'weir_jobs'::regnamespace
    UNION ALL SELECT 'trigger', tgname, tgrelid::regclass::text FROM pg_trigger
    WHERE tgrelid::regclass::text LIKE 'weir_jobs.procrastinate%' AND NOT tgisinternal
    UNION ALL SELECT 'applied', name, '' FROM weir_jobs.applied_file
    ORDER BY 1, 2, 3
    """


@pytest.fixture
def admin(database: Database) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    with psycopg.connect(database.admin_url, autocommit=True) as connection:
        yield connection


def _as_of_an_older_version(admin: psycopg.Connection[tuple[object, ...]], files: dict[str, str]) -> None:
    """A queue as a database has it that was made when only these files existed."""
    admin.execute("DROP SCHEMA weir_jobs CASCADE")
    admin.execute("CREATE SCHEMA weir_jobs AUTHORIZATION weir_owner")
    for name, text in files.items():
        job_queue._apply(admin, text, [name])


def test_an_older_queue_is_upgraded_by_the_files_it_lacks(
    database: Database, admin: psycopg.Connection[tuple[object, ...]]
) -> None:
    made_whole = admin.execute(_SHAPE).fetchall()
    older = {name: text for name, text in library_files().items() if name < "03.04"}
    _as_of_an_older_version(admin, older)

    applied = migrate(database.admin_url).job_queue

    assert applied == (
        "procrastinate 03.04.00_01_pre_add_retry_failed_job_procedure.sql",
        "procrastinate 03.04.00_50_post_add_retry_failed_job_procedure.sql",
    )
    assert admin.execute(_SHAPE).fetchall() == made_whole
    assert migrate(database.admin_url).job_queue == ()


def test_an_upgraded_queue_works(database: Database, admin: psycopg.Connection[tuple[object, ...]]) -> None:
    _as_of_an_older_version(admin, {name: text for name, text in library_files().items() if name < "03.04"})
    migrate(database.admin_url)
    prepare(database)
    put(database, "a", fail_times=1)

    with running_worker(quick(database)):
        wait_for_state(database, "succeeded")


def test_a_queue_of_a_newer_version_is_left_alone(admin: psycopg.Connection[tuple[object, ...]]) -> None:
    admin.execute("INSERT INTO weir_jobs.applied_file VALUES ('99.00.00_01_pre_x.sql', '99.0.0')")

    with pytest.raises(Misconfigured, match=r"made by a newer procrastinate \(99\.00\.00_01_pre_x\.sql\)"):
        install_job_queue(admin)


def test_what_made_a_queue_is_written_down(postgres: EmbeddedPostgres, database: Database) -> None:
    rows = database.query("SELECT name, version FROM weir_jobs.applied_file ORDER BY name")

    assert rows == [(name, library_version()) for name in library_files()]


def test_the_owner_owns_it_and_only_the_writer_works_with_it(database: Database) -> None:
    owners = database.query("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'weir_jobs'")
    users = database.query(
        "SELECT rolname FROM pg_roles WHERE rolname LIKE 'weir%%' AND rolname <> 'weir_owner'"
        " AND has_schema_privilege(rolname, 'weir_jobs', 'USAGE')"
    )

    assert owners == [("weir_owner",)]
    assert users == [("weir_writer",)]


def test_the_tables_may_be_touched_under_any_search_path(database: Database) -> None:
    prepare(database)
    put(database, "a")

    database.query("UPDATE weir_jobs.procrastinate_jobs SET status = 'cancelled'")
    database.query("DELETE FROM weir_jobs.procrastinate_jobs")

    assert database.query("SELECT count(*) FROM jobs") == [(0,)]
