"""Quotas are exact however many ask at once; warnings come once; plans keep raw readings as long as they say."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from accounts.billing.plans import PLANS, Refusal
from accounts.billing.quotas import admit_scan, follow_plans, notice_quotas
from core.postgres import DatabaseRole, Pool, open_pool, tenant_transaction
from schemas.usage import Meter
from tests.integration.servers import Database, create_tenant

pytestmark = pytest.mark.integration

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
INCLUDED = PLANS["basic"].included


def tenant_on(database: Database, plan: str) -> str:
    tenant_id = asyncio.run(create_tenant(database)).tenant_id
    database.query("UPDATE weir.tenant SET plan = %s WHERE tenant_id = %s", plan, tenant_id)
    return tenant_id


async def ask_as_tenant(pool: Pool, tenant_id: str, now: datetime = NOW) -> Refusal | None:
    async with tenant_transaction(pool, tenant_id) as connection:
        return await admit_scan(connection, tenant_id, now)


class TestScans:
    def test_of_200_that_ask_at_once_exactly_the_included_ones_begin(self, database: Database) -> None:
        tenant_id, other = tenant_on(database, "basic"), tenant_on(database, "basic")

        async def go() -> Counter[Refusal | None]:
            async with (
                open_pool(database.reader_url, DatabaseRole.READER, size=20) as readers,
                open_pool(database.writer_url, DatabaseRole.WRITER, size=20) as writers,
            ):

                async def as_stream() -> Refusal | None:
                    async with writers.connection() as connection, connection.transaction():
                        return await admit_scan(connection, tenant_id, NOW)

                asked = [as_stream() if n % 2 else ask_as_tenant(readers, tenant_id) for n in range(200)]
                return Counter(await asyncio.gather(*asked))

        assert asyncio.run(go()) == {None: 20, Refusal.QUOTA: 180}
        assert database.query("SELECT tenant_id, used FROM weir.quota_use") == [(tenant_id, 20)]
        assert self.ask(database, other) is None

    @staticmethod
    def ask(database: Database, tenant_id: str, now: datetime = NOW) -> Refusal | None:
        async def go() -> Refusal | None:
            async with open_pool(database.reader_url, DatabaseRole.READER) as pool:
                return await ask_as_tenant(pool, tenant_id, now)

        return asyncio.run(go())

    def test_what_rolls_back_or_fails_is_free_and_the_next_month_begins_anew(self, database: Database) -> None:
        tenant_id = tenant_on(database, "free")  # three scans

        async def go() -> None:
            async with open_pool(database.writer_url, DatabaseRole.WRITER) as pool, pool.connection() as connection:
                for _ in range(5):
                    async with connection.transaction(force_rollback=True):
                        assert await admit_scan(connection, tenant_id, NOW) is None
                taken = [await admit_scan(connection, tenant_id, NOW) for _ in range(4)]
                assert taken == [None, None, None, Refusal.QUOTA]
                await connection.execute(
                    "SELECT weir.give_back_quota(%s, 'scans', '2026-11-01T00:00Z', 1)", (tenant_id,)
                )
                assert await admit_scan(connection, tenant_id, NOW) is None
                assert await admit_scan(connection, tenant_id, NOW) is Refusal.QUOTA
                assert await admit_scan(connection, tenant_id, NOW + timedelta(days=9)) is None

        asyncio.run(go())

    def test_without_a_limit_nothing_is_counted_and_unpaid_means_none(self, database: Database) -> None:
        tenant_id = tenant_on(database, "enterprise")
        assert self.ask(database, tenant_id) is None
        assert database.query("SELECT count(*) FROM weir.quota_use") == [(0,)]
        database.query(
            "INSERT INTO weir.billing_account (tenant_id, customer_id, status, status_since) VALUES (%s, 'cus', 'unpaid', now())",
            tenant_id,
        )
        assert self.ask(database, tenant_id) is Refusal.UNPAID

    def test_nobody_takes_another_tenants_quota(self, database: Database) -> None:
        mine, other = tenant_on(database, "basic"), tenant_on(database, "basic")

        async def go() -> None:
            async with (
                open_pool(database.reader_url, DatabaseRole.READER) as pool,
                tenant_transaction(pool, mine) as connection,
            ):
                await admit_scan(connection, other, NOW)

        asyncio.run(go())
        assert database.query("SELECT tenant_id FROM weir.quota_use") == [(mine,)]


class TestWarnings:
    @staticmethod
    def use(database: Database, tenant_id: str, meter: Meter, quantity: int, at: datetime = NOW) -> None:
        database.query(
            "INSERT INTO weir.usage (tenant_id, meter, bucket_start, quantity)"
            " VALUES (%s, %s, date_trunc('hour', %s, 'UTC'), %s)",
            tenant_id,
            meter.value,
            at,
            quantity,
        )

    @staticmethod
    def told(database: Database) -> int:
        async def go() -> int:
            async with open_pool(database.writer_url, DatabaseRole.WRITER) as pool:
                return await notice_quotas(pool, NOW)

        return asyncio.run(go())

    def test_each_comes_once_with_its_live_event(self, database: Database) -> None:
        tenant_id, rich = tenant_on(database, "basic"), tenant_on(database, "enterprise")
        limit = INCLUDED[Meter.READINGS]
        self.use(database, tenant_id, Meter.READINGS, limit * 8 // 10 - 1)
        self.use(database, tenant_id, Meter.READINGS, limit, NOW - timedelta(days=31))
        self.use(database, rich, Meter.READINGS, 10**12)
        assert self.told(database) == 0
        self.use(database, tenant_id, Meter.READINGS, 1, NOW - timedelta(hours=1))
        assert [self.told(database) for _ in range(2)] == [1, 0]
        self.use(database, tenant_id, Meter.READINGS, limit, NOW - timedelta(hours=2))
        assert [self.told(database) for _ in range(2)] == [1, 0]

        notices = database.query("SELECT tenant_id, meter, percent, used, included FROM quota_notices ORDER BY percent")
        assert notices == [
            (tenant_id, "readings", 80, limit * 8 // 10, limit),
            (tenant_id, "readings", 100, limit * 18 // 10, limit),
        ]
        events = database.query(
            "SELECT seq, channel, item ->> 'kind', item ->> 'percent' FROM weir.live_event ORDER BY seq"
        )
        assert events == [(1, "notifications", "quota", "80"), (2, "notifications", "quota", "100")]

    def test_those_who_read_the_bill_get_it_by_e_mail_queued_with_the_notice(self, database: Database) -> None:
        tenant_id, other = tenant_on(database, "basic"), tenant_on(database, "basic")
        people = [
            (tenant_id, "owner@a.example", "owner", "hash"),
            (tenant_id, "manager@a.example", "manager", "hash"),
            (tenant_id, "staff@a.example", "staff", "hash"),
            (tenant_id, "invited@a.example", "owner", None),
            (other, "owner@b.example", "owner", "hash"),
        ]
        for number, (tenant, email, role, password) in enumerate(people):
            database.query(
                "INSERT INTO weir.app_user (user_id, tenant_id, email, name, role, password_hash)"
                " VALUES (%s, %s, %s, 'Ada', %s, %s)",
                f"usr_{number}",
                tenant,
                email,
                role,
                password,
            )
        limit = INCLUDED[Meter.READINGS]
        self.use(database, tenant_id, Meter.READINGS, limit)
        assert self.told(database) == 2
        assert self.told(database) == 0

        query = "SELECT message_id, tenant_id, kind, recipient, state, content FROM weir.outgoing_message"
        messages = database.query(f"{query} ORDER BY content ->> 'percent', recipient")
        assert [(*row[1:5], row[5]["percent"]) for row in messages] == [
            (tenant_id, "quota_warning", f"{who}@a.example", "waiting", percent)
            for percent in (100, 80)
            for who in ("manager", "owner")
        ]
        content = messages[0][5]
        content.pop("noticed_at")
        name = database.query("SELECT name FROM weir.tenant WHERE tenant_id = %s", tenant_id)[0][0]
        assert content == {
            "organization": name, "name": "Ada", "plan": "basic", "meter": "readings", "percent": 100,
            "month": "2026-11", "used": limit, "included": limit,
        }  # fmt: skip
        jobs = database.query("SELECT task_name, args FROM weir_jobs.procrastinate_jobs ORDER BY id")
        assert {name for name, _ in jobs} == {"send_message"}
        assert sorted(args["message_id"] for _, args in jobs) == sorted(row[0] for row in messages)

    def test_of_active_sensors_the_present_hour_counts(self, database: Database) -> None:
        tenant_id = tenant_on(database, "basic")
        for ahead in (-1, 1):  # a reading counts its sensor in hours that are still to come
            hour = NOW + timedelta(hours=ahead)
            self.use(database, tenant_id, Meter.ACTIVE_SENSORS, INCLUDED[Meter.ACTIVE_SENSORS], hour)
        self.use(database, tenant_id, Meter.ACTIVE_SENSORS, 1)

        assert self.told(database) == 0


class TestRetention:
    @staticmethod
    def follow(database: Database, now: datetime) -> list[tuple[Any, ...]]:
        async def go() -> None:
            async with open_pool(database.writer_url, DatabaseRole.WRITER) as pool:
                await follow_plans(pool, now)

        asyncio.run(go())
        return database.query("SELECT plan, plan_retention FROM weir.tenant ORDER BY plan")

    def test_a_smaller_plan_shortens_after_30_days_and_a_larger_one_lengthens_at_once(self, database: Database) -> None:
        tenant_id = tenant_on(database, "free")
        tenant_on(database, "enterprise")
        now = datetime.now(UTC)
        keeps_all = ("enterprise", None)
        assert self.follow(database, now + timedelta(days=29)) == [keeps_all, ("free", None)]
        assert self.follow(database, now + timedelta(days=31)) == [keeps_all, ("free", timedelta(days=30))]
        database.query("UPDATE weir.tenant SET plan = 'basic' WHERE tenant_id = %s", tenant_id)
        assert self.follow(database, now) == [("basic", timedelta(days=365)), keeps_all]
        database.query("UPDATE weir.tenant SET plan = 'enterprise' WHERE tenant_id = %s", tenant_id)
        assert self.follow(database, now) == [keeps_all, keeps_all]

    def test_the_shorter_of_plan_and_setting_moves_the_horizon(self, database: Database) -> None:
        from sinks.timescale.retention import advance_horizons

        tenant_on(database, "free")
        database.query("UPDATE weir.tenant SET raw_retention = '90 days', plan_retention = '30 days'")

        async def go() -> None:
            async with open_pool(database.writer_url, DatabaseRole.WRITER) as pool:
                await advance_horizons(pool, round(datetime.now(UTC).timestamp() * 1000))

        asyncio.run(go())
        [(days,)] = database.query("SELECT extract(day FROM now() - retention_horizon)::integer FROM weir.tenant")
        assert days == 30
