"""Ties a child process to its parent, and finds processes by a mark. Linux does both; elsewhere they do less.

The kernel sends the signal when the *thread* that started the child ends, so children are started from the main thread.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

_POLL_S = 0.01
ON_LINUX = sys.platform == "linux"

# Runs in the child and becomes the program that was asked for. A `preexec_fn` would do the same in a forked copy of
# this process, which is unsafe as soon as there are threads. 1 is PR_SET_PDEATHSIG; changing the account clears it, so
# it comes after; the parent may have died before that.
_TIE = """
import ctypes, os, signal, sys
parent, sig, uid, gid, *argv = sys.argv[1:]
if uid:
    os.setgroups([])
    os.setgid(int(gid))
    os.setuid(int(uid))
ctypes.CDLL(None).prctl(1, int(sig))
if os.getppid() != int(parent):
    os._exit(1)
for reset in (signal.SIGPIPE, signal.SIGXFSZ):
    signal.signal(reset, signal.SIG_DFL)
os.execv(argv[0], argv)
"""


def tied(argv: Sequence[str], sig: signal.Signals, *, uid: int | None = None, gid: int | None = None) -> list[str]:
    """A command line that runs `argv` so that it gets `sig` once this process is gone, even by kill -9.

    Args:
        argv: program with its path, and arguments.
        sig: what the kernel sends.
        uid: the account to change to; None: none.
        gid: the group to change to.

    Raises:
        RuntimeError: not called from the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        msg = "start child processes from the main thread: the kernel ties a child's life to the thread that started it"
        raise RuntimeError(msg)
    if not ON_LINUX:
        return list(argv)
    account = ["", ""] if uid is None else [str(uid), str(gid)]
    return [sys.executable, "-I", "-S", "-c", _TIE, str(os.getpid()), str(int(sig)), *account, *argv]


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
