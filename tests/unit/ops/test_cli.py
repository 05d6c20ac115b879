"""The `weir` command itself."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import commands

PROJECT = Path(__file__).parents[3]


def weir(*words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("WEIR_")}
    environment = plain | {"PYTHONPATH": str(PROJECT), "COLUMNS": "200"} | settings
    command = [sys.executable, "-P", "-m", "ops.cli", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


def test_help_lists_the_commands_and_imports_none_of_their_machinery() -> None:
    code = "import sys\nfrom ops.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\nprint(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True, timeout=60
    )

    for command in (
        "up",
        "migrate",
        "worker",
        "api",
        "jobs",
        "simulate",
        "publish",
        "dead-letters",
        "reconcile",
        "doctor",
    ):
        assert re.search(rf"^\W*{command}\s", done.stdout, re.MULTILINE), command
    heavy = {"psycopg", "kafka", "faust", "fastapi", "pydantic", "numpy"}
    assert heavy & set(done.stdout.splitlines()[-1].split()) == set()


def test_help_comes_quickly() -> None:
    def cpu_seconds() -> float:
        before = os.times()
        assert weir("--help").returncode == 0
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    # Processor time and the best of some runs, as other tests may keep the machine busy.
    assert any(cpu_seconds() < 0.5 for _ in range(5))


@pytest.mark.parametrize(
    "command",
    ["up", "migrate", "worker", "api", "jobs", "simulate", "publish", "dead-letters", "reconcile", "billing", "doctor"],
)
def test_each_command_is_found_under_its_name(command: str) -> None:
    done = commands.weir(command, "--help", COLUMNS="200")

    assert done.returncode == 0, done.stderr
    assert f"Usage: weir {command}" in done.stdout


def test_a_wrong_setting_is_one_sentence_without_its_value() -> None:
    done = weir("doctor", WEIR_TOPIC_PARTITIONS="hunter2")

    assert done.returncode == 2
    assert done.stderr.startswith("weir: WEIR_TOPIC_PARTITIONS: Input should be a valid integer")
    assert len(done.stderr.splitlines()) == 1
    assert "hunter2" not in done.stderr


def test_an_unknown_command_is_wrong_usage() -> None:
    done = weir("nonsense")

    assert done.returncode == 2
    assert "nonsense" in done.stderr


def test_settings_are_listed_with_secrets_redacted() -> None:
    done = weir("doctor", "--settings", WEIR_SECRET_KEY="hunter2", WEIR_TOPIC_PREFIX="mine-")

    assert done.returncode == 0
    assert "hunter2" not in done.stdout
    assert re.search(r"^WEIR_SECRET_KEY=\*+  \(set\)", done.stdout, re.MULTILINE)
    assert "WEIR_TOPIC_PREFIX=mine-  (set)" in done.stdout
    assert re.search(r"^WEIR_KAFKA_BOOTSTRAP=127\.0\.0\.1:9092  \(default\)", done.stdout, re.MULTILINE)
