"""`weir` commands as people run them, in this process: from their words to what they print and how they end.

Starting an interpreter and importing everything takes most of a second; that it works is shown by `tests/unit/ops/test_cli.py`
and by every test that needs a process of its own.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from unittest import mock

from ops.cli import main


def weir(*words: str | int, stdin: str = "", **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a command with these settings (`WEIR_…`) and no others; nobody sits at the terminal."""
    arguments = [str(word) for word in words]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WEIR_")} | settings
    with (
        redirect_stdout(io.StringIO()) as out,
        redirect_stderr(io.StringIO()) as err,
        mock.patch.object(sys, "stdin", io.StringIO(stdin)),
        mock.patch.dict(os.environ, environment, clear=True),
    ):
        code = _exit_code(arguments)
    return subprocess.CompletedProcess(["weir", *arguments], code, out.getvalue(), err.getvalue())


def _exit_code(arguments: list[str]) -> int:
    try:
        main(arguments)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    return 0
