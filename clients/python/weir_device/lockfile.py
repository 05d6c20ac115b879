"""A lock that dies with its holder, so that a crash never leaves a buffer locked. POSIX only (flock)."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from weir_device.errors import BufferUnusable


def hold_lock(path: Path) -> int:
    """Take the lock; closing the returned descriptor gives it back.

    Raises:
        BufferUnusable: another publisher, in this process or another, holds it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
        os.close(descriptor)
        msg = f"buffer directory {path.parent} is in use by process {holder or 'unknown'}; give each publisher its own"
        raise BufferUnusable(msg) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
    return descriptor
