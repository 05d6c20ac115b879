"""`weir alarms` on a real database: what is open, and closing it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from ops.commands import alarms
from schemas.errors import Misconfigured
from tests.integration.servers import Database

pytestmark = pytest.mark.integration


def test_open_alarms_are_listed_and_closed_by_number(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEIR_DATABASE_URL", database.writer_url)
    database.query(
        "INSERT INTO weir.operator_alarm (kind, subject, detail, opened_at, last_seen_at) VALUES"
        " ('stream_gap', 'readings/0', 'offsets 1 to 3', '2026-11-22T20:00:00Z', '2026-11-22T21:00:00.5Z'),"
        " ('stream_gap', 'readings/1', 'offsets 2 to 3', '2026-11-22T20:00:00Z', '2026-11-22T20:00:00Z'),"
        " ('billing', 'usage drift', '', '2026-11-22T20:00:00Z', '2026-11-22T20:00:00Z')"
    )

    assert (
        run("list").stdout.splitlines()[0] == "     1  2026-11-22T21:00:00.500Z  stream_gap readings/0: offsets 1 to 3"
    )
    assert run("close", "2", "1").stdout == "closed 2\n"
    assert [json.loads(line)["subject"] for line in run("list", "--json").stdout.splitlines()] == ["usage drift"]
    with pytest.raises(Misconfigured, match="no alarm 1 is open"):
        run("close", "1")
    with pytest.raises(Misconfigured, match="either the numbers of alarms, or --all"):
        run("close")
    assert run("close", "--all").stdout == "closed 1\n"
    assert run("list").stdout == ""


def run(*words: str) -> Any:
    app = typer.Typer(add_completion=False)
    alarms.register(app)
    return CliRunner().invoke(app, ["alarms", *words], catch_exceptions=False)
