"""`weir up` as people run it: a process of its own, its output, its connection file, its whole process tree."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg

from accounts import messages
from accounts.messages import Sealed
from core.postgres import DatabaseRole
from core.secrets import Vault
from ops.commands.migrate import login_name
from ops.connection_file import load_state
from ops.embedded.lifeline import wait_until
from ops.embedded.logins import DATABASE

PROJECT = Path(__file__).parents[2]
READY_S = 90.0
STOP_S = 20.0
_PATIENCE_S = 60.0


def weir(*words: str, env_file: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A `weir` command run to its end."""
    environ = environment() if env_file is None else environment() | {"WEIR_ENV_FILE": str(env_file)}
    return subprocess.run(_command(*words), env=environ, capture_output=True, text=True, timeout=READY_S, check=False)


def environment() -> dict[str, str]:
    """Ours without any setting of Weir's."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("WEIR_")}
    return plain | {"PYTHONPATH": str(PROJECT)}


def _command(*words: str) -> list[str]:
    return [sys.executable, "-P", "-m", "ops.cli", *words]


@dataclass
class Running:
    """A running `weir up` in a process group of its own."""

    data_dir: Path
    port: int
    log_file: Path
    process: subprocess.Popen[bytes] = field(init=False)
    started_s: float = field(init=False, default=0.0)

    def start(self, *options: str) -> Running:
        """Start it; `wait_until_ready` comes next."""
        words = ["up", "--data-dir", str(self.data_dir), "--port", str(self.port), *options]
        self.started_s = time.monotonic()
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen(
                _command(*words), env=environment(), stdout=log, stderr=log, start_new_session=True
            )
        return self

    def wait_until_ready(self) -> float:
        """Seconds from the start of the process to the line that says so."""
        wait_until(lambda: self.is_ready() or self.process.poll() is not None, READY_S)
        took_s = time.monotonic() - self.started_s
        assert self.is_ready(), self.log()
        return took_s

    def is_ready(self) -> bool:
        return f"ready http://127.0.0.1:{self.port}" in self.log().splitlines()

    def interrupt(self) -> float:
        """Ctrl-C: SIGINT to the whole group. Seconds until the process has ended."""
        began_s = time.monotonic()
        os.killpg(self.process.pid, signal.SIGINT)
        self.process.wait(STOP_S + 5)
        return time.monotonic() - began_s

    def end(self) -> None:
        """However a test left it."""
        if self.process.poll() is None:
            with suppress(ProcessLookupError, subprocess.TimeoutExpired):
                self.interrupt()
        self.process.kill()
        self.process.wait()

    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    @property
    def connection(self) -> dict[str, Any]:
        """What connection.json says."""
        content: dict[str, Any] = json.loads((self.data_dir / "connection.json").read_text())
        return content

    @property
    def superuser_url(self) -> str:
        """For the database of the system."""
        server = json.loads((self.data_dir / "postgres" / "server.json").read_text())
        return f"postgresql://postgres:{server['superuser_password']}@127.0.0.1:{server['port']}/{DATABASE}"

    def tree(self) -> dict[int, str]:
        """Command lines of every process below it, and of itself."""
        parents = _parents()
        found = {self.process.pid}
        while more := {pid for pid, parent in parents.items() if parent in found} - found:
            found |= more
        return {pid: _command_line(pid) for pid in found}

    def pid_of(self, role: str) -> int:
        """The process of a role, such as `worker`, or of the broker."""
        found = [pid for pid, line in self.tree().items() if f"ops.cli\0{role}\0" in line or f"/{role}\0" in line]
        assert len(found) == 1, f"{role}: {found} in {self.tree()}"
        return found[0]

    def get(self, path: str) -> tuple[int, Any]:
        """The API's answer to the demo tenant."""
        return self._call(path, self.connection["api_key"], None)

    def post(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        """The API's answer to a body of the demo tenant."""
        return self._call(path, self.connection["api_key"], json.dumps(body).encode())

    def patch(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        """The API's answer to a change by the demo tenant."""
        return self._call(path, self.connection["api_key"], json.dumps(body).encode(), "PATCH")

    def publish(self, *readings: tuple[str, str, float], device: str | None = None) -> int:
        """Readings (sensor, at, value) through the API, of the demo device or another's credential; the status it answered."""
        body = {"readings": [{"sensor": sensor, "at": at, "value": value} for sensor, at, value in readings]}
        demo = f"{self.connection['device_id']}.{self.connection['device_secret']}"
        return self._call("/v1/readings", device or demo, json.dumps(body).encode())[0]

    def values(self, sensor: str, day: str) -> list[float]:
        """Stored values of one of the demo device's sensors on a day."""
        listed = self.get("/v1/sensors")[1]["items"]
        ids = [item["sensor_id"] for item in listed if item["name"] == sensor]
        if not ids:
            return []
        path = f"/v1/sensors/{ids[0]}/readings?resolution=raw&start={day}T00:00:00.000Z&end={day}T23:59:00.000Z"
        return [item["value"] for item in self.get(path)[1]["items"]]

    def _call(self, path: str, token: str, body: bytes | None, method: str | None = None) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310 - our own API over http
                return response.status, json.loads(response.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read() or b"null")
        except OSError as error:
            return 0, str(error)


def _parents() -> dict[int, int]:
    parents = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    return parents


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return ""


def still_running(tree: dict[int, str]) -> dict[int, str]:
    """Those processes of a tree that are there now; a zombie has no command line."""
    return {pid: line for pid, line in tree.items() if line and _command_line(pid) == line}


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def sensor_id(system: Running, name: str, value: float = 4.0) -> str:
    """A sensor of the demo device, which has just sent a value."""
    assert wait_until(lambda: system.publish((name, now(), value)) == 202, _PATIENCE_S)

    def ids() -> list[str]:
        return [item["sensor_id"] for item in system.get("/v1/sensors")[1]["items"] if item["name"] == name]

    assert wait_until(lambda: bool(ids()), _PATIENCE_S)
    return ids()[0]


def rule(system: Running, sensor: str, name: str, above: float) -> str:
    """A rule that fires at the first reading above a value."""
    document = {
        "name": name,
        "applies_to": {"sensor_id": sensor},
        "severity": "critical",
        "condition": {"type": "threshold", "above": above},
    }
    status, answer = system.post("/v1/rules", document)
    assert status == 201, answer
    return str(answer["rule_id"])


def message_code(system: Running, email: str) -> str:
    """What the newest message to somebody carries."""
    state, login = load_state(system.data_dir), login_name(DatabaseRole.OWNER)
    with psycopg.connect(
        system.connection["database_url"], user=login, password=state.passwords[login], autocommit=True
    ) as connection:
        connection.execute("SET ROLE weir_owner")
        row = connection.execute(
            "SELECT message_id, sealed FROM weir.outgoing_message WHERE recipient = %s ORDER BY created_at DESC LIMIT 1",
            (email,),
        ).fetchone()
    assert row is not None
    vault = Vault.from_secret(state.secret_key)
    return messages.unseal(vault, Sealed(*row)).token
