"""The bill is the data: usage recounted from the stored rows, for operators, over HTTP and on the command line."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from api import usage_models
from core.clock import now_ms
from ops.embedded.postgres import EmbeddedPostgres
from schemas import rfc3339
from schemas.usage import DAY_MS, HOUR_MS
from sinks.timescale import retention
from sinks.timescale.migrate import Engine
from tests.commands import weir
from tests.integration.api_scene import api_settings, client, serving
from tests.integration.metering_scene import MeteringScene, Reading, run_scene
from tests.integration.servers import Database, Tenant, create_tenant, fresh_database
from tests.integration.store_scene import MINUTE_MS, at, ms, store_scene

pytestmark = pytest.mark.integration

NOON = ms("2026-03-10T12:00")


@pytest.fixture(scope="module")
def database(postgres: EmbeddedPostgres, engine: Engine) -> Iterator[Database]:
    with fresh_database(postgres.superuser_url, engine) as database:
        yield database


@pytest.fixture(scope="module")
def url(database: Database) -> Iterator[str]:
    with serving(api_settings(database.reader_url)) as url:
        yield url


def metered(database: Database, *readings: Reading) -> Tenant:
    """A tenant whose readings came through the pipeline."""
    tenant = asyncio.run(create_tenant(database))

    async def act(scene: MeteringScene) -> None:
        await scene.publish(tenant.devices[0], readings)

    run_scene(database, act)
    return tenant


def drift(database: Database, tenant: Tenant) -> list[tuple[Any, ...]]:
    return database.query(
        "SELECT meter, bucket_start, stored, metered, difference FROM usage_drift WHERE tenant_id = %s ORDER BY 1, 2",
        tenant.tenant_id,
    )


HOURLY: list[Reading] = [("air", NOON + n * HOUR_MS + k * MINUTE_MS, 1.0) for n in range(30) for k in (0, 7)]
GAPS: list[Reading] = [("door", NOON + n * HOUR_MS, 1.0) for n in (0, 1, 5, 40, 63, 64, 100)]


def test_what_the_pipeline_metered_is_what_is_stored(database: Database) -> None:
    tenant = metered(database, *HOURLY, *GAPS)

    assert drift(database, tenant) == []
    # Hours with readings: 30 and 4 more. Active: 0-87 (air until 52, door until 28, 63, 86, 87) and 100-123.
    counts = "SELECT meter, count(*) FROM weir.usage WHERE tenant_id = %s GROUP BY 1 ORDER BY 1"
    assert database.query(counts, tenant.tenant_id) == [("active_sensors", 112), ("readings", 34)]


def test_a_row_that_vanished_and_one_that_was_not_metered_show_in_every_hour_they_count_in(database: Database) -> None:
    tenant = metered(database, *HOURLY)
    ((sensor_no,),) = database.query("SELECT sensor_no FROM weir.sensor WHERE tenant_id = %s", tenant.tenant_id)
    database.query("DELETE FROM weir.reading WHERE sensor_no = %s AND at = %s", sensor_no, at(NOON + 7 * MINUTE_MS))
    assert drift(database, tenant) == [("readings", at(NOON), 1, 2, 1)]

    database.query("INSERT INTO weir.reading VALUES (%s, 0, %s, 1, now())", sensor_no, at(NOON - 2 * HOUR_MS))
    assert drift(database, tenant) == [
        ("active_sensors", at(NOON - 2 * HOUR_MS), 1, 0, -1),
        ("active_sensors", at(NOON - HOUR_MS), 1, 0, -1),
        ("readings", at(NOON - 2 * HOUR_MS), 1, 0, -1),
        ("readings", at(NOON), 1, 2, 1),
    ]


def test_a_span_is_recounted_with_what_reaches_into_it(database: Database) -> None:
    tenant = metered(database, *HOURLY)
    database.query(
        "UPDATE weir.usage SET quantity = 7 WHERE tenant_id = %s AND meter = 'active_sensors'", tenant.tenant_id
    )

    rows = database.query(
        "SELECT bucket_start, stored, metered FROM usage_drift_between(%s, %s) WHERE tenant_id = %s ORDER BY 1",
        at(NOON + 50 * HOUR_MS),
        at(NOON + 60 * HOUR_MS),
        tenant.tenant_id,
    )

    # The last reading is of hour 29, so the sensor is active up to hour 52.
    assert rows == [(at(NOON + n * HOUR_MS), 1, 7) for n in (50, 51, 52)]


def test_readings_that_retention_let_go_stay_metered_and_compared(postgres: EmbeddedPostgres, engine: Engine) -> None:
    with fresh_database(postgres.superuser_url, engine) as database:
        start = now_ms() // DAY_MS * DAY_MS - 20 * DAY_MS
        tenant = metered(database, *[("air", start + n * 6 * HOUR_MS, 1.0) for n in range(72)])
        database.query("UPDATE weir.tenant SET raw_retention = '10 days'")
        before = database.query("SELECT * FROM weir.usage ORDER BY 1, 2, 3")

        async def let_go() -> None:
            async with store_scene(database) as scene:
                await scene.refresh_all()
                await retention.advance_horizons(scene.maintenance, now_ms())
                await retention.drop_expired(scene.maintenance, scene.engine)

        asyncio.run(let_go())

        [(left,)] = database.query("SELECT count(*) FROM weir.reading")
        assert 0 < left < 72
        assert database.query("SELECT * FROM weir.usage ORDER BY 1, 2, 3") == before
        assert drift(database, tenant) == []
        first = database.query("SELECT min(bucket_start) FROM usage_hourly WHERE meter = 'readings'")[0][0]
        database.query("UPDATE weir.usage SET quantity = 5 WHERE bucket_start = %s AND meter = 'readings'", first)
        assert drift(database, tenant) == [("readings", first, 1, 5, 4)]


class TestOverHttp:
    def test_usage_by_hour_day_and_month(self, database: Database, url: str) -> None:
        tenant = metered(database, *HOURLY)
        span: dict[str, Any] = {"start": "2026-03-10T12:30:00Z", "end": "2026-03-12T00:00:00Z"}
        with client(url, tenant.api_key) as api:
            page = api.get("/v1/usage", **span)
            usage_models.UsagePage.model_validate(page)
            hourly = api.walk("/v1/usage", **span, limit=7)
            daily = api.walk("/v1/usage", **span, bucket="day", limit=1)
            monthly = api.walk("/v1/usage", start="2026-03-31T00:00:00Z", end="2026-04-01T00:00:00Z", bucket="month")

        row = {"tenant_id": tenant.tenant_id, "revision": 1}
        assert hourly == page["items"]
        assert [one for one in hourly if one["meter"] == "readings"] == [
            row | {"meter": "readings", "bucket_start": rfc3339.format_ms(NOON + n * HOUR_MS), "quantity": 2}
            for n in range(30)
        ]
        first, second = "2026-03-10T00:00:00.000Z", "2026-03-11T00:00:00.000Z"
        active = {"meter": "active_sensors", "quantity": 1, "sensor_days": 1}
        assert daily == [
            row | active | {"bucket_start": first},
            row | {"meter": "readings", "bucket_start": first, "quantity": 24, "revision": 12},
            row | active | {"bucket_start": second},
            row | {"meter": "readings", "bucket_start": second, "quantity": 36, "revision": 18},
        ]
        march = {"bucket_start": "2026-03-01T00:00:00.000Z"}
        assert monthly == [
            row | march | {"meter": "active_sensors", "quantity": 1, "sensor_days": 2},
            row | march | {"meter": "readings", "quantity": 60, "revision": 30},
        ]

    def test_differences_are_the_tenants_own(self, database: Database, url: str) -> None:
        tenant, other = metered(database, *HOURLY), metered(database, *HOURLY)
        for one in (tenant, other):
            database.query(
                "UPDATE weir.usage SET quantity = 9 WHERE tenant_id = %s AND meter = 'readings'", one.tenant_id
            )
        with client(url, tenant.api_key) as api:
            page = api.get("/v1/usage/reconciliation", limit=29)
            usage_models.ReconciliationPage.model_validate(page)
            found = api.walk("/v1/usage/reconciliation", limit=29)
            some = api.walk("/v1/usage/reconciliation", start=rfc3339.format_ms(NOON), end=rfc3339.format_ms(NOON + 1))

        assert len(found) == 30
        assert {one["tenant_id"] for one in found} == {tenant.tenant_id}
        assert some == found[:1]
        assert (some[0]["stored"], some[0]["metered"], some[0]["difference"]) == (2, 9, 7)

    def test_an_empty_interval_is_refused(self, database: Database, url: str) -> None:
        with client(url, metered(database, *GAPS).api_key) as api:
            problem = api.get("/v1/usage", start="2026-03-11T00:00:00Z", end="2026-03-11T00:00:00Z", status=422)

        assert problem["errors"][0]["parameter"] == "start"

    def test_an_empty_answer_means_that_all_agree(self, database: Database, url: str) -> None:
        tenant = metered(database, *HOURLY)
        with client(url, tenant.api_key) as api:
            assert api.get("/v1/usage/reconciliation") == {"items": [], "next": None}


class TestOnTheCommandLine:
    @staticmethod
    def reconcile(database: Database, *words: str) -> subprocess.CompletedProcess[str]:
        return weir("reconcile", *words, WEIR_DATABASE_URL=database.operator_url)

    def test_it_ends_with_1_where_anything_differs_and_0_where_all_agree(self, database: Database) -> None:
        tenant: Tenant = metered(database, ("air", ms("2027-01-10T12:00") - 365 * DAY_MS, 1.0))
        database.query(
            "UPDATE weir.usage SET quantity = 3 WHERE tenant_id = %s AND meter = 'readings'", tenant.tenant_id
        )

        differing = self.reconcile(database, "--from", "2026-01-10T12:59:00Z", "--to", "2026-01-10T12:01:00Z", "--json")
        agreeing = self.reconcile(database, "--from", "2026-01-10T13:00:00Z", "--to", "2026-01-11")

        assert differing.returncode == 1, differing.stderr
        [line] = differing.stdout.splitlines()
        assert json.loads(line) == {
            "tenant_id": tenant.tenant_id,
            "meter": "readings",
            "bucket_start": "2026-01-10T12:00:00.000Z",
            "stored": 1,
            "metered": 3,
            "pushed": None,
            "adjusted": None,
            "stripe": None,
            "difference": 2,
            "explanation": "more was metered than is stored",
        }
        assert (agreeing.returncode, agreeing.stdout.strip()) == (0, "all agree"), agreeing.stderr

    def test_a_time_that_is_none_is_wrong_usage(self, database: Database) -> None:
        refused = self.reconcile(database, "--from", "yesterday")

        assert refused.returncode == 2
        assert "--from yesterday" in refused.stderr
