"""What surrounds the worker fails: each time a clear sentence, and work goes on by itself once the cause is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from core.kafka import ensure_topics
from ops.embedded.postgres import EmbeddedPostgres
from tests.integration.conftest import PARTITIONS, Broker
from tests.integration.publishing import ThirdPartyDevice, body, reading
from tests.integration.servers import (
    PASSWORD,
    Database,
    WorkerProcess,
    create_tenant,
    wait_until,
    worker_environment,
)

pytestmark = pytest.mark.integration

NEW_WORKER = Callable[..., WorkerProcess]
AT = "2026-10-01T12:00:00.000Z"


def count(database: Database) -> int:
    return int(database.query("SELECT count(*) FROM readings")[0][0])


def start(environment: dict[str, str], folder: Path) -> WorkerProcess:
    return WorkerProcess(environment, folder / "worker.log").start()


class TestAtStart:
    def test_a_wrong_password_is_named_and_the_worker_waits(self, database: Database, new_worker: NEW_WORKER) -> None:
        worker = new_worker(WEIR_DATABASE_URL=database.writer_url.replace(PASSWORD, "wrong"))

        wait_until(lambda: "refused the password of login_writer" in worker.log(), 30, "the sentence")

        assert "wrong@" not in worker.log()
        assert worker.is_alive()

    def test_no_database_setting_ends_it_with_the_remedy(self, new_worker: NEW_WORKER) -> None:
        worker = new_worker(WEIR_DATABASE_URL="")

        wait_until(lambda: not worker.is_alive(), 30, "the end")

        assert "WEIR_DATABASE_URL is not set" in worker.log()

    def test_an_older_schema_is_named_and_it_starts_once_it_is_migrated(
        self, database: Database, new_worker: NEW_WORKER
    ) -> None:
        [newest] = database.query(
            "DELETE FROM weir.schema_migration"
            " WHERE number = (SELECT max(number) FROM weir.schema_migration) RETURNING *"
        )
        worker = new_worker()
        wait_until(lambda: "run `weir migrate`" in worker.log(), 30, "the sentence")

        database.query("INSERT INTO weir.schema_migration VALUES (%s, %s, %s, %s, %s)", *newest)

        wait_until(lambda: "worker.started" in worker.log(), 30, "the start")

    def test_a_newer_schema_is_named(self, database: Database, new_worker: NEW_WORKER) -> None:
        database.query(
            "INSERT INTO weir.schema_migration (number, name, checksum, engine)"
            " SELECT 9999, 'future', '', engine FROM weir.schema_migration LIMIT 1"
        )
        worker = new_worker()

        wait_until(lambda: "run a newer Weir" in worker.log(), 30, "the sentence")

    def test_a_broker_that_comes_later_is_waited_for(
        self, database: Database, own_broker: Broker, tmp_path: Path
    ) -> None:
        tenant = asyncio.run(create_tenant(database))
        bootstrap = own_broker.bootstrap
        own_broker.stop()
        worker = start(worker_environment(database, bootstrap, ""), tmp_path)
        try:
            wait_until(lambda: f"no Kafka broker answers at {bootstrap}" in worker.log(), 30, "the sentence")
            own_broker.start()
            wait_until(lambda: "worker.started" in worker.log(), 60, "the start")
            ThirdPartyDevice(bootstrap, "readings").send_all(tenant.devices[0], [body(reading(AT, 1.0))])
            wait_until(lambda: count(database) == 1, 30, "the reading")
        finally:
            worker.kill()

    def test_a_database_that_comes_later_is_waited_for(
        self, own_postgres: EmbeddedPostgres, own_database: Database, broker: Broker, topic_prefix: str, tmp_path: Path
    ) -> None:
        own_postgres.stop()
        worker = start(worker_environment(own_database, broker.bootstrap, topic_prefix), tmp_path)
        try:
            wait_until(lambda: "worker.waiting" in worker.log(), 30, "the sentence")
            own_postgres.start()
            wait_until(lambda: "worker.started" in worker.log(), 60, "the start")
        finally:
            worker.kill()


class TestAtWork:
    def test_the_database_restarts_and_nothing_is_lost_or_doubled(
        self, own_postgres: EmbeddedPostgres, own_database: Database, broker: Broker, topic_prefix: str, tmp_path: Path
    ) -> None:
        tenant = asyncio.run(create_tenant(own_database))
        device = ThirdPartyDevice(broker.bootstrap, f"{topic_prefix}readings")
        worker = start(worker_environment(own_database, broker.bootstrap, topic_prefix), tmp_path)
        try:
            device.send_all(tenant.devices[0], [body(reading(AT, 1.0))])
            wait_until(lambda: count(own_database) == 1, 30, "the first reading")
            own_postgres.stop()
            device.send_all(tenant.devices[0], [body(reading("2026-10-01T12:01:00Z", 2.0))])
            wait_until(lambda: "batch.retried" in worker.log(), 30, "a retry")
            own_postgres.start()

            wait_until(lambda: count(own_database) == 2, 60, "the second reading")

            assert worker.is_alive()
            assert own_database.query("SELECT sum(quantity) FROM usage_hourly WHERE meter = 'readings'") == [(2,)]
        finally:
            worker.kill()

    def test_a_broker_that_forgot_everything_is_recognised_by_the_topic_identity(
        self, database: Database, own_broker: Broker, tmp_path: Path
    ) -> None:
        tenant = asyncio.run(create_tenant(database))
        ensure_topics(own_broker.bootstrap, "forgotten-", PARTITIONS)
        environment = worker_environment(database, own_broker.bootstrap, "forgotten-")
        worker = start(environment, tmp_path)
        try:
            ThirdPartyDevice(own_broker.bootstrap, "forgotten-readings").send_all(
                tenant.devices[0], [body(reading(1_790_856_000_000 + n, 1.0)) for n in range(5)]
            )
            wait_until(lambda: count(database) == 5, 30, "five readings")
            worker.stop()
            _forget_topic(own_broker, "forgotten-readings")
            ensure_topics(own_broker.bootstrap, "forgotten-", PARTITIONS)
            worker.start()
            ThirdPartyDevice(own_broker.bootstrap, "forgotten-readings").send_all(
                tenant.devices[0], [body(reading(1_790_856_100_000, 2.0))]
            )

            wait_until(lambda: count(database) == 6, 60, "the reading at offset 0 of the new topic")

            assert "position.topic_recreated" in worker.log()
            assert database.query("SELECT sum(next_offset) FROM stream_positions") == [(1,)]
            assert database.query("SELECT count(*) FROM stream_gaps") == [(0,)]
        finally:
            worker.kill()

    def test_a_flood_is_counted_and_sampled_raises_an_alarm_and_stops_nobody(
        self, database: Database, broker: Broker, topic_prefix: str, new_worker: NEW_WORKER
    ) -> None:
        bad, good = asyncio.run(create_tenant(database, devices=2)).devices
        device = ThirdPartyDevice(broker.bootstrap, f"{topic_prefix}readings")
        new_worker(
            WEIR_REFUSALS_KEPT_PER_MINUTE="50", WEIR_REFUSALS_SAMPLED_EVERY="100", WEIR_REFUSALS_ALARM_PER_MINUTE="500"
        )
        device.send_all(bad, [b"junk %d" % n for n in range(3000)])
        device.send_all(good, [body(reading(AT, 1.0))])

        wait_until(lambda: count(database) == 1, 30, "the good reading")
        wait_until(lambda: database.query("SELECT sum(refused) FROM refusal_counts") == [(3000,)], 30, "3000 refusals")

        kept = database.query("SELECT count(*) FROM dead_letters")[0][0]
        # 50 kept and every 100th of 3000 per worker and minute; a minute may turn once meanwhile.
        assert 50 <= kept <= 2 * (50 + 30)
        assert database.query("SELECT kind, subject FROM operator_alarms") == [("refusal_flood", bad.device_id)]


def _forget_topic(broker: Broker, topic: str) -> None:
    """The embedded broker forgets by restarting; Apache Kafka by deleting the topic."""
    from kafka import KafkaAdminClient

    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    try:
        admin.delete_topics([topic])
        wait_until(lambda: topic not in admin.list_topics(), 30, "the topic is gone")
    finally:
        admin.close()
