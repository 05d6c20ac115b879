"""The TypeScript client as programs use it: typed by the running server, compiled strictly, cut and resumed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from ops.embedded.lifeline import ON_LINUX, wait_until
from ops.embedded.ports import pick_port
from tests.acceptance.running import PROJECT, Running

NODE, NPM = shutil.which("node"), shutil.which("npm")
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not ON_LINUX, reason="watches the process tree through /proc"),
    pytest.mark.skipif(
        NODE is None or NPM is None, reason="needs Node.js and npm on the PATH (Debian, Ubuntu: apt install nodejs npm)"
    ),
]

PATIENCE_S = 60.0
# How npm says that there is no network; anything else is a failure.
_NO_NETWORK = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ETIMEDOUT", "ENETUNREACH")


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One system for all tests of this file."""
    folder = tmp_path_factory.mktemp("typescript")
    running = Running(folder / "data", pick_port(), folder / "log")
    running.start("--no-demo").wait_until_ready()
    yield running
    running.end()


@pytest.fixture(scope="module")
def client(system: Running, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client, installed in a folder of its own, with the types of the running server."""
    folder = tmp_path_factory.mktemp("client") / "typescript"
    shutil.copytree(PROJECT / "clients" / "typescript", folder, ignore=shutil.ignore_patterns("node_modules", "dist"))
    installed = npm(folder, system, "install", "--no-audit", "--no-fund", "--no-package-lock")
    if installed.returncode != 0 and any(sign in installed.stderr for sign in _NO_NETWORK):
        pytest.skip("npm does not reach its registry")
    assert installed.returncode == 0, installed.stderr
    made = npm(folder, system, "run", "schema")
    assert made.returncode == 0, made.stdout + made.stderr
    return folder


@pytest.fixture(scope="module")
def compiled(client: Path, system: Running) -> subprocess.CompletedProcess[str]:
    """What compiling the client and the test programs came to."""
    return npm(client, system, "run", "build")


@pytest.fixture(scope="module")
def programs(client: Path, compiled: subprocess.CompletedProcess[str]) -> Path:
    """The client's folder with the test programs ready to run."""
    assert compiled.returncode == 0, compiled.stdout
    return client


def npm(folder: Path, system: Running, *words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"WEIR_URL": system.connection["api_url"]}
    return subprocess.run(
        [str(NPM), *words], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300
    )


@dataclass
class Program:
    """The test program: what it says, as it says it."""

    process: subprocess.Popen[str]
    said: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def start(cls, folder: Path, system: Running, name: str = "live") -> Program:
        connection = system.connection
        environment = os.environ | {
            "WEIR_URL": connection["api_url"],
            "WEIR_LIVE_URL": connection["live_url"],
            "WEIR_TOKEN": connection["api_key"],
        }
        process = subprocess.Popen(
            [str(NODE), f"dist/test/{name}.js"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        program = cls(process)
        Thread(target=program._listen, daemon=True).start()
        return program

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(json.loads(line))

    def tell(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()

    def hears(self, what: Callable[[dict[str, Any]], bool], since: int = 0) -> bool:
        """Whether it says such a thing in time."""
        return wait_until(lambda: any(what(each) for each in self.said[since:]), PATIENCE_S)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def of(said: str, channel: str) -> Callable[[dict[str, Any]], bool]:
    return lambda each: each["said"] == said and each.get("channel") == channel


def state(name: str) -> Callable[[dict[str, Any]], bool]:
    return lambda each: each["said"] == "state" and each["state"] == name


def test_it_compiles_strictly_against_the_servers_own_description(
    client: Path, compiled: subprocess.CompletedProcess[str]
) -> None:
    assert (client / "src" / "schema.ts").stat().st_size > 10_000
    assert compiled.returncode == 0, compiled.stdout


def test_a_wrong_use_of_a_type_does_not_compile(client: Path, system: Running) -> None:
    wrong = client / "src" / "wrong.ts"
    wrong.write_text(
        'import { get } from "./rest.js";\n'
        'export const page = await get("http://x", "k", "/v1/sensors", { query: { limit: "ten" } });\n'
        "export const name: number = page.items[0]!.name;\n"
    )

    compiled = npm(client, system, "run", "build")
    wrong.unlink()

    assert compiled.returncode != 0
    assert "src/wrong.ts(2," in compiled.stdout
    assert "src/wrong.ts(3," in compiled.stdout


def test_a_cut_connection_resumes_and_misses_no_alert(programs: Path, system: Running) -> None:
    rule = {
        "name": "too warm",
        "severity": "major",
        "condition": {"type": "threshold", "above": 8.0, "clear": {"below": 7.0}},
    }
    assert system.post("/v1/rules", rule)[0] == 201
    assert wait_until(lambda: system.publish(("typed", now(), 4.0)) == 202, PATIENCE_S)
    assert wait_until(lambda: bool(system.get("/v1/sensors")[1]["items"]), PATIENCE_S)
    program = Program.start(programs, system)
    try:
        assert program.hears(lambda each: each["said"] == "sensors" and each["names"] == ["typed"])
        assert program.hears(of("snapshot", "readings"))
        assert program.hears(of("sync", "alerts"))

        program.tell("cut")
        assert program.hears(state("reconnecting"))
        # While it is away an alert fires and clears: both must reach it.
        for value, status in ((9.5, "firing"), (5.0, "resolved")):
            assert system.publish(("typed", now(), value)) == 202
            assert wait_until(partial(shows, system, status), PATIENCE_S)
        resumed = len(program.said)
        program.tell("back")

        assert program.hears(lambda each: of("event", "alerts")(each) and "resolved" in alerts_of(each), resumed)
        heard = [status for each in program.said if of("event", "alerts")(each) for status in alerts_of(each)]
        assert heard[0] == "firing"
        assert heard[-1] == "resolved"
        assert not [each for each in program.said[resumed:] if of("snapshot", "alerts")(each) or each["said"] == "lost"]
    finally:
        program.end()


def shows(system: Running, status: str) -> bool:
    """Whether the only alert has this status."""
    return [item["status"] for item in system.get("/v1/alerts")[1]["items"]] == [status]


def alerts_of(event: dict[str, Any]) -> list[str]:
    return [item["status"] for item in event["items"]]


def test_scans_are_made_followed_and_given_files_through_a_broken_connection(programs: Path, system: Running) -> None:
    program = Program.start(programs, system, "scans")
    try:
        assert program.hears(lambda each: each["said"] == "cancelled"), program.said
    finally:
        program.end()

    [uploaded] = [each for each in program.said if each["said"] == "uploaded"]
    # 30 000 bytes arrive, the next piece is lost on the way, the server is asked how far it came.
    assert uploaded["offsets"] == [0, 30_000, 30_000, 60_000, 90_000, 100_000]
    assert (uploaded["file"]["complete"], uploaded["file"]["kind"]) == (True, "ply")
    assert uploaded["file"]["sha256"] == hashlib.sha256(bytes(n % 251 for n in range(100_000))).hexdigest()
    assert [each for each in program.said if each["said"] == "refused"] == [
        {"said": "refused", "status": 409, "code": "not_exported"}
    ]
    assert program.said[-1] == {"said": "cancelled", "scan": True, "status": "cancelled"}


def test_failures_of_others_are_told_and_waited_for_as_long_as_they_ask(programs: Path) -> None:
    done = subprocess.run(
        [str(NODE), "dist/test/faults.js"],
        cwd=programs,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )

    assert done.returncode == 0, done.stderr
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        # 7 000 ms that the server asked for, and half of the first wait of 500 ms.
        {"said": "draining", "waits": [7_250]},
        {"said": "mute", "state": "reconnecting", "closed": True},
        {"said": "stopped", "timers": 0},
        {"said": "tokenless", "state": "live", "errors": ["token"], "sent": ["ping"]},
        # The server tells how far it came each time, but takes no piece: the first try and twelve more.
        {"said": "never taken", "status": 500, "message": "refused: broken", "pieces": 13},
        {"said": "not ours", "status": 409, "message": "refused: not_receiving", "pieces": 1},
        {"said": "left", "waited": 1, "after": 0, "why": "AbortError"},
        {
            "said": "read",
            "url": "GET /v1/scans?status=completed&status=failed",
            "why": "Error: 502 /v1/scans",
        },
        {"said": "done"},
    ]
