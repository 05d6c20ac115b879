"""The `weir` command: finds the sub-command and turns failures into one sentence.

Only the module of the command that was asked for is imported, so `weir --help` stays quick and a command whose module
does not import breaks no other.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import typer

from ops.loading import loading
from schemas.errors import Misconfigured, WeirError

_USAGE_OR_SETTINGS = 2
_FAILED = 1


@dataclass(frozen=True, slots=True)
class _Command:
    """A sub-command: its module below `ops.commands` registers it under the name that stands here."""

    name: str
    module: str
    help: str


_COMMANDS = (
    _Command("up", "up", "Run the whole system on this machine, with its own broker and database."),
    _Command("migrate", "migrate", "Bring the database to the newest schema."),
    _Command("worker", "worker", "Run a stream worker."),
    _Command("api", "api", "Run the API."),
    _Command("jobs", "jobs", "Run a job worker."),
    _Command("simulate", "simulate", "Publish what realistic devices would."),
    _Command("publish", "publish", "Publish a file as a device: NDJSON, CSV or SenML."),
    _Command("scan", "scan", "Publish room scans from files."),
    _Command("billing", "billing", "Set up Stripe, subscribe tenants."),
    _Command("reconcile", "reconcile", "Print every difference between readings, usage, pushes and Stripe."),
    _Command("usage", "usage", "Write and verify receipts of usage."),
    _Command("rules", "rules", "Test rules: series in, expected alerts out."),
    _Command("dead-letters", "dead_letters", "List, show and replay what was refused."),
    _Command("alarms", "alarms", "List and close operator alarms."),
    _Command("tenant", "tenant", "Make tenants."),
    _Command("user", "user", "Make users who may sign in."),
    _Command("doctor", "doctor", "Check settings, servers, versions, positions and lag; say what to do."),
    _Command("bench", "bench", "Run the benchmarks."),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 wrong usage or settings."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        _application(next((word for word in words if not word.startswith("-")), None))(words, prog_name="weir")
    except WeirError as error:
        _end(str(error), _USAGE_OR_SETTINGS if isinstance(error, Misconfigured) else _FAILED)
    except ValueError as error:
        # Settings that do not parse; pydantic is imported only by commands that have settings.
        if type(error).__name__ != "ValidationError" or getattr(error, "title", "") != "Settings":
            raise
        _end(_explain_settings(error), _USAGE_OR_SETTINGS)


def _end(sentence: str, code: int) -> NoReturn:
    print(f"weir: {sentence}", file=sys.stderr, flush=True)
    raise SystemExit(code) from None


def _explain_settings(error: Any) -> str:  # noqa: ANN401 - pydantic's, which is not imported here
    """Which settings are wrong and how, without their values: some are secrets."""
    wrong = [f"WEIR_{'_'.join(map(str, each['loc'])).upper()}: {each['msg']}" for each in error.errors()]
    return f"{'; '.join(wrong)}; correct the environment or the file that WEIR_ENV_FILE names"


def _application(wanted: str | None) -> typer.Typer:
    """All commands, those that were not asked for with nothing but their help."""
    # A traceback shows no local variables: some of them are secrets.
    app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
    app.callback()(_weir)
    for command in _COMMANDS:
        module = f"ops.commands.{command.module}"
        if command.name == wanted:
            with loading():
                loaded = importlib.import_module(module)
            loaded.register(app)
        elif importlib.util.find_spec(module) is not None:
            app.command(command.name, help=command.help)(_not_asked_for)
    return app


def _weir() -> None:
    """Readings and room scans from Kafka to alerts, bills and dashboards, for many tenants at once."""


def _not_asked_for() -> None:
    """Stand in for a command in the list of commands."""


if __name__ == "__main__":
    main()
