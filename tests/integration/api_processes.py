"""`weir api` as processes of their own: several bridges, and one that may be killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from ops.embedded.lifeline import tied
from ops.embedded.ports import pick_port
from tests.integration.api_scene import NOWHERE
from tests.integration.servers import Database, wait_until, worker_environment


@dataclass(frozen=True)
class ApiProcess:
    """A running `weir api`."""

    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def answers(self) -> bool:
        """Whether it has started."""
        try:
            return httpx2.get(f"{self.url}/livez").status_code == 200
        except httpx2.TransportError:
            return False

    def kill(self) -> None:
        """Kill -9."""
        self.process.kill()
        self.process.wait(timeout=10)

    def stop(self) -> None:
        """SIGTERM, if it still runs."""
        self.process.terminate()
        self.process.wait(timeout=30)


@contextmanager
def api_processes(
    database: Database, folder: Path, count: int = 1, bootstrap: str = NOWHERE
) -> Iterator[list[ApiProcess]]:
    """So many of them that log all they can, into `api0.log` and so on."""
    started = [start_process(database, folder / f"api{number}.log", bootstrap) for number in range(count)]
    try:
        for each in started:
            wait_until(each.answers, 60, "the API's start")
        yield started
    finally:
        for each in started:
            each.stop()


def start_process(database: Database, log_file: Path, bootstrap: str = NOWHERE, port: int | None = None) -> ApiProcess:
    """Start one, on a port of its own or a given one; its objects lie beside its log."""
    port = pick_port() if port is None else port
    environment = worker_environment(
        database,
        bootstrap,
        "walk-",
        WEIR_DATABASE_URL=database.reader_url,
        WEIR_OBJECTS_URL=str(log_file.parent / "objects"),
        WEIR_LOG_LEVEL="DEBUG",
        WEIR_API_REQUESTS_PER_S="10000",
        WEIR_API_REQUEST_BURST="10000",
        WEIR_SIGN_IN_FAILURES_PER_ADDRESS="10000",
    )
    with log_file.open("wb") as log:
        words = tied([sys.executable, "-m", "ops.cli", "api", "--port", str(port)], signal.SIGTERM)
        return ApiProcess(port, subprocess.Popen(words, env=environment, stdout=log, stderr=log))
