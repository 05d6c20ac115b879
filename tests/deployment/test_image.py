"""The Dockerfile builds a small image that runs as nobody in particular, from the versions the tests ran with."""

from __future__ import annotations

import re

from ops import system_libraries
from tests.architecture.tree import PACKAGES, ROOT, pyproject

LINES = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
INSTRUCTIONS = [(line.split()[0], line) for line in LINES if re.match(r"[A-Z]+ ", line)]


def stages() -> list[list[tuple[str, str]]]:
    """The instructions of each stage, its FROM first."""
    found: list[list[tuple[str, str]]] = []
    for word, line in INSTRUCTIONS:
        if word == "FROM":
            found.append([])
        if found:
            found[-1].append((word, line))
    return found


def lines(stage: list[tuple[str, str]], word: str) -> list[str]:
    return [line for name, line in stage if name == word]


def test_the_image_runs_as_a_user_without_privileges() -> None:
    user = lines(stages()[-1], "USER")

    assert user == ["USER 10001:10001"]
    assert stages()[-1].index(("USER", user[0])) < stages()[-1].index(("ENTRYPOINT", 'ENTRYPOINT ["weir"]'))


def test_python_is_pinned_and_slim() -> None:
    argument = next(line for word, line in INSTRUCTIONS if word == "ARG")

    assert re.fullmatch(r"ARG PYTHON_IMAGE=python:3\.1[1-3]-slim-[a-z]+", argument)
    assert all(stage[0][1].startswith("FROM ${PYTHON_IMAGE}") for stage in stages())


def test_dependencies_come_from_the_constraints_and_without_the_dev_extra() -> None:
    installs = [line for line in lines(stages()[0], "RUN") if "pip install" in line]

    assert "-c constraints.txt -r dependencies.txt" in installs[0]
    assert "--no-deps ." in installs[1]
    assert not [line for line in installs if "dev" in line.replace("/dev/", "")]


def test_tools_of_the_build_stay_behind() -> None:
    final = stages()[-1]

    assert len(stages()) == 2
    assert lines(final, "COPY") == ["COPY --from=build /opt/weir /opt/weir"]
    assert not [line for line in lines(final, "RUN") if "pip" in line]


def test_the_image_has_the_libraries_that_open3d_loads_and_no_other_package() -> None:
    installs = [line for line in lines(stages()[-1], "RUN") if "apt-get" in line]

    assert len(installs) == 1
    named = re.search(r"apt-get update +&& apt-get install -y --no-install-recommends ([^&]+) &&", installs[0])
    assert named is not None
    assert named[1].split() == list(system_libraries.PACKAGES.values())


def test_the_build_sees_the_packages_and_nothing_else() -> None:
    rules = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}

    assert rules[1] == "*"
    assert {path.relative_to(ROOT).parts[0] for path in PACKAGES.values()} <= allowed
    assert allowed - {path.relative_to(ROOT).parts[0] for path in PACKAGES.values()} == {
        "pyproject.toml",
        "constraints.txt",
        str(pyproject()["project"]["readme"]),
    }
