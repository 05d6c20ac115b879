"""The tree tells the story: fixed folders, documented modules, files of readable length, nothing unfinished."""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib.metadata
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from core import metrics
from tests.architecture.tree import PACKAGES, ROOT, TOP_LEVEL_FILES, TOP_LEVEL_FOLDERS, files, is_left_behind, pyproject

MAX_LINES = 450
# Written in halves, so that this file does not match itself.
UNFINISHED = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b|NotImplemented" r"Error|pytest\.mark\.ski" r"p\(")
MACHINE_PATHS = re.compile(r"/wo" r"rk/|/ro" r"ot/|/fa" r"rm/|/tm" r"p/[A-Za-z0-9_]{3,}|/ho" r"me/[a-z]")
REGISTRIES = re.compile(
    r"py" r"pi\.org|python" r"hosted\.org|npm" r"js\.org|repo1?\.mav" r"en|central\.sona" r"type"
    r"|crat" r"es\.io|proxy\.gol" r"ang|deb\.deb" r"ian|index-ur" r"l|find-lin" r"ks"
)  # fmt: skip
UNITS = ("_total", "_seconds", "_bytes", "_records", "_ratio", "_milliseconds", "_timestamp_seconds")

SOURCES = files(".py")
TEXTS = files(".py", ".sql", ".md", ".toml", ".txt", ".yml", ".yaml", ".xml", ".sh", ".html", ".js", ".css", "")


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def findings(pattern: re.Pattern[str], paths: list[Path]) -> list[str]:
    return [
        f"{relative(path)}:{number}: {line.strip()[:120]}"
        for path in paths
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if pattern.search(line)
    ]


@functools.cache
def owners_of_names() -> Mapping[str, list[str]]:
    """Which distributions bring a top-level name; asking for it takes a quarter of a second."""
    return importlib.metadata.packages_distributions()


def test_there_is_something_to_look_at() -> None:
    assert len(SOURCES) > 50
    assert ROOT / "pyproject.toml" in TEXTS


def test_no_other_top_level_folder_or_file_exists() -> None:
    visible = [path for path in ROOT.iterdir() if not path.name.startswith(".") and not is_left_behind(path)]

    assert {path.name for path in visible if path.is_dir()} <= TOP_LEVEL_FOLDERS
    assert {path.name for path in visible if path.is_file()} <= TOP_LEVEL_FILES


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_a_top_level_name_belongs_to_this_distribution_alone(package: str) -> None:
    owners = owners_of_names().get(package, [])

    assert set(owners) == {pyproject()["project"]["name"]}


def test_the_distribution_owns_no_other_top_level_name() -> None:
    distribution = pyproject()["project"]["name"]
    owned = {name for name, owners in owners_of_names().items() if distribution in owners}

    assert owned - {name for name in owned if name.startswith("__editable__")} == set(PACKAGES)


def test_every_module_opens_with_what_it_is_for() -> None:
    undocumented = [
        relative(path)
        for path in SOURCES
        if (text := path.read_text(encoding="utf-8")).strip() and ast.get_docstring(ast.parse(text)) is None
    ]
    empty = [relative(path) for path in SOURCES if path.parts[len(ROOT.parts)] != "tests" and path.stat().st_size == 0]

    assert undocumented + empty == []


def test_no_file_is_longer_than_one_sitting() -> None:
    lengths = {relative(path): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}

    assert {name: count for name, count in lengths.items() if count > MAX_LINES} == {}


def test_nothing_is_left_unfinished() -> None:
    assert findings(UNFINISHED, SOURCES) == []


def test_no_test_sleeps() -> None:
    tests = [path for path in SOURCES if path.is_relative_to(ROOT / "tests")]

    assert findings(re.compile(r"\btime\.sle" r"ep\b|from time import .*\bsle" r"ep\b"), tests) == []


def test_no_file_names_a_path_of_one_machine() -> None:
    assert findings(MACHINE_PATHS, TEXTS) == []


def test_no_file_names_a_package_registry() -> None:
    assert findings(REGISTRIES, TEXTS) == []


def test_an_advisory_lock_serves_one_purpose() -> None:
    # Locks are one number space for the whole database: two purposes under one number shut each other out.
    given = re.compile(r"(?:=|AS \$\$ SELECT)\s*(59318\d+)")
    numbers = [match[1] for path in files(".py", ".sql") for match in given.finditer(path.read_text(encoding="utf-8"))]

    assert len(numbers) >= 2
    assert [number for number in set(numbers) if numbers.count(number) > 1] == []


def test_every_metric_name_ends_in_its_unit() -> None:
    groups = [value for value in vars(metrics).values() if isinstance(value, type) and dataclasses.is_dataclass(value)]
    names = [field.name for group in groups for field in dataclasses.fields(group)]

    assert names
    assert [name for name in names if not name.endswith(UNITS)] == []
