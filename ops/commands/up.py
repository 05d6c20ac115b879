"""`weir up`: the whole system on one machine, in one process tree."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def up(
        data_dir: Annotated[Path, typer.Option(help="Keeps the database and the credentials.")] = Path(".weir"),
        port: Annotated[int, typer.Option(min=0, max=65535, help="The API's port; 0 takes any free one.")] = 8000,
        host: Annotated[str, typer.Option(help="The address that the API listens on.")] = "127.0.0.1",
        workers: Annotated[int, typer.Option(min=1, max=64, help="Stream workers.")] = 1,
        broker_memory: Annotated[
            int,
            typer.Option(
                min=16, help="MiB; when the embedded broker has more and nothing waits in it, it starts afresh."
            ),
        ] = 1024,
        no_demo: Annotated[bool, typer.Option("--no-demo", help="Make the demo tenants, but publish nothing.")] = False,
    ) -> None:
        """Run the whole system on this machine, with its own broker and database."""
        from ops.system import Options, run

        run(Options(data_dir.resolve(), host, port, workers, demo=not no_demo, broker_memory_mib=broker_memory))
