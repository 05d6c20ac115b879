"""A PostgreSQL cluster on disk: creating it, and telling in one sentence why one cannot be used.

    <folder>/server.json   0600: port, the superuser's password
    <folder>/server.log    what the server said
    <folder>/lock          held while a server runs
    <folder>/cluster/      PostgreSQL's own; under root it belongs to the server's account

A cluster is made under another name and renamed when it is complete, so a first start may be killed at any moment.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import signal
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ops.embedded import private_json
from ops.embedded.binaries import Account, Programs, run_as
from ops.embedded.lifeline import ON_LINUX, processes_marked, send, wait_until
from schemas.errors import Misconfigured

SUPERUSER = "postgres"
_FREE_BYTES_TO_CREATE = 256 * 1024 * 1024
_ORPHAN_SHUTDOWN_S = 60.0
_KILL_S = 10.0
_PASSWORD_BYTES = 24


@dataclass(frozen=True, slots=True)
class ServerFile:
    """What must stay the same from one start to the next."""

    port: int | None
    password: str


def load_or_begin(folder: Path) -> ServerFile:
    """Read `server.json`, or choose a password and write it before there is a cluster that needs it.

    Raises:
        Misconfigured: there is a cluster but its password is lost.
    """
    content = private_json.read(folder / "server.json")
    if content is not None:
        return ServerFile(content.get("port"), str(content["superuser_password"]))
    if (folder / "cluster").exists():
        msg = f"{folder}/server.json with the database's password is missing; restore it or move {folder} away"
        raise Misconfigured(msg)
    begun = ServerFile(None, secrets.token_urlsafe(_PASSWORD_BYTES))
    save(folder, begun)
    return begun


def save(folder: Path, server: ServerFile) -> None:
    """Write `server.json`."""
    private_json.write(folder / "server.json", {"port": server.port, "superuser_password": server.password})


def create(folder: Path, programs: Programs, account: Account | None, password: str) -> None:
    """Make `<folder>/cluster` with scram-sha-256 for every connection.

    Raises:
        Misconfigured: the disk is full or initdb failed.
    """
    _require_space(folder)
    draft = folder / "cluster.new"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    _hand_over(draft, account)
    try:
        _initdb(draft, programs, account, password)
        draft.rename(folder / "cluster")
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def check(cluster: Path, programs: Programs, account: Account | None) -> None:
    """Refuse a cluster that this installation cannot run.

    Raises:
        Misconfigured: it is damaged, of another major version or another user's.
    """
    remedy = f"restore it from a backup, or move {cluster.parent} away to begin with an empty database"
    try:
        major = (cluster / "PG_VERSION").read_text().strip()
    except FileNotFoundError as error:
        msg = f"the database in {cluster} is damaged (PG_VERSION is missing); {remedy}"
        raise Misconfigured(msg) from error
    except PermissionError as error:
        msg = f"the database in {cluster} belongs to another user; run as that user or choose another data dir"
        raise Misconfigured(msg) from error
    if major != programs.major:
        msg = (
            f"the database in {cluster} was made by PostgreSQL {major}, this is {programs.major}; "
            f"dump it with PostgreSQL {major} and load it again, or move {cluster.parent} away"
        )
        raise Misconfigured(msg)
    if cluster.stat().st_uid == 0 and account is not None:  # copied back by root
        _hand_over(cluster, account)
    cluster.chmod(0o700)


def marker(cluster: Path) -> str:
    """The server's `cluster_name`: PostgreSQL shows it in the command line of each of its processes."""
    return f"weir-{hashlib.sha256(str(cluster).encode()).hexdigest()[:16]}"


def end_leftovers(cluster: Path) -> None:
    """End a server that outlived the process that started it: fast shutdown first, then kill -9."""
    mark = marker(cluster)
    for pid in processes_marked(mark):
        send(pid, signal.SIGINT)
    if not wait_until(lambda: not processes_marked(mark), _ORPHAN_SHUTDOWN_S):
        kill_all(cluster)
    if ON_LINUX:  # its process is gone, whoever has its id now; elsewhere PostgreSQL must judge by itself
        (cluster / "postmaster.pid").unlink(missing_ok=True)


def kill_all(cluster: Path) -> None:
    """SIGKILL every process of the cluster and wait until none is left."""

    def none_left() -> bool:
        pids = processes_marked(marker(cluster))
        for pid in pids:
            send(pid, signal.SIGKILL)
        return not pids

    wait_until(none_left, _KILL_S)


def _require_space(folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < _FREE_BYTES_TO_CREATE:
        msg = (
            f"{folder} has {free // 2**20} MiB free, a new database needs {_FREE_BYTES_TO_CREATE // 2**20}; "
            "free some space or choose another data dir"
        )
        raise Misconfigured(msg)


def _hand_over(path: Path, account: Account | None) -> None:
    if account is None:
        return
    for entry in (path, *path.rglob("*")):
        os.chown(entry, account.uid, account.gid, follow_symlinks=False)


def _initdb(draft: Path, programs: Programs, account: Account | None, password: str) -> None:
    # The password goes through an unlinked file that the account may read, never through arguments.
    with tempfile.TemporaryFile("w+") as secret:
        secret.write(f"{password}\n")
        secret.flush()
        secret.seek(0)
        if account is not None:
            os.fchown(secret.fileno(), account.uid, account.gid)
        argv = [programs.initdb, "-D", data_argument(draft, account), "-U", SUPERUSER, "--pwfile=/dev/stdin"]
        argv += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", *_builtin_locale(programs)]
        done = run_as(account, argv, stdin=secret, cwd=draft)
    if done.returncode != 0:
        raise Misconfigured(_why_initdb_failed(draft, done.stderr))


def data_argument(cluster: Path, account: Account | None) -> str:
    """How the server is told where its cluster is; it is always started with the cluster as working directory.

    Under root, the server's account may not be allowed to enter the folders above. The kernel's link to the working
    directory leads there without passing them.
    """
    return str(cluster) if account is None else "/proc/self/cwd"


def _builtin_locale(programs: Programs) -> list[str]:
    """Unicode-aware lower() and the like, the same on every machine; PostgreSQL 17 brings it."""
    return ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"] if int(programs.major) >= 17 else []  # noqa: PLR2004


def _why_initdb_failed(draft: Path, stderr: str) -> str:
    lines = [line for line in stderr.splitlines() if "error" in line.lower() or "fatal" in line.lower()]
    reason = (lines or stderr.splitlines() or ["no message"])[0].strip()
    if "No space left" in stderr:
        return f"no space left on the device of {draft.parent}; free some or choose another data dir"
    return f"the database could not be created in {draft.parent} ({reason}); correct that or choose another data dir"
