"""The system's libraries for Open3D: found missing, installed where that can be done, and never a reason to fail."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ops.findings import judge_open3d
from ops.system_libraries import PACKAGES, import_error, install, is_wanted, main, missing, remedy

ROOT = Path(__file__).resolve().parents[3]


def stand_in(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_every_library_that_cannot_be_loaded_names_its_package() -> None:
    def load(library: str) -> object:
        if library in {"libGL.so.1", "libusb-1.0.so.0"}:
            msg = f"{library}: cannot open shared object file"
            raise OSError(msg)
        return library

    assert missing(load) == ["libusb-1.0-0", "libgl1"]
    assert missing(lambda library: library) == []


def test_the_remedy_is_one_command_that_updates_the_lists_first() -> None:
    assert remedy(["libgl1", "libegl1"]) == (
        "apt-get update && apt-get install -y --no-install-recommends libgl1 libegl1"
    )


def test_installing_updates_the_lists_and_is_quiet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log"
    stand_in(tmp_path / "bin", "apt-get", f'echo "$DEBIAN_FRONTEND $*" >> {log}; echo noise; echo noise >&2')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")

    assert install(["libgl1"])

    calls = log.read_text().splitlines()
    assert [call.split()[-1] for call in calls] == ["update", "libgl1"]
    assert all(call.startswith("noninteractive -qq ") for call in calls)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("step", ["update", "install"])
def test_a_failing_installation_is_told_and_not_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    stand_in(tmp_path / "bin", "apt-get", f'case "$*" in *{step}*) exit 100;; esac')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")

    assert not install(["libgl1"])


def test_without_apt_one_line_says_what_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("ops.system_libraries.is_wanted", lambda: True)
    monkeypatch.setattr("ops.system_libraries.missing", lambda: ["libgl1"])

    main()

    assert capsys.readouterr().out == (
        "setup: scans will not work until somebody runs, as root: "
        "apt-get update && apt-get install -y --no-install-recommends libgl1\n"
    )


def test_nothing_is_said_or_done_when_nothing_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ops.system_libraries.missing", list)

    main()

    assert capsys.readouterr().out == ""


@pytest.mark.skipif(not is_wanted(), reason="Open3D has no wheel for this machine")
def test_open3d_can_be_imported_where_it_is_installed() -> None:
    assert import_error() == ""
    assert missing() == []


def test_the_doctor_names_the_command_only_when_a_package_is_missing() -> None:
    assert str(judge_open3d("", [])) == "ok   scans      Open3D can be loaded"
    assert str(judge_open3d("ImportError: libGL.so.1", ["libgl1"])) == (
        "BAD  scans      Open3D cannot be loaded (ImportError: libGL.so.1); run, as root: "
        "apt-get update && apt-get install -y --no-install-recommends libgl1"
    )
    assert judge_open3d("ImportError: torn", []).sentence.endswith("run `make setup`")
    assert judge_open3d(None, []).ok


def test_make_setup_looks_for_the_libraries_each_time() -> None:
    command = ("make", "--dry-run", "setup")
    planned = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout

    assert "-m ops.system_libraries" in planned


def test_the_program_needs_nothing_but_python() -> None:
    """It also runs where the dependencies could not be installed."""
    command = [sys.executable, "-S", "-m", "ops.system_libraries"]
    result = subprocess.run(command, cwd=ROOT, env={"PATH": os.defpath}, capture_output=True, timeout=60, check=False)

    assert (result.returncode, result.stderr) == (0, b"")
    assert set(PACKAGES.values()) >= {"libusb-1.0-0", "libgl1", "libegl1", "libx11-6"}
