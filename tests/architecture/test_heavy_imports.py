"""Open3D, 0.7 s and 150 MB, is loaded only by processes that need it: never by importing a module of ours."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.architecture.tree import ROOT


def loaded_after(statement: str) -> set[str]:
    program = f"{statement}\nimport sys\nprint(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    )
    return set(result.stdout.split())


@pytest.mark.parametrize(
    "roots",
    ["api.app, api.health", "streams.worker", "jobs.worker, jobs.tasks", "ops.cli, ops.system, ops.commands.doctor"],
)
def test_no_role_loads_open3d_by_being_imported(roots: str) -> None:
    loaded = loaded_after(f"import {roots}")

    assert roots.split(",", maxsplit=1)[0] in loaded
    assert "open3d" not in loaded


def test_a_module_that_is_loaded_is_seen() -> None:
    assert "open3d" in loaded_after("import sys; sys.modules['open3d'] = sys")
