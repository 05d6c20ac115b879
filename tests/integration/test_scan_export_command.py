"""`weir scan export` against a database and an object store: the file as it is there, or why there is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from ops.commands import scan
from ops.scan_export import FORMATS, NotExported
from processors.scans import exports
from schemas.errors import Misconfigured
from tests.integration.api_scene import new_tenant
from tests.integration.scan_scene import plant_export
from tests.integration.servers import Database

pytestmark = pytest.mark.integration

CONTENT = b"name,value\nlength,5.203\n" * 100_000


@pytest.fixture
def scan_id(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A scan with a table of measurements; the settings of an operator, who is in the folder of the test."""
    monkeypatch.setenv("WEIR_DATABASE_URL", database.operator_url)
    monkeypatch.setenv("WEIR_OBJECTS_URL", str(tmp_path / "objects"))
    monkeypatch.chdir(tmp_path)
    tenant = new_tenant(database)
    ((made,),) = database.query(
        "INSERT INTO weir.scan (tenant_id, status) VALUES (%s, 'completed') RETURNING scan_id", tenant.tenant_id
    )
    plant_export(database, tmp_path / "objects", made, "csv", CONTENT)
    return str(made)


def export(*arguments: str) -> Any:
    app = typer.Typer(add_completion=False)
    scan.register(app)
    return CliRunner().invoke(app, ["scan", "export", *arguments], catch_exceptions=False)


def test_it_writes_the_file_under_the_scans_name_or_another(scan_id: str, tmp_path: Path) -> None:
    assert export(scan_id, "csv").exit_code == 0
    assert export(scan_id, "csv", "--to", str(tmp_path / "room.csv")).exit_code == 0

    assert (tmp_path / f"{scan_id}.csv").read_bytes() == (tmp_path / "room.csv").read_bytes() == CONTENT


def test_a_pipe_gets_the_bytes_and_nothing_else(scan_id: str) -> None:
    assert export(scan_id, "csv", "--to", "-").stdout_bytes == CONTENT


def test_as_json_all_of_a_scan_is_told(scan_id: str, database: Database, tmp_path: Path) -> None:
    plant_export(database, tmp_path / "objects", scan_id, "json", b"{}")

    told = json.loads(export(scan_id, "json", "--to", "-").stdout_bytes)

    assert (told["scan_id"], told["status"], told["model"]["formats"]) == (scan_id, "completed", ["csv", "json"])


def test_what_is_not_there_is_said_and_leaves_no_file(scan_id: str, tmp_path: Path) -> None:
    with pytest.raises(NotExported, match="is completed and has no glb"):
        export(scan_id, "glb")
    with pytest.raises(NotExported, match="there is no scan scan_nobody"):
        export("scan_nobody", "csv")
    with pytest.raises(Misconfigured, match="dwg is none of json, csv"):
        export(scan_id, "dwg")

    assert [path.name for path in tmp_path.iterdir()] == ["objects"]


def test_every_format_that_processing_makes_can_be_fetched() -> None:
    assert {*exports.FORMATS, "preview.ply"} == set(FORMATS)
