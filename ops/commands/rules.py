"""`weir rules test`: unit tests of rules from files, without any server.

Border: files, printing and the exit code; what the tests mean is `ops.rule_tests`'s.
"""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path
from typing import Annotated

import typer

from schemas.errors import Misconfigured


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="Test rules.")
    group.callback()(_rules)
    group.command("test")(test_command)
    app.add_typer(group, name="rules")


def _rules() -> None:
    """Test rules before they judge real readings."""


def test_command(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="JSON or TOML files; - is JSON on standard input")
    ],
) -> None:
    """Run rule tests: series in, expected alerts at given times out.

    Exit code 1 if any expectation was not met, 2 if a file cannot be used.
    """
    from ops.rule_tests import BadRuleTest, run_tests

    failed = False
    for file in files:
        try:
            outcome = run_tests(_read(file))
        except BadRuleTest as exc:
            msg = f"{file}: {exc}"
            raise BadRuleTest(msg) from exc
        for failure in outcome.failures:
            print(f"FAIL {file}: {failure}")
        failed |= bool(outcome.failures)
        met = outcome.expectations - len(outcome.failures)
        print(f"{file}: {met} of {outcome.expectations} expectations met in {outcome.tests} tests", flush=True)
    if failed:
        raise typer.Exit(1)


def _read(file: str) -> object:
    try:
        raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as exc:
        msg = f"{file} cannot be read: {exc.strerror}"
        raise Misconfigured(msg) from exc
    suffix = Path(file).suffix.lower()
    if suffix in {".yml", ".yaml"}:
        msg = f"{file}: YAML is not read; write the same as JSON (.json) or TOML (.toml)"
        raise Misconfigured(msg)
    try:
        text = raw.decode("utf-8-sig")
        parsed: object = tomllib.loads(text) if suffix == ".toml" else json.loads(text)
    except (ValueError, RecursionError) as exc:
        msg = f"{file} is not valid {'TOML' if suffix == '.toml' else 'JSON'}: {exc}"
        raise Misconfigured(msg) from exc
    return parsed
