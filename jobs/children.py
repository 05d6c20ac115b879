"""Runs a job's computation in a child process with limits of time and memory.

Whatever goes wrong there is one job's failure: a crash in native code, an endless loop, a hunger for memory. The parent only
waits and watches; cancelling the waiting kills the child at once. Children start without the secrets of their parent.
`jobs.child` is the program on the other side.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
import structlog

from jobs.child import Document, frame
from schemas.errors import Reason, Rejected, Transient, WeirError

_log = structlog.get_logger()
_MIB: Final = 1 << 20
# Libraries map far more than they use (1.3 GB for Open3D); the limit proper is on what is really held, see `_watch`.
_MAPPED_MIB: Final = 2_048
_WATCH_S: Final = 0.2
_KEPT_STDERR: Final = 4_000
_LENGTH_BYTES: Final = 4
_READ_BYTES: Final = 1 << 16
# Of settings and of the login: children reach no database, no broker and no payment provider.
_PRIVATE: Final = ("WEIR_", "PG", "STRIPE_")
# As many children run as there are processors: threads of linear algebra would only wait for each other's.
_SINGLE: Final = {"OPENBLAS_NUM_THREADS": "1"}
_PROC: Final = Path("/proc/self")


class ComputationFailed(WeirError):
    """The computation ended without a result; the text is one that the person who waits for it may read."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one computation may take.

    Args:
        seconds: by the clock on the wall, and about as many of processor time for each of two threads.
        memory_mib: held at once.
        niceness: gives way to others by this much.
        reuse: how many computations one child may do, one after the other.
    """

    seconds: float
    memory_mib: int
    niceness: int = 0
    reuse: int = 1


@dataclass(slots=True)
class _Child:
    process: asyncio.subprocess.Process
    limits: Limits
    stderr: bytearray = field(default_factory=bytearray)
    drain: asyncio.Task[None] | None = None
    done: int = 0
    is_hungry: bool = False


class Children:
    """The children of one worker; none runs until the first computation.

    Args:
        environment: of the worker; children get it without what is private.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        public = {name: value for name, value in environment.items() if not name.startswith(_PRIVATE)}
        self._environment = {**public, **_SINGLE}
        self._idle: list[_Child] = []

    async def run(
        self, work: str, request: Document, limits: Limits, tell: Callable[[float], None] = lambda _: None
    ) -> Document:
        """The document that a function returns for a request.

        Args:
            work: `package.module:function`, see `jobs.child`.
            request: plain values.
            limits: of this computation.
            tell: called with the share that is done, 0 to 1, as often as the function says.

        Raises:
            ComputationFailed: it crashed, raised, or went past a limit.
            Rejected, Transient: as the function raised them.
        """
        child = await self._take(limits)
        watch = asyncio.create_task(_watch(child))
        try:
            async with asyncio.timeout(limits.seconds):
                answer = await self._ask(child, work, request, tell)
        except TimeoutError as exc:
            await _kill(child)
            msg = f"it took longer than {limits.seconds:.0f} s"
            raise ComputationFailed(msg) from exc
        except BaseException:
            await _kill(child)
            raise
        finally:
            watch.cancel()
        await self._put_back(child, answer)
        return _result(answer, limits)

    async def close(self) -> None:
        """End the children that wait for work."""
        while self._idle:
            await _kill(self._idle.pop())

    async def _take(self, limits: Limits) -> _Child:
        # Looked for anew each time: while a dead one is reaped, others take of those that wait.
        while (child := next((child for child in self._idle if child.limits == limits), None)) is not None:
            self._idle.remove(child)
            if child.process.returncode is None and _is_there(child.process.pid):
                return child
            await _kill(child)
        return await self._spawn(limits)

    async def _spawn(self, limits: Limits) -> _Child:
        address_space = (limits.memory_mib + _MAPPED_MIB) * _MIB
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "jobs.child"),
            *(str(number) for number in (os.getpid(), address_space, limits.niceness)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._environment,
            # Ctrl-C is for the worker, which decides what becomes of its children.
            start_new_session=True,
        )
        child = _Child(process, limits)
        child.drain = asyncio.create_task(_drain(child))
        return child

    async def _ask(self, child: _Child, work: str, request: Document, tell: Callable[[float], None]) -> Document:
        process = child.process
        assert process.stdin is not None  # noqa: S101 - it was asked for
        cpu_s = 2 * child.limits.seconds
        with suppress(ConnectionError):  # how it ended says more
            process.stdin.write(frame({"work": work, "request": request, "cpu_s": cpu_s}))
            await process.stdin.drain()
        while (message := await _receive(process)) is not None:
            if "progress" not in message:
                return message
            tell(message["progress"])
        await process.wait()
        raise await _how_it_ended(child)

    async def _put_back(self, child: _Child, answer: Document) -> None:
        child.done += 1
        if child.done < child.limits.reuse and "result" in answer:
            self._idle.append(child)
        else:
            await _kill(child)


async def _receive(process: asyncio.subprocess.Process) -> Document | None:
    assert process.stdout is not None  # noqa: S101 - it was asked for
    try:
        head = await process.stdout.readexactly(_LENGTH_BYTES)
        body = await process.stdout.readexactly(int.from_bytes(head))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    return msgspec.msgpack.decode(body, type=Document)


def _result(answer: Document, limits: Limits) -> Document:
    if "result" in answer:
        result: Document = answer["result"]
        return result
    if "rejected" in answer:
        reason, detail = answer["rejected"]
        raise Rejected(Reason(reason), detail)
    if "transient" in answer:
        raise Transient(answer["transient"])
    if "memory" in answer:
        raise _too_hungry(limits)
    _log.error("computation_failed", error=answer["failed"], text=answer["text"])
    msg = f"it failed ({answer['failed']})"
    raise ComputationFailed(msg)


async def _how_it_ended(child: _Child) -> ComputationFailed:
    if child.is_hungry:
        return _too_hungry(child.limits)
    if child.drain is not None:
        await child.drain
    status = child.process.returncode or 0
    _log.error("computation_crashed", status=status, said=child.stderr.decode(errors="replace"))
    if status == -signal.SIGXCPU:
        return ComputationFailed(f"it used more than {2 * child.limits.seconds:.0f} s of processor time")
    how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
    return ComputationFailed(f"it crashed ({how})")


def _too_hungry(limits: Limits) -> ComputationFailed:
    return ComputationFailed(f"it needed more than {limits.memory_mib} MiB of memory")


async def _watch(child: _Child) -> None:
    """End a child that holds more memory than it may."""
    while (held := _held_bytes(child.process.pid)) is not None:
        if held > child.limits.memory_mib * _MIB:
            child.is_hungry = True
            _signal(child)
            return
        await asyncio.sleep(_WATCH_S)


def _held_bytes(pid: int) -> int | None:
    """Memory that a process holds; None if it is gone, or without /proc: there the limit on what is mapped must do."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    except (OSError, IndexError):
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _is_there(pid: int) -> bool:
    """Whether a process lives, also before asyncio has heard of its end; a zombie holds nothing."""
    return bool(_held_bytes(pid)) or not _PROC.exists()


async def _drain(child: _Child) -> None:
    """Keep the end of what a child says."""
    assert child.process.stderr is not None  # noqa: S101 - it was asked for
    while chunk := await child.process.stderr.read(_KEPT_STDERR):
        child.stderr += chunk
        del child.stderr[:-_KEPT_STDERR]


async def _kill(child: _Child) -> None:
    _signal(child)
    # Whoever cancelled us must not wait in vain, nor may a zombie stay.
    await asyncio.shield(_reap(child))


async def _reap(child: _Child) -> None:
    # asyncio tells of the end of a process only once its pipes have been read to theirs.
    while child.process.stdout is not None and await child.process.stdout.read(_READ_BYTES):
        pass
    await child.process.wait()
    if child.drain is not None:
        await child.drain


def _signal(child: _Child) -> None:
    if child.process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(child.process.pid, signal.SIGKILL)
