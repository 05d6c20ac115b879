"""The repository as files: what the architecture tests walk over. Works without git, so in an unpacked archive too."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

# The packages that `pip install` puts in place, and where they stand.
PACKAGES = {
    name: ROOT / name
    for name in ("schemas", "processors", "sinks", "streams", "api", "accounts", "jobs", "core", "ops", "bench")
} | {"weir_device": ROOT / "clients" / "python" / "weir_device"}

TOP_LEVEL_FOLDERS = {path.name for path in PACKAGES.values() if path.parent == ROOT} | {"clients", "docs", "tests"}
TOP_LEVEL_FILES = {
    "Dockerfile",
    "LICENSE",
    "Makefile",
    "README.md",
    "constraints.txt",
    "docker-compose.yml",
    "pyproject.toml",
}

# What tools leave behind; .gitignore names the same.
_LEFT_BEHIND = {"__pycache__", "build", "dist", "node_modules"}


def pyproject() -> dict[str, Any]:
    """The parsed pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def is_left_behind(path: Path) -> bool:
    """Whether a tool made it and git ignores it."""
    return path.name in _LEFT_BEHIND or path.name.endswith(".egg-info")


def files(*suffixes: str) -> list[Path]:
    """Every file of the project with one of the suffixes, dot folders of tools left out."""
    starts = [*(ROOT / name for name in sorted(TOP_LEVEL_FOLDERS)), ROOT / ".ci"]
    below = [path for start in starts for path in _walk(start)]
    # A linked work tree has a file `.git`, which is git's and not ours.
    at_the_top = [path for path in ROOT.iterdir() if path.is_file() and path.name != ".git"]
    return sorted(path for path in below + at_the_top if not suffixes or path.suffix in suffixes)


def modules() -> list[str]:
    """The dotted name of every module that is installed."""
    return sorted(
        _dotted(name, top, path) for name, top in PACKAGES.items() for path in _walk(top) if path.suffix == ".py"
    )


def _walk(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir() if folder.is_dir() else ():
        if is_left_behind(path) or path.name.startswith("."):
            continue
        if path.is_dir():
            yield from _walk(path)
        else:
            yield path


def _dotted(package: str, top: Path, path: Path) -> str:
    parts = path.relative_to(top).with_suffix("").parts
    return ".".join((package, *(part for part in parts if part != "__init__")))
