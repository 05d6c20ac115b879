"""Ties a child process to its parent, and finds processes by a mark. Linux does both; elsewhere they do less.

The kernel sends the signal when the *thread* that started the child ends, so children are started from the main thread.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_POLL_S = 0.01
ON_LINUX = sys.platform == "linux"


def dies_with_parent(sig: signal.Signals) -> Callable[[], None]:
    """A `preexec_fn`: the child gets `sig` as soon as this process is gone, even by kill -9.

    Raises:
        RuntimeError: not called from the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        msg = "start child processes from the main thread: the kernel ties a child's life to the thread that started it"
        raise RuntimeError(msg)
    parent = os.getpid()
    prctl = ctypes.CDLL(None, use_errno=True).prctl if ON_LINUX else None

    def before_exec() -> None:
        if prctl is not None:
            prctl(_PR_SET_PDEATHSIG, int(sig))
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)

    return before_exec


def processes_marked(marker: str) -> list[int]:
    """Ids of the processes whose command line holds `marker`; none where there is no /proc.

    Every process may read another's command line there, also without the capabilities that containers withhold.
    """
    found = []
    for entry in Path("/proc").glob("[0-9]*") if ON_LINUX else ():
        with suppress(OSError):
            if marker.encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found


def wait_until(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Poll `condition` until it holds; False once the time is over."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def send(pid: int, sig: signal.Signals) -> None:
    """Signal a process that may be gone already."""
    with suppress(ProcessLookupError):
        os.kill(pid, sig)

