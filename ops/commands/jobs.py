"""`weir jobs`: one job worker; run as many as the work needs."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from typing import Annotated

import psycopg
import typer

from core.logging import configure_logging
from core.settings import Settings, load_settings
from core.tasks import Queue
from jobs.schedule import SCHEDULE
from jobs.tasks import TASKS
from jobs.worker import JobWorker, WorkerOptions
from schemas.errors import Misconfigured


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def jobs(
        queues: Annotated[str, typer.Option(help="Queues to serve, separated by commas; all if left out.")] = "",
        concurrency: Annotated[int, typer.Option(min=1, max=100, help="Jobs at once.")] = 4,
        drain_seconds: Annotated[
            float, typer.Option(min=0, help="How long running jobs may go on after SIGTERM; then they are put back.")
        ] = 10.0,
    ) -> None:
        """Run background jobs: roll-ups, partitions, retention, clean-up, billing, scans."""
        settings = load_settings()
        options = job_options(settings, queues, concurrency, drain_seconds)
        configure_logging(settings.log_level, settings.log_format, role="jobs", worker=options.name)
        asyncio.run(_until_signalled(JobWorker(options, TASKS, SCHEDULE)))


def job_options(settings: Settings, queues: str, concurrency: int, drain_s: float) -> WorkerOptions:
    """The worker's options out of settings and command line.

    Raises:
        Misconfigured: an unknown queue, or no URL where one should be.
    """
    url = settings.database_url.get_secret_value()
    wanted = _parse_queues(queues)
    return WorkerOptions(
        url=url,
        queues=wanted,
        concurrency=concurrency,
        drain_s=drain_s,
        name=settings.worker_id or f"{socket.gethostname()}-{os.getpid()}",
        # A preview that is due in half a second announces itself to nobody.
        poll_s=0.5 if wanted is None or Queue.SCAN_PREVIEWS in wanted else 5.0,
        kept_mib=settings.scan_previews_kept_mib,
        statement_timeout_ms=settings.database_statement_timeout_ms,
        secrets=tuple(filter(None, (_password(url), settings.secret_key.get_secret_value(), *_secrets(settings)))),
    )


def _parse_queues(text: str) -> tuple[Queue, ...] | None:
    names = [name.strip() for name in text.split(",") if name.strip()]
    known = {queue.value for queue in Queue}
    unknown = sorted(set(names) - known)
    if unknown:
        msg = f"there is no queue {', '.join(unknown)}; expected some of {', '.join(sorted(known))}"
        raise Misconfigured(msg)
    if Queue.SCANS in names:  # who measures scans previews them
        names.append(Queue.SCAN_PREVIEWS)
    return tuple(Queue(name) for name in dict.fromkeys(names)) or None


def _secrets(settings: Settings) -> tuple[str, ...]:
    kept = (settings.stripe_api_key, settings.stripe_webhook_secret, settings.objects_secret_key)
    return tuple(secret.get_secret_value() for secret in kept)


def _password(url: str) -> str:
    try:
        return str(psycopg.conninfo.conninfo_to_dict(url).get("password") or "")
    except psycopg.ProgrammingError as exc:
        msg = "WEIR_DATABASE_URL is no connection URL; expected postgresql://login:password@host:port/database"
        raise Misconfigured(msg) from exc


async def _until_signalled(worker: JobWorker) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await worker.run(stop)
