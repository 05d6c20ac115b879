"""The pinned versions that `make setup` installs."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parents[3]


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins() -> dict[str, str]:
    lines = (PROJECT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def test_every_line_is_a_name_and_an_exact_version_without_an_address() -> None:
    for name, version in pins().items():
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name), name
        assert re.fullmatch(r"\d+(\.\d+)*((a|b|rc|\.post)\d+)?", version), f"{name}=={version}"


def test_everything_that_the_project_asks_for_is_pinned() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["dev"]
    names = {normalized(re.split(r"[\[<>=!~;\s]", text, maxsplit=1)[0]) for text in wanted}

    assert names - {normalized(name) for name in pins()} == set()
