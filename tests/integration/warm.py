"""Processes of Python programs, forked from a parent that has imported what they need: `python -m` without the second it takes.

From there on a program runs as `python -m` would run it, with its own arguments, environment and log, and can be signalled and
killed like any process. Where no process can be tied to its parent, programs are started as usual. That whole programs start
is shown by `test_compose_roles` and by every test of `weir up`.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import gc
import importlib
import json
import os
import runpy
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ops.embedded.lifeline import ON_LINUX, tied

_PR_SET_PDEATHSIG = 1


class Process(Protocol):
    """What is asked of a process, as `subprocess` has it."""

    pid: int

    @property
    def returncode(self) -> int | Any: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, sig: int) -> None: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...


class Forked:
    """A process that the warm parent forked, and that it alone can wait for."""

    def __init__(self, parent: _Parent, pid: int, name: str) -> None:
        self.pid = pid
        self.name = name
        self.returncode: int | None = None
        self._parent = parent
        # Stays the child's until the parent has waited for it.
        self._handle = os.pidfd_open(pid)
        self._end = select.poll()
        self._end.register(self._handle, select.POLLIN)

    def poll(self) -> int | None:
        """Its exit code, if it has ended."""
        return self._returned(0)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code.

        Raises:
            TimeoutExpired: it goes on.
        """
        code = self._returned(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(self.name, timeout or 0.0)
        return code

    def _returned(self, timeout: float | None) -> int | None:
        if self.returncode is None and self._end.poll(None if timeout is None else timeout * 1000):
            self.returncode = self._parent.ask(wait_for=self.pid)
            os.close(self._handle)
        return self.returncode

    def send_signal(self, sig: int) -> None:
        """Nothing happens to one that has ended."""
        if self.poll() is None:
            signal.pidfd_send_signal(self._handle, sig)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill -9."""
        self.send_signal(signal.SIGKILL)


class _Parent:
    """The warm parent, which answers each request with a number."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            tied([sys.executable, "-m", __name__], signal.SIGKILL), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        atexit.register(self.end)

    def ask(self, **request: object) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def end(self) -> None:
        """With it end all that it forked."""
        self._process.communicate()


_parent = functools.cache(_Parent)


def start(
    program: Sequence[str], environment: Mapping[str, str], log_file: Path | None = None, imports: Sequence[str] = ()
) -> Process:
    """Start a program that ends with this process.

    Args:
        program: what would stand behind `python`: `-m` with a module or `-c` with code, and arguments.
        environment: all of its environment.
        log_file: where it appends what it prints; None: to the standard error of the tests.
        imports: modules that it will import, which the parent does once.
    """
    # Made here, for tests read it as soon as this returns.
    with Path(log_file or os.devnull).open("ab") as log:
        if not ON_LINUX:
            out = log if log_file else None
            return subprocess.Popen([sys.executable, *program], env=dict(environment), stdout=out, stderr=out)
    request = {"program": list(program), "environment": dict(environment), "log": log_file and str(log_file)}
    return Forked(_parent(), _parent().ask(imports=list(imports), **request), " ".join(program))


def tie_to_parent() -> None:
    """What `tied` does, of a process that was forked."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _serve() -> dict[str, Any]:
    """Fork a child for each request; only children come back, each with its own."""
    for line in sys.stdin.buffer:
        request: dict[str, Any] = json.loads(line)
        if "wait_for" in request:
            _, status = os.waitpid(request["wait_for"], 0)
            answer = os.waitstatus_to_exitcode(status)
        else:
            for name in request["imports"]:
                importlib.import_module(name)
            gc.freeze()
            answer = os.fork()
            if answer == 0:
                return request
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()
    sys.exit()


def _become(request: dict[str, Any]) -> None:
    tie_to_parent()
    _redirect(os.devnull, os.O_RDONLY, 0)
    if request["log"] is None:
        os.dup2(2, 1)
    else:
        _redirect(request["log"], os.O_WRONLY | os.O_APPEND, 1, 2)
    os.environ.clear()
    os.environ.update(request["environment"])
    kind, what, *arguments = request["program"]
    sys.argv = [kind, *arguments]
    if kind == "-c":
        exec(what, {"__name__": "__main__"})  # noqa: S102 - the test's own
    else:
        runpy.run_module(what, run_name="__main__", alter_sys=True)


def _redirect(path: str, flags: int, *numbers: int) -> None:
    opened = os.open(path, flags)
    for number in numbers:
        os.dup2(opened, number)
    os.close(opened)


if __name__ == "__main__":
    _become(_serve())
