"""What the doctor finds out about a folder of objects."""

from __future__ import annotations

import asyncio
from pathlib import Path

from core.settings import Settings
from ops.findings import Finding
from ops.object_check import examine_objects


def examined(url: Path | str) -> Finding:
    return asyncio.run(examine_objects(Settings(objects_url=str(url))))


def test_a_folder_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    finding = examined(tmp_path)

    assert finding.sentence.startswith(f"{tmp_path} takes, gives and removes objects, ")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_folder_that_is_not_there_yet_is_not_made(tmp_path: Path) -> None:
    finding = examined(tmp_path / "a" / "b")

    assert finding.ok
    assert finding.sentence == f"the folder {tmp_path / 'a' / 'b'} is not there yet; the first scan makes it"
    assert list(tmp_path.iterdir()) == []


def test_a_file_where_the_folder_should_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "objects").write_text("in the way")
    finding = examined(tmp_path / "objects")

    assert not finding.ok
    assert (
        finding.sentence
        == f"the folder {tmp_path / 'objects'} for objects cannot be made (File exists); correct WEIR_OBJECTS_URL"
    )


def test_a_url_that_is_not_understood_is_named() -> None:
    assert "expected a folder" in examined("ftp://host/x").sentence
