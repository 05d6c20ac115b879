"""What `weir up` prints: its own progress on stdout, the lines of its children with their names on stderr.

Printing happens in a thread behind a bounded queue. A terminal that is paused, or a pipe that nobody reads, can
therefore never hold up the supervisor or fill a child's pipe; lines beyond the queue are dropped and counted.
"""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from contextlib import suppress

_QUEUE_LINES = 10_000
_DRAIN_S = 1.0
_LINE_BYTES = 8_192


class Console:
    """Prints whole lines in the order they were given."""

    def __init__(self, width: int = 10) -> None:
        self._width = width
        self._lines: queue.Queue[tuple[int, bytes] | None] = queue.Queue(_QUEUE_LINES)
        self._dropped = 0
        self._printer = threading.Thread(target=self._print, name="console", daemon=True)
        self._printer.start()

    def say(self, text: str) -> None:
        """A line of our own."""
        self._put(sys.stdout.fileno(), text.encode())

    def relay(self, name: str, process: subprocess.Popen[bytes]) -> None:
        """Print a child's output with its name in front, until it closes it."""
        threading.Thread(target=self._relay, args=(name, process), name=f"relay-{name}", daemon=True).start()

    def close(self) -> None:
        """Print what is left, unless nobody reads it."""
        with suppress(queue.Full):
            self._lines.put(None, timeout=_DRAIN_S)
        self._printer.join(_DRAIN_S)

    def _relay(self, name: str, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None  # noqa: S101 - given by whoever made the pipe
        with process.stdout as output:
            while line := output.readline(_LINE_BYTES):
                self._put(sys.stderr.fileno(), f"{name:<{self._width}} | ".encode() + line.rstrip(b"\r\n"))

    def _put(self, descriptor: int, line: bytes) -> None:
        try:
            self._lines.put_nowait((descriptor, line + b"\n"))
        except queue.Full:
            self._dropped += 1

    def _print(self) -> None:
        while (item := self._lines.get()) is not None:
            _write(*item)
            if self._dropped and self._lines.empty():
                dropped, self._dropped = self._dropped, 0
                _write(sys.stderr.fileno(), f"({dropped} lines were not printed: nobody read them)\n".encode())


def _write(descriptor: int, line: bytes) -> None:
    with suppress(OSError):  # the reader has gone; the system goes on without it
        while line:
            line = line[os.write(descriptor, line) :]
