"""The other gates of `make test` are wired up, and each finds what it is there to find."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.tree import PACKAGES, ROOT, pyproject

BIN = Path(sys.executable).parent

# rule, the folder it is seeded in, a module that breaks it
RUFF_SEEDS = [
    ("F401", "core", '"""Seeded."""\n\nimport os\n'),
    ("T201", "core", '"""Seeded."""\n\nprint("left in")\n'),
    ("D103", "processors", '"""Seeded."""\n\n\ndef undocumented() -> None:\n    pass\n'),
    ("D100", "schemas", "VALUE = 1\n"),
    ("ANN201", "sinks", '"""Seeded."""\n\n\ndef untyped():\n    """Return nothing."""\n'),
    ("DTZ005", "jobs", '"""Seeded."""\n\nimport datetime\n\nNOW = datetime.datetime.now()\n'),
    (
        "S608",
        "sinks",
        '"""Seeded."""\n\n\ndef query(name: str) -> str:\n    """Build."""\n    return f"SELECT * FROM {name}"\n',
    ),
    ("G004", "streams", '"""Seeded."""\n\nimport logging\n\nlogging.getLogger(__name__).info(f"{1}")\n'),
]


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """An empty project under this project's settings."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def seed(project: Path, folder: str, text: str) -> None:
    (project / folder).mkdir()
    (project / folder / "seeded.py").write_text(text)


@pytest.mark.parametrize(("rule", "folder", "text"), RUFF_SEEDS)
def test_ruff_finds_a_seeded_violation(project: Path, rule: str, folder: str, text: str) -> None:
    seed(project, folder, text)

    result = run(str(BIN / "ruff"), "check", "--no-cache", "--output-format", "json", ".", cwd=project)

    assert result.returncode == 1, result.stderr
    assert rule in {finding["code"] for finding in json.loads(result.stdout)}


def test_the_formatter_finds_a_seeded_violation(project: Path) -> None:
    seed(project, "core", '"""Seeded."""\n\nVALUES = [1,2]\n')

    result = run(str(BIN / "ruff"), "format", "--no-cache", "--check", ".", cwd=project)

    assert result.returncode == 1
    assert "1 file would be reformatted" in result.stdout


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("no-untyped-def", "def untyped(value):\n    return value\n"),
        ("return-value", 'def number() -> int:\n    return "one"\n'),
    ],
)
def test_mypy_finds_a_seeded_violation(project: Path, code: str, text: str) -> None:
    seed(project, "processors", text)

    result = run(str(BIN / "mypy"), "--cache-dir", str(project / "cache"), "processors", cwd=project)

    assert result.returncode == 1, result.stderr
    assert f"[{code}]" in result.stdout


def test_mypy_is_strict_on_every_package_and_the_tests() -> None:
    settings = pyproject()["tool"]["mypy"]

    assert settings["strict"] is True
    assert {ROOT / folder for folder in settings["files"]} == {*PACKAGES.values(), ROOT / "tests"}
    assert not any(override.get("ignore_errors") for override in settings["overrides"])


def test_make_test_runs_every_gate() -> None:
    planned = run("make", "--dry-run", "test", cwd=ROOT).stdout

    for gate in ("ruff check .", "ruff format --check .", "bin/mypy", "bin/lint-imports", "-m pytest"):
        assert gate in planned, planned
