"""`GET /v1/sensors/…/readings` among a million rows: an answer costs what it shows, not what is stored."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import psycopg
import pytest

from tests.integration.api_scene import Client, add_sensor, new_tenant
from tests.integration.servers import Database, Tenant

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def tenant(database: Database) -> Tenant:
    return new_tenant(database)


@pytest.fixture(scope="module")
def million(database: Database, tenant: Tenant) -> tuple[int, str]:
    """A month of a million readings whose roll-ups are stored, among those of a neighbour."""
    if database.engine.value != "plain":
        pytest.skip("the row counters that this test reads are plain PostgreSQL's")
    sensor_no, sensor_id = add_sensor(database, tenant, "month")
    neighbour_no, _ = add_sensor(database, tenant, "neighbour")
    with psycopg.connect(database.admin_url, autocommit=True) as connection:
        connection.execute(
            "SELECT weir.ensure_partition(day) FROM generate_series('2026-10-01Z'::timestamptz, '2026-10-31Z', '1 day') day"
        )
        connection.execute(
            # 30 d / 1 000 000 = 2.592 s
            "INSERT INTO weir.reading (sensor_no, seq, at, value, received_at)"
            " SELECT s, 0, t, n %% 1000, t FROM generate_series(0, 999999) n, unnest(%s::integer[]) s,"
            " LATERAL (SELECT '2026-10-01Z'::timestamptz + n * interval '2.592 s' AS t) t WHERE s = %s OR n %% 20 = 0",
            ([sensor_no, neighbour_no], sensor_no),
        )
        connection.execute(
            "SELECT weir.refresh_block(b, ARRAY(SELECT day + h * interval '1 hour' FROM generate_series(0, 23) h))"
            " FROM generate_series('2026-10-01Z'::timestamptz, '2026-10-30Z', '1 day') day,"
            " (SELECT DISTINCT sensor_no >> 6 AS b FROM weir.sensor) blocks"
        )
    return sensor_no, sensor_id


MONTH: dict[str, Any] = {"start": "2026-10-01T00:00:00Z", "end": "2026-10-31T00:00:00Z"}


def test_a_month_by_the_hour_touches_no_raw_row_of_a_million(
    api: Client, database: Database, tenant: Tenant, million: tuple[int, str]
) -> None:
    sensor_no, sensor_id = million

    items = api.get(f"/v1/sensors/{sensor_id}/readings", resolution="1h", **MONTH)["items"]

    assert len(items) == 720
    assert sum(item["count"] for item in items) == 1_000_000
    assert {item["count"] for item in items} == {1_388, 1_389}  # 3600 s / 2.592 s = 1388.9
    hour = rows_read(database, tenant, "1h", sensor_no)
    assert hour["reading"] == 0
    assert 720 <= hour["rollup_1h"] <= 721
    raw = rows_read(database, tenant, "raw", sensor_no)  # the counter does count
    assert raw["reading"] >= 1_000


def rows_read(database: Database, tenant: Tenant, resolution: str, sensor_no: int) -> dict[str, int]:
    """Rows that the API's own query fetched, by table, partitions under their parent's name."""
    query = (
        "SELECT count(*) FROM weir_tenant.sensor_raw(%s, %s, %s, NULL, NULL, 1000)"
        if resolution == "raw"
        else "SELECT count(*) FROM weir_tenant.sensor_rollup(%s, '1h', %s, %s, 1001)"
    )
    with psycopg.connect(database.admin_url) as connection:
        connection.execute("SET LOCAL ROLE weir_reader")
        connection.execute("SELECT set_config('weir.tenant', %s, true)", (tenant.tenant_id,))
        connection.execute(query, (sensor_no, MONTH["start"], MONTH["end"]))
        rows = connection.execute(
            "SELECT regexp_replace(relname, '^reading_\\d+$', 'reading'), sum(seq_tup_read + coalesce(idx_tup_fetch, 0))::bigint"
            " FROM pg_stat_xact_all_tables WHERE schemaname = 'weir' GROUP BY 1"
        ).fetchall()
    return dict(rows)


def test_a_keyset_page_in_the_middle_of_a_million_reads_only_its_own_rows(
    api: Client, million: tuple[int, str]
) -> None:
    _, sensor_id = million
    path = f"/v1/sensors/{sensor_id}/readings"

    first = api.get(path, limit=10_000, **MONTH)
    second = api.get(path, limit=10_000, cursor=first["next"])

    times = [item["at"] for item in first["items"] + second["items"]]
    assert len(times) == 20_000
    assert all(a < b for a, b in pairwise(times))
    assert times[0] == "2026-10-01T00:00:00.000Z"
    assert times[10_000] == "2026-10-01T07:12:00.000Z"  # 10 000 × 2.592 s = 25 920 s
