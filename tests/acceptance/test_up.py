"""`weir up`, from the first start in an empty data dir to the clear sentences when something is in the way."""

from __future__ import annotations

import os
import signal
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import httpx2
import psycopg
import pytest

from ops.embedded.lifeline import ON_LINUX, wait_until
from ops.embedded.ports import pick_port
from ops.embedded.recycle import memory_mib
from tests.acceptance.running import STOP_S, Running, still_running, weir

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not ON_LINUX, reason="watches the process tree through /proc"),
]

PATIENCE_S = 60.0
CREDENTIALS = {"tenant_id", "api_key", "device_id", "device_secret", "email", "password"}
DAY = "2024-05-01"


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One system for all tests of this file; each leaves it running and ready."""
    folder = tmp_path_factory.mktemp("up")
    running = Running(folder / "data", pick_port(), folder / "log")
    running.start("--no-demo").wait_until_ready()
    yield running
    running.end()


def test_the_connection_file_holds_what_the_interface_promises(system: Running) -> None:
    connection = system.connection

    addresses = {"api_url", "live_url", "dashboard_url", "kafka_bootstrap", "database_url"}
    assert set(connection) == addresses | CREDENTIALS | {"other_tenant"}
    assert set(connection["other_tenant"]) == CREDENTIALS
    assert connection["api_url"] == f"http://127.0.0.1:{system.port}"
    assert connection["live_url"] == f"ws://127.0.0.1:{system.port}/v1/live"
    assert stat.S_IMODE((system.data_dir / "connection.json").stat().st_mode) == 0o600


def test_both_demo_owners_sign_in(system: Running) -> None:
    for tenant in (system.connection, system.connection["other_tenant"]):
        login = {"email": tenant["email"], "password": tenant["password"]}
        with httpx2.Client(base_url=system.connection["api_url"], timeout=60) as http:
            tokens = http.post("/v1/auth/login", json=login).raise_for_status().json()
            me = http.get("/v1/auth/me", headers={"Authorization": f"Bearer {tokens['access_token']}"}).json()
        assert (me["tenant_id"], me["role"]) == (tenant["tenant_id"], "owner")


def test_the_system_is_ready_and_knows_its_tenants_but_nothing_was_published(system: Running) -> None:
    assert system.get("/readyz")[0] == 200
    assert system.get("/v1/sensors") == (200, {"items": [], "next": None})


def test_the_operator_of_the_connection_file_reads_the_views_of_all_tenants(system: Running) -> None:
    with psycopg.connect(system.connection["database_url"]) as connection:
        rows = connection.execute("SELECT count(*) FROM stream_positions WHERE topic = 'readings'").fetchone()
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("SELECT * FROM weir.device_secret")

    assert rows == (4,)  # partitions


def test_both_demo_tenants_are_subscribed_to_the_enterprise_plan_and_everything_agrees(system: Running) -> None:
    with psycopg.connect(system.connection["database_url"]) as connection:
        rows = connection.execute("SELECT tenant_id, status, plan FROM billing_accounts").fetchall()
    env_file = system.data_dir / "weir.env"
    agreeing = weir("reconcile", env_file=env_file)

    tenants = (system.connection["tenant_id"], system.connection["other_tenant"]["tenant_id"])
    assert sorted(rows) == sorted((tenant_id, "active", "enterprise") for tenant_id in tenants)
    assert (agreeing.returncode, agreeing.stdout.strip()) == (0, "all agree"), agreeing.stderr


def test_access_follows_what_stripe_says_of_a_subscription(system: Running) -> None:
    """From Stripe's webhook over the inbox and its job to the API: about a second, of two that are promised."""
    other = system.connection["other_tenant"]
    query = "SELECT subscription_id FROM billing_accounts WHERE tenant_id = %s"
    with psycopg.connect(system.connection["database_url"]) as connection:
        [(subscription,)] = connection.execute(query, (other["tenant_id"],)).fetchall()
    lines = (system.data_dir / "weir.env").read_text().splitlines()
    [stripe] = [line.partition("=")[2] for line in lines if line.startswith("WEIR_STRIPE_API_BASE=")]

    def history() -> int:
        path, span = f"{system.connection['api_url']}/v1/sensors/none/readings", {"start": f"{DAY}T00:00:00Z"}
        headers = {"Authorization": f"Bearer {other['api_key']}"}
        return httpx2.get(path, params=span, headers=headers, timeout=60).status_code

    for status, expected in (("unpaid", 402), ("active", 404)):
        change = {"subscription": subscription, "status": status}
        httpx2.post(f"{stripe}/_fake/status", json=change, timeout=60).raise_for_status()
        assert wait_until(lambda: history() == expected, PATIENCE_S)  # noqa: B023


def test_each_role_has_a_database_login_of_its_own(system: Running) -> None:
    others = "SELECT usename FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
    with psycopg.connect(system.superuser_url, autocommit=True) as superuser:
        logins = {name for (name,) in superuser.execute(others)}

    assert logins == {"weir_reader_login", "weir_writer_login"}  # the API; worker and jobs


def test_the_doctor_finds_a_running_system_well_through_its_settings_file(system: Running) -> None:
    assert wait_until(lambda: weir("doctor", env_file=system.data_dir / "weir.env").returncode == 0, PATIENCE_S)

    said = weir("doctor", env_file=system.data_dir / "weir.env").stdout.splitlines()
    assert {line[:3].strip() for line in said} == {"ok"}
    subjects = [line.split()[1] for line in said]
    assert subjects == [
        *("settings", "database", "login", "clock", "schema", "workers", "alarms"),
        *("broker", "topics", "lag", "objects", "scans"),
    ]


def test_a_second_one_in_the_same_data_dir_is_refused(system: Running) -> None:
    refused = weir("up", "--no-demo", "--data-dir", str(system.data_dir), "--port", str(pick_port()))

    assert refused.returncode == 2
    assert refused.stderr.strip() == (
        f"weir: {system.data_dir} is in use by process {system.process.pid}; stop that one or choose another data dir"
    )
    assert system.get("/readyz")[0] == 200


def test_a_port_in_use_is_named_before_anything_is_made(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = weir("up", "--no-demo", "--data-dir", str(tmp_path / "data"), "--port", str(port))

    assert refused.returncode == 2
    sentence = f"weir: port {port} on 127.0.0.1 is already in use; stop what uses it or choose another: weir up --port "
    assert refused.stderr.startswith(sentence)
    assert len(refused.stderr.splitlines()) == 1
    assert not (tmp_path / "data").exists()


def test_a_killed_worker_is_replaced(system: Running) -> None:
    killed = system.pid_of("worker")
    os.kill(killed, signal.SIGKILL)

    assert wait_until(lambda: "worker-1: was ended by SIGKILL" in system.log(), PATIENCE_S)
    assert system.publish(("after worker", f"{DAY}T10:00:00.000Z", 1.0)) == 202
    assert wait_until(lambda: system.values("after worker", DAY) == [1.0], PATIENCE_S)
    assert system.pid_of("worker") != killed


def test_a_killed_broker_comes_back_with_its_topics_and_the_stream_goes_on(system: Running) -> None:
    bootstrap = system.connection["kafka_bootstrap"]
    os.kill(system.pid_of("tansu"), signal.SIGKILL)
    assert wait_until(lambda: "broker: was ended by SIGKILL" in system.log(), PATIENCE_S)

    assert wait_until(lambda: system.publish(("after broker", f"{DAY}T11:00:00.000Z", 2.0)) == 202, PATIENCE_S)

    assert wait_until(lambda: system.values("after broker", DAY) == [2.0], PATIENCE_S)
    assert system.connection["kafka_bootstrap"] == bootstrap


def test_a_killed_database_comes_back_and_the_stream_goes_on(system: Running) -> None:
    postmaster = int((system.data_dir / "postgres" / "cluster" / "postmaster.pid").read_text().splitlines()[0])
    os.kill(postmaster, signal.SIGKILL)
    assert wait_until(lambda: "database: was ended by SIGKILL" in system.log(), PATIENCE_S)

    assert wait_until(lambda: system.publish(("after database", f"{DAY}T12:00:00.000Z", 3.0)) == 202, PATIENCE_S)

    assert wait_until(lambda: system.values("after database", DAY) == [3.0], PATIENCE_S)


def test_ctrl_c_ends_every_process_and_a_second_start_continues(system: Running) -> None:
    assert system.publish(("kept", f"{DAY}T13:00:00.000Z", 4.0)) == 202
    assert wait_until(lambda: system.values("kept", DAY) == [4.0], PATIENCE_S)
    before, tree = system.connection, system.tree()
    assert len(tree) > 8  # weir up, database and its processes, broker, API, worker, jobs

    took_s = system.interrupt()

    assert system.process.returncode == 0
    assert took_s < STOP_S
    assert still_running(tree) == {}

    ready_s = system.start("--no-demo").wait_until_ready()

    assert system.connection == before
    assert system.values("kept", DAY) == [4.0]
    # What it takes when the machine does nothing else; three times that when it is busy with other tests.
    assert ready_s < 10.0 or (os.getloadavg()[0] > 2.0 and ready_s < 30.0)


def test_everything_acknowledged_is_stored_although_ctrl_c_comes_before_it_is_committed(system: Running) -> None:
    times = (f"{DAY}T14:{n // 600:02d}:{n // 10 % 60:02d}.{n % 10}00Z" for n in range(20_000))
    readings = [("drained", at, 5.0) for at in times]
    stored = "SELECT count(*) FROM readings JOIN weir.sensor USING (tenant_id, sensor_id) WHERE name = 'drained'"
    with psycopg.connect(system.superuser_url) as holder:
        holder.execute("SELECT FROM weir.stream_position FOR UPDATE")  # no worker commits before this lets go
        for part in (readings[:10_000], readings[10_000:]):
            assert system.publish(*part) == 202
        os.killpg(system.process.pid, signal.SIGINT)
        assert wait_until(lambda: "stopping" in system.log().splitlines(), PATIENCE_S)
        assert holder.execute(stored).fetchone() == (0,)
    system.process.wait(STOP_S + 5)

    system.start("--no-demo").wait_until_ready()

    with psycopg.connect(system.superuser_url) as connection:
        assert connection.execute(stored).fetchone() == (20_000,)


def test_kill_9_leaves_no_process_and_the_next_start_recovers(system: Running) -> None:
    tree = system.tree()
    system.process.kill()
    system.process.wait()

    assert wait_until(lambda: not still_running(tree), STOP_S)

    system.start("--no-demo").wait_until_ready()
    assert system.values("kept", DAY) == [4.0]


def test_a_damaged_data_dir_is_named_and_everything_ends(system: Running) -> None:
    system.interrupt()
    version = system.data_dir / "postgres" / "cluster" / "PG_VERSION"
    version.rename(version.with_name("lost"))

    refused = weir("up", "--no-demo", "--data-dir", str(system.data_dir), "--port", str(system.port))

    assert refused.returncode == 2
    assert "is damaged (PG_VERSION is missing); restore it from a backup" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    version.with_name("lost").rename(version)
    system.start("--no-demo").wait_until_ready()


def test_stopping_it_while_it_starts_is_clean_too(tmp_path: Path) -> None:
    running = Running(tmp_path / "data", pick_port(), tmp_path / "log").start("--no-demo")
    assert wait_until(lambda: "schema" in running.log(), PATIENCE_S)
    tree = running.tree()

    took_s = running.interrupt()

    assert running.process.returncode == 0
    assert took_s < STOP_S
    assert still_running(tree) == {}
    assert "ready" not in running.log()


def test_a_grown_broker_starts_afresh_and_no_acknowledged_record_is_lost(tmp_path: Path) -> None:
    running = Running(tmp_path / "data", pick_port(), tmp_path / "log").start("--no-demo", "--broker-memory", "40")
    try:
        running.wait_until_ready()
        sent = 0

        def publish(*more: tuple[str, str, float]) -> None:
            """A reading with a time of its own, to find it again, and more."""
            nonlocal sent
            sent += (
                running.publish(("marked", f"{DAY}T10:{sent // 60:02d}:{sent % 60:02d}.000Z", float(sent)), *more)
                == 202
            )

        broker = running.pid_of("tansu")
        # Well above the 40, as what the broker gives back to the system goes up and down.
        while 0 < memory_mib(broker) <= 60:
            publish(*(("bulk", f"{DAY}T11:{n // 60:02d}:{n % 60:02d}.000Z", 4.0) for n in range(3_000)))

        # A device that publishes now and then does not keep the broker.
        while not wait_until(lambda: "nothing waits in its" in running.log(), 1.0):
            publish()
            assert sent < 600
        assert wait_until(lambda: len(running.values("marked", DAY)) == sent, PATIENCE_S)
    finally:
        running.end()
