"""The roles as docker-compose.yml runs them, without the containers: its commands and its environment on real servers.

Only the servers' addresses, the topics' prefix and the API's port are another's. So the logins made by
`weir migrate --create-logins` are shown to be enough for each role, and the health probes to tell living from dead.
"""

from __future__ import annotations

import os
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from psycopg import sql

from core.postgres import DatabaseRole
from ops.commands.migrate import login_name
from ops.embedded.lifeline import tied
from ops.embedded.ports import pick_port
from ops.embedded.postgres import EmbeddedPostgres
from tests.integration.conftest import Broker
from tests.integration.servers import wait_until, with_database

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))[
    "services"
]


class Deployment:
    """The compose file's services with their variables filled in."""

    def __init__(self, admin_url: str, bootstrap: str, folder: Path) -> None:
        self._server = re.sub(r".*@", "", admin_url)  # host:port/database
        self._admin_password = admin_url.split("@", maxsplit=1)[0].rpartition(":")[2]
        self._passwords = {f"WEIR_{role.name}_PASSWORD": secrets.token_hex(24) for role in DatabaseRole}
        self._variables = self._passwords | {
            "WEIR_ADMIN_PASSWORD": self._admin_password,
            "WEIR_SECRET_KEY": secrets.token_hex(24),
        }
        self._elsewhere = {
            "WEIR_KAFKA_BOOTSTRAP": bootstrap,
            "WEIR_TOPIC_PREFIX": f"t{secrets.token_hex(4)}-",
            "WEIR_TOPIC_PARTITIONS": "2",
            "WEIR_API_HOST": "127.0.0.1",
            "WEIR_OBJECTS_URL": str(folder / "objects"),
            "WEIR_API_PORT": str(pick_port()),
        }
        self._folder = folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def environment(self, service: str) -> dict[str, str]:
        """What the container would find, beside what every process of this machine has."""
        given = {name: self._fill_in(str(value)) for name, value in SERVICES[service]["environment"].items()}
        moved = {name: value for name, value in self._elsewhere.items() if name in given or "PREFIX" in name}
        here = {name: value for name, value in os.environ.items() if not name.startswith("WEIR_")}
        return here | given | moved

    def _fill_in(self, value: str) -> str:
        filled = re.sub(r"\$\{(\w+):\?[^}]*\}", lambda match: self._variables[match[1]], value)
        return filled.replace("database:5432/weir", self._server)

    def run_to_its_end(self, service: str) -> subprocess.CompletedProcess[str]:
        """A one-shot service."""
        command = [sys.executable, "-m", "ops.cli", *SERVICES[service]["command"]]
        environment = self.environment(service)
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    def start(self, service: str) -> None:
        """A lasting service."""
        command = tied([sys.executable, "-m", "ops.cli", *SERVICES[service]["command"]], signal.SIGKILL)
        with self.log_file(service).open("ab") as log:
            self._running[service] = subprocess.Popen(command, env=self.environment(service), stdout=log, stderr=log)

    def stop(self, service: str) -> int:
        """SIGTERM and its exit status, within the compose file's grace period."""
        process = self._running.pop(service)
        process.send_signal(signal.SIGTERM)
        return process.wait(timeout=int(SERVICES[service]["stop_grace_period"].removesuffix("s")))

    def kill_all(self) -> None:
        """End what a failed test left."""
        for process in self._running.values():
            process.kill()
            process.wait()

    def health(self, service: str) -> tuple[int, str]:
        """Exit status and words of the service's health check."""
        test = SERVICES[service]["healthcheck"]["test"]
        command = [sys.executable, *test[2:]]
        environment = self.environment(service)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
        return done.returncode, done.stdout + done.stderr

    def log_file(self, service: str) -> Path:
        """Where a lasting service writes."""
        return self._folder / f"{service}.log"


@pytest.fixture
def deployment(postgres: EmbeddedPostgres, broker: Broker, tmp_path: Path) -> Iterator[Deployment]:
    name = f"test_{secrets.token_hex(6)}"
    with psycopg.connect(postgres.superuser_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        deployment = Deployment(with_database(postgres.superuser_url, name), broker.bootstrap, tmp_path)
        yield deployment
        deployment.kill_all()
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
        for role in DatabaseRole:
            connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(login_name(role))))


def healthy(deployment: Deployment, service: str) -> Callable[[], bool]:
    return lambda: deployment.health(service)[0] == 0


def test_every_role_starts_with_its_own_login_is_healthy_and_stops_in_time(deployment: Deployment) -> None:
    migrated = deployment.run_to_its_end("migrate")
    assert migrated.returncode == 0, migrated.stderr

    for service in ("worker", "api", "jobs"):
        status, words = deployment.health(service)
        assert status == 1, f"{service} is healthy before it starts"
        assert "Traceback" not in words
        deployment.start(service)

    for service in ("worker", "api", "jobs"):
        wait_until(healthy(deployment, service), 60, f"{service} healthy; log: {deployment.log_file(service)}")
    for service in ("worker", "api", "jobs"):
        assert deployment.stop(service) == 0, deployment.log_file(service).read_text()


def test_migrate_may_run_at_every_start(deployment: Deployment) -> None:
    assert deployment.run_to_its_end("migrate").returncode == 0

    again = deployment.run_to_its_end("migrate")

    assert again.returncode == 0, again.stderr
    assert "applied" not in again.stdout


def test_a_worker_that_stopped_reporting_is_not_healthy(deployment: Deployment) -> None:
    assert deployment.run_to_its_end("migrate").returncode == 0
    deployment.start("worker")
    wait_until(healthy(deployment, "worker"), 60, "worker healthy")
    deployment.kill_all()

    url = deployment.environment("worker")["WEIR_DATABASE_URL"]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET ROLE weir_writer")
        # 90 s without a report; no test waits for them.
        connection.execute("UPDATE weir.worker_heartbeat SET beat_at = beat_at - interval '90 s'")

    status, words = deployment.health("worker")
    assert status == 1
    assert re.fullmatch(r"the stream worker last reported \d+ s ago, expected at most 30 s\n", words)


def test_a_probe_without_its_database_says_so_and_shows_no_password(deployment: Deployment) -> None:
    status, words = deployment.health("worker")

    assert status == 1
    assert words == "the stream worker cannot be judged: the database answered OperationalError\n"
