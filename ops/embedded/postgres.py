"""PostgreSQL 18 from the wheel, as a child of this process: no system server, no Docker, nothing changed elsewhere.

It listens on 127.0.0.1 only and has no Unix socket: loopback TCP measured the same for bulk COPY, and a socket would be
one more folder to protect. Every connection needs a password (scram-sha-256). If this process dies, even by kill -9,
the kernel asks the server for a fast shutdown.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import IO, Self

from ops.embedded import cluster as clusters
from ops.embedded.binaries import Account, Programs, find_programs, plain_environment, run_as, server_account
from ops.embedded.folder import take_folder
from ops.embedded.lifeline import tied, wait_until
from ops.embedded.ports import LOOPBACK, pick_port
from schemas.errors import Misconfigured

_START_S = 120.0
_FAST_SHUTDOWN_S = 7.0
_IMMEDIATE_SHUTDOWN_S = 1.5
_LOG_BYTES = 10_000_000

# For steady ingest on a small machine; see docs/operations.md.
_SETTINGS = {
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "max_locks_per_transaction": "512",
    "max_connections": "100",
    "fsync": "on",
    "synchronous_commit": "on",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # Failed statements are not written to the log: they may carry credentials.
    "log_statement": "none",
    "log_min_error_statement": "panic",
    "log_min_messages": "log",
    "log_checkpoints": "off",
    "log_destination": "stderr",
    "logging_collector": "off",
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
}


class EmbeddedPostgres:
    """One server over one folder.

    Args:
        data_dir: private folder for the cluster, its password and its log; made if missing.
        pg_root: another PostgreSQL installation (`bin`, `lib`, `share`) than the wheel's.
        extra_settings: server settings beside or instead of the usual ones.
    """

    def __init__(
        self, data_dir: Path, *, pg_root: Path | None = None, extra_settings: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self._folder = data_dir.resolve()
        self._cluster = self._folder / "cluster"
        self._pg_root = pg_root
        self._extra_settings = dict(extra_settings)
        self._account: Account | None = None
        self._programs: Programs | None = None
        self._server: clusters.ServerFile | None = None
        self._lock: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        return self._running().pid

    @property
    def superuser_url(self) -> str:
        """Where the superuser connects, database `postgres`."""
        return self.url(clusters.SUPERUSER, self._known().password, "postgres")

    def url(self, login: str, password: str, database: str) -> str:
        """Where a login connects; valid once the server has been prepared."""
        return f"postgresql://{login}:{password}@{LOOPBACK}:{self._known().port}/{database}"

    def start(self, timeout_s: float = _START_S) -> None:
        """Create the cluster if there is none, start the server and wait until it takes connections.

        Raises:
            Misconfigured: it cannot start; says why and what to do.
        """
        self.prepare()
        try:
            self._start_prepared(timeout_s)
        except BaseException:
            self.stop()
            raise

    def _start_prepared(self, timeout_s: float) -> None:
        process = self.spawn()
        answered = wait_until(lambda: self.is_ready() or process.poll() is not None, timeout_s)
        if process.poll() is not None:
            raise self.why_it_ended()
        if not answered:
            msg = f"the database in {self._folder} did not start within {timeout_s:.0f} s; see {self.log_file}"
            raise Misconfigured(msg)

    def prepare(self) -> None:
        """Everything before the server's own start: lock, programs, cluster, port. Takes about a second at first.

        Raises:
            Misconfigured: the folder or the cluster in it cannot be used.
        """
        try:
            if self._lock is None:
                self._lock = take_folder(self._folder)
            self._prepare_locked()
        except OSError as error:
            self._unlock()
            msg = (
                f"the folder {self._folder} cannot be used ({error.strerror}); correct that or choose another data dir"
            )
            raise Misconfigured(msg) from error
        except Misconfigured:
            self._unlock()
            raise

    def _prepare_locked(self) -> None:
        self._account = server_account(self._cluster)
        self._programs = find_programs(self._pg_root, self._account)
        server = clusters.load_or_begin(self._folder)
        if self._cluster.exists():
            clusters.check(self._cluster, self._programs, self._account)
        else:
            clusters.create(self._folder, self._programs, self._account, server.password)
        self._server = clusters.ServerFile(pick_port(server.port), server.password)
        clusters.save(self._folder, self._server)

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start the server's process; `prepare` was called and this is the main thread."""
        account, arguments = self._account, self._arguments()
        clusters.end_leftovers(self._cluster)
        uid, gid = (account.uid, account.gid) if account else (None, None)
        with self._open_log() as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own programs
                tied(arguments, signal.SIGINT, uid=uid, gid=gid),
                cwd=self._cluster,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=plain_environment(),
                start_new_session=True,
            )
        return self._process

    def is_ready(self) -> bool:
        """Whether the server takes connections; cheap enough to poll."""
        try:
            lines = (self._cluster / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) > 7 and lines[0] == str(self._running().pid) and lines[7].strip() == "ready"  # noqa: PLR2004

    def why_it_ended(self) -> Misconfigured:
        """One sentence about a server that ended by itself, from its log."""
        with self.log_file.open(errors="replace") as log:
            log.seek(self._log_start)
            said = log.read()
        reasons: list[str] = re.findall(r"(?:FATAL|PANIC): +(.*)", said) or said.splitlines()[-1:] or ["no message"]
        if "No space left" in said:
            msg = f"no space left on the device of {self._folder}; free some and start again, no data is lost"
            return Misconfigured(msg)
        return Misconfigured(
            f"the database in {self._folder} does not start ({reasons[-1]}); correct that, restore it from a backup, "
            f"or move {self._folder} away to begin with an empty one (its log: {self.log_file})"
        )

    def stop(self) -> None:
        """Fast shutdown; immediate if that takes too long, kill -9 at last. Does nothing when not running."""
        process = self._process
        if process is not None:
            for sig, patience_s in ((signal.SIGINT, _FAST_SHUTDOWN_S), (signal.SIGQUIT, _IMMEDIATE_SHUTDOWN_S)):
                if process.poll() is None:
                    process.send_signal(sig)
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(patience_s)
        self.kill()

    def kill(self) -> None:
        """SIGKILL the server and all its processes at once, as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            clusters.kill_all(self._cluster)
        self._unlock()

    @property
    def log_file(self) -> Path:
        """What the server says."""
        return self._folder / "server.log"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _arguments(self) -> list[str]:
        programs, port = self._prepared(), str(self._known().port)
        settings = _SETTINGS | {
            "wal_compression": self._wal_compression(programs),
            "port": port,
            "cluster_name": clusters.marker(self._cluster),
        }
        settings |= self._extra_settings
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [programs.postgres, "-D", clusters.data_argument(self._cluster, self._account), *options]

    def _wal_compression(self, programs: Programs) -> str:
        """The fastest method that this installation was built with."""
        where = clusters.data_argument(self._cluster, self._account)
        asked = [programs.postgres, "-D", where, "-C", "wal_compression", "-c", "wal_compression=lz4"]
        return "lz4" if run_as(self._account, asked, cwd=self._cluster).returncode == 0 else "pglz"

    def _open_log(self) -> IO[bytes]:
        if self.log_file.exists() and self.log_file.stat().st_size > _LOG_BYTES:
            self.log_file.replace(self.log_file.with_suffix(".log.1"))
        log = os.fdopen(os.open(self.log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")
        self._log_start = log.tell()
        return log

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            msg = f"the database in {self._folder} is not running; call start()"
            raise RuntimeError(msg)
        return self._process

    def _prepared(self) -> Programs:
        if self._programs is None:
            msg = f"the database in {self._folder} is not prepared; call prepare()"
            raise RuntimeError(msg)
        return self._programs

    def _known(self) -> clusters.ServerFile:
        if self._server is None:
            msg = f"the database in {self._folder} is not prepared; call prepare()"
            raise RuntimeError(msg)
        return self._server
