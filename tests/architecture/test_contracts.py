"""Every import-linter contract of pyproject.toml lets a clean tree pass and names itself when it is broken.

The tree is a skeleton: empty modules in the project's shape, so that only the seeded line can decide.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.tree import PACKAGES, ROOT, pyproject

LINT_IMPORTS = Path(sys.executable).parent / "lint-imports"

DIRECTION = "dependency direction"
PURE = "processors and schemas do no I/O"
FAUST = "only streams talks to Faust"
STRIPE = "only billing talks to Stripe"
READ_ONLY = "the API never writes telemetry"

# contract, importing module, what it imports
VIOLATIONS = [
    (DIRECTION, "schemas", "core"),
    (DIRECTION, "core", "sinks"),
    (DIRECTION, "sinks", "streams"),
    (DIRECTION, "processors", "sinks"),
    (DIRECTION, "sinks", "accounts"),
    (DIRECTION, "streams", "api"),
    (DIRECTION, "jobs", "streams"),
    (DIRECTION, "api", "ops"),
    (PURE, "processors", "core"),
    (PURE, "processors", "psycopg"),
    (PURE, "processors", "logging"),
    (PURE, "schemas", "time"),
    (PURE, "schemas", "socket"),
    (FAUST, "api", "faust"),
    (FAUST, "sinks", "faust"),
    (FAUST, "processors", "faust"),
    (STRIPE, "api", "stripe"),
    (STRIPE, "jobs", "stripe"),
    (READ_ONLY, "api", "sinks.timescale.writer"),
]


def contracts() -> list[dict[str, object]]:
    settings = pyproject()["tool"]["importlinter"]
    return list(settings["contracts"])


@pytest.fixture
def skeleton(tmp_path: Path) -> Path:
    """The project's packages, each module empty but those that may use Faust and Stripe, under the project's own settings."""
    for name, top in PACKAGES.items():
        for path in top.rglob("*.py"):
            copy = tmp_path / name / path.relative_to(top)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.touch()
    # A protected module that nobody imports is an error of its own.
    (tmp_path / "streams" / "allowed.py").write_text("import faust\n")
    (tmp_path / "accounts" / "billing" / "allowed.py").write_text("import stripe\n")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(LINT_IMPORTS), "--no-cache"], cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )


def test_every_contract_has_a_seeded_violation() -> None:
    assert {contract["name"] for contract in contracts()} == {name for name, _, _ in VIOLATIONS}


def test_a_clean_tree_keeps_every_contract(skeleton: Path) -> None:
    result = lint(skeleton)

    assert result.returncode == 0, result.stdout + result.stderr
    assert f"Contracts: {len(contracts())} kept, 0 broken." in result.stdout


@pytest.mark.parametrize(("contract", "importer", "imported"), VIOLATIONS)
def test_a_forbidden_import_breaks_its_contract(skeleton: Path, contract: str, importer: str, imported: str) -> None:
    (skeleton / importer / "seeded.py").write_text(f"import {imported}\n")

    result = lint(skeleton)

    assert result.returncode == 1, result.stdout + result.stderr
    assert f"{contract} BROKEN" in result.stdout
    assert f"{importer}.seeded -> {imported}" in result.stdout


def test_an_import_inside_a_function_counts_as_well(skeleton: Path) -> None:
    (skeleton / "processors" / "seeded.py").write_text("def late() -> None:\n    import psycopg\n")

    result = lint(skeleton)

    assert f"{PURE} BROKEN" in result.stdout


def test_a_detour_over_another_module_counts_as_well(skeleton: Path) -> None:
    (skeleton / "sinks" / "seeded.py").write_text("import sinks.timescale.writer\n")
    (skeleton / "api" / "seeded.py").write_text("import sinks.seeded\n")

    result = lint(skeleton)

    assert f"{READ_ONLY} BROKEN" in result.stdout
