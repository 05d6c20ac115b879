"""`weir worker`: one stream worker; run as many as the topic has partitions."""

from __future__ import annotations

import asyncio
import os
import sys

import typer

from ops.loading import loading


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def worker() -> None:
        """Read device records from Kafka and commit them to the database."""
        with loading():
            from core.logging import configure_logging
            from core.settings import load_settings
            from streams.worker import Worker

        settings = load_settings()
        configure_logging(settings.log_level, settings.log_format, role="worker")
        code = asyncio.run(Worker(settings).run())
        sys.stderr.flush()
        # Faust's consumer thread may outlive its stop; what had to be committed is committed.
        os._exit(code)
