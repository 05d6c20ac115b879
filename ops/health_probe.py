"""Container health: `python -m ops.health_probe api|worker|jobs` ends with 0 if that role is alive, else says why not.

For orchestrators, which ask inside the container. Whether an API should be sent requests is another question, answered
by its /readyz; a role that waits for a server of its own is alive.
"""

from __future__ import annotations

import socket
import sys
import urllib.error
import urllib.request

import psycopg

from core.postgres import DatabaseRole
from core.settings import Settings, load_settings

_TIMEOUT_S = 4
# Roles report every few seconds; three missed reports are no accident.
_STALE_S = 30.0

# A worker without a name of its own is called by its host, which in a container is the container's id, and process.
_WORKER_AGE = """
    SELECT extract(epoch FROM clock_timestamp() - max(beat_at))::float8 FROM weir.worker_heartbeat
    WHERE worker_id = %(name)s OR starts_with(worker_id, %(prefix)s)
"""
# Job workers report without a name: this says that one is alive, which with one replica is this one.
_JOBS_AGE = (
    "SELECT extract(epoch FROM clock_timestamp() - max(last_heartbeat))::float8 FROM weir_jobs.procrastinate_workers"
)


def main(arguments: list[str]) -> int:
    """Probe the role named on the command line; 0 healthy, 1 not, 2 wrong usage."""
    probes = {"api": probe_api, "worker": probe_worker, "jobs": probe_jobs}
    if len(arguments) != 1 or arguments[0] not in probes:
        print(f"usage: python -m ops.health_probe {'|'.join(probes)}", file=sys.stderr)
        return 2
    problem = probes[arguments[0]](load_settings())
    if problem is not None:
        print(problem)
    return 0 if problem is None else 1


def probe_api(settings: Settings) -> str | None:
    """What is wrong with the API of this container; None if nothing is."""
    url = f"http://127.0.0.1:{settings.api_port}/livez"
    try:
        urllib.request.urlopen(url, timeout=_TIMEOUT_S).close()
    except (urllib.error.URLError, OSError) as error:
        return f"{url}: {error}"
    return None


def probe_worker(settings: Settings) -> str | None:
    """What is wrong with the stream worker of this container; None if nothing is."""
    host = socket.gethostname()
    names = {"name": settings.worker_id or host, "prefix": settings.worker_id or f"{host}-"}
    return _stale(settings, _WORKER_AGE, names, "stream worker")


def probe_jobs(settings: Settings) -> str | None:
    """What is wrong with the job workers; None if nothing is."""
    return _stale(settings, _JOBS_AGE, {}, "job worker")


def _stale(settings: Settings, query: str, names: dict[str, str], who: str) -> str | None:
    try:
        age_s = _age_s(settings.database_url.get_secret_value(), query, names)
    except psycopg.Error as error:
        return f"the {who} cannot be judged: the database answered {type(error).__name__}"
    if age_s is None:
        return f"no {who} has reported yet"
    return (
        None if age_s <= _STALE_S else f"the {who} last reported {age_s:.0f} s ago, expected at most {_STALE_S:.0f} s"
    )


def _age_s(url: str, query: str, names: dict[str, str]) -> float | None:
    with psycopg.connect(url, autocommit=True, connect_timeout=_TIMEOUT_S) as connection:
        connection.execute(psycopg.sql.SQL("SET ROLE {}").format(psycopg.sql.Identifier(DatabaseRole.WRITER.value)))
        row = connection.execute(query.encode(), names).fetchone()
    return None if row is None or row[0] is None else float(row[0])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
