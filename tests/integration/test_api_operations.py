"""Health, metrics and outages: what the API says of the system, and how it comes back by itself."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from pydantic import SecretStr

from api import health_models
from ops.embedded.postgres import EmbeddedPostgres
from tests.integration.api_scene import (
    Client,
    add_readings,
    add_sensor,
    api_settings,
    client,
    instant,
    new_tenant,
    serving,
)
from tests.integration.servers import SECRET_KEY, Database, WorkerProcess, wait_until, with_database

pytestmark = pytest.mark.integration


@contextmanager
def anonymous(database_url: str, **settings: Any) -> Iterator[Client]:
    with serving(api_settings(database_url, **settings)) as url, client(url, None) as api:
        yield api


def checks(api: Client) -> tuple[int, dict[str, tuple[bool, str]]]:
    """Status and checks of /readyz."""
    response = api.http.get("/readyz")
    report = health_models.ReadinessReport.model_validate(response.json())
    assert report.status == ("ready" if response.status_code == 200 else "not ready")
    return response.status_code, {check.name: (check.ok, check.detail) for check in report.checks}


def beat(database: Database, worker: str, stands: list[tuple[int, int, int]], age_s: float = 0.0) -> None:
    """A worker's report: partition, next offset, end of log."""
    partitions = [
        {"topic": "readings", "partition": partition, "next_offset": position, "end_offset": end}
        for partition, position, end in stands
    ]
    database.query(
        "INSERT INTO weir.worker_heartbeat (worker_id, started_at, beat_at, partitions, metrics)"
        " VALUES (%s, now() - interval '1 hour', now() - make_interval(secs => %s), %s, %s)"
        " ON CONFLICT (worker_id) DO UPDATE SET beat_at = EXCLUDED.beat_at, partitions = EXCLUDED.partitions",
        worker,
        age_s,
        json.dumps(partitions),
        json.dumps({"records_total": 42}),
    )
    for partition, position, _ in stands:
        database.query(
            "INSERT INTO weir.stream_position (topic, partition, topic_identity, next_offset)"
            " VALUES ('readings', %s, 'id', %s) ON CONFLICT DO NOTHING",
            partition,
            position,
        )


class TestReadiness:
    def test_with_every_partition_held_and_little_lag_it_is_ready(self, database: Database) -> None:
        beat(database, "w1", [(0, 90, 100), (1, 5, 5)])
        beat(database, "w2", [(2, 0, 0)])
        with anonymous(database.reader_url) as api:
            status, found = checks(api)

        assert status == 200
        assert found["partitions"] == (True, "all partitions are held: 3 by 2 worker(s)")
        assert found["lag"] == (True, "partition 0 is 10 records behind, at most 100000 are fine")

    def test_a_worker_that_fell_silent_holds_nothing(self, database: Database) -> None:
        beat(database, "w1", [(0, 5, 5)])
        beat(database, "w2", [(1, 5, 5)], age_s=11)
        with anonymous(database.reader_url) as api:
            status, found = checks(api)

        assert status == 503
        assert found["partitions"] == (False, "partitions 1 of readings are held by no worker")

    def test_more_lag_than_allowed_is_not_ready(self, database: Database) -> None:
        beat(database, "w1", [(0, 5, 106)])
        with anonymous(database.reader_url, readiness_max_lag=100) as api:
            status, found = checks(api)

        assert (status, found["lag"][0]) == (503, False)

    def test_another_schema_is_not_ready_and_says_what_to_do(self, database: Database) -> None:
        database.query("INSERT INTO weir.schema_migration VALUES (9999, 'later', 'x', %s)", database.engine.value)
        with anonymous(database.reader_url) as api:
            status, found = checks(api)
            assert status == 503
            assert "run a newer Weir" in found["migrations"][1]

            database.query(
                "DELETE FROM weir.schema_migration WHERE number >="
                " (SELECT max(number) FROM weir.schema_migration WHERE number < 9999)"
            )
            wait_until(lambda: "run `weir migrate`" in checks(api)[1]["migrations"][1], 5, "the older schema")

    def test_a_database_without_a_schema_says_so_and_answers_503_on_data(self, database: Database) -> None:
        database.query("DROP SCHEMA weir_tenant CASCADE")
        database.query("DROP SCHEMA weir CASCADE")
        with anonymous(database.reader_url) as api:
            status, found = checks(api)

        assert status == 503
        assert "run `weir migrate`" in found["migrations"][1]

    @pytest.mark.parametrize(
        ("spoil", "sentence"),
        [
            (lambda url: with_database(url, "no_such_database"), "do not exist"),
            (lambda url: url.replace("://login_reader:", "://login_reader:x"), "refuses the login"),
            (lambda url: "postgresql://login_reader@127.0.0.1:1/none", "cannot be reached"),
        ],
    )
    def test_a_wrong_database_url_is_told_in_words_without_address_or_login(
        self, database: Database, spoil: Callable[[str], str], sentence: str
    ) -> None:
        with anonymous(spoil(database.reader_url)) as api:
            assert api.http.get("/livez").status_code == 200
            status, found = checks(api)
            text = api.http.get("/readyz").text

        assert status == 503
        assert sentence in found["database"][1]
        assert not any(ok for ok, _ in found.values())
        assert "login_reader" not in text
        assert "127.0.0.1" not in text

    def test_a_real_worker_makes_it_ready(
        self, database: Database, topic_prefix: str, new_worker: Callable[..., WorkerProcess]
    ) -> None:
        new_worker()
        with anonymous(database.reader_url, topic_prefix=topic_prefix) as api:
            wait_until(lambda: checks(api)[0] == 200, 40, "readiness")
            assert checks(api)[1]["partitions"] == (True, "all partitions are held: 4 by 1 worker(s)")
            text = api.http.get("/metrics").text

        assert f'weir_stream_position_next_offset{{partition="3",topic="{topic_prefix}readings"}} 0.0' in text
        assert "weir_worker_records_total{" in text


class TestMetrics:
    def test_refusals_and_alarms_of_the_database_are_shown(self, database: Database) -> None:
        tenant = new_tenant(database)
        for minute in ("12:00", "12:01"):
            database.query(
                "INSERT INTO weir.refusal_count VALUES (%s, %s, 'wrong_signature', %s, 50, 10, 1, 1, 'readings', 0)",
                f"2026-11-20T{minute}:00Z",
                tenant.devices[0].device_id,
                tenant.tenant_id,
            )
        database.query("INSERT INTO weir.operator_alarm (kind, subject, detail) VALUES ('refusal_flood', 'x', 'd')")
        with anonymous(database.reader_url) as api:
            text = api.http.get("/metrics").text

        assert 'weir_refusals_recorded{reason="wrong_signature"} 100.0' in text
        assert 'weir_dead_letters{reason="wrong_signature"} 20.0' in text
        assert 'weir_operator_alarms_open{kind="refusal_flood"} 1.0' in text
        assert tenant.tenant_id not in text
        assert tenant.devices[0].device_id not in text

    def test_every_line_is_one_that_prometheus_can_read(self, database: Database) -> None:
        from prometheus_client.parser import text_string_to_metric_families

        beat(database, "w1", [(0, 90, 100)])
        with anonymous(database.reader_url) as api:
            api.http.get("/livez")
            response = api.http.get("/metrics")

        assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
        families = {family.name for family in text_string_to_metric_families(response.text)}
        assert {
            "weir_api_request_seconds",
            "weir_worker_records",
            "weir_stream_lag_records",
            "weir_database_up",
        } <= families


def test_while_the_database_is_away_data_is_503_the_process_lives_and_it_comes_back_by_itself(
    own_postgres: EmbeddedPostgres, own_database: Database
) -> None:
    tenant = new_tenant(own_database)
    sensor_no, sensor_id = add_sensor(own_database, tenant, "air")
    at = instant("2026-11-20T12:00:00Z")
    add_readings(own_database, sensor_no, [(at + timedelta(minutes=n), 0, 1.0) for n in range(3)])
    span: dict[str, Any] = {"start": "2026-11-20T12:00:00Z", "end": "2026-11-20T13:00:00Z"}
    path = f"/v1/sensors/{sensor_id}/readings"
    with serving(api_settings(own_database.reader_url)) as url, client(url, tenant.api_key) as api:
        assert len(api.get(path, **span)["items"]) == 3
        own_postgres.kill()

        for data_path in ("/v1/sensors", path, "/v1/data-quality"):
            refused = api.http.get(data_path)
            assert (refused.status_code, refused.json()["code"]) == (503, "database_unavailable")
            assert int(refused.headers["retry-after"]) >= 1
        assert api.http.get("/livez").status_code == 200
        assert "weir_database_up 0.0" in api.http.get("/metrics").text
        assert checks(api)[1]["database"][0] is False

        own_postgres.start()
        wait_until(lambda: api.http.get(path, params=span).status_code == 200, 20, "the database's return")
        assert len(api.get(path, **span)["items"]) == 3


def test_an_error_of_our_own_is_a_problem_with_an_id_and_without_what_went_wrong(
    database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    tenant = new_tenant(database)
    _, sensor_id = add_sensor(database, tenant, "air")
    database.query(
        "CREATE OR REPLACE FUNCTION weir_tenant.own_sensor(p_sensor_no integer) RETURNS timestamptz LANGUAGE plpgsql"
        " AS $$ BEGIN RAISE EXCEPTION 'secret-of-the-database'; END $$"
    )
    with serving(api_settings(database.reader_url)) as url, client(url, tenant.api_key) as api:
        problem = api.get(f"/v1/sensors/{sensor_id}/readings", status=500)

    assert problem["code"] == "internal_error"
    assert "secret-of-the-database" not in str(problem)
    assert "Traceback" not in str(problem)
    logged = capsys.readouterr()
    assert problem["request_id"] in logged.out + logged.err


class TestCommand:
    """`weir api` as a process."""

    def test_it_serves_on_the_port_asked_for_and_stops_cleanly_on_sigterm(self, database: Database) -> None:
        with running(database.reader_url, "--port", "0") as process:
            port = listening_port(process)
            with httpx2.Client(base_url=f"http://127.0.0.1:{port}") as http:
                assert http.get("/livez").json() == {"status": "alive"}
                process.send_signal(signal.SIGTERM)
                assert process.wait(15) == 0

    def test_a_port_in_use_is_one_sentence_with_the_remedy(self, database: Database) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            with running(database.reader_url, "--port", port) as process:
                _, said = process.communicate(timeout=20)

        assert process.returncode != 0
        assert f"cannot listen on 127.0.0.1 port {port}" in said
        assert "--port" in said
        assert "Traceback" not in said

    def test_a_missing_secret_key_is_one_sentence_with_the_remedy(self, database: Database) -> None:
        with running(database.reader_url, "--port", "0", WEIR_SECRET_KEY="") as process:
            _, said = process.communicate(timeout=20)

        assert process.returncode != 0
        assert "WEIR_SECRET_KEY" in said
        assert "Traceback" not in said


@contextmanager
def running(database_url: str, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """The command, killed if it still runs at the end of the block."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WEIR_")}
    settings = {"WEIR_DATABASE_URL": database_url, "WEIR_SECRET_KEY": SECRET_KEY, "COLUMNS": "400", **environment}
    process = subprocess.Popen(
        [sys.executable, "-m", "ops.cli", "api", *arguments],
        env={**clean, **settings},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


def listening_port(process: subprocess.Popen[str]) -> int:
    """The port that the process says it listens on; what it says afterwards is read and dropped."""
    assert process.stderr is not None
    for line in process.stderr:
        if "api.listening" in line:
            threading.Thread(target=process.stderr.read, daemon=True).start()
            return int(json.loads(line)["port"])
    pytest.fail("the process ended without listening")


def test_settings_never_print_the_credentials() -> None:
    shown = repr(api_settings("postgresql://login:hunter2@127.0.0.1/weir", secret_key=SecretStr("k" * 32)))

    assert "hunter2" not in shown
    assert "k" * 32 not in shown
