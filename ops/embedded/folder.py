"""A private folder that one process at a time may use."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from schemas.errors import Misconfigured

_LOCK_FILE = "lock"


def take_folder(folder: Path) -> int:
    """Make the folder if it is missing and take it; the returned descriptor holds it until it is closed.

    The kernel gives it back when this process ends in whatever way.

    Raises:
        Misconfigured: another process has it, or it cannot be made or written to.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(folder / _LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        msg = f"{folder} cannot be used ({error.strerror}); correct that or choose another data dir"
        raise Misconfigured(msg) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        msg = f"{folder} is in use by process {holder}; stop that one or choose another data dir"
        raise Misconfigured(msg) from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor
