"""Keeps a set of processes running: ordered start, restart with back-off, reverse stop within a bounded time.

It knows nothing of what the processes are. Services of one stage stop together, later stages before earlier ones.
Processes are started from the thread of the event loop, which must be the main thread (see `ops.embedded.lifeline`).
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from ops.embedded.lifeline import tied
from schemas.errors import WeirError

_POLL_S = 0.05
_STOP_GRACE_S = 7.0
_FIRST_BACK_OFF_S = 0.5
_LONGEST_BACK_OFF_S = 10.0
# A process that ran this long did not fail to start: the next back-off begins anew.
_STABLE_S = 30.0
_STILL_STARTING_S = 5.0


class ServiceEnded(WeirError):
    """A service ended, or did not answer, while it was being started."""


async def _at_once() -> bool:
    return True


async def _nothing() -> None:
    return None


@dataclass(frozen=True, slots=True)
class Service:
    """A process to keep.

    Args:
        name: how people know it.
        stage: services of a higher stage need those of the lower ones.
        spawn: starts the process; called again after each end.
        is_ready: whether it answers.
        end: blocks until the process is gone, at most some seconds; runs in a thread.
        restarted: called when a new process is ready in the place of one that ended.
        once: it ends by itself, and is not started again.
    """

    name: str
    stage: int
    spawn: Callable[[], subprocess.Popen[bytes]]
    is_ready: Callable[[], Awaitable[bool]] = _at_once
    end: Callable[[subprocess.Popen[bytes]], None] = field(default_factory=lambda: terminate)
    restarted: Callable[[], Awaitable[None]] = _nothing
    once: bool = False


@dataclass(slots=True)
class _Kept:
    service: Service
    process: subprocess.Popen[bytes]
    started_s: float
    failures: int = 0
    # Its end was asked for, so it starts again at once and without a word.
    asked_for: bool = False
    keeper: asyncio.Task[None] | None = None


class Supervisor:
    """Starts services, restarts them when they end, stops them all.

    Args:
        say: prints a line for people.
        jitter: a random number in [0, 1), so that services that fail together do not come back together.
    """

    def __init__(self, say: Callable[[str], None], jitter: Callable[[], float] = random.random) -> None:
        self._say = say
        self._jitter = jitter
        self._kept: dict[str, _Kept] = {}

    async def start(self, service: Service, timeout_s: float = 60.0) -> None:
        """Start a service and keep it from now on; returns when it answers.

        Raises:
            ServiceEnded: it ended or did not answer in time.
        """
        kept = _Kept(service, service.spawn(), time.monotonic())
        self._kept[service.name] = kept
        await self._until_ready(kept, timeout_s)
        kept.keeper = asyncio.create_task(self._keep(kept), name=f"keep-{service.name}")

    def restart(self, name: str) -> None:
        """Kill the process of a service; its keeper starts it again at once."""
        kept = self._kept.get(name)
        if kept is not None and kept.process.poll() is None:
            kept.asked_for = True
            kept.process.kill()

    async def broken(self) -> None:
        """Wait until supervision itself fails, and raise what went wrong there: a bug, never a service's end."""
        keepers = [kept.keeper for kept in self._kept.values() if kept.keeper is not None]
        for keeper in (await asyncio.wait(keepers, return_when=asyncio.FIRST_EXCEPTION))[0]:
            keeper.result()

    async def stop(self) -> None:
        """Stop every service, later stages first; when it returns none of the processes is left."""
        for kept in self._kept.values():
            if kept.keeper is not None:
                kept.keeper.cancel()
        await asyncio.gather(*(kept.keeper for kept in self._kept.values() if kept.keeper), return_exceptions=True)
        for stage in sorted({kept.service.stage for kept in self._kept.values()}, reverse=True):
            members = [kept for kept in self._kept.values() if kept.service.stage == stage]
            await asyncio.gather(*(asyncio.to_thread(_end, kept) for kept in members))

    async def _keep(self, kept: _Kept) -> None:
        while True:
            await asyncio.sleep(_POLL_S)
            if kept.process.poll() is not None:
                if kept.service.once:
                    return
                await self._again(kept)

    async def _again(self, kept: _Kept) -> None:
        """Start a service whose process has ended, after a while if it keeps ending."""
        name, asked_for = kept.service.name, kept.asked_for
        kept.asked_for = False
        if not asked_for:
            await self._back_off(kept)
        try:
            kept.process = kept.service.spawn()
            kept.started_s = time.monotonic()
            await self._until_ready(kept, _LONGEST_BACK_OFF_S * 6)
            await kept.service.restarted()
        except (WeirError, OSError) as error:
            self._say(f"{name}: {error}")
            await asyncio.to_thread(_end, kept)

    async def _back_off(self, kept: _Kept) -> None:
        if time.monotonic() - kept.started_s > _STABLE_S:
            kept.failures = 0
        longest_s = min(_LONGEST_BACK_OFF_S, _FIRST_BACK_OFF_S * 2**kept.failures)
        delay_s = longest_s * (1 + self._jitter()) / 2
        kept.failures += 1
        self._say(f"{kept.service.name}: {how_it_ended(kept.process)}; starting it again in {delay_s:.1f} s")
        await asyncio.sleep(delay_s)

    async def _until_ready(self, kept: _Kept, timeout_s: float) -> None:
        name, said = kept.service.name, 0
        while not await kept.service.is_ready():
            waited_s = time.monotonic() - kept.started_s
            if kept.process.poll() is not None:
                msg = f"{name} {how_it_ended(kept.process)} while it was starting; what it said is above or in its log"
                raise ServiceEnded(msg)
            if waited_s > timeout_s:
                msg = f"{name} does not answer after {timeout_s:.0f} s; what it said is above or in its log"
                raise ServiceEnded(msg)
            if waited_s > _STILL_STARTING_S * (said + 1):
                said += 1
                self._say(f"{name}: still starting ({waited_s:.0f} s)")
            await asyncio.sleep(_POLL_S)


def command(
    argv: Sequence[str], env: Mapping[str, str], relay: Callable[[subprocess.Popen[bytes]], None]
) -> Callable[[], subprocess.Popen[bytes]]:
    """A `Service.spawn` for a program of ours.

    It runs in a session of its own, so that Ctrl-C reaches only the supervisor, which then stops things in their order,
    and it is killed when the supervisor dies: what it does is repeatable.

    Args:
        argv: program and arguments.
        env: its whole environment.
        relay: takes the output of each new process.
    """

    def spawn() -> subprocess.Popen[bytes]:
        process = subprocess.Popen(  # noqa: S603 - our own programs
            tied(argv, signal.SIGKILL),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(env),
            start_new_session=True,
        )
        relay(process)
        return process

    return spawn


def terminate(process: subprocess.Popen[bytes], grace_s: float = _STOP_GRACE_S) -> None:
    """SIGTERM, then SIGKILL after a grace; what the process started in its own session is killed with it."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(grace_s)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def how_it_ended(process: subprocess.Popen[bytes]) -> str:
    """The end of a process in words."""
    status = process.returncode
    if status is not None and status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return f"ended with exit status {status}"


def _end(kept: _Kept) -> None:
    kept.service.end(kept.process)
