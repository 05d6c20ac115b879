"""Real clients from npm, where there are Node and a registry."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def install(folder: Path, package: str, program: Path) -> Path:
    """Install a package and put the program that uses it beside; skips the test where that cannot be done."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("Node is not installed, and the real client needs it")
    command = ["npm", "install", "--no-audit", "--no-fund", "--silent", package]
    done = subprocess.run(command, cwd=folder, capture_output=True, timeout=240, check=False)
    if done.returncode:
        pytest.skip(f"npm cannot install {package.partition('@')[0]} here (no registry within reach)")
    shutil.copy(program, folder)
    return folder
