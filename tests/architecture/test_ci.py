"""`.ci/run` is green only when both lanes ran what they are for, and red for every way in which one did not.

The real script runs over a small project with the same entry points; Java and Maven are stand-ins, as nothing is built.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.tree import ROOT

PASSES = "def test_{name}() -> None:\n    pass\n"
OF_A_BROKER = "import pytest\n\npytestmark = pytest.mark.broker\n\n"
SUITES = {
    "tests/unit/test_some.py": PASSES.format(name="unit"),
    "tests/rooms/test_some.py": PASSES.format(name="rooms"),
    "tests/architecture/test_some.py": PASSES.format(name="architecture"),
    "tests/deployment/test_some.py": PASSES.format(name="deployment"),
    "tests/acceptance/test_dashboard.py": PASSES.format(name="dashboard"),
    "tests/acceptance/test_typescript.py": PASSES.format(name="typescript"),
    "tests/integration/stream/test_some.py": OF_A_BROKER + PASSES.format(name="stream"),
    "tests/integration/test_store.py": PASSES.format(name="store"),
    "tests/integration/test_kafka_server.py": """\
import os
import pytest

@pytest.mark.broker
@pytest.mark.skipif(os.environ.get("WEIR_TEST_BROKER") != "kafka", reason="runs in the Apache Kafka lane")
def test_kafka() -> None:
    pass
""",
}

MAKEFILE = """\
test:
	@.venv/bin/python -m pytest tests
kafka:
	@WEIR_TEST_BROKER=kafka .venv/bin/python -m pytest -m broker tests/integration
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose lanes pass."""
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci")
    for name, text in SUITES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "pyproject.toml").write_text('[tool.pytest.ini_options]\naddopts = "--import-mode=importlib"\n')
    (tmp_path / "Makefile").write_text(MAKEFILE)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (tmp_path / ".venv" / "bin" / "python").chmod(0o755)
    for name, output in {"java": 'openjdk version "17.0.1"', "mvn": "", "chromium": "", "node": "", "npm": ""}.items():
        program = tmp_path / "programs" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\necho '{output}' >&2\n")
        program.chmod(0o755)
    return tmp_path


def run(project: Path) -> tuple[int, list[str]]:
    """Exit status and lines of `.ci/run`."""
    environment = {**os.environ, "PATH": f"{project / 'programs'}:{os.environ['PATH']}", "WEIR_KAFKA_BOOTSTRAP": "x:1"}
    for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL"):  # of the `make -j` around this test: the inner one would warn
        environment.pop(name, None)
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # none is needed, and they take most of the time
    done = subprocess.run(
        [str(project / ".ci" / "run")], env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    return done.returncode, (done.stdout + done.stderr).splitlines()


def add(project: Path, name: str, text: str) -> None:
    (project / name).write_text(text)


def test_a_green_run_counts_both_lanes_in_its_last_line(project: Path) -> None:
    status, lines = run(project)

    assert status == 0, "\n".join(lines)
    assert lines[-3:] == [
        "make test: 8 passed, 0 failed, 1 skipped",
        "Apache Kafka: 2 passed, 0 failed, 0 skipped",
        "10 passed, 0 failed, 1 skipped",
    ]


def test_a_failing_test_fails_the_run(project: Path) -> None:
    add(project, "tests/unit/test_broken.py", "def test_broken() -> None:\n    assert False\n")

    status, lines = run(project)

    assert status == 1
    assert "make test: failure in tests.unit.test_broken::test_broken" in lines


def test_a_test_that_fails_on_kafka_only_fails_the_run(project: Path) -> None:
    test = "import os\n\ndef test_broker() -> None:\n    assert 'WEIR_TEST_BROKER' not in os.environ\n"
    add(project, "tests/integration/test_broken.py", OF_A_BROKER + test)

    status, lines = run(project)

    assert status == 1
    assert "make test: 9 passed, 0 failed, 1 skipped" in lines
    assert "Apache Kafka: failure in tests.integration.test_broken::test_broker" in lines


def test_an_error_in_a_fixture_fails_the_run(project: Path) -> None:
    fixture = "import pytest\n\n@pytest.fixture(autouse=True)\ndef broker() -> None:\n    raise RuntimeError\n"
    add(project, "tests/integration/conftest.py", fixture)

    status, lines = run(project)

    assert status == 1
    assert "Apache Kafka: nothing of tests.integration.test_kafka_server ran" in lines


def test_a_gate_that_fails_before_the_tests_fails_the_run(project: Path) -> None:
    add(project, "Makefile", "test:\n\t@false\n")

    status, lines = run(project)

    assert status != 0
    assert "make test: no test ran" in lines


def test_a_kafka_lane_that_skips_everything_fails_the_run(project: Path) -> None:
    skipped = "@pytest.mark.skipif(True, reason='runs in the Apache Kafka lane')\n"
    add(project, "tests/integration/test_kafka_server.py", OF_A_BROKER + skipped + PASSES.format(name="kafka"))

    status, lines = run(project)

    assert status == 1
    assert "Apache Kafka: nothing of tests.integration.test_kafka_server ran" in lines


def test_a_skip_for_a_reason_of_its_own_fails_the_run(project: Path) -> None:
    skipped = "import pytest\n\npytestmark = pytest.mark.skipif(True, reason='flaky')\n\n"
    add(project, "tests/unit/test_flaky.py", skipped + PASSES.format(name="flaky"))

    status, lines = run(project)

    assert status == 1
    assert "make test: skipped tests.unit.test_flaky::test_flaky: flaky" in lines


@pytest.mark.parametrize("suite", ["dashboard", "typescript"])
def test_a_run_without_the_browser_or_node_fails(project: Path, suite: str) -> None:
    skipped = "import pytest\n\npytestmark = pytest.mark.skipif(True, reason='needs it on the PATH')\n\n"
    add(project, f"tests/acceptance/test_{suite}.py", skipped + PASSES.format(name=suite))

    status, lines = run(project)

    assert status == 1
    assert f"make test: nothing of tests.acceptance.test_{suite} ran" in lines


def test_a_lane_without_any_test_fails_the_run(project: Path) -> None:
    shutil.rmtree(project / "tests" / "integration")
    (project / "tests" / "integration").mkdir()

    status, lines = run(project)

    assert status == 1
    assert "Apache Kafka: no test ran" in lines
    assert "make test: nothing of tests.integration. ran" in lines


def test_a_report_of_an_earlier_run_does_not_count(project: Path) -> None:
    add(project, "Makefile", "test:\n\t@true\n")
    (project / ".cache" / "ci").mkdir(parents=True)
    add(
        project, ".cache/ci/embedded.xml", "<testsuite><testcase classname='tests.unit.x' name='test_old'/></testsuite>"
    )

    status, lines = run(project)

    assert status == 1
    assert "make test: no test ran" in lines
