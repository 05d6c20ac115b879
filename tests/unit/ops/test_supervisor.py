"""Keeping processes running, shown on real ones."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from ops.embedded.lifeline import ON_LINUX, wait_until
from ops.supervisor import Service, ServiceEnded, Supervisor, command, how_it_ended, terminate

PATIENCE_S = 10.0
# Stays until it is told to go.
PATIENT = "import signal; signal.pause()"
STUBBORN = (
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True)\nwhile 1: signal.pause()"
)


def discard(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    process.stdout.close()


def python(code: str, env: Mapping[str, str] | None = None) -> Callable[[], subprocess.Popen[bytes]]:
    return command([sys.executable, "-I", "-S", "-c", code], env or {}, discard)


class Scene:
    """A supervisor, what it said, and the processes it started."""

    def __init__(self, jitter: float = 0.0) -> None:
        self.said: list[str] = []
        self.started: list[subprocess.Popen[bytes]] = []
        self.supervisor = Supervisor(self.said.append, jitter=lambda: jitter)

    def service(self, name: str, code: str, stage: int = 0, **options: Any) -> Service:
        spawn = python(code)

        def noted() -> subprocess.Popen[bytes]:
            self.started.append(spawn())
            return self.started[-1]

        return Service(name, stage, noted, **options)

    async def until(self, condition: Callable[[], bool]) -> None:
        assert await asyncio.to_thread(wait_until, condition, PATIENCE_S)


def play(scene: Scene, story: Callable[[], Awaitable[None]]) -> None:
    """Run a story; its processes are gone afterwards however it ends."""

    async def run() -> None:
        try:
            await story()
        finally:
            await scene.supervisor.stop()

    asyncio.run(run())


def test_a_crashed_service_runs_again_within_a_second() -> None:
    scene = Scene(jitter=0.99)

    async def story() -> None:
        await scene.supervisor.start(scene.service("worker", PATIENT))
        crashed_s = time.monotonic()
        scene.started[0].kill()
        await scene.until(lambda: len(scene.started) == 2)
        assert time.monotonic() - crashed_s < 1.0
        assert scene.started[1].poll() is None

    play(scene, story)

    assert scene.said == ["worker: was ended by SIGKILL; starting it again in 0.5 s"]


def test_the_wait_doubles_while_a_service_keeps_ending() -> None:
    scene = Scene(jitter=0.0)

    async def story() -> None:
        await scene.supervisor.start(scene.service("worker", "raise SystemExit(70)"))
        await scene.until(lambda: len(scene.said) == 3)

    play(scene, story)

    # Half of 0.5, 1 and 2 s, as the jitter is 0.
    waits = [re.sub(r".*again in ", "", line) for line in scene.said]
    assert waits == ["0.2 s", "0.5 s", "1.0 s"]
    assert scene.said[0].startswith("worker: ended with exit status 70")


def test_what_must_follow_a_crash_is_called_when_the_new_process_is_ready() -> None:
    scene = Scene()
    seen: list[int] = []

    async def restarted() -> None:
        seen.append(len(scene.started))

    async def story() -> None:
        await scene.supervisor.start(scene.service("broker", PATIENT, restarted=restarted))
        assert seen == []
        scene.started[0].kill()
        await scene.until(lambda: seen == [2])

    play(scene, story)


def test_a_service_whose_aftermath_fails_is_started_once_more() -> None:
    scene = Scene()
    failures = [ServiceEnded("topics could not be made")]

    async def restarted() -> None:
        if failures:
            raise failures.pop()

    async def story() -> None:
        await scene.supervisor.start(scene.service("broker", PATIENT, restarted=restarted))
        scene.started[0].kill()
        await scene.until(lambda: len(scene.started) == 3)

    play(scene, story)

    assert "broker: topics could not be made" in scene.said


def test_a_restart_that_was_asked_for_is_immediate_and_silent() -> None:
    scene = Scene()

    async def story() -> None:
        await scene.supervisor.start(scene.service("worker", PATIENT))
        scene.supervisor.restart("worker")
        await scene.until(lambda: len(scene.started) == 2)

    play(scene, story)

    assert scene.said == []


def test_a_service_that_runs_once_is_not_started_again() -> None:
    scene = Scene()

    async def story() -> None:
        await scene.supervisor.start(scene.service("demo", "", once=True))
        await scene.supervisor.start(scene.service("worker", PATIENT))
        await scene.until(lambda: scene.started[0].poll() is not None)
        scene.started[1].kill()
        await scene.until(lambda: len(scene.started) == 3)
        assert [process.poll() for process in scene.started] == [0, -signal.SIGKILL, None]

    play(scene, story)


def test_start_returns_when_the_service_answers(tmp_path: Path) -> None:
    scene = Scene()
    mark = tmp_path / "answers"

    async def is_ready() -> bool:
        return mark.exists()

    async def story() -> None:
        code = f"import pathlib, signal; pathlib.Path({str(mark)!r}).touch(); signal.pause()"
        await scene.supervisor.start(scene.service("api", code, is_ready=is_ready))
        assert mark.exists()

    play(scene, story)


async def never() -> bool:
    return False


def test_a_service_that_ends_while_it_starts_is_an_error() -> None:
    scene = Scene()

    async def story() -> None:
        with pytest.raises(ServiceEnded, match="api ended with exit status 2 while it was starting"):
            await scene.supervisor.start(scene.service("api", "raise SystemExit(2)", is_ready=never))

    play(scene, story)


def test_a_service_that_does_not_answer_in_time_is_an_error_and_is_ended() -> None:
    scene = Scene()

    async def story() -> None:
        with pytest.raises(ServiceEnded, match="api does not answer after 0 s"):
            await scene.supervisor.start(scene.service("api", PATIENT, is_ready=never), timeout_s=0.2)

    play(scene, story)

    assert scene.started[0].poll() is not None


def test_later_stages_stop_before_earlier_ones() -> None:
    scene = Scene()
    ended: list[str] = []

    def noting(name: str) -> Callable[[subprocess.Popen[bytes]], None]:
        def end(process: subprocess.Popen[bytes]) -> None:
            terminate(process)
            ended.append(name)

        return end

    async def story() -> None:
        for stage, name in enumerate(("database", "broker", "worker")):
            await scene.supervisor.start(scene.service(name, PATIENT, stage, end=noting(name)))

    play(scene, story)

    assert ended == ["worker", "broker", "database"]
    assert [process.poll() is None for process in scene.started] == [False, False, False]


def test_a_stopped_supervisor_restarts_nothing() -> None:
    scene = Scene()

    async def story() -> None:
        await scene.supervisor.start(scene.service("worker", PATIENT))
        await scene.supervisor.stop()
        await asyncio.sleep(0)

    play(scene, story)

    assert len(scene.started) == 1
    assert scene.said == []


def test_a_process_deaf_to_sigterm_is_killed_after_its_grace() -> None:
    process = command([sys.executable, "-I", "-S", "-c", STUBBORN], {}, lambda _: None)()
    assert process.stdout is not None
    with process.stdout as output:
        assert output.readline() == b"deaf\n"

    terminate(process, grace_s=0.1)

    assert how_it_ended(process) == "was ended by SIGKILL"


def test_what_a_process_started_is_gone_with_it() -> None:
    code = "import subprocess, sys; c = subprocess.Popen(['sleep', '600']); print(c.pid, flush=True); c.wait()"
    process = command([sys.executable, "-I", "-S", "-c", code], {"PATH": os.defpath}, lambda _: None)()
    assert process.stdout is not None
    with process.stdout as output:
        grandchild = int(output.readline())

    terminate(process)

    assert wait_until(lambda: not is_alive(grandchild), PATIENCE_S)


@pytest.mark.skipif(not ON_LINUX, reason="the kernel's part of this exists on Linux only")
def test_services_die_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    code = (
        "import pathlib, signal, sys; from ops.supervisor import command\n"
        f"child = command([sys.executable, '-c', {PATIENT!r}], {{}}, lambda _: None)()\n"
        f"pathlib.Path({str(pid_file)!r}).write_text(str(child.pid)); signal.pause()"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    supervisor = subprocess.Popen([sys.executable, "-c", code], env=environment)
    assert wait_until(lambda: pid_file.exists() and pid_file.read_text() != "", PATIENCE_S)
    child = int(pid_file.read_text())
    assert is_alive(child)

    supervisor.kill()
    supervisor.wait()

    assert wait_until(lambda: not is_alive(child), PATIENCE_S)


def test_children_are_not_started_from_other_threads() -> None:
    async def story() -> None:
        with pytest.raises(RuntimeError, match="start child processes from the main thread"):
            await asyncio.to_thread(python(PATIENT))

    asyncio.run(story())


def test_a_child_sees_only_the_environment_it_was_given() -> None:
    process = command(
        [sys.executable, "-I", "-S", "-c", "import os; print(dict(os.environ))"], {"A": "1"}, lambda _: None
    )()
    assert process.stdout is not None
    with process.stdout as output:
        said = output.read().decode()
    process.wait()

    assert "'A': '1'" in said
    assert "HOME" not in said


def is_alive(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return not Path(f"/proc/{pid}/stat").exists() or ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    return False


def test_a_bug_in_the_supervision_is_not_kept_quiet() -> None:
    scene = Scene()

    async def restarted() -> None:
        msg = "a bug"
        raise LookupError(msg)

    async def story() -> None:
        await scene.supervisor.start(scene.service("broker", PATIENT, restarted=restarted))
        scene.started[0].send_signal(signal.SIGKILL)
        with pytest.raises(LookupError, match="a bug"):
            await within(scene.supervisor.broken())

    play(scene, story)


async def within(work: Coroutine[Any, Any, None]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        await work
