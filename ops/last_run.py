"""How the last run of `weir up` ended, as far as the embedded broker's memory goes, and what its workers' reports mean then."""

from __future__ import annotations

from pathlib import Path

import psycopg

_FILE = "drained"


def note_drained(data_dir: Path) -> None:
    """The run ends, and what the broker held is committed."""
    (data_dir / _FILE).touch()


def tell_of_last_run(data_dir: Path, owner_url: str) -> None:
    """At a start: what the last run's workers held matters only where something may be lost."""
    if (data_dir / _FILE).exists():
        _forget_workers(owner_url)
    else:
        forgive_workers(owner_url)
    (data_dir / _FILE).unlink(missing_ok=True)


def forgive_workers(owner_url: str) -> None:
    """Note that no worker lives, and that none failed: a fresh report would make the system look ready before it is.

    What they held is kept: of those that were killed it tells how far a lost log went.
    """
    with psycopg.connect(owner_url, autocommit=True, connect_timeout=2) as connection:
        connection.execute("UPDATE weir.worker_heartbeat SET ended = true, failed_at = NULL")


def _forget_workers(owner_url: str) -> None:
    """They left nothing unread, however they ended."""
    with psycopg.connect(owner_url, autocommit=True) as connection:
        connection.execute("DELETE FROM weir.worker_heartbeat")
