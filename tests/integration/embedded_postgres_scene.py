"""Clusters to copy and damage, small disks to fill, other programs that run a server."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from ops.embedded.cluster import marker
from ops.embedded.lifeline import processes_marked
from ops.embedded.postgres import EmbeddedPostgres


def copy_tree(source: Path, target: Path) -> Path:
    """A copy with the owners of the original."""
    assert run("cp", "-a", str(source), str(target))
    return target


def run(program: str, *arguments: str) -> bool:
    """Whether one of the system's programs succeeded."""
    path = shutil.which(program)
    return path is not None and subprocess.run([path, *arguments], check=False, capture_output=True).returncode == 0


def fill_up(file: Path) -> None:
    """Leave no byte free on the disk of `file`."""
    with suppress(OSError), file.open("wb", buffering=0) as stream:
        while stream.write(bytes(1_000_000)):
            pass


def answer(server: EmbeddedPostgres) -> object:
    with psycopg.connect(server.superuser_url) as connection:
        row = connection.execute("SELECT answer FROM kept").fetchone()
    return row and row[0]


def processes_of(folder: Path) -> list[int]:
    return processes_marked(marker(folder.resolve() / "cluster"))


@contextmanager
def parent_of(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another program that runs the server."""
    code = (
        "import pathlib, signal; from ops.embedded.postgres import EmbeddedPostgres\n"
        f"server = EmbeddedPostgres(pathlib.Path({str(folder)!r})); server.start(); print('ready', flush=True)\n"
        "signal.pause()"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with (folder / "said").open("wb") as said:
        parent = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=said)
    try:
        yield parent
    finally:
        parent.kill()
        parent.wait()


@contextmanager
def small_disk(mount_point: Path, mebibytes: int) -> Iterator[Path]:
    """A disk of its own; skips where this process may not mount one."""
    mount_point.mkdir()
    if not run("mount", "-t", "tmpfs", "-o", f"size={mebibytes}m,mode=0700", "tmpfs", str(mount_point)):
        pytest.skip("mounting a small disk is not allowed here")
    try:
        yield mount_point
    finally:
        assert run("umount", "-l", str(mount_point))
