"""Hours are sealed before their rows go, and receipts hold on their own."""

from __future__ import annotations

import asyncio
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest

from core.clock import now_ms
from processors.seals import check_receipt
from schemas.receipts import Receipt
from schemas.usage import DAY_MS, HOUR_MS
from sinks.timescale import retention
from sinks.timescale.migrate import Engine
from sinks.timescale.usage_receipts import make_receipt
from tests import commands
from tests.integration.metering_scene import MeteringScene, Reading, run_scene
from tests.integration.servers import Database, Tenant, create_tenant
from tests.integration.store_scene import at, store_scene

pytestmark = pytest.mark.integration

START = now_ms() // DAY_MS * DAY_MS - 20 * DAY_MS
# Twelve days, a reading each six hours; the first ten are to go.
READINGS: list[Reading] = [("air", START + n * 6 * HOUR_MS, 1.0) for n in range(48)]


def stored(database: Database, *readings: Reading) -> Tenant:
    tenant = asyncio.run(create_tenant(database))
    publish(database, tenant, *readings)
    return tenant


def publish(database: Database, tenant: Tenant, *readings: Reading) -> None:
    async def act(scene: MeteringScene) -> None:
        await scene.publish(tenant.devices[0], readings)

    run_scene(database, act)


def let_go(database: Database) -> retention.RetentionReport:
    async def go() -> retention.RetentionReport:
        async with store_scene(database) as scene:
            await scene.refresh_all()
            await retention.advance_horizons(scene.maintenance, now_ms())
            return await retention.drop_expired(scene.maintenance, scene.engine)

    return asyncio.run(go())


def seal_all(database: Database, tenant: Tenant) -> int:
    [(sealed,)] = database.query("SELECT seal_usage(%s, '-infinity', 'infinity')", tenant.tenant_id)
    return int(sealed)


class TestRetention:
    def test_hours_are_sealed_before_their_rows_go(self, database: Database) -> None:
        tenant = stored(database, *READINGS)
        database.query("UPDATE weir.tenant SET raw_retention = '10 days'")

        assert let_go(database).sealed == 40  # ten days of four hours

        sealed = database.query("SELECT bucket_start, version, readings, sensors FROM usage_seals ORDER BY seal_no")
        assert sealed == [(at(START + n * 6 * HOUR_MS), 1, 1, 1) for n in range(40)]
        assert database.query("SELECT count(*) FROM readings") == [(8,)]
        assert database.query("SELECT count(*) FROM usage_drift") == [(0,)]
        assert let_go(database).sealed == 0
        # The seals speak where rows are gone.
        raised = "UPDATE weir.usage SET quantity = 2 WHERE tenant_id = %s AND meter = 'readings' AND bucket_start = %s"
        database.query(raised, tenant.tenant_id, at(START))
        assert database.query("SELECT bucket_start, stored, metered FROM usage_drift") == [(at(START), 1, 2)]

    def test_the_database_lets_no_hour_go_that_is_not_sealed_with_all_its_rows(self, database: Database) -> None:
        tenant = stored(database, *READINGS)
        seal_all(database, tenant)
        publish(database, tenant, ("air", START + HOUR_MS, 1.0), ("air", START + 1, 1.0))
        asyncio.run(self.refresh(database))
        statement = "INSERT INTO weir.rollup_frozen (tenant_id, frozen_before) VALUES (%s, %s)"
        if database.engine is Engine.TIMESCALE:
            database.query(
                "SELECT weir.keep_rollups(array_agg(sensor_no), %s, %s) FROM weir.sensor", at(START), at(START + DAY_MS)
            )
        with pytest.raises(
            psycopg.errors.RaiseException, match=f"the hour .* of tenant {tenant.tenant_id} is not sealed"
        ):
            database.query(statement, tenant.tenant_id, at(START + DAY_MS))
        # The new hour alone is not enough: a row came late to one that was sealed.
        part = "SELECT seal_usage(%s, %s, %s)"
        assert database.query(part, tenant.tenant_id, at(START + HOUR_MS), at(START + 2 * HOUR_MS)) == [(1,)]
        with pytest.raises(psycopg.errors.RaiseException, match="is not sealed"):
            database.query(statement, tenant.tenant_id, at(START + DAY_MS))
        assert seal_all(database, tenant) == 1
        database.query(statement, tenant.tenant_id, at(START + DAY_MS))

    @staticmethod
    async def refresh(database: Database) -> None:
        async with store_scene(database) as scene:
            await scene.refresh_all()


class TestSeals:
    def test_late_rows_make_an_amended_seal_and_the_first_one_stays(self, database: Database) -> None:
        tenant = stored(database, ("air", START, 1.0), ("air", START + HOUR_MS, 1.0))
        assert seal_all(database, tenant) == 2
        publish(database, tenant, ("door", START + 5, 1.0))

        assert seal_all(database, tenant) == 1
        assert seal_all(database, tenant) == 0
        rows = database.query("SELECT seal_no, bucket_start, version, readings, sensors FROM usage_seals ORDER BY 1")
        assert rows == [(1, at(START), 1, 1, 1), (2, at(START + HOUR_MS), 1, 1, 1), (3, at(START), 2, 2, 2)]

    def test_the_digest_is_over_the_sorted_keys(self, database: Database) -> None:
        tenant = stored(database, ("air", START + 7, 1.0), ("air", START, 2.0))
        again = "INSERT INTO weir.reading SELECT sensor_no, 2, at, value, received_at FROM weir.reading WHERE at = %s"
        database.query(again, at(START))
        seal_all(database, tenant)

        # Its own arithmetic: lines of time and seq, then a line of sensor, count and digest.
        own = (
            "SELECT sha256(convert_to(sensor_id || ' 3 ' || encode(sha256(convert_to(%s, 'UTF8')), 'hex') || E'\\n', 'UTF8'))"
            " FROM weir.sensor WHERE tenant_id = %s"
        )
        expected = database.query(own, f"{START} 0\n{START} 2\n{START + 7} 0\n", tenant.tenant_id)
        assert database.query("SELECT rows_sha256 FROM usage_seals") == expected

        # As many rows, but another one among them: before any goes, that is sealed too.
        database.query("UPDATE weir.reading SET seq = 3 WHERE seq = 2")
        every = "SELECT weir.seal_hours(%s, %s, %s, true)"
        sealed = [database.query(every, tenant.tenant_id, at(START), at(START + DAY_MS))[0][0] for _ in range(2)]
        assert sealed == [1, 0]

    def test_an_hour_that_goes_on_is_not_sealed(self, database: Database) -> None:
        # Four minutes ahead: the hour is not over however slow this is.
        tenant = stored(database, ("air", now_ms() + 4 * 60_000, 1.0))

        assert seal_all(database, tenant) == 0

    @pytest.mark.parametrize(
        "statement",
        ["UPDATE weir.usage_seal SET readings = 0", "DELETE FROM weir.usage_seal", "TRUNCATE weir.usage_seal"],
    )
    def test_a_seal_is_never_changed_or_removed(self, database: Database, statement: Any) -> None:
        seal_all(database, stored(database, ("air", START, 1.0)))

        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="only grows"):
            database.query(statement)


class TestReceipts:
    @staticmethod
    def weir(*words: str, database: Database | None = None) -> subprocess.CompletedProcess[str]:
        settings = {} if database is None else {"WEIR_DATABASE_URL": database.operator_url}
        return commands.weir("usage", *words, **settings)

    def test_a_receipt_outlives_the_rows_and_names_the_hour_that_was_changed(
        self, database: Database, tmp_path: Path
    ) -> None:
        first = datetime.fromtimestamp(START / 1000, UTC).replace(day=1, hour=0) - timedelta(days=20)
        month = f"{first:%Y-%m}"
        begin_ms = round(first.replace(day=1).timestamp() * 1000)
        tenant = stored(database, *[("air", begin_ms + n * 5 * HOUR_MS, 1.0) for n in range(100)])
        file = tmp_path / "receipt.json"
        written = self.weir(
            "receipt", "--tenant", tenant.tenant_id, "--month", month, "--out", str(file), database=database
        )
        assert (written.returncode, written.stdout) == (0, f"{file}: 100 hours, 100 readings\n"), written.stderr
        holds = self.weir("verify", str(file))
        assert holds.returncode == 0, holds.stdout + holds.stderr
        assert holds.stdout == f"holds: {tenant.tenant_id} {month}, 100 hours, 100 readings, seals 1 to 100\n"

        receipt = msgspec.json.decode(file.read_bytes(), type=Receipt)
        hour = receipt.hours[41].hour
        receipt.hours[41] = msgspec.structs.replace(receipt.hours[41], readings=3)
        forged = msgspec.structs.replace(receipt, readings=102)
        (tmp_path / "forged.json").write_bytes(msgspec.json.encode(forged))
        refused = self.weir("verify", str(tmp_path / "forged.json"))
        assert (refused.returncode, refused.stdout) == (1, f"{hour}: 3 readings are billed, 1 rows were sealed\n")

    def test_hours_of_other_months_in_the_chain_do_not_confuse_it(self, database: Database) -> None:
        tenant = stored(database, ("air", START, 1.0), ("air", START - 60 * DAY_MS, 1.0), ("air", START + HOUR_MS, 1.0))
        for _ in range(2):
            seal_all(database, tenant)
            publish(database, tenant, ("door", START, 1.0), ("door", START - 60 * DAY_MS, 1.0))

        receipt = self.read(database, tenant)
        assert check_receipt(receipt) == []
        assert receipt.readings == 3
        assert [one.seal_no for one in receipt.seals] == [2, 3, 4, 5]

    @staticmethod
    def read(database: Database, tenant: Tenant) -> Receipt:
        async def go() -> Receipt:
            start = at(START).replace(day=1)
            async with await psycopg.AsyncConnection.connect(database.operator_url, autocommit=True) as connection:
                await connection.execute("SET ROLE weir_operator")
                return await make_receipt(connection, tenant.tenant_id, start, at(START + DAY_MS), at(now_ms()))

        return asyncio.run(go())

    def test_what_came_late_is_no_fault_before_it_is_pushed_and_what_was_refused_is_one(
        self, database: Database
    ) -> None:
        tenant = stored(database, ("air", START, 1.0))
        account = "INSERT INTO weir.billing_account (tenant_id, customer_id) VALUES (%s, 'cus_1')"
        database.query(account, tenant.tenant_id)
        database.query(
            "INSERT INTO weir.usage_push (tenant_id, meter, bucket_start, revision, quantity, state, acked_quantity)"
            " VALUES (%s, 'readings', %s, 1, 1, 'acknowledged', 1)",
            tenant.tenant_id,
            at(START),
        )
        assert [(one.pushed, one.adjusted) for one in self.read(database, tenant).hours] == [(1, 0)]
        publish(database, tenant, ("air", START + 1, 1.0))
        late = self.read(database, tenant)
        assert check_receipt(late) == []
        assert [(one.readings, one.pushed) for one in late.hours] == [(2, None)]
        database.query("UPDATE weir.usage_push SET quantity = 2, state = 'rejected'")
        [fault] = check_receipt(self.read(database, tenant))
        assert fault.why == "2 readings are billed, 1 pushed and 0 adjusted"

    def test_what_is_no_receipt_and_no_month_is_wrong_usage(self, database: Database, tmp_path: Path) -> None:
        (tmp_path / "other.json").write_text("{}")
        assert self.weir("verify", str(tmp_path / "other.json")).returncode == 2
        refused = self.weir("receipt", "--tenant", "ten_1", "--month", "November", database=database)
        assert (refused.returncode, "--month November" in refused.stderr) == (2, True)
